//! Event files for TensorBoard: DeepSpeed's tags over samples, ours over steps in `steps` below them.
//!
//! A folder has one axis, as TensorBoard has it: a run that goes on from an earlier step hides what the folder has
//! from there on, and steps are no samples.
mod events;
mod wire;

use super::Sink;
use super::figures::{Axis, Point};
use events::Place;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use wire::Message;

/// What the names of event files begin with; seconds since 1970 follow, by which they are in order.
const PREFIX: &str = "events.out.tfevents.";

/// Event files of one run.
pub struct TensorBoard {
    folder: PathBuf,
    completed: u64,
    steps: Events,
    /// There when the batch size is known.
    samples: Option<Events>,
}

impl Sink for TensorBoard {
    /// Files that are there stay: TensorBoard passes over what they have behind a later start.
    fn begin(folder: &Path, completed: u64, _own: bool) -> io::Result<Self> {
        // The places of the run's points, which are behind what is completed.
        let first = if completed == 0 { 0 } else { completed + 1 };
        let steps = Events::create(&folder.join("steps"), first)?;
        Ok(TensorBoard { folder: folder.to_owned(), completed, steps, samples: None })
    }

    fn configuration(&mut self, json: &str) -> io::Result<()> {
        let place = Place { wall_time: now(), step: self.completed };
        // Four blanks make code of it, whatever is in it.
        let code: String = json.lines().map(|line| format!("    {line}\n")).collect();
        self.steps.write(events::text(place, "configuration", &code))
    }

    fn points(&mut self, points: Vec<Point>) -> io::Result<()> {
        let wall_time = now();
        for Point { tag, axis, at, value } in points {
            let file = match axis {
                Axis::Steps => &mut self.steps,
                Axis::Samples => match &mut self.samples {
                    Some(file) => file,
                    none => none.insert(Events::create(&self.folder, at)?),
                },
            };
            file.write(events::scalar(Place { wall_time, step: at }, &tag, value))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.samples.iter_mut().try_for_each(Events::flush)?;
        self.steps.flush()
    }
}

/// One event file.
struct Events(BufWriter<File>);

impl Events {
    /// A new file in the folder, behind all that are there; its points are from `first` on.
    fn create(folder: &Path, first: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let wall_time = now();
        let mut second = latest(folder)?.map_or(0, |latest| latest + 1).max(wall_time as u64);
        let file = loop {
            let name = format!("{PREFIX}{second:010}.{}.trainyard", std::process::id());
            match File::create_new(folder.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => second += 1,
                made => break made?,
            }
        };
        let mut events = Events(BufWriter::new(file));
        events.write(events::version(wall_time))?;
        events.write(events::start(Place { wall_time, step: first }))?;
        events.flush()?;
        Ok(events)
    }

    fn write(&mut self, event: Message) -> io::Result<()> {
        self.0.write_all(&events::record(event))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The second of the latest event file of the folder: a clock may be behind it.
fn latest(folder: &Path) -> io::Result<Option<u64>> {
    let names = fs::read_dir(folder)?.flatten().map(|entry| entry.file_name());
    let second = |name: std::ffi::OsString| -> Option<u64> {
        name.to_str()?.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
    };
    // What no clock says is no other program's second either.
    Ok(names.filter_map(second).filter(|second| *second < 10_000_000_000).max())
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}
