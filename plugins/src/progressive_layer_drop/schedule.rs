//! theta(t) and what it means for each block: pure functions of numbers.
use super::config::{Config, Course, Depth, Gamma};
use trainyard::{Invalid, Schedule};

/// theta as a function of the completed steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Theta {
    /// theta once settled, in (0, 1].
    settled: f64,
    curve: Curve,
    /// First step at full depth.
    full_from: Option<u64>,
}

/// How far the gates are open by the schedule: 1 is full depth, 0 is settled.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Curve {
    Exponential { gamma: f64 },
    Constant,
    Linear { ramp_steps: f64 },
    Decreasing { total_steps: f64 },
}

impl Theta {
    /// # Errors
    /// If the configuration asks for a fraction of a run whose length is not known.
    pub fn new(config: &Config, total_steps: Option<u64>) -> Result<Self, Invalid> {
        let total = |path: &str, what: String| {
            let unknown = "and the length of the run is not known; set `training.total_steps`";
            let steps = total_steps.ok_or_else(|| Invalid::at(path, format!("{what}, {unknown}")));
            steps.map(|steps| steps as f64)
        };
        let curve = match (config.schedule, config.gamma) {
            (Course::Exponential, Gamma::Value(gamma)) => Curve::Exponential { gamma },
            (Course::Exponential, Gamma::Auto(_)) => {
                let steps = total("gamma", "gamma = \"auto\" is 100 / total steps".to_owned())?;
                Curve::Exponential { gamma: 100.0 / steps }
            }
            (Course::Constant, _) => Curve::Constant,
            (Course::Linear, _) => {
                let what = format!("schedule = \"linear\" ramps over {} of the run", config.ramp);
                Curve::Linear { ramp_steps: config.ramp * total("schedule", what)? }
            }
            (Course::Decreasing, _) => {
                let what = "schedule = \"decreasing\" rises over the whole run".to_owned();
                Curve::Decreasing { total_steps: total("schedule", what)? }
            }
        };
        let full_from = if config.full_depth_tail > 0.0 {
            let what = format!("full_depth_tail = {} is a part of the run", config.full_depth_tail);
            let total = total("full_depth_tail", what)?;
            // Rounding must not cost a step: (1 - 0.7) 10 is 3.0000000000000004.
            Some(((1.0 - config.full_depth_tail) * total * (1.0 - 1e-12)).ceil() as u64)
        } else {
            None
        };
        Ok(Theta { settled: config.theta, curve, full_from })
    }

    /// Rate of the exponential schedule, per step.
    pub fn gamma(&self) -> Option<f64> {
        match self.curve {
            Curve::Exponential { gamma } => Some(gamma),
            _ => None,
        }
    }

    /// The value that theta has, or tends to, once the schedule has settled.
    pub fn settled(&self) -> f64 {
        self.settled
    }

    /// Mean of theta over the steps 0 to `steps` - 1, at least one, in closed form: a run may be long.
    pub fn mean(&self, steps: u64) -> f64 {
        let steps = steps.max(1);
        let gated = self.full_from.unwrap_or(steps).min(steps);
        let open = self.curve.sum(gated) + (steps - gated) as f64;
        self.of(open / steps as f64)
    }

    // Exactly 1 for 1: the rounding error of 1 - x is at most half the distance of 1 to its neighbours.
    fn of(&self, open: f64) -> f64 {
        self.settled + (1.0 - self.settled) * open
    }
}

impl Schedule for Theta {
    fn at(&self, step: u64) -> f64 {
        match self.full_from {
            Some(from) if step >= from => 1.0,
            _ => self.of(self.curve.at(step)),
        }
    }
}

impl Curve {
    fn at(self, step: u64) -> f64 {
        let t = step as f64;
        match self {
            Curve::Exponential { gamma } => (-gamma * t).exp(),
            Curve::Constant => 0.0,
            Curve::Linear { ramp_steps } => (1.0 - t / ramp_steps).max(0.0),
            Curve::Decreasing { total_steps } => (t / total_steps).min(1.0),
        }
    }

    /// The sum of `at` over the steps 0 to `steps` - 1.
    fn sum(self, steps: u64) -> f64 {
        let n = steps as f64;
        match self {
            Curve::Exponential { gamma } => (-gamma * n).exp_m1() / (-gamma).exp_m1(),
            Curve::Constant => 0.0,
            Curve::Linear { ramp_steps } => {
                let m = n.min(ramp_steps.ceil());
                m - m * (m - 1.0) / (2.0 * ramp_steps)
            }
            Curve::Decreasing { total_steps } => {
                let m = n.min(total_steps);
                m * (m - 1.0) / (2.0 * total_steps) + (n - m)
            }
        }
    }
}

