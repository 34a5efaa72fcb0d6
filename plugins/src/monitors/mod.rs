//! `tensorboard` and `csv_monitor`: the figures of a run in files that other programs show.
//!
//! Both are observers of the run on its first rank. DeepSpeed's tags stand over samples, ours over completed steps.
mod config;
mod csv;
mod figures;
mod tensorboard;

pub use config::{CsvConfig, TensorboardConfig};

use config::Place;
use csv::Csv;
use figures::{Figures, Point};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tensorboard::TensorBoard;
use tracing::warn;
use trainyard::{
    BoxError, BuildContext, Context, Event, Observer, Outline, Parts, PluginSpec, Section,
};

/// A configuration with `tensorboard`.
pub const TENSORBOARD_EXAMPLE: &str = r#"{ "tensorboard": { "enabled": true } }"#;

/// A configuration with `csv_monitor`.
pub const CSV_EXAMPLE: &str =
    r#"{ "csv_monitor": { "enabled": true, "output_path": "logs", "job_name": "first" } }"#;

/// Longest time that a figure waits to be written.
const FLUSH_EVERY: Duration = Duration::from_secs(2);

/// The section `tensorboard`.
#[derive(Debug)]
pub struct Tensorboard;

/// The section `csv_monitor`.
#[derive(Debug)]
pub struct CsvMonitor;

impl Section for Tensorboard {
    const KEYS: &'static [&'static str] = &["tensorboard"];
    type Config = TensorboardConfig;

    fn outline(config: &Self::Config, _: &Context, outline: &mut Outline) -> Result<(), BoxError> {
        describe(config.place(), "event files", outline);
        Ok(())
    }
}

impl PluginSpec for Tensorboard {
    fn build(
        config: &Self::Config,
        context: &BuildContext,
        parts: &mut Parts,
    ) -> Result<(), BoxError> {
        monitor::<TensorBoard>(config.place(), "tensorboard", context, parts);
        Ok(())
    }
}

impl Section for CsvMonitor {
    const KEYS: &'static [&'static str] = &["csv_monitor"];
    type Config = CsvConfig;

    fn outline(config: &Self::Config, _: &Context, outline: &mut Outline) -> Result<(), BoxError> {
        describe(config.place(), "CSV", outline);
        Ok(())
    }
}

impl PluginSpec for CsvMonitor {
    fn build(
        config: &Self::Config,
        context: &BuildContext,
        parts: &mut Parts,
    ) -> Result<(), BoxError> {
        monitor::<Csv>(config.place(), "csv_monitor", context, parts);
        Ok(())
    }
}

fn describe(place: Option<Place>, format: &str, outline: &mut Outline) {
    if let Some(place) = place {
        outline.describe(format!("figures as {format} {}", place.described()));
    }
}

/// Has a monitor observe the run.
fn monitor<S: Sink + 'static>(
    place: Option<Place>,
    section: &'static str,
    context: &BuildContext,
    parts: &mut Parts,
) {
    // All ranks have the same figures; one of them writes.
    if let Some(place) = place.filter(|_| context.run.world.rank == 0) {
        parts.observer(Monitor::<S>::new(section, place));
    }
}

/// Where the figures go.
trait Sink: Sized + Send {
    /// Begins in a folder that is there, behind `completed` steps. What this run itself left there behind them no
    /// longer holds: it goes on from an earlier checkpoint, or, in a folder that is its `own`, begins anew.
    fn begin(folder: &Path, completed: u64, own: bool) -> io::Result<Self>;

    /// Takes the resolved configuration.
    fn configuration(&mut self, json: &str) -> io::Result<()> {
        let _ = json;
        Ok(())
    }

    /// Takes points, each further along its curve than the last.
    fn points(&mut self, points: Vec<Point>) -> io::Result<()>;

    /// Hands what was taken to the system.
    fn flush(&mut self) -> io::Result<()>;
}

/// Writes what it is told. What goes wrong at the beginning ends the run; later, this monitor alone.
struct Monitor<S> {
    section: &'static str,
    place: Place,
    figures: Figures,
    sink: State<S>,
    flushed: Instant,
}

enum State<S> {
    /// Nothing was told yet.
    Waiting,
    Open(S),
    /// It could not go on.
    Broken,
}

impl<S: Sink> Monitor<S> {
    fn new(section: &'static str, place: Place) -> Self {
        let (figures, flushed) = (Figures::default(), Instant::now());
        Monitor { section, place, figures, sink: State::Waiting, flushed }
    }

    fn begin(&mut self, run: Option<&Path>, completed: u64) -> Result<(), BoxError> {
        let (folder, own) = (self.place.folder(run), self.place.is_own(run));
        let begun =
            std::fs::create_dir_all(&folder).and_then(|()| S::begin(&folder, completed, own));
        let cannot =
            |error| format!("{} cannot write to {}: {error}", self.section, folder.display());
        self.sink = State::Open(begun.map_err(cannot)?);
        Ok(())
    }

    /// Writes to what is open.
    fn write(&mut self, write: impl FnOnce(&mut S) -> io::Result<()>) {
        let State::Open(sink) = &mut self.sink else { return };
        if let Err(error) = write(sink) {
            warn!("{} could not be written, and ends here: {error}", self.section);
            self.sink = State::Broken;
        }
    }

    fn points(&mut self, points: Vec<Point>, flush: bool) {
        let flush = flush || self.flushed.elapsed() >= FLUSH_EVERY;
        if flush {
            self.flushed = Instant::now();
        }
        self.write(|sink| {
            sink.points(points)?;
            if flush { sink.flush() } else { Ok(()) }
        });
    }
}

impl<S: Sink> Observer for Monitor<S> {
    fn observe(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        match event {
            Event::Started { plan, completed_steps, folder, .. } => {
                self.begin(*folder, *completed_steps)?;
                let json = serde_json::to_string_pretty(plan.config().value())?;
                self.write(|sink| sink.configuration(&json).and_then(|()| sink.flush()));
            }
            Event::Step { attempt, report, .. } => {
                // A loop of the program's own begins without a word.
                if let State::Waiting = self.sink {
                    self.begin(None, report.step)?;
                }
                let points = self.figures.step(*attempt, report);
                self.points(points, false);
            }
            Event::Evaluated { step, evaluation } => {
                let points = self.figures.evaluation(*step, evaluation);
                self.points(points, true);
            }
            Event::Failed { .. } | Event::Warned { .. } | Event::Ended { .. } => {
                self.write(Sink::flush);
            }
            _ => {}
        }
        Ok(())
    }
}
