//! What ranks tell one another in the host's memory.
//!
//! All words have one length and begin with what they are about, so that ranks which are at different
//! things find out, instead of adding the one to the other.
use crate::communicator::{Communicator, Pending};
use crate::error::BoxError;
use tch::Tensor;

/// What a word is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// What a step sends.
    Step = 1,
    /// What an evaluation comes to.
    Evaluation = 2,
    /// A report's figures.
    Report = 3,
    /// How many ranks could not do what comes behind the last step.
    End = 4,
}

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            About::Step => "averages gradients",
            About::Evaluation => "evaluates",
            About::Report => "ends a step",
            About::End => "ends the run",
        })
    }
}

/// Numbers in front of what is told.
const HEADER: usize = 4;

/// The fewest numbers that there is room for.
const ROOM: usize = 64;

/// A word under way: its numbers are summed over the ranks.
pub struct Word {
    tensor: Tensor,
    pending: Box<dyn Pending>,
    about: About,
    attempt: u64,
    told: usize,
}

impl Word {
    /// Tells `numbers`, of which there is room for `most` or more on all ranks.
    pub fn send(
        communicator: &dyn Communicator,
        (about, attempt): (About, u64),
        most: usize,
        numbers: impl IntoIterator<Item = f64>,
    ) -> Result<Self, BoxError> {
        // The square of what is sent is exact.
        let (topic, place) = (f64::from(about as u8), (attempt % (1 << 20)) as f64);
        let mut all = vec![topic, topic * topic, place, place * place];
        all.extend(numbers);
        let (told, room) = (all.len() - HEADER, most.max(ROOM));
        if told > room {
            return Err(format!("{told} numbers are more than the {room} there is room for").into());
        }
        all.resize(HEADER + room, 0.0);
        let tensor = Tensor::from_slice(&all);
        let pending = communicator.sum_on_host(&tensor)?;
        Ok(Word { tensor, pending, about, attempt, told })
    }

    /// Whether the others' words are there.
    pub fn done(&self) -> Result<bool, BoxError> {
        self.pending.done()
    }

    /// Waits for the sums.
    pub fn read(self, world_size: usize) -> Result<Vec<f64>, BoxError> {
        let Word { tensor, pending, about, attempt, told } = self;
        pending.wait()?;
        let sums = Vec::<f64>::try_from(&tensor)?;
        // By Cauchy and Schwarz, only where all are equal.
        let same = |sum: f64, squares: f64| world_size as f64 * squares == sum * sum;
        if !(same(sums[0], sums[1]) && same(sums[2], sums[3])) {
            return Err(format!(
                "this rank {about} at attempt {attempt}, and another rank does something else: all have \
                 to make the same calls in the same order"
            )
            .into());
        }
        Ok(sums[HEADER..HEADER + told].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::averaging::tests::Twins;

    fn told(about: About, attempt: u64, other: [f64; 2]) -> Result<Vec<f64>, String> {
        let twins = Twins::with_header(other);
        let word = Word::send(&twins, (about, attempt), 2, [3.0, 4.0]).expect("there is room");
        assert!(word.done().expect("it is under way"));
        word.read(2).map_err(|error| error.to_string())
    }

    #[test]
    fn the_same_is_added_and_different_things_are_not() {
        assert_eq!(told(About::Step, 7, [1.0, 7.0]), Ok(vec![6.0, 8.0]));
        for other in [[2.0, 7.0], [1.0, 8.0]] {
            let error = told(About::Step, 7, other).unwrap_err();
            let start =
                "this rank averages gradients at attempt 7, and another rank does something";
            assert!(error.starts_with(start), "{error}");
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_an_error() {
        let numbers = (0..65).map(f64::from);
        let error =
            Word::send(&Twins::new(), (About::Report, 0), 3, numbers).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "65 numbers are more than the 64 there is room for");
    }
}
