//! DeepSpeed's range test and one-cycle policy (Smith 2018, <https://arxiv.org/abs/1803.09820>), as
//! functions of the number of completed optimizer steps.

/// LRRangeTest: from `min`, by `rate` of `min` every `interval` steps, in a line or in stairs.
pub fn range_test(completed: u64, min: f64, interval: u64, rate: f64, staircase: bool) -> f64 {
    let intervals = completed as f64 / interval.max(1) as f64;
    min * (1.0 + rate * if staircase { intervals.floor() } else { intervals })
}

/// One half of a cycle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Half {
    /// Its steps.
    pub steps: u64,
    /// Stairs that it is cut into; 0: a line.
    pub stairs: u64,
}

/// Where the one-cycle policy stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Position {
    /// In the cycle; how high, in [0, 1].
    Cycle(f64),
    /// Behind it; how many decay intervals.
    Decay(f64),
}

/// Where the one-cycle policy stands: up in the `first` half, down in the `second`, then out, an
/// interval of `decay_steps` at a time (0: never further).
pub fn position(completed: u64, first: Half, second: Half, decay_steps: u64) -> Position {
    let (up, down) = (first.steps.max(1) as f64, second.steps as f64);
    let (total, at) = (up + down, completed as f64);
    if at > total {
        let passed = at - total;
        return Position::Decay(if decay_steps == 0 { 0.0 } else { passed / decay_steps as f64 });
    }
    // The step that ends the cycle stands where it began.
    let at = if at == total { 0.0 } else { at };
    let (height, stairs) =
        if at <= up { (at / up, first.stairs) } else { ((total - at) / down, second.stairs) };
    Position::Cycle(match stairs {
        0 => height,
        stairs => (height * stairs as f64).floor() / stairs as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heights(steps: std::ops::Range<u64>, stairs: u64) -> Vec<Position> {
        let (first, second) = (Half { steps: 4, stairs }, Half { steps: 2, stairs });
        steps.map(|step| position(step, first, second, 4)).collect()
    }

    #[test]
    fn cycle_by_hand() {
        let up_and_down = [0.0, 0.25, 0.5, 0.75, 1.0, 0.5, 0.0].map(Position::Cycle);
        assert_eq!(heights(0..7, 0), up_and_down);
        assert_eq!(heights(0..7, 2), [0.0, 0.0, 0.5, 0.5, 1.0, 0.5, 0.0].map(Position::Cycle));
        assert_eq!(heights(7..9, 0), [0.25, 0.5].map(Position::Decay));
    }

    #[test]
    fn range_test_by_hand() {
        assert_eq!(range_test(3, 2.0, 2, 0.5, false), 2.0 * 1.75);
        assert_eq!(range_test(3, 2.0, 2, 0.5, true), 2.0 * 1.5);
    }

    #[test]
    fn extreme_lengths_do_not_panic() {
        for steps in [0, 1, u64::MAX] {
            let half = Half { steps, stairs: u64::MAX };
            for completed in [0, 1, u64::MAX] {
                position(completed, half, half, u64::MAX);
                assert!(range_test(completed, 1.0, steps, 1.0, true).is_finite());
            }
        }
    }
}