/// Probability that block `block` of `blocks` is kept, from 1 = nearest the input.
pub fn keep_probability(depth: Depth, block: usize, blocks: usize, theta: f64) -> f64 {
    let (i, l) = (block as f64, blocks as f64);
    match depth {
        Depth::Linear => 1.0 - i / l * (1.0 - theta),
        Depth::Uniform => 1.0 - (l + 1.0) / (2.0 * l) * (1.0 - theta),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progressive_layer_drop::config::Auto;

    fn theta(config: Config) -> Theta {
        Theta::new(&config, Some(100)).expect("the length of the run is given")
    }

    fn course(schedule: Course) -> Config {
        Config { schedule, ..Config::default() }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn exponential() {
        let theta = theta(Config { gamma: Gamma::Value(0.1), ..Config::default() });
        assert_eq!(theta.at(0), 1.0);
        close(theta.at(10), 0.5 + 0.5 / std::f64::consts::E);
        assert_eq!(theta.at(u64::MAX), 0.5);
    }

    #[test]
    fn the_first_step_is_at_full_depth_exactly() {
        for n in 1..=10_000 {
            let settled = n as f64 / 10_000.0;
            let theta = theta(Config { theta: settled, ..Config::default() });
            assert_eq!(theta.at(0), 1.0, "{settled}");
        }
    }

    #[test]
    fn auto_gamma_is_100_over_the_run() {
        let auto = Config { gamma: Gamma::Auto(Auto::Auto), ..Config::default() };
        assert_eq!(theta(auto).gamma(), Some(1.0));
    }

    #[test]
    fn the_other_schedules() {
        let constant = theta(course(Course::Constant));
        assert_eq!([0, 50, 1000].map(|t| constant.at(t)), [0.5; 3]);
        let linear = theta(course(Course::Linear));
        assert_eq!([0, 5, 10, 99].map(|t| linear.at(t)), [1.0, 0.75, 0.5, 0.5]);
        let decreasing = theta(course(Course::Decreasing));
        assert_eq!([0, 50, 100, 101].map(|t| decreasing.at(t)), [0.5, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn full_depth_tail() {
        for (tail, first) in [(0.2, 80), (0.7, 30), (0.29, 71), (0.001, 100), (0.999, 1)] {
            let theta = theta(Config { full_depth_tail: tail, ..course(Course::Constant) });
            let found = (0..=100).find(|&t| theta.at(t) == 1.0);
            assert_eq!(found, Some(first), "{tail}");
        }
    }

    #[test]
    fn the_mean_in_closed_form_is_the_mean() {
        let schedules = [Course::Exponential, Course::Constant, Course::Linear, Course::Decreasing];
        let cases = schedules.map(|s| [(s, 0.0), (s, 0.25), (s, 0.95)]).concat();
        for (schedule, full_depth_tail) in cases {
            for ramp in [0.001, 0.1, 0.333, 1.0] {
                let theta = theta(Config { ramp, full_depth_tail, ..course(schedule) });
                for steps in [1, 40, 100, 130] {
                    let mean = (0..steps).map(|t| theta.at(t)).sum::<f64>() / steps as f64;
                    close(theta.mean(steps), mean);
                }
            }
        }
        assert!(theta(Config::default()).mean(u64::MAX) < 0.500_001);
    }

    #[test]
    fn the_length_of_the_run_is_asked_for() {
        let message = |config: Config| {
            let Err(Invalid { path, message }) = Theta::new(&config, None) else { return None };
            Some(format!("{path}: {message}"))
        };
        let unknown = "and the length of the run is not known; set `training.total_steps`";
        let auto = Config { gamma: Gamma::Auto(Auto::Auto), ..Config::default() };
        assert_eq!(
            message(auto),
            Some(format!("gamma: gamma = \"auto\" is 100 / total steps, {unknown}"))
        );
        assert_eq!(
            message(course(Course::Linear)),
            Some(format!("schedule: schedule = \"linear\" ramps over 0.1 of the run, {unknown}"))
        );
        assert_eq!(
            message(Config { full_depth_tail: 0.5, ..Config::default() }),
            Some(format!("full_depth_tail: full_depth_tail = 0.5 is a part of the run, {unknown}"))
        );
        assert!(message(course(Course::Decreasing)).is_some());
        assert_eq!(message(course(Course::Constant)), None);
        assert_eq!(message(Config::default()), None);
    }

    #[test]
    fn keep_probabilities_of_twelve_blocks() {
        let keep = |depth, block| keep_probability(depth, block, 12, 0.5);
        assert_eq!(keep(Depth::Linear, 12), 0.5);
        close(keep(Depth::Linear, 1), 1.0 - 1.0 / 24.0);
        for depth in [Depth::Linear, Depth::Uniform] {
            close((1..=12).map(|i| keep(depth, i)).sum(), 8.75);
            assert_eq!(keep_probability(depth, 5, 12, 1.0), 1.0);
            assert_eq!(keep_probability(depth, 1, 1, 0.25), 0.25);
        }
        assert_eq!(keep(Depth::Uniform, 1), keep(Depth::Uniform, 12));
    }

    /// (theta, gamma, step, theta in the forward of that step) as DeepSpeed 0.18.2 prints it. Its theta
    /// lags one step behind; ours does not, the one deliberate difference.
    const DEEPSPEED: [(f64, f64, u64, f64); 12] = [
        (0.5, 0.001, 1, 1.0),
        (0.5, 0.001, 2, 0.9995002499166875),
        (0.5, 0.001, 15, 0.993048772131431),
        (0.5, 0.001, 29, 0.9861941834006234),
        (0.5, 0.1, 1, 1.0),
        (0.5, 0.1, 2, 0.9524187090179798),
        (0.5, 0.1, 15, 0.6232984819708032),
        (0.5, 0.1, 29, 0.530405031312609),
        (0.9, 0.01, 1, 1.0),
        (0.9, 0.01, 2, 0.9990049833749168),
        (0.9, 0.01, 15, 0.9869358235398806),
        (0.9, 0.01, 29, 0.9755783741455726),
    ];

    #[test]
    fn deepspeed_one_step_later() {
        for (settled, gamma, step, expected) in DEEPSPEED {
            let gamma = Gamma::Value(gamma);
            let theta = theta(Config { theta: settled, gamma, ..Config::default() });
            let found = theta.at(step - 1);
            assert!((found - expected).abs() < 1e-15, "{found} is not {expected}");
        }
    }
}
