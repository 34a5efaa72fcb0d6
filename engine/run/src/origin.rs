//! Where a run begins: anew, or where a checkpoint is.
use crate::record::Known;
use crate::{Existing, RunError};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tracing::{info, warn};
use trainyard::{Checkpointing, Mismatch, Plan, Resume};
use trainyard_checkpoint::{Checkpoint, Checkpoints, Keep, find, list, newest};

/// Checkpoints of a run, in the folder that it writes to.
const FOLDER: &str = "checkpoints";

/// What a user asks for beside the configuration's `checkpoint.resume`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Begin {
    /// Nothing.
    AsConfigured,
    /// Anew, in place of what is there.
    Anew,
    /// From the newest checkpoint of the run's own folder, which has one.
    Newest,
    /// From a checkpoint, or from the newest in a folder of checkpoints or of a run.
    At(PathBuf),
    /// Started again by a launcher: from the newest checkpoint of the run's own folder; where there is none yet, as was
    /// asked for at first.
    Again(Box<Begin>),
}

/// Where a run begins, and where its checkpoints go. The same on all ranks.
#[derive(Debug)]
pub struct Origin {
    output: PathBuf,
    folder: PathBuf,
    checkpoint: Option<Checkpoint>,
    begin: Begin,
    settings: Checkpointing,
}

impl Origin {
    /// Looks for the checkpoint that a run which writes to `output` is to begin from. Where a newer one is not whole, a
    /// warning says so.
    ///
    /// # Errors
    /// None is there and one is asked for; there are some, and none is whole or the configuration wants none; a folder
    /// cannot be read, or is the run's own.
    pub fn find(plan: &Plan, output: &Path, begin: Begin) -> Result<Self, RunError> {
        let settings = &plan.settings().checkpoint;
        let folder = settings.dir.clone().unwrap_or_else(|| output.join(FOLDER));
        if same_place(&folder, output) {
            let why =
                "dir is the folder that the run writes to: name another one, such as one within it";
            return Err(plan.invalid("checkpoint.dir", why).into());
        }
        let begin = match begin {
            Begin::Again(_) if newest(&folder)?.0.is_some() => Begin::Newest,
            Begin::Again(first) => *first,
            begin => begin,
        };
        let (found, broken) = match &begin {
            Begin::At(path) => {
                let below = path.join(FOLDER);
                let path = if below.is_dir() { &below } else { path };
                let (checkpoint, broken) = find(path)?;
                (Some(checkpoint), broken)
            }
            Begin::Newest => {
                let (checkpoint, broken) = find(&folder)?;
                (Some(checkpoint), broken)
            }
            Begin::AsConfigured if settings.enabled() => match settings.resume {
                // Those that are damaged may be good again tomorrow, where it is the disk that is not.
                Resume::Auto if list(&folder)?.is_empty() => (None, Vec::new()),
                Resume::Auto => {
                    let (checkpoint, broken) = find(&folder)?;
                    (Some(checkpoint), broken)
                }
                Resume::Never => match list(&folder)?.pop() {
                    None => (None, Vec::new()),
                    Some(found) => return Err(RunError::Checkpoints { checkpoint: found.path }),
                },
            },
            Begin::AsConfigured | Begin::Anew | Begin::Again(_) => (None, Vec::new()),
        };
        if plan.world().rank == 0 {
            broken.iter().for_each(|error| warn!("{error}; the one before is taken"));
            if let Some(checkpoint) = &found {
                info!("the run goes on from {}", checkpoint.path().display());
            }
        }
        let (output, settings) = (output.to_owned(), settings.clone());
        Ok(Origin { output, folder, checkpoint: found, begin, settings })
    }

    /// Whether it is a checkpoint of the run's own folder.
    pub fn is_own(&self) -> bool {
        let within = self.checkpoint.as_ref().and_then(|found| found.path().parent());
        within.is_some_and(|within| same_place(within, &self.folder))
    }

