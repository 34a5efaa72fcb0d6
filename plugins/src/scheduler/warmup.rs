//! DeepSpeed's warm-ups, as functions of the number of completed optimizer steps.
//!
//! DeepSpeed sets the rate after each step from a counter `it` that starts at -1, so the update that
//! follows `completed` steps uses `it = completed - 1`: the first two updates both train at the
//! warm-up's first value.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the rate rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `ln(it + 1) / ln(steps)`: steep at first.
    #[default]
    Log,
    /// `it / steps`.
    Linear,
}

/// The rise from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warmup {
    /// Steps that it takes; fewer than 2 count as 2.
    pub steps: u64,
    /// Its shape.
    pub shape: Shape,
}

impl Warmup {
    fn length(self) -> f64 {
        self.steps.max(2) as f64
    }

    /// The share of the rise done, in [0, 1), or `None` once it is over. `it` is at least 0.
    fn share(self, it: f64) -> Option<f64> {
        let length = self.length();
        (it < length).then(|| match self.shape {
            Shape::Log => (it + 1.0).ln() / length.ln(),
            Shape::Linear => it / length,
        })
    }
}

/// WarmupLR: from `min` to `max`, and there it stays.
pub fn hold(completed: u64, warmup: Warmup, min: f64, max: f64) -> f64 {
    let share = before(completed).map_or(0.0, |it| warmup.share(it).unwrap_or(1.0));
    min + (max - min) * share
}

/// WarmupDecayLR: from `min` to `max`, then in a straight line back to `min` at step `total`.
pub fn decay(completed: u64, warmup: Warmup, total: u64, min: f64, max: f64) -> f64 {
    let (length, total) = (warmup.length(), total as f64);
    let falling = |it: f64| ((total - it) / (total - length).max(1.0)).max(0.0);
    let share = before(completed).map_or(0.0, |it| warmup.share(it).unwrap_or_else(|| falling(it)));
    min + (max - min) * share
}

/// WarmupCosineLR, as a ratio of the configured rate: 0 for the first update, then from `first` to 1,
/// then along half a cosine (Loshchilov and Hutter 2017, <https://arxiv.org/abs/1608.03983>) to `last`
/// at step `total`.
pub fn cosine(completed: u64, warmup: Warmup, total: u64, first: f64, last: f64) -> f64 {
    let Some(it) = before(completed) else { return 0.0 };
    let (length, total) = (warmup.length(), total as f64);
    match warmup.share(it) {
        Some(share) => first + (1.0 - first) * share,
        None => {
            let x = ((it - length + 1.0) / (total - length).max(1.0)).min(1.0);
            (last + (1.0 - last) * (1.0 + (PI * x).cos()) / 2.0).max(0.0)
        }
    }
}

/// DeepSpeed's counter in the update that follows `completed` steps; `None` where it is -1.
fn before(completed: u64) -> Option<f64> {
    completed.checked_sub(1).map(|it| it as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let warmup = Warmup { steps: 4, shape: Shape::Linear };
        let held: Vec<_> = (0..7).map(|k| hold(k, warmup, 1.0, 5.0)).collect();
        assert_eq!(held, [1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.0]);
        let decayed: Vec<_> = (0..11).map(|k| decay(k, warmup, 8, 1.0, 5.0)).collect();
        assert_eq!(decayed, [1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 4.0, 3.0, 2.0, 1.0, 1.0]);
        let log = Warmup { steps: 4, shape: Shape::Log };
        assert_eq!(hold(2, log, 0.0, 1.0), 0.5);
        // Half-way from the warm-up's end to the run's end, and past the end.
        assert!((cosine(6, warmup, 8, 0.0, 0.2) - (0.2 + 0.8 * 0.5)).abs() < 1e-15);
        assert_eq!(cosine(100, warmup, 8, 0.0, 0.2), 0.2);
    }

    #[test]
    fn extreme_lengths_stay_finite() {
        for steps in [1, u64::MAX] {
            for shape in [Shape::Log, Shape::Linear] {
                for (completed, total) in [(0, 1), (1, 1), (u64::MAX, 1), (u64::MAX, u64::MAX)] {
                    let warmup = Warmup { steps, shape };
                    assert!((0.0..=1.0).contains(&hold(completed, warmup, 0.0, 1.0)));
                    assert!((0.0..=1.0).contains(&decay(completed, warmup, total, 0.0, 1.0)));
                    assert!((0.0..=1.0).contains(&cosine(completed, warmup, total, 0.0, 0.0)));
                }
            }
        }
    }
}
