//! What is written of a step and of an evaluation: tags, places on the axis and values.
use std::collections::HashMap;
use trainyard::{Evaluation, Report};

/// What a value stands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Completed optimizer steps, the value's own among them.
    Steps,
    /// Samples of all attempts so far, those of skipped steps too: DeepSpeed's `global_samples`.
    Samples,
}

/// What the tags of curves over steps begin with.
pub const OVER_STEPS: [&str; 2] = ["train/", "validation/"];

/// A value on a curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The curve.
    pub tag: String,
    pub axis: Axis,
    pub at: u64,
    pub value: f64,
}

/// Makes points, each further along its curve than the one before.
#[derive(Debug, Default)]
pub struct Figures {
    /// Where each curve has come to.
    last: HashMap<String, u64>,
    /// Steps that were skipped and tried again.
    skipped: u64,
    /// A loss scale was seen.
    scaled: bool,
}

impl Figures {
    /// Of a step. One that was skipped and is tried again is on the axis of samples only: its place among the steps
    /// is that of the next attempt.
    pub fn step(&mut self, attempt: u64, report: &Report) -> Vec<Point> {
        self.scaled |= report.loss_scale != 1.0;
        let counted = report.count > 0;
        let (loss, scale) =
            (counted.then_some(report.loss), self.scaled.then_some(report.loss_scale));
        let mut points = Vec::new();
        if let Some(samples) = samples(report) {
            let at = (attempt + 1).saturating_mul(samples);
            for (name, value) in
                [("train_loss", loss), ("lr", Some(report.lr)), ("loss_scale", scale)]
            {
                let tag = format!("Train/Samples/{name}");
                points.extend(value.map(|value| Point { tag, axis: Axis::Samples, at, value }));
            }
        }
        if !report.completes() {
            self.skipped += 1;
            return self.rising(points);
        }
        let engine = [
            ("loss", loss),
            ("lr", Some(report.lr)),
            ("grad_norm", report.grad_norm),
            ("loss_scale", scale),
            ("seconds", Some(report.seconds)),
            ("samples_per_second", report.samples_per_second),
            ("skipped_steps", (self.skipped > 0).then_some(self.skipped as f64)),
        ];
        let engine = engine.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let plugins = report.metrics.iter().map(|(name, value)| (name.as_str(), *value));
        points.extend(engine.chain(plugins).map(|(name, value)| Point {
            tag: format!("train/{name}"),
            axis: Axis::Steps,
            at: report.step + 1,
            value,
        }));
        self.rising(points)
    }

    /// Of an evaluation after so many completed steps.
    pub fn evaluation(&mut self, step: u64, evaluation: &Evaluation) -> Vec<Point> {
        let point = |(name, value)| Point {
            tag: format!("validation/{name}"),
            axis: Axis::Steps,
            at: step,
            value,
        };
        let points = evaluation.measured().map(|loss| ("loss", loss)).into_iter().map(point);
        self.rising(points.collect())
    }

    /// Those that are further along than what was there: of two values at one place the viewer loses one.
    fn rising(&mut self, points: Vec<Point>) -> Vec<Point> {
        let further = |point: &Point| match self.last.get_mut(&point.tag) {
            Some(last) if *last >= point.at => false,
            Some(last) => {
                *last = point.at;
                true
            }
            None => self.last.insert(point.tag.clone(), point.at).is_none(),
        };
        let mut points = points;
        points.retain(further);
        points
    }
}

/// Samples of a step, where the batch size is known.
pub fn samples(report: &Report) -> Option<u64> {
    let samples = (report.samples_per_second? * report.seconds).round();
    (samples >= 1.0).then_some(samples as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard::Skipped;

    fn report(step: u64) -> Report {
        Report {
            step,
            loss: 2.0,
            count: 5,
            lr: 0.1,
            loss_scale: 1.0,
            seconds: 0.3,
            samples_per_second: Some(8.0 / 0.3),
            ..Report::default()
        }
    }

    fn told(points: &[Point]) -> Vec<(&str, u64, f64)> {
        let shown = points.iter().filter(|point| !point.tag.contains("second"));
        shown.map(|point| (point.tag.as_str(), point.at, point.value)).collect()
    }

    #[test]
    fn a_step_is_on_both_axes() {
        let mut figures = Figures::default();
        let mut report = report(0);
        report.metrics.insert("theta".to_owned(), 0.9);
        let expected = [
            ("Train/Samples/train_loss", 8, 2.0),
            ("Train/Samples/lr", 8, 0.1),
            ("train/loss", 1, 2.0),
            ("train/lr", 1, 0.1),
            ("train/theta", 1, 0.9),
        ];
        assert_eq!(told(&figures.step(0, &report)), expected);
    }

    #[test]
    fn attempts_rise_over_samples_and_steps_over_steps() {
        let mut figures = Figures::default();
        let overflow = Report {
            loss_scale: 4.0,
            skipped: true,
            skip_reason: Some(Skipped::Overflow),
            ..report(0)
        };
        let tags = |points: &[Point]| points.iter().map(|point| point.at).collect::<Vec<_>>();
        assert_eq!(tags(&figures.step(0, &overflow)), [8, 8, 8]);
        let next = figures.step(1, &Report { loss_scale: 1.0, ..report(0) });
        assert!(told(&next).contains(&("Train/Samples/loss_scale", 16, 1.0)), "{next:?}");
        assert!(told(&next).contains(&("train/skipped_steps", 1, 1.0)), "{next:?}");
        // What counts nothing has no loss, and the step is done.
        let nothing = Report {
            loss: f64::NAN,
            count: 0,
            skipped: true,
            skip_reason: Some(Skipped::NothingCounted),
            ..report(1)
        };
        let next = figures.step(2, &nothing);
        assert!(
            next.iter().all(|point| !point.tag.contains("loss") || point.tag.ends_with("scale"))
        );
        assert!(told(&next).contains(&("train/lr", 2, 0.1)));
    }

    #[test]
    fn what_does_not_rise_is_left_out() {
        let mut figures = Figures::default();
        let found = Evaluation { loss: 1.5, count: 3 };
        assert_eq!(told(&figures.evaluation(4, &found)), [("validation/loss", 4, 1.5)]);
        assert_eq!(figures.evaluation(4, &found), []);
        assert_eq!(figures.evaluation(5, &Evaluation { count: 0, ..found }), []);
        assert_eq!(figures.evaluation(6, &found).len(), 1);
    }
}
