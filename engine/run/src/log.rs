//! `steps.jsonl`: a line for each step, and for each evaluation.
use crate::RunError;
use crate::files::Written;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use trainyard::{Evaluation, Report, Skipped};
use xxhash_rust::xxh3::Xxh3;

/// A file of whole lines, each an object in JSON and written at once.
pub struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    hasher: Box<Xxh3>,
}

impl Log {
    /// An empty file in place of an earlier one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let file = file.map_err(|error| RunError::cannot_write(path, error.into()))?;
        Ok(Log { path: path.to_owned(), file, bytes: 0, hasher: Box::default() })
    }

    /// Takes note of a step.
    ///
    /// # Errors
    /// The line cannot be written; none of it is left then.
    pub fn step(&mut self, attempt: u64, report: &Report) -> Result<(), RunError> {
        self.write(&line(attempt, report))
    }

    /// Takes note of an evaluation after so many completed steps.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn evaluated(&mut self, step: u64, evaluation: &Evaluation) -> Result<(), RunError> {
        let Evaluation { loss, count } = evaluation;
        self.write(&json!({ "step": step, "validation_loss": loss, "validation_count": count }))
    }

    /// Takes note of a step that failed.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn failed(&mut self, attempt: u64, step: u64, error: &str) -> Result<(), RunError> {
        self.write(&json!({ "step": step, "attempt": attempt, "error": error }))
    }

    /// Has the system put all on the disk.
    ///
    /// # Errors
    /// It cannot.
    pub fn finish(&mut self) -> Result<(), RunError> {
        self.file.sync_all().map_err(|error| self.cannot_write(error.into()))
    }

    /// What is in the file.
    pub fn written(&self) -> Written {
        Written { bytes: self.bytes, xxh3: self.hasher.digest() }
    }

    fn write(&mut self, line: &Value) -> Result<(), RunError> {
        let mut text = serde_json::to_vec(line).map_err(|error| self.cannot_write(error.into()))?;
        text.push(b'\n');
        // One call, so that a kill does not fall between two.
        if let Err(error) = self.file.write_all(&text) {
            // A disk that is full takes a part of a line.
            self.file.set_len(self.bytes).ok();
            self.file.seek(SeekFrom::Start(self.bytes)).ok();
            return Err(self.cannot_write(error.into()));
        }
        self.bytes += text.len() as u64;
        self.hasher.update(&text);
        Ok(())
    }

    fn cannot_write(&self, source: trainyard::BoxError) -> RunError {
        RunError::cannot_write(&self.path, source)
    }
}

/// A step as one object, the plugins' figures among the engine's.
fn line(attempt: u64, report: &Report) -> Value {
    let mut line = json!({
        "step": report.step,
        "attempt": attempt,
        "loss": report.loss,
        "count": report.count,
        "lr": report.lr,
        "grad_norm": report.grad_norm,
        "loss_scale": report.loss_scale,
        "skipped": report.skipped,
        "skip_reason": report.skip_reason.map(Skipped::name),
        "idle_parameters": report.idle_parameters,
        "bytes_sent": report.bytes_sent,
        "layer_calls_offered": report.layer_calls.offered,
        "layer_calls_run": report.layer_calls.run,
        "seconds": report.seconds,
        "samples_per_second": report.samples_per_second,
    });
    for (name, value) in &report.metrics {
        line[name] = json!(value);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).expect("a log");
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?} ends within a line");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn steps_evaluations_and_the_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.jsonl");
        let mut log = Log::create(&path).unwrap();
        let report = |step| Report { step, loss: 2.5, loss_scale: 8.0, ..Report::default() };
        log.step(0, &report(0)).unwrap();
        log.step(1, &Report { skipped: true, ..report(1) }).unwrap();
        log.step(2, &report(1)).unwrap();
        assert_eq!(lines(&path).len(), 3, "each is there at once");
        log.evaluated(2, &Evaluation { loss: 1.5, count: 7 }).unwrap();
        log.evaluated(2, &Evaluation { loss: f64::NAN, count: 0 }).unwrap();
        log.failed(3, 2, "no").unwrap();
        let lines = lines(&path);
        let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
        assert_eq!(of("step"), [0, 1, 1, 2, 2, 2]);
        assert_eq!(
            of("attempt"),
            [json!(0), json!(1), json!(2), Value::Null, Value::Null, json!(3)]
        );
        assert_eq!(of("skipped")[..3], [false, true, false]);
        assert_eq!(of("loss_scale")[..3], [8.0, 8.0, 8.0]);
        assert_eq!(lines[3], json!({ "step": 2, "validation_loss": 1.5, "validation_count": 7 }));
        assert_eq!(lines[4], json!({ "step": 2, "validation_loss": null, "validation_count": 0 }));
        assert_eq!(lines[5]["error"], "no");
        let bytes = fs::read(&path).unwrap();
        let xxh3 = xxhash_rust::xxh3::xxh3_64(&bytes);
        assert_eq!(log.written(), Written { bytes: bytes.len() as u64, xxh3 });
    }
}
