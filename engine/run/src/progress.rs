//! Progress of a training: a bar on a terminal, a line of log every ten seconds elsewhere.
use crate::failure::colours;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use trainyard::{BoxError, Event, Observer, Report, World};

/// The log of a program: information of our crates and warnings of all others. A target begins with its
/// crate's name, and the names of our crates with `trainyard`.
pub const OURS: &str = "warn,trainyard=info";

/// The other ranks than the first show errors, and what no other rank knows: what else they would say is what it says.
const OTHER_RANKS: &str = "error,trainyard::rank=warn";

/// The first rank of another machine also says what that machine lacks.
const OTHER_MACHINES: &str = "error,trainyard::rank=warn,trainyard::machine=warn";

/// What the weight of a step in the means is multiplied by when the next one comes.
const KEEP: f64 = 0.9;

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
            _ if detailed => EnvFilter::new(filter),
            _ => EnvFilter::new(match World::from_env() {
                Ok(World { rank: 1.., local_rank: 0, .. }) => OTHER_MACHINES,
                Ok(World { rank: 1.., .. }) => OTHER_RANKS,
                _ => filter,
            }),
        };
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(self.clone())
            .with_ansi(colours(&io::stderr()))
            .log_internal_errors(false)
            .with_target(detailed);
        if detailed { log.try_init() } else { log.without_time().try_init() }.ok();
    }

    /// The progress of a run of `steps` steps. `name` comes first in its bar.
    pub fn progress(&self, name: &str, steps: u64) -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = self.bars.add(ProgressBar::new(steps));
            bar.with_style(style()).with_prefix(name.to_owned())
        });
        Progress {
            name: name.to_owned(),
            steps,
            done: 0,
            bar,
            loss: Smooth::new(KEEP),
            seconds: Smooth::new(KEEP),
            samples: None,
            extra: String::new(),
            last_line: Instant::now(),
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
    let template = "{prefix:>3} {pos:>5}/{len} {bar:20} {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    style.progress_chars("=> ")
}

/// The progress of one training, whose times are means over the latest steps: a pause between two of them, as for
/// an evaluation, is no part of it.
#[derive(Debug)]
pub struct Progress {
    name: String,
    steps: u64,
    done: u64,
    /// Where there is a terminal.
    bar: Option<ProgressBar>,
    loss: Smooth,
    /// Time of a step.
    seconds: Smooth,
    /// Samples of a step, where they are known.
    samples: Option<f64>,
    /// Theta and depth, where the step reports them.
    extra: String,
    last_line: Instant,
}

impl Observer for Progress {
    fn observe(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        match event {
            Event::Started { completed_steps, .. } => self.done = *completed_steps,
            Event::Step { report, .. } => self.step(report),
            Event::Evaluating { done, batches, .. } => self.evaluating(*done, *batches),
            Event::Evaluated { step, evaluation } => {
                let place = format!("{} {step}/{}", self.name, self.steps);
                match evaluation.measured() {
                    Some(loss) => info!("{place}: validation loss {loss:.4}"),
                    None => warn!(
                        "{place}: nothing in the validation data was counted, so there is no loss"
                    ),
                }
            }
            Event::Stopping { step, total_steps, by } => {
                let by = by.unwrap_or("another rank or the program");
                warn!("asked to stop by {by}: the run ends after {step} of {total_steps} steps");
            }
            Event::Warned { message } => warn!("{message}"),
            _ => {}
        }
        Ok(())
    }
}

/// Says, on another rank than the first, what that rank alone knows. The rest is for the first one's progress to say.
#[derive(Debug)]
pub struct RankWarnings {
    /// The rank.
    pub rank: usize,
}

impl Observer for RankWarnings {
    fn observe(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        if let Event::Warned { message } = event {
            warn!(target: "trainyard::rank", "rank {}: {message}", self.rank);
        }
        Ok(())
    }
}

impl Progress {
    fn step(&mut self, report: &Report) {
        self.done = report.step + u64::from(report.completes());
        // One loss that is no number would make the mean none for good.
        if report.loss.is_finite() {
            self.loss.push(report.loss);
        }
        self.seconds.push(report.seconds);
        self.samples = report.samples_per_second.map(|rate| rate * report.seconds);
        let metric = |name: &str| report.metrics.get(name);
        if let (Some(theta), Some(depth)) = (metric("theta"), metric("realised_depth")) {
            let depth = (depth * 10.0).round() / 10.0;
            self.extra = format!(", theta {theta:.3}, depth {depth}");
        }
        let last = self.done == self.steps;
        self.show(last, |progress| {
            format!("{}, {} s left", progress.figures(), progress.seconds_left())
        });
    }

    fn evaluating(&mut self, done: usize, batches: usize) {
        self.show(false, |_| format!("validation, {done} of {batches} batches"));
    }

    /// On a terminal at once; elsewhere when a line is due, or the `last`.
    fn show(&mut self, last: bool, text: impl FnOnce(&Self) -> String) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.done);
                bar.set_message(text(self));
            }
            None if last || self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                info!("{} {}/{}: {}", self.name, self.done, self.steps, text(self));
            }
            None => {}
        }
    }

    fn figures(&self) -> String {
        let rate = self.samples.zip(self.seconds.value()).map(|(samples, time)| samples / time);
        let rate = rate.map(|rate| format!(", {rate:.1} samples/s"));
        let loss = self.loss.value().unwrap_or(f64::NAN);
        format!("loss {loss:.3}{}{}", rate.unwrap_or_default(), self.extra)
    }

    /// Of steps alone: evaluations come on top.
    fn seconds_left(&self) -> u64 {
        let left = self.steps.saturating_sub(self.done) as f64;
        (self.seconds.value().unwrap_or_default() * left).ceil() as u64
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

    fn report(step: u64, seconds: f64) -> Report {
        let samples_per_second = Some(4.0 / seconds);
        Report { step, loss: 3.0, seconds, samples_per_second, ..Report::default() }
    }

    #[test]
    fn figures_of_a_step() {
        let mut progress = Screen::default().progress("on", 10);
        let mut report = report(0, 0.25);
        progress.step(&report);
        assert_eq!(progress.figures(), "loss 3.000, 16.0 samples/s");
        report.metrics.insert("theta".to_owned(), 0.5);
        report.metrics.insert("realised_depth".to_owned(), 9.0);
        progress.step(&report);
        assert_eq!(progress.figures(), "loss 3.000, 16.0 samples/s, theta 0.500, depth 9");
        report.metrics.insert("realised_depth".to_owned(), 0.04);
        progress.step(&report);
        assert!(progress.figures().ends_with("depth 0"), "{}", progress.figures());
        assert_eq!(progress.done, 1, "one step, tried three times");
    }

    /// Half of the steps take 1 s and half 3 s: 4 samples take 2 s. A mean of rates would say 2.67.
    #[test]
    fn the_rate_is_of_the_mean_time_and_pauses_are_none_of_it() {
        let mut progress = Screen::default().progress("on", 200);
        let began = Instant::now();
        for step in 0..100 {
            progress.step(&report(step, if step % 2 == 0 { 1.0 } else { 3.0 }));
        }
        let mean = progress.seconds.value().expect("there were steps");
        assert!((mean - 2.0).abs() < 0.1, "{mean}");
        assert_eq!(progress.figures(), format!("loss 3.000, {:.1} samples/s", 4.0 / mean));
        assert_eq!(progress.seconds_left(), (100.0 * mean).ceil() as u64);
        assert!(began.elapsed() < Duration::from_secs(20), "the clock shows other times");
    }
}
