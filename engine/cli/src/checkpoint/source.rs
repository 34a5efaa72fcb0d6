//! Whose weights are taken out: a checkpoint's, or those that a run without checkpoints has written.
use super::{folder, is_one, one};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use trainyard::BoxError;
use trainyard_checkpoint::{MODEL, list};

/// What a run writes last.
const SUMMARY: &str = "summary.json";

/// Weights, and what is known of them.
pub struct Source {
    /// The file of safetensors.
    pub weights: PathBuf,
    /// With which they were trained, as it was resolved.
    pub configuration: Value,
    /// Completed steps.
    pub step: u64,
    /// The output folder of the run.
    pub run: Option<PathBuf>,
}

impl Source {
    /// What `path` means; every byte of a checkpoint is compared with what was written.
    ///
    /// # Errors
    /// It is neither a checkpoint, nor has one, nor is it a run's output folder that has weights.
    pub fn find(path: &Path) -> Result<Self, BoxError> {
        let summary = path.join(SUMMARY);
        if !is_one(path) && summary.is_file() && list(&folder(path)?)?.is_empty() {
            return Source::of_run(path, &summary);
        }
        let checkpoint = one(path)?;
        checkpoint.verify()?;
        let at = checkpoint.path();
        // A file that is there and not in the record was compared with nothing.
        if !checkpoint.files().any(|(name, _)| name == MODEL) {
            return Err(format!("checkpoint {} has no {MODEL}", at.display()).into());
        }
        // `<run>/checkpoints/step-9`, however it was named.
        let run = fs::canonicalize(at).ok().and_then(|at| Some(at.parent()?.parent()?.to_owned()));
        Ok(Source {
            weights: at.join(MODEL),
            configuration: checkpoint.configuration()?,
            step: checkpoint.state().step,
            run,
        })
    }

    fn of_run(path: &Path, summary: &Path) -> Result<Self, BoxError> {
        let shown = summary.display();
        let text = fs::read(summary).map_err(|error| format!("cannot read {shown}: {error}"))?;
        let mut value: Value = serde_json::from_slice(&text)
            .map_err(|error| format!("{shown} is no summary of a run: {error}"))?;
        let step = value["steps"].as_u64();
        let step =
            step.ok_or_else(|| format!("{shown} is no summary of a run: it has no steps"))?;
        let configuration = value["configuration"].take();
        Ok(Source { weights: path.join(MODEL), configuration, step, run: Some(path.to_owned()) })
    }
}
