//! What a run leaves in its folder.
use crate::RunError;
use crate::files::Files;
use crate::folder::Folder;
use crate::log::Log;
use crate::machine;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::Device;
use trainyard::{Ending, Event, Plan};
use trainyard_checkpoint::State;

/// Files that a run writes to its folder; the first one is written last.
pub const OUTPUTS: &[&str] = &[
    SUMMARY,
    STEPS,
    "model.pt",
    "model.pt2",
    "model.safetensors",
    "constants.safetensors",
    "vocab.txt",
];

/// The record of a run that is complete, or was stopped and has written all that it reached.
const SUMMARY: &str = "summary.json";

/// A line for each step and each evaluation.
const STEPS: &str = "steps.jsonl";

/// Bytes of room that a run takes besides its model, at least.
const LOGS: u64 = 1 << 16;

/// What a checkpoint keeps of a run beside the engine's state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Known {
    /// What it took so far.
    pub seconds: f64,
    /// Training loss of the latest step; none also where it is no number that JSON has.
    pub loss: Option<f64>,
    /// Steps completed at the latest evaluation that measured something, and its loss.
    pub validation: Option<(u64, Option<f64>)>,
    /// Steps completed at the latest evaluation.
    pub evaluated: Option<u64>,
    /// Tells its data from other data.
    pub data: Option<String>,
    /// Samples that all ranks together take in a step.
    pub batch: Option<u64>,
    /// The folder that it writes to.
    pub output: Option<PathBuf>,
}

impl Known {
    /// What a checkpoint has of it.
    pub fn of(state: &State) -> Self {
        serde_json::from_value(state.run.clone()).unwrap_or_default()
    }
}

/// What a run leaves in its folder, and what is known of it so far.
pub struct Record {
    folder: Folder,
    log: Option<Log>,
    began: Instant,
    /// Seconds that the run took before, where it goes on.
    before: f64,
    loss: Option<f64>,
    /// Steps completed at the latest evaluation that measured something, and its loss.
    validation: Option<(u64, f64)>,
}

impl Record {
    pub(crate) fn new(folder: Folder) -> Self {
        Record {
            folder,
            log: None,
            began: Instant::now(),
            before: 0.0,
            loss: None,
            validation: None,
        }
    }

    /// Training loss of the latest step, if there was one.
    pub fn loss(&self) -> Option<f64> {
        self.loss
    }

    /// Steps completed at the latest evaluation, and its loss, if there was one.
    pub fn validation(&self) -> Option<(u64, f64)> {
        self.validation
    }

    /// Time that the run took so far, that of processes before this one included.
    pub fn seconds(&self) -> f64 {
        self.before + self.began.elapsed().as_secs_f64()
    }

    /// Names of the model's files that are written.
    pub fn saved(&self) -> impl Iterator<Item = &'static str> {
        let written = self.folder.written().iter().map(|(name, _)| *name);
        written.filter(|name| ![SUMMARY, STEPS].contains(name))
    }

    /// Where it is written to.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn folder(&mut self) -> &mut Folder {
        &mut self.folder
    }

    /// Takes the place of an earlier run, once it is known that a model of `bytes` finds room.
    pub(crate) fn begin(&mut self, bytes: u64) -> Result<(), RunError> {
        self.folder.check_room(bytes.saturating_add(LOGS))?;
        self.folder.clear(None)?;
        self.log = Some(Log::create(&self.folder.path().join(STEPS))?);
        self.began = Instant::now();
        Ok(())
    }

    /// Goes on with the run of which a checkpoint says this; `own`: it is the one in this folder.
    pub(crate) fn resume(&mut self, bytes: u64, state: &State, own: bool) -> Result<(), RunError> {
        self.began = Instant::now();
        let known = Known::of(state);
        (self.before, self.loss) = (known.seconds, known.loss);
        self.validation = known.validation.map(|(step, loss)| Some((step, loss?))).unwrap_or(None);
        if !own {
            return self.begin(bytes);
        }
        self.folder.check_room(bytes.saturating_add(LOGS))?;
        self.folder.clear(Some(STEPS))?;
        let evaluated = known.evaluated == Some(state.step);
        let place = (state.step, state.attempt);
        self.log = Some(Log::resume(&self.folder.path().join(STEPS), place, evaluated)?);
        Ok(())
    }

    /// What a checkpoint keeps of it.
    pub(crate) fn known(&self) -> Known {
        Known {
            seconds: self.seconds(),
            loss: self.loss,
            validation: self.validation.map(|(step, loss)| (step, Some(loss))),
            output: self.path().canonicalize().ok(),
            ..Known::default()
        }
    }

    /// The log, for who puts it on the disk.
    pub(crate) fn log_file(&self) -> Result<Option<File>, RunError> {
        self.log.as_ref().map(Log::file).transpose()
    }

    pub(crate) fn observe(&mut self, event: &Event<'_>) -> Result<(), RunError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        match event {
            Event::Step { attempt, report } => {
                self.loss = (report.count > 0).then_some(report.loss).or(self.loss);
                log.step(*attempt, report)
            }
            Event::Failed { attempt, step, error } => log.failed(*attempt, *step, error),
            Event::Evaluated { step, evaluation } => {
                self.validation = evaluation.measured().map(|loss| (*step, loss));
                log.evaluated(*step, evaluation)
            }
            _ => Ok(()),
        }
    }

    /// Writes the summary: what the run came to, and what its files are.
    pub(crate) fn complete(
        &mut self,
        plan: &Plan,
        device: Device,
        ending: Ending<'_>,
        steps: u64,
    ) -> Result<(), RunError> {
        let mut files = serde_json::Map::new();
        let mut add = |name: &str, written: crate::Written| {
            let xxh3 = format!("{:016x}", written.xxh3);
            files.insert(name.to_owned(), json!({ "bytes": written.bytes, "xxh3": xxh3 }));
        };
        if let Some(log) = &mut self.log {
            log.finish()?;
            add(STEPS, log.written());
        }
        self.folder.written().iter().for_each(|(name, written)| add(name, *written));
        let summary = json!({
            "ended": ending.to_string(),
            "steps": steps,
            "loss": self.loss,
            "validation_loss": self.validation.map(|(_, loss)| loss),
            "validation_step": self.validation.map(|(step, _)| step),
            "seconds": self.seconds(),
            "files": Value::Object(files),
            "machine": machine::facts(plan.world(), device),
            "configuration": plan.config().value(),
        });
        let text = serde_json::to_string_pretty(&summary);
        let text = text.map_err(|error| RunError::Outside(error.into()))? + "\n";
        self.folder.file(SUMMARY, &mut |to| Ok(to.write_all(text.as_bytes())?))
    }
}
