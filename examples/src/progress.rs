//! Progress of a training: a bar on a terminal, a line of log every ten seconds elsewhere.
use crate::failure::colours;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use trainyard::{Evaluation, Report, World};

/// The log of a program: information of our crates and warnings of all others. A target begins with its
/// crate's name, and the names of our crates with `trainyard`.
pub const OURS: &str = "warn,trainyard=info";

/// The other ranks than the first show warnings only: what they would say is what it says.
const OTHER_RANKS: &str = "warn";

/// Time between two lines of log.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Standard error, shared by progress bars and the log, which is written above them. Clones are the
/// same screen.
#[derive(Debug, Clone, Default)]
pub struct Screen {
    bars: MultiProgress,
}

impl Screen {
    /// Sends what `tracing` records to this screen: what the variable `RUST_LOG` says, else what
    /// `filter` says, such as [`OURS`]; with the time and the target if `detailed`. Does nothing if the
    /// program has a subscriber already.
    pub fn start_log(&self, filter: &str, detailed: bool) {
        let filter = match std::env::var_os(EnvFilter::DEFAULT_ENV) {
            Some(set) if !set.is_empty() => EnvFilter::from_default_env(),
            _ if !detailed && World::from_env().is_ok_and(|world| world.rank > 0) => {
                EnvFilter::new(OTHER_RANKS)
            }
            _ => EnvFilter::new(filter),
        };
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(self.clone())
            .with_ansi(colours(&io::stderr()))
            .log_internal_errors(false)
            .with_target(detailed);
        if detailed { log.try_init() } else { log.without_time().try_init() }.ok();
    }

    /// The progress of `steps` steps, of which `done` are completed. `name` comes first in its bar.
    pub fn progress(&self, name: &str, done: u64, steps: u64) -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = self.bars.add(ProgressBar::new(steps).with_position(done));
            bar.with_style(style()).with_prefix(name.to_owned())
        });
        let (loss, speed) = (Smooth::new(0.9), Smooth::new(0.9));
        let (now, name) = (Instant::now(), name.to_owned());
        let last = (now, done);
        Progress {
            name,
            steps,
            done,
            bar,
            loss,
            speed,
            extra: String::new(),
            began: last,
            last_line: now,
        }
    }
}

impl Write for Screen {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.bars.suspend(|| io::stderr().write(text))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for Screen {
    type Writer = Screen;

    fn make_writer(&self) -> Screen {
        self.clone()
    }
}

fn style() -> ProgressStyle {
    let template = "{prefix:>3} {pos:>5}/{len} {bar:20} {msg}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    style.progress_chars("=> ")
}

/// The progress of one training.
#[derive(Debug)]
pub struct Progress {
    name: String,
    steps: u64,
    done: u64,
    /// Where there is a terminal.
    bar: Option<ProgressBar>,
    loss: Smooth,
    speed: Smooth,
    /// Theta and depth, where the step reports them.
    extra: String,
    began: (Instant, u64),
    last_line: Instant,
}

impl Progress {
    /// Takes note of a step that ended.
    pub fn step(&mut self, report: &Report) {
        self.done += 1;
        // One loss that is no number would make the mean none for good.
        if report.loss.is_finite() {
            self.loss.push(report.loss);
        }
        if let Some(speed) = report.samples_per_second {
            self.speed.push(speed);
        }
        let metric = |name: &str| report.metrics.get(name);
        if let (Some(theta), Some(depth)) = (metric("theta"), metric("realised_depth")) {
            let depth = (depth * 10.0).round() / 10.0;
            self.extra = format!(", theta {theta:.3}, depth {depth}");
        }
        match &self.bar {
            Some(bar) => {
                bar.set_message(self.figures());
                bar.inc(1);
            }
            None if self.last_line.elapsed() >= LINE_EVERY || self.done == self.steps => {
                self.last_line = Instant::now();
                let (name, done, steps) = (&self.name, self.done, self.steps);
                info!("{name} {done}/{steps}: {}, {} s left", self.figures(), self.seconds_left());
            }
            None => {}
        }
    }

    /// Takes note of an evaluation after `step` completed steps.
    pub fn evaluated(&self, step: u64, evaluation: &Evaluation) {
        let place = format!("{} {step}/{}", self.name, self.steps);
        match evaluation.measured() {
            Some(loss) => info!("{place}: validation loss {loss:.4}"),
            None => warn!("{place}: nothing in the validation data was counted, so there is no validation loss"),
        }
    }

    fn figures(&self) -> String {
        let speed = self.speed.value().map(|speed| format!(", {speed:.1} samples/s"));
        let loss = self.loss.value().unwrap_or(f64::NAN);
        format!("loss {loss:.3}{}{}", speed.unwrap_or_default(), self.extra)
    }

    fn seconds_left(&self) -> u64 {
        let (began, before) = self.began;
        let each = began.elapsed().as_secs_f64() / self.done.saturating_sub(before).max(1) as f64;
        (each * self.steps.saturating_sub(self.done) as f64).ceil() as u64
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // Leaves the bar as it stands, on lines of its own.
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// A running mean with exponentially falling weights, unbiased from the first value on.
#[derive(Debug, Clone, Copy)]
pub struct Smooth {
    keep: f64,
    sum: f64,
    weight: f64,
}

impl Smooth {
    /// `keep`: what a value's weight is multiplied by when the next one comes, in [0, 1).
    pub fn new(keep: f64) -> Self {
        Smooth { keep, sum: 0.0, weight: 0.0 }
    }

    /// Adds a value; the mean with it.
    pub fn push(&mut self, value: f64) -> f64 {
        self.sum = self.keep * self.sum + (1.0 - self.keep) * value;
        self.weight = self.keep * self.weight + (1.0 - self.keep);
        self.sum / self.weight
    }

    /// The mean; none before the first value.
    pub fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_mean_by_hand() {
        let mut mean = Smooth::new(0.5);
        assert_eq!(mean.value(), None);
        assert_eq!(mean.push(4.0), 4.0);
        // Weights 1 and 1/2.
        assert_eq!(mean.push(1.0), 2.0);
        // Weights 1, 1/2 and 1/4.
        assert_eq!(mean.push(2.0), 14.0 / 7.0);
    }

    #[test]
    fn figures_of_a_step() {
        let mut progress = Screen::default().progress("on", 0, 10);
        let mut report = Report { loss: 3.0, samples_per_second: Some(17.24), ..Report::default() };
        progress.step(&report);
        assert_eq!(progress.figures(), "loss 3.000, 17.2 samples/s");
        report.metrics.insert("theta".to_owned(), 0.5);
        report.metrics.insert("realised_depth".to_owned(), 9.0);
        progress.step(&report);
        assert_eq!(progress.figures(), "loss 3.000, 17.2 samples/s, theta 0.500, depth 9");
        report.metrics.insert("realised_depth".to_owned(), 0.04);
        progress.step(&report);
        assert!(progress.figures().ends_with("depth 0"), "{}", progress.figures());
        assert_eq!(progress.done, 3);
    }
}
