//! What times and depths say about the saving: pure functions of numbers.
use super::arms::{Record, Step, Validation};
use super::probe::Pair;
use serde::Serialize;
use trainyard_figures::statistics::{Estimate, estimate, influences, saved};
use trainyard_plugins::progressive_layer_drop::promise;

/// What the demo finds. Times are in seconds, of the steps in which theta had settled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// First step, from 0, from which theta stays within 1 % of its last value.
    pub settled_from: usize,
    /// Mean time of a step without layer dropping.
    pub off: Estimate,
    /// Mean time of a step with it.
    pub on: Estimate,
    /// Mean number of blocks that ran with it.
    pub depth: Estimate,
    /// 1 - on / off.
    pub saving: Estimate,
    /// Mean time of a step in which all layers ran, the plugin not being there.
    pub open: Estimate,
    /// Mean time of a step in which none did.
    pub closed: Estimate,
    /// Share of a step's time that goes when every gate is closed: 1 - closed / open.
    pub gateable: Estimate,
    /// gateable (1 - depth / blocks).
    pub promised: Estimate,
    /// saving / promised.
    pub share: Estimate,
}

impl Figures {
    /// Means over the steps in which theta had settled; each mean stands over the same number of steps
    /// of both arms.
    pub fn new(record: &Record) -> Self {
        let settled_from = settled_from(&record.on);
        let column = |steps: &[Step], of: fn(&Step) -> f64| -> Vec<f64> {
            steps.iter().skip(settled_from).map(of).collect()
        };
        let (off, on) = (column(&record.off, |s| s.seconds), column(&record.on, |s| s.seconds));
        let depths = column(&record.on, |s| s.depth);
        let dropped: Vec<_> = depths.iter().map(|d| promise::saved(*d, record.blocks)).collect();
        let pairs = |of: fn(&Pair) -> f64| -> Vec<f64> { record.pairs.iter().map(of).collect() };
        let (open, closed) = (pairs(|p| p.open), pairs(|p| p.closed));

        let (depth, saving, gateable) =
            (estimate(&depths), saved(&on, &off), saved(&closed, &open));
        let missing = estimate(&dropped);
        let value = promise::promised(gateable.value, depth.value, record.blocks);
        let from_gateable = gateable.error / gateable.value;
        let error = value * from_gateable.hypot(missing.error / missing.value);
        // Saving and depth come from the same steps: a step that ran few blocks has both less time and
        // less depth, which cancels in the share.
        let influence: Vec<_> = influences(&on, &off)
            .zip(&dropped)
            .map(|(saved, d)| saved / saving.value - d / missing.value)
            .collect();
        let share = saving.value / value;
        let share_error = share.abs() * estimate(&influence).error.hypot(from_gateable);
        Figures {
            settled_from,
            off: estimate(&off),
            on: estimate(&on),
            depth,
            saving,
            open: estimate(&open),
            closed: estimate(&closed),
            gateable,
            promised: Estimate { value, error },
            share: Estimate { value: share, error: share_error },
        }
    }
}

/// Validation losses of both trainings after the same time, when the quicker one is done.
///
/// The other one's learning rate has not come to its end by then, which speaks against it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EqualTime {
    /// What the steps took until then, evaluations left out.
    pub seconds: f64,
    /// Loss without layer dropping; between two evaluations on a line from one to the other.
    pub off: f64,
    /// Loss with it.
    pub on: f64,
}

impl EqualTime {
    /// None if one of them had not been evaluated before.
    pub fn new(record: &Record) -> Option<Self> {
        let curve = |steps: &[Step], loss: fn(&Validation) -> f64| -> Vec<(f64, f64)> {
            let times = steps.iter().scan(0.0, |time, step| {
                *time += step.seconds;
                Some(*time)
            });
            let times: Vec<f64> = times.collect();
            let at = |v: &Validation| Some((*times.get(v.step as usize - 1)?, loss(v)));
            record.validation.iter().filter_map(at).collect()
        };
        let (off, on) = (curve(&record.off, |v| v.off), curve(&record.on, |v| v.on));
        let seconds = off.last()?.0.min(on.last()?.0);
        Some(EqualTime { seconds, off: between(&off, seconds)?, on: between(&on, seconds)? })
    }
}

