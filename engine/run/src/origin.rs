//! Where a run begins: anew, or where a checkpoint is.
use crate::{Existing, RunError};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tracing::{info, warn};
use trainyard::{Mismatch, Plan, Resume};
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
}

/// Where a run begins, and where its checkpoints go. The same on all ranks.
#[derive(Debug)]
pub struct Origin {
    folder: PathBuf,
    checkpoint: Option<Checkpoint>,
    begin: Begin,
    enabled: bool,
}

impl Origin {
    /// Looks for the checkpoint that a run which writes to `output` is to begin from. Where a newer one is not whole, a
    /// warning says so.
    ///
    /// # Errors
    /// None is there and one is asked for; there are some and the configuration wants none; a folder cannot be read.
    pub fn find(plan: &Plan, output: &Path, begin: Begin) -> Result<Self, RunError> {
        let settings = &plan.settings().checkpoint;
        let folder = settings.dir.clone().unwrap_or_else(|| output.join(FOLDER));
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
                Resume::Auto => newest(&folder)?,
                Resume::Never => match list(&folder)?.pop() {
                    None => (None, Vec::new()),
                    Some(found) => return Err(RunError::Checkpoints { checkpoint: found.path }),
                },
            },
            Begin::AsConfigured | Begin::Anew => (None, Vec::new()),
        };
        if plan.world().rank == 0 {
            let from = match &found {
                Some(checkpoint) => format!("the run goes on from {}", checkpoint.path().display()),
                None => "the run begins at step 0".to_owned(),
            };
            broken.iter().for_each(|error| warn!("{error}; {from}"));
            if found.is_some() {
                info!("{from}");
            }
        }
        let enabled = settings.enabled();
        Ok(Origin { folder, checkpoint: found, begin, enabled })
    }

    /// Whether it is a checkpoint of the run's own folder.
    pub fn is_own(&self) -> bool {
        self.checkpoint.as_ref().is_some_and(|found| found.path().parent() == Some(&self.folder))
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
            _ if self.is_own() => Existing::Continue,
            // The same command again, of a run that died before its first checkpoint.
            (Begin::AsConfigured, None) if self.enabled => Existing::ReplaceUnfinished,
            _ => Existing::Refuse,
        }
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
