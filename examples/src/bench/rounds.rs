//! Rounds in which arms take turns, repeated until the spread of a figure is small.
use super::arms::WARM_UP;
use super::setting::Effort;
use std::time::Instant;
use tracing::info;
use trainyard::BoxError;
use trainyard_figures::statistics::bootstrap;

/// When there have been rounds enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// What is measured, for the log.
    pub(super) name: &'static str,
    /// Fewest rounds that count, and the time after which it ends.
    pub(super) effort: Effort,
    /// Half the width that the 95 % interval of the figure is to stay below.
    pub(super) spread: f64,
    /// Orders in which the arms take their turns, of which each is to come equally often.
    pub(super) orders: usize,
}

/// What the rounds gave.
#[derive(Debug)]
pub(super) struct Rounds<R> {
    pub(super) all: Vec<R>,
    /// Those that count.
    pub(super) counted: Vec<R>,
    /// The 95 % interval of the figure.
    pub(super) interval: (f64, f64),
    /// Whether it is as narrow as asked for.
    pub(super) settled: bool,
    spread: f64,
}

impl Patience {
    /// Repeats `round`, which is given its number, until the interval of `figure` is narrow or the time
    /// is over. `counted`: those of the rounds that count.
    ///
    /// # Errors
    /// Those of a round.
    pub(super) fn rounds<R: Copy>(
        self,
        mut round: impl FnMut(usize) -> Result<R, BoxError>,
        counted: impl Fn(&[R]) -> Vec<R>,
        figure: impl Fn(&[R]) -> f64,
    ) -> Result<Rounds<R>, BoxError> {
        let Patience { name, effort, spread, orders } = self;
        for number in 0..WARM_UP {
            round(number)?;
        }
        let (began, mut all) = (Instant::now(), Vec::new());
        loop {
            all.push(round(WARM_UP + all.len())?);
            let counted = counted(&all);
            let late = all.len() >= effort.rounds && began.elapsed().as_secs_f64() > effort.seconds;
            if !all.len().is_multiple_of(orders) || (counted.len() < effort.rounds && !late) {
                continue;
            }
            let interval = bootstrap(&counted, &figure);
            let settled = (interval.1 - interval.0) / 2.0 < spread;
            info!("{name}: [{:.3}, {:.3}] after {} rounds", interval.0, interval.1, all.len());
            if settled || late {
                return Ok(Rounds { all, counted, interval, settled, spread });
            }
        }
    }
}

impl<R> Rounds<R> {
    /// What is to be said of a spread that stayed too wide.
    pub(super) fn noise(&self) -> String {
        match self.settled {
            true => String::new(),
            false => format!("; TOO NOISY: a spread of {} takes a quieter machine", self.spread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_figures::statistics::mean;

    const PATIENCE: Patience = Patience {
        name: "test",
        effort: Effort { repetitions: 0, rounds: 10, seconds: 1e9 },
        spread: 0.1,
        orders: 6,
    };

    /// Rounds that give `value` of their number.
    fn rounds(patience: Patience, value: impl Fn(usize) -> f64) -> Rounds<f64> {
        let figure = |some: &[f64]| mean(some.iter().copied());
        patience.rounds(|n| Ok(value(n)), <[f64]>::to_vec, figure).unwrap()
    }

    /// Up and down by one: the mean of n has a spread of 1.96 / sqrt(n), so 0.1 takes some 384.
    fn noisy(number: usize) -> f64 {
        if number.is_multiple_of(2) { 4.0 } else { 6.0 }
    }

    #[test]
    fn it_ends_after_the_fewest_rounds_if_they_agree() {
        let found = rounds(PATIENCE, |_| 5.0);
        // The first multiple of 6 that is no less than 10; those that warm up are not among them.
        assert_eq!((found.all.len(), found.interval), (12, (5.0, 5.0)));
        assert!(found.settled && found.noise().is_empty());
    }

    #[test]
    fn it_goes_on_while_the_spread_is_wide() {
        let found = rounds(PATIENCE, noisy);
        assert!((300..480).contains(&found.all.len()), "{}", found.all.len());
        assert_eq!(found.all.len() % 6, 0);
        let (low, high) = found.interval;
        assert!(found.settled && high - low < 0.2, "[{low}, {high}]");
    }

    #[test]
    fn it_ends_when_the_time_is_over() {
        let effort = Effort { seconds: 0.0, ..PATIENCE.effort };
        let found = rounds(Patience { effort, ..PATIENCE }, noisy);
        assert_eq!((found.all.len(), found.settled), (12, false));
        assert_eq!(found.noise(), "; TOO NOISY: a spread of 0.1 takes a quieter machine");
    }

    /// What does not count is no part of the fewest rounds either, unless the time is over.
    #[test]
    fn rounds_that_do_not_count_are_made_up_for() {
        let count = |seconds| {
            let effort = Effort { seconds, ..PATIENCE.effort };
            let third = |all: &[f64]| all.iter().step_by(3).copied().collect();
            let found = Patience { effort, ..PATIENCE }.rounds(|_| Ok(5.0), third, |_| 5.0);
            let found = found.unwrap();
            (found.all.len(), found.counted.len())
        };
        assert_eq!(count(1e9), (30, 10));
        assert_eq!(count(0.0), (12, 4));
    }

    #[test]
    fn the_rounds_are_numbered_from_the_first_that_warms_up() {
        let mut numbers = Vec::new();
        let round = |number| {
            numbers.push(number);
            if number == 20 { Err("twenty".into()) } else { Ok(number) }
        };
        let effort = Effort { rounds: 1000, ..PATIENCE.effort };
        let ended = Patience { effort, ..PATIENCE }.rounds(round, <[usize]>::to_vec, |_| 0.0);
        assert_eq!(ended.unwrap_err().to_string(), "twenty");
        assert_eq!(numbers, (0..=20).collect::<Vec<_>>());
    }
}