/// The value at `x` on the lines from point to point, which have rising x.
fn between(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let next = points.iter().position(|point| point.0 >= x)?;
    let (x1, y1) = points[next];
    if x1 == x {
        return Some(y1);
    }
    let (x0, y0) = points[next.checked_sub(1)?];
    Some(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
}

/// The first step from which theta stays within 1 % of its last value.
fn settled_from(steps: &[Step]) -> usize {
    let thetas = || steps.iter().map(|step| step.theta.unwrap_or(1.0));
    let last = thetas().next_back().unwrap_or(1.0);
    thetas().rposition(|theta| (theta - last).abs() > 0.01 * last).map_or(0, |i| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(seconds: f64, depth: f64, theta: Option<f64>) -> Step {
        Step { seconds, loss: 1.0, theta, depth }
    }

    /// A machine whose step takes `slow * (2 + 8 depth / 4)`.
    fn record(slow: &[f64], depths: &[f64]) -> Record {
        let seconds = |slow: f64, depth: f64| slow * (2.0 + 2.0 * depth);
        let on = slow.iter().zip(depths).map(|(s, d)| step(seconds(*s, *d), *d, Some(0.5)));
        let pair = |s: &f64| Pair { open: seconds(*s, 4.0), closed: seconds(*s, 0.0) };
        Record {
            off: slow.iter().map(|s| step(seconds(*s, 4.0), 4.0, None)).collect(),
            on: on.collect(),
            validation: Vec::new(),
            unigram_loss: 0.0,
            pairs: slow.iter().map(pair).collect(),
            completions: Vec::new(),
            blocks: 4,
            parameters: 0,
            seconds: 0.0,
        }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn by_hand() {
        let figures = Figures::new(&record(&[1.0; 4], &[4.0, 2.0, 3.0, 3.0]));
        close(figures.off.value, 10.0);
        close(figures.on.value, 8.0);
        close(figures.depth.value, 3.0);
        close(figures.saving.value, 0.2);
        close(figures.gateable.value, 0.8);
        close(figures.promised.value, 0.8 * 0.25);
        close(figures.share.value, 1.0);
        // Times 10, 6, 8, 8: the variance of the mean is 8 / 3 / 4.
        close(figures.on.error, (2.0f64 / 3.0).sqrt());
        close(figures.saving.error, (2.0f64 / 3.0).sqrt() / 10.0);
        // The times follow the depths exactly, so there is nothing uncertain in the share.
        close(figures.share.error, 0.0);
    }

    #[test]
    fn a_slow_moment_of_the_machine_hits_both() {
        let figures = Figures::new(&record(&[1.0, 3.0, 1.0, 1.0], &[3.0; 4]));
        close(figures.saving.value, 0.2);
        close(figures.share.value, 1.0);
        close(figures.saving.error, 0.0);
        close(figures.gateable.error, 0.0);
        assert!(figures.off.error > 1.0);
    }

    #[test]
    fn errors_of_independent_noise_add_up() {
        let mut record = record(&[1.0; 2], &[3.0; 2]);
        (record.on[0].seconds, record.on[1].seconds) = (7.0, 9.0);
        (record.pairs[0].closed, record.pairs[1].closed) = (1.0, 3.0);
        let figures = Figures::new(&record);
        // Half the distance of two values is the standard error of their mean.
        close(figures.saving.error, 0.1);
        close(figures.gateable.error, 0.1);
        close(figures.promised.error, 0.1 * 0.25);
        close(figures.share.error, (0.1f64 / 0.2).hypot(0.1 / 0.8));
    }

    #[test]
    fn losses_at_equal_time() {
        // Steps of 10 s and of 8 s, evaluated after the second and the fourth.
        let mut record = record(&[1.0; 4], &[3.0; 4]);
        let validation = |step, off, on| Validation { step, off, on };
        record.validation = vec![validation(2, 7.0, 6.0), validation(4, 3.0, 4.0)];
        let found = EqualTime::new(&record).expect("both were evaluated by then");
        close(found.seconds, 32.0);
        close(found.off, 7.0 - 4.0 * (32.0 - 20.0) / 20.0);
        close(found.on, 4.0);
        // The other way round.
        std::mem::swap(&mut record.off, &mut record.on);
        let found = EqualTime::new(&record).expect("both were evaluated by then");
        close(found.off, 3.0);
        close(found.on, 6.0 - 2.0 * 12.0 / 20.0);
        // One evaluation, which is too late for the slower one.
        record.validation.remove(0);
        assert_eq!(EqualTime::new(&record), None);
        record.validation.clear();
        assert_eq!(EqualTime::new(&record), None);
    }

    #[test]
    fn steps_count_once_theta_has_settled() {
        let thetas =
            |all: &[f64]| -> Vec<_> { all.iter().map(|t| step(1.0, 1.0, Some(*t))).collect() };
        assert_eq!(settled_from(&thetas(&[1.0, 0.6, 0.506, 0.504, 0.5])), 3);
        assert_eq!(settled_from(&thetas(&[0.5, 0.9, 0.5])), 2);
        assert_eq!(settled_from(&thetas(&[0.5, 0.5])), 0);
        assert_eq!(settled_from(&[step(1.0, 1.0, None)]), 0);
        assert_eq!(settled_from(&[]), 0);
    }

    #[test]
    fn one_step_has_no_spread() {
        let figures = Figures::new(&record(&[1.0], &[3.0]));
        close(figures.share.value, 1.0);
        assert!(figures.saving.error.is_nan() && figures.share.error.is_nan());
    }
}
