//! `steps.jsonl`: a line for each step.
use crate::RunError;
use crate::files::Written;
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use trainyard::{Report, Skipped};
use xxhash_rust::xxh3::Xxh3;

/// A file of whole lines, each an object in JSON and written at once.
pub struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    hasher: Box<Xxh3>,
    began: Instant,
    /// The line of a step whose evaluation is still to come.
    waiting: Option<Map<String, Value>>,
}

impl Log {
    /// An empty file in place of an earlier one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let file = file.map_err(|error| RunError::cannot_write(path, error.into()))?;
        let (path, hasher, began) = (path.to_owned(), Box::default(), Instant::now());
        Ok(Log { path, file, bytes: 0, hasher, began, waiting: None })
    }

    /// Takes note of a step; where an evaluation follows, its line waits for that.
    ///
    /// # Errors
    /// The line cannot be written; none of it is left then.
    pub fn step(&mut self, attempt: u64, report: &Report, waits: bool) -> Result<(), RunError> {
        self.flush()?;
        let line = line(attempt, report);
        match waits {
            true => self.waiting = Some(line),
            false => self.write(&line)?,
        }
        Ok(())
    }

    /// Takes note of an evaluation behind the latest step.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn evaluated(&mut self, loss: f64) -> Result<(), RunError> {
        if let Some(line) = &mut self.waiting {
            line.insert("validation_loss".to_owned(), json!(loss));
        }
        self.flush()
    }

    /// Takes note of a step that failed.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn failed(&mut self, attempt: u64, step: u64, error: &str) -> Result<(), RunError> {
        self.flush()?;
        let line = json!({ "step": step, "attempt": attempt, "error": error });
        line.as_object().map_or(Ok(()), |line| self.write(line))
    }

    /// Writes a line that waits.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn flush(&mut self) -> Result<(), RunError> {
        self.waiting.take().map_or(Ok(()), |line| self.write(&line))
    }

    /// Writes a line that waits, and has the system put all on the disk.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn finish(&mut self) -> Result<(), RunError> {
        self.flush()?;
        self.file.sync_all().map_err(|error| self.cannot_write(error.into()))
    }

    /// What is in the file.
    pub fn written(&self) -> Written {
        Written { bytes: self.bytes, xxh3: self.hasher.digest() }
    }

    /// Each line says when it was written, in seconds since the log began.
    fn write(&mut self, line: &Map<String, Value>) -> Result<(), RunError> {
        let mut line = line.clone();
        let elapsed = self.began.elapsed().as_secs_f64();
        line.insert("elapsed_seconds".to_owned(), json!(elapsed));
        let mut text =
            serde_json::to_vec(&line).map_err(|error| self.cannot_write(error.into()))?;
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
fn line(attempt: u64, report: &Report) -> Map<String, Value> {
    let engine = json!({
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
    let metrics = report.metrics.iter().map(|(name, value)| (name.clone(), json!(value)));
    let engine = engine.as_object().into_iter().flatten();
    engine.map(|(name, value)| (name.clone(), value.clone())).chain(metrics).collect()
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
        log.step(0, &report(0), false).unwrap();
        log.step(1, &Report { skipped: true, ..report(1) }, false).unwrap();
        log.step(2, &report(1), true).unwrap();
        assert_eq!(lines(&path).len(), 2, "the third waits for its evaluation");
        log.evaluated(1.5).unwrap();
        log.failed(3, 2, "no").unwrap();
        let lines = lines(&path);
        let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
        assert_eq!(of("step"), [0, 1, 1, 2]);
        assert_eq!(of("attempt"), [0, 1, 2, 3]);
        assert_eq!(of("skipped"), [false.into(), true.into(), false.into(), Value::Null]);
        assert_eq!(of("loss_scale")[..3], [8.0, 8.0, 8.0]);
        assert_eq!(of("validation_loss"), [Value::Null, Value::Null, 1.5.into(), Value::Null]);
        assert_eq!(lines[3]["error"], "no");
        let bytes = fs::read(&path).unwrap();
        let xxh3 = xxhash_rust::xxh3::xxh3_64(&bytes);
        assert_eq!(log.written(), Written { bytes: bytes.len() as u64, xxh3 });
    }
}
