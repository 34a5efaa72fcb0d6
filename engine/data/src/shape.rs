//! How the samples of an epoch are dealt out to steps, ranks and micro-batches.

use std::ops::Range;

use crate::{Error, Result};

/// One rank's place among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// This process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
}

impl Share {
    /// A single process, which takes all.
    pub const WHOLE: Self = Self { rank: 0, world_size: 1 };

    /// # Errors
    /// There is no such rank.
    pub(crate) fn check(&self) -> Result<()> {
        at_least_one("world_size", self.world_size)?;
        if self.rank >= self.world_size {
            let right = format!("below world_size = {}", self.world_size);
            return Err(Error::Shape { name: "rank", value: self.rank, right });
        }
        Ok(())
    }
}

/// What one optimizer step takes.
///
/// A step's global batch is a run of the epoch's order. Ranks take consecutive parts of it, and a
/// rank's micro-batches are consecutive parts of that: as long as the product stays, so does the
/// global batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Sequences in a micro-batch.
    pub micro_batch: usize,
    /// Micro-batches that one rank takes in a step.
    pub gradient_accumulation_steps: usize,
    /// Which rank, of how many.
    pub share: Share,
}

impl BatchShape {
    /// Sequences that all ranks together take in a step.
    ///
    /// # Errors
    /// A number is 0, the product is beyond all bounds, or there is no such rank.
    pub fn global_batch(&self) -> Result<usize> {
        at_least_one("micro_batch", self.micro_batch)?;
        at_least_one("gradient_accumulation_steps", self.gradient_accumulation_steps)?;
        self.share.check()?;
        self.micro_batch
            .checked_mul(self.gradient_accumulation_steps)
            .and_then(|per_rank| per_rank.checked_mul(self.share.world_size))
            .ok_or_else(|| Error::Shape {
                name: "micro_batch",
                value: self.micro_batch,
                right: "small enough to be multiplied by accumulation steps and ranks".to_owned(),
            })
    }

    /// Full steps in an epoch of so many sequences, at least one.
    ///
    /// # Errors
    /// As [`BatchShape::global_batch`], or the sequences are fewer than it.
    pub fn steps_per_epoch(&self, sequences: usize) -> Result<u64> {
        let needed = self.global_batch()?;
        match sequences / needed {
            0 => Err(Error::TooFewSequences { sequences, needed, shape: *self }),
            steps => Ok(steps as u64),
        }
    }

    /// Which places of the epoch's order this rank's micro-batches take in the given step of the
    /// epoch.
    pub(crate) fn micro_batches(self, step_of_epoch: usize) -> impl Iterator<Item = Range<usize>> {
        let (micro_batch, count) = (self.micro_batch, self.gradient_accumulation_steps);
        let first = (step_of_epoch * self.share.world_size + self.share.rank) * count;
        (first..first + count).map(move |i| i * micro_batch..(i + 1) * micro_batch)
    }
}

fn at_least_one(name: &'static str, value: usize) -> Result<()> {
    if value == 0 {
        return Err(Error::Shape { name, value, right: "at least 1".to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(
        micro_batch: usize,
        accumulation: usize,
        rank: usize,
        world_size: usize,
    ) -> BatchShape {
        let share = Share { rank, world_size };
        BatchShape { micro_batch, gradient_accumulation_steps: accumulation, share }
    }

    #[test]
    fn ranks_share_the_same_global_batch() {
        for step in 0..3 {
            for (micro_batch, accumulation, world_size) in
                [(12, 1, 1), (3, 4, 1), (6, 1, 2), (3, 2, 2), (2, 2, 3), (1, 1, 12)]
            {
                let all: Vec<usize> = (0..world_size)
                    .flat_map(|rank| {
                        shape(micro_batch, accumulation, rank, world_size).micro_batches(step)
                    })
                    .inspect(|micro| assert_eq!(micro.len(), micro_batch))
                    .flatten()
                    .collect();
                assert!(all.into_iter().eq(step * 12..(step + 1) * 12));
            }
        }
    }

    #[test]
    fn epochs_hold_full_steps_only() {
        assert_eq!(shape(2, 3, 1, 2).steps_per_epoch(35).unwrap(), 2);
        assert_eq!(shape(2, 3, 1, 2).steps_per_epoch(36).unwrap(), 3);
        let error = shape(2, 3, 1, 2).steps_per_epoch(11).unwrap_err().to_string();
        assert!(error.starts_with("11 training samples are fewer than one batch of 12"));
    }

    #[test]
    fn impossible_shapes_are_refused() {
        for (shape, expected) in [
            (shape(0, 1, 0, 1), "micro_batch = 0 is not at least 1"),
            (shape(1, 0, 0, 1), "gradient_accumulation_steps = 0 is not at least 1"),
            (shape(1, 1, 0, 0), "world_size = 0 is not at least 1"),
            (shape(1, 1, 2, 2), "rank = 2 is not below world_size = 2"),
        ] {
            assert_eq!(shape.global_batch().unwrap_err().to_string(), expected);
        }
        assert!(shape(usize::MAX, 2, 0, 1).global_batch().is_err());
    }
}