    /// Whether its checkpoint is of the run that the output folder holds.
    fn is_of_output(&self) -> bool {
        let known = self.checkpoint.as_ref().map(|found| Known::of(found.state()));
        let output = known.and_then(|known| known.output);
        // In its own folder it stays so wherever that is moved to.
        self.settings.dir.is_none() || output.is_none_or(|output| same_place(&output, &self.output))
    }

    /// That a run that begins anew removes no weights that it reads from `path`.
    ///
    /// # Errors
    /// It would.
    pub fn check_input(&self, path: &Path) -> Result<(), RunError> {
        let (Ok(folder), Ok(input)) = (self.folder.canonicalize(), path.canonicalize()) else {
            return Ok(());
        };
        let reads = input.starts_with(&folder) || folder.parent() == Some(&input);
        match self.is_anew() && reads {
            true => Err(RunError::Input { file: path.to_owned() }),
            false => Ok(()),
        }
    }

    /// Whether a run takes the place of what is there.
    pub(crate) fn is_anew(&self) -> bool {
        self.begin == Begin::Anew
    }

    /// Removes the checkpoints of a run whose place this one takes without saving any.
    pub(crate) fn clear(&self) -> Result<(), RunError> {
        if self.is_anew() && !list(&self.folder)?.is_empty() {
            Checkpoints::claim(&self.folder, Keep::default())?.clear()?;
            std::fs::remove_dir(&self.folder).ok();
        }
        Ok(())
    }

    /// Where checkpoints go.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the run begins; none: at step 0.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// What becomes of a run that is found in the output folder: it goes on where the checkpoint is its own.
    pub fn existing(&self) -> Existing {
        match (&self.begin, &self.checkpoint) {
            (Begin::Anew, _) => Existing::Overwrite,
            _ if self.is_own() && self.is_of_output() => Existing::Continue,
            // The same command again, of a run that died before its first checkpoint.
            (Begin::AsConfigured, None) if self.settings.enabled() => Existing::ReplaceUnfinished,
            (Begin::At(_), _) if self.settings.enabled() && self.has_none() => {
                Existing::ReplaceUnfinished
            }
            _ => Existing::Refuse,
        }
    }

    /// Whether no checkpoint is in the run's own folder.
    fn has_none(&self) -> bool {
        list(&self.folder).is_ok_and(|found| found.is_empty())
    }

    /// Has ranks compare where they begin.
    #[must_use]
    pub fn compared(&self, plan: Plan) -> Plan {
        let at = match &self.checkpoint {
            Some(found) => {
                format!("step {}, number {}", found.state().step, found.state().sequence)
            }
            None => "none".to_owned(),
        };
        plan.with_fingerprint("checkpoint", at, Mismatch::Refuse)
    }
}

/// Whether two paths are of one place, there or not.
fn same_place(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    place(one).is_some_and(|one| Some(one) == place(other))
}

/// Sections in which nothing changes what is learned.
const OF_NO_CONSEQUENCE: [&str; 4] = ["$schema", "checkpoint", "strict", "data.cache"];

/// What differs between two configurations, a line for each value.
pub fn differences(before: &Value, now: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", before, now, &mut lines);
    lines
}

fn compare(path: &str, before: &Value, now: &Value, lines: &mut Vec<String>) {
    if before == now || OF_NO_CONSEQUENCE.contains(&path) {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (before, now) else {
        let shown = |value: &Value| match value {
            Value::Null => "not set".to_owned(),
            value => value.to_string(),
        };
        lines.push(format!("{path} was {} and is {}", shown(before), shown(now)));
        return;
    };
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let of = |values: &serde_json::Map<String, Value>| {
            values.get(key).cloned().unwrap_or(Value::Null)
        };
        compare(&path, &of(old), &of(new), lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_is_named_with_both_values() {
        let before = json!({ "a": 1, "b": { "c": [1], "d": "x" }, "checkpoint": { "dir": "a" }, "gone": true });
        let now = json!({ "a": 1, "b": { "c": [2], "d": "x", "e": 0.5 }, "strict": true });
        let lines = differences(&before, &now);
        let expected = [
            "b.c was [1] and is [2]",
            "b.e was not set and is 0.5",
            "gone was true and is not set",
        ];
        assert_eq!(lines, expected);
    }
}
