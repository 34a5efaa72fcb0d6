//! How the loss scale moves: values in, values out.
use serde::{Deserialize, Serialize};

/// Overflows in a row at the lowest scale after which a run gives up.
pub const GIVE_UP_AFTER: u64 = 20;

/// The scale grows no further: with it a loss and the scale's inverse are still float32 numbers.
const LARGEST: f64 = 1e30;

/// How the scale moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// It stays as it is.
    Static,
    /// It looks for the largest value that does not overflow, as DeepSpeed's ZeRO does.
    Dynamic {
        /// Good steps between an overflow and a doubling, and between doublings.
        window: u64,
        /// Overflows until the scale is halved, this one included.
        hysteresis: u64,
        /// Whether a good step forgives the overflows before it; otherwise only a doubling does.
        consecutive_hysteresis: bool,
        /// The scale falls no lower.
        floor: f64,
    },
}

/// The loss scale, and what decides how it moves.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    /// Factor on the loss, above 0.
    pub scale: f64,
    /// Overflows until the scale is halved.
    pub hysteresis: u64,
    /// Steps since the last overflow, or since the start.
    pub good_steps: u64,
    /// Overflows in a row at a scale that can fall no lower.
    pub overflows_at_floor: u64,
}

impl LossScale {
    /// Before the first step.
    pub fn new(scale: f64, rule: &Rule) -> Self {
        let hysteresis = match rule {
            Rule::Static => 1,
            Rule::Dynamic { hysteresis, .. } => *hysteresis,
        };
        LossScale { scale, hysteresis, good_steps: 0, overflows_at_floor: 0 }
    }

    /// After a step at this scale that overflowed, or did not.
    ///
    /// As DeepSpeed's `DynamicLossScaler` has it, the first doubling comes after `window + 1` good steps,
    /// and a halving does not give the hysteresis back: until a doubling, each further overflow halves.
    #[must_use]
    pub fn after(self, rule: &Rule, overflow: bool) -> Self {
        let good_steps = if overflow { 0 } else { self.good_steps + 1 };
        let at_floor = match *rule {
            Rule::Static => true,
            Rule::Dynamic { floor, .. } => self.scale <= floor,
        };
        let overflows_at_floor = if overflow && at_floor { self.overflows_at_floor + 1 } else { 0 };
        let (scale, hysteresis) = match *rule {
            Rule::Static => (self.scale, self.hysteresis),
            Rule::Dynamic { floor, .. } if overflow => match self.hysteresis {
                0 | 1 => (floor.max(self.scale / 2.0), self.hysteresis),
                left => (self.scale, left - 1),
            },
            Rule::Dynamic { window, hysteresis, consecutive_hysteresis, .. } => {
                let doubles = self.good_steps > 0 && self.good_steps.is_multiple_of(window);
                let forgives = doubles || consecutive_hysteresis;
                (
                    if doubles { LARGEST.min(self.scale * 2.0) } else { self.scale },
                    if forgives { hysteresis } else { self.hysteresis },
                )
            }
        };
        LossScale { scale, hysteresis, good_steps, overflows_at_floor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns: impl, seq, init, window, hysteresis, consecutive, min_scale, iter, overflow, scale_before,
    /// scale_after, hysteresis_after. See golden.md.
    const GOLDEN: &str = include_str!("golden.tsv");

    /// The scale that a trace means: all are 0 or powers of two, and written with six digits.
    fn scale(written: &str) -> f64 {
        let written: f64 = written.parse().unwrap();
        let meant = if written == 0.0 { 0.0 } else { written.log2().round().exp2() };
        assert!((meant - written).abs() <= 5e-6 * meant, "{written} is no power of two");
        meant
    }

    #[test]
    fn deepspeeds_own_traces() {
        let mut now = None;
        let mut rows = 0;
        for line in GOLDEN.lines().skip(1) {
            let cells: Vec<_> = line.split('\t').collect();
            let number = |i: usize| cells[i].parse::<f64>().unwrap();
            let whole = |i: usize| cells[i].parse::<u64>().unwrap();
            let rule = Rule::Dynamic {
                window: whole(3),
                hysteresis: whole(4),
                consecutive_hysteresis: cells[5] == "True",
                floor: number(6),
            };
            let before = match whole(7) {
                0 => LossScale::new(scale(cells[2]), &rule),
                _ => now.unwrap(),
            };
            assert_eq!(before.scale, scale(cells[9]), "before {line}");
            let after = before.after(&rule, cells[8] == "1");
            assert_eq!(after.scale, scale(cells[10]), "after {line}");
            assert_eq!(after.hysteresis, whole(11), "{line}");
            now = Some(after);
            rows += 1;
        }
        assert_eq!(rows, 352);
    }

    #[test]
    fn at_the_floor_overflows_in_a_row_are_counted() {
        let rule =
            Rule::Dynamic { window: 2, hysteresis: 1, consecutive_hysteresis: false, floor: 2.0 };
        let trace = |start: LossScale, rule: &Rule| {
            let mut now = start;
            [true, true, true, false, true].map(|overflow| {
                now = now.after(rule, overflow);
                (now.scale, now.overflows_at_floor)
            })
        };
        let start = LossScale::new(4.0, &rule);
        assert_eq!(trace(start, &rule), [(2.0, 0), (2.0, 1), (2.0, 2), (2.0, 0), (2.0, 1)]);
        let fixed = LossScale::new(4.0, &Rule::Static);
        assert_eq!(trace(fixed, &Rule::Static), [(4.0, 1), (4.0, 2), (4.0, 3), (4.0, 0), (4.0, 1)]);
    }

    #[test]
    fn the_scale_stays_a_number() {
        let rule =
            Rule::Dynamic { window: 1, hysteresis: 2, consecutive_hysteresis: false, floor: 1.0 };
        let start = LossScale::new(1.0, &rule);
        let end = (0..10_000).fold(start, |now, _| now.after(&rule, false));
        assert_eq!(end.scale, LARGEST);
        assert!((1.0 / end.scale) as f32 > 0.0);
    }
}
