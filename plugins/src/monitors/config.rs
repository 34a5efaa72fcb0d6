//! What you may set in `tensorboard` and `csv_monitor`.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Writes the figures of each step and evaluation, and the configuration, as event files, which TensorBoard
/// shows (`tensorboard --logdir FOLDER`). The first rank writes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Tensorboard")]
pub struct TensorboardConfig {
    /// Switches it on.
    pub enabled: bool,
    /// Folder that `job_name` lies in. Not set or empty: the run's own folder, or the current one for a run that has
    /// none.
    pub output_path: Option<String>,
    /// Folder of the files; not set: `tensorboard`.
    pub job_name: Option<String>,
}

/// Writes the figures of each step and evaluation as CSV, a file for each. The first rank writes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "CsvMonitor")]
pub struct CsvConfig {
    /// Switches it on.
    pub enabled: bool,
    /// Folder that `job_name` lies in. Not set or empty: the run's own folder, or the current one for a run that has
    /// none.
    pub output_path: Option<String>,
    /// Folder of the files; not set: `csv_monitor`.
    pub job_name: Option<String>,
}

impl TensorboardConfig {
    /// Where it writes, if it is on.
    pub(super) fn place(&self) -> Option<Place> {
        let TensorboardConfig { enabled, output_path, job_name } = self;
        enabled.then(|| Place::new(output_path.as_deref(), job_name.as_deref(), "tensorboard"))
    }
}

impl CsvConfig {
    /// Where it writes, if it is on.
    pub(super) fn place(&self) -> Option<Place> {
        let CsvConfig { enabled, output_path, job_name } = self;
        enabled.then(|| Place::new(output_path.as_deref(), job_name.as_deref(), "csv_monitor"))
    }
}

/// Where a monitor writes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    /// None: the run's own folder.
    outer: Option<PathBuf>,
    name: String,
}

impl Place {
    pub fn new(output_path: Option<&str>, job_name: Option<&str>, otherwise: &str) -> Self {
        let set = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Place {
            outer: set(output_path).map(PathBuf::from),
            name: set(job_name).unwrap_or_else(|| otherwise.to_owned()),
        }
    }

    /// The folder, of a run that writes to `run`.
    pub fn folder(&self, run: Option<&Path>) -> PathBuf {
        self.outer.as_deref().or(run).unwrap_or(Path::new("")).join(&self.name)
    }

    /// Whether that lies in the folder of a run, so that no other run writes to it.
    pub fn is_own(&self, run: Option<&Path>) -> bool {
        self.outer.is_none() && run.is_some()
    }

    /// In words.
    pub fn described(&self) -> String {
        match &self.outer {
            Some(outer) => format!("in `{}`", outer.join(&self.name).display()),
            None => format!("in `{}` of the run's folder", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_the_runs_own_unless_it_is_set() {
        let run = Path::new("runs/a");
        let folder = |path: Option<&str>, name: Option<&str>, run: Option<&Path>| {
            Place::new(path, name, "tensorboard").folder(run).display().to_string()
        };
        assert_eq!(folder(None, None, Some(run)), "runs/a/tensorboard");
        assert_eq!(folder(Some(""), Some(""), Some(run)), "runs/a/tensorboard");
        assert_eq!(folder(None, Some("b"), None), "b");
        assert_eq!(folder(Some("logs"), Some("b"), Some(run)), "logs/b");
        let own = |path, run| Place::new(path, None, "tensorboard").is_own(run);
        assert!(own(None, Some(run)) && !own(None, None) && !own(Some("logs"), Some(run)));
    }
}
