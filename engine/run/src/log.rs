//! `steps.jsonl`: a line for each step, and for each evaluation.
use crate::RunError;
use crate::files::Written;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use trainyard::{Evaluation, Report, Skipped};
use xxhash_rust::xxh3::Xxh3;

/// Bytes of a line that are read at most.
const MOST_LINE: u64 = 1 << 20;

/// When a line was written, in every line.
const ELAPSED: &str = "elapsed_seconds";

/// A file of whole lines, each an object in JSON and written at once.
pub struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    hasher: Box<Xxh3>,
    began: Instant,
    /// Seconds of the runs that this one goes on from.
    before: f64,
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
        Ok(Log { path, file, bytes: 0, hasher, began, before: 0.0 })
    }

    /// The file of a run that goes on after so many completed steps and `attempt`s: lines behind those are cut off, and
    /// so is one that is damaged, with all behind it. `evaluated`: whether the evaluation after those steps is behind it.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn resume(
        path: &Path,
        (step, attempt): (u64, u64),
        evaluated: bool,
    ) -> Result<Self, RunError> {
        let failed = |error: std::io::Error| RunError::cannot_write(path, error.into());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed)?;
        let (mut bytes, mut hasher, mut before) = (0, Box::<Xxh3>::default(), 0.0);
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        loop {
            line.clear();
            reader.by_ref().take(MOST_LINE).read_until(b'\n', &mut line).map_err(failed)?;
            match earlier(&line, (step, attempt), evaluated) {
                Some(elapsed) if line.ends_with(b"\n") => before = elapsed,
                _ => break,
            }
            bytes += line.len() as u64;
            hasher.update(&line);
        }
        drop(reader);
        file.set_len(bytes).and_then(|()| file.seek(SeekFrom::Start(bytes))).map_err(failed)?;
        let (path, began) = (path.to_owned(), Instant::now());
        Ok(Log { path, file, bytes, hasher, began, before })
    }

    /// The file, for who puts it on the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn file(&self) -> Result<File, RunError> {
        self.file.try_clone().map_err(|error| self.cannot_write(error.into()))
    }

    /// Takes note of a step.
    ///
    /// # Errors
    /// The line cannot be written; none of it is left then.
    pub fn step(&mut self, attempt: u64, report: &Report) -> Result<(), RunError> {
        self.write(line(attempt, report))
    }

    /// Takes note of an evaluation after so many completed steps.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn evaluated(&mut self, step: u64, evaluation: &Evaluation) -> Result<(), RunError> {
        let Evaluation { loss, count } = evaluation;
        self.write(json!({ "step": step, "validation_loss": loss, "validation_count": count }))
    }

    /// Takes note of a step that failed.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn failed(&mut self, attempt: u64, step: u64, error: &str) -> Result<(), RunError> {
        self.write(json!({ "step": step, "attempt": attempt, "error": error }))
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

    /// Each line says when it was written, in seconds since the run began; a pause of it does not count.
    fn write(&mut self, mut line: Value) -> Result<(), RunError> {
        line[ELAPSED] = json!(self.before + self.began.elapsed().as_secs_f64());
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

/// When a line was written that is of what was before so many completed steps and attempts; none if it is another or
/// no line of ours.
fn earlier(line: &[u8], (step, attempt): (u64, u64), evaluated: bool) -> Option<f64> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let of_step = line.get("step")?.as_u64()?;
    let before = match line.get("attempt") {
        Some(of) => of.as_u64()? < attempt,
        None => of_step < step || (of_step == step && evaluated),
    };
    before.then(|| line.get(ELAPSED).and_then(Value::as_f64).unwrap_or(0.0))
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

    /// Lines behind the checkpoint go, and so does what is damaged, whatever comes behind it.
    #[test]
    fn a_log_goes_on_where_the_run_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.jsonl");
        let evaluation = Evaluation { loss: 1.5, count: 4 };
        let write = |log: &mut Log, attempts: std::ops::Range<u64>| {
            for attempt in attempts {
                let step = attempt / 2;
                log.step(attempt, &Report { step, skipped: attempt % 2 == 0, ..Report::default() })
                    .unwrap();
                if attempt % 2 == 1 {
                    log.evaluated(step + 1, &evaluation).unwrap();
                }
            }
        };
        // The lines without their clock, and the clock.
        let apart = |file: &[u8]| -> (Vec<Value>, Vec<f64>) {
            let lines = file.split_inclusive(|byte| *byte == b'\n');
            let line = lines.map(|line| serde_json::from_slice::<Value>(line).expect("JSON"));
            let apart = line.map(|mut line| {
                let clock = line.as_object_mut().and_then(|line| line.remove(ELAPSED));
                (line, clock.and_then(|clock| clock.as_f64()).expect(ELAPSED))
            });
            apart.unzip()
        };
        write(&mut Log::create(&path).unwrap(), 0..8);
        let whole = fs::read(&path).unwrap();
        let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        let up_to = |lines: &[&[u8]]| lines.concat();
        for (place, evaluated, kept) in [
            ((0, 0), false, 0),
            ((0, 1), false, 1),
            ((1, 2), false, 2),
            ((1, 2), true, 3),
            ((1, 3), true, 4),
            ((4, 8), true, 12),
            ((9, 99), true, 12),
        ] {
            fs::write(&path, &whole).unwrap();
            let mut log = Log::resume(&path, place, evaluated).unwrap();
            assert_eq!(fs::read(&path).unwrap(), up_to(&lines[..kept]), "{place:?}");
            if place.1 % 2 == 0 && evaluated && place.1 <= 8 {
                write(&mut log, place.1..8);
                let file = fs::read(&path).unwrap();
                assert_eq!(apart(&file).0, apart(&whole).0);
                assert!(apart(&file).1.is_sorted(), "the clock goes on");
                let (bytes, xxh3) = (file.len() as u64, xxhash_rust::xxh3::xxh3_64(&file));
                assert_eq!(log.written(), Written { bytes, xxh3 });
            }
        }
        for damage in
            [&b"{\"step\": 0, \"atte"[..], b"[1]\n", b"\0\0\0\n", b"{\"step\": 0}", b"{}\n"]
        {
            fs::write(&path, [lines[0], damage, lines[1]].concat()).unwrap();
            drop(Log::resume(&path, (4, 8), true).unwrap());
            assert_eq!(fs::read(&path).unwrap(), lines[0], "{damage:?}");
        }
        fs::remove_file(&path).unwrap();
        drop(Log::resume(&path, (4, 8), true).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"");
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
        assert!(lines.iter().all(|line| line[ELAPSED].as_f64() > Some(0.0)));
        let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
        assert_eq!(of("step"), [0, 1, 1, 2, 2, 2]);
        assert_eq!(
            of("attempt"),
            [json!(0), json!(1), json!(2), Value::Null, Value::Null, json!(3)]
        );
        assert_eq!(of("skipped")[..3], [false, true, false]);
        assert_eq!(of("loss_scale")[..3], [8.0, 8.0, 8.0]);
        assert_eq!(of("validation_loss")[3..5], [json!(1.5), Value::Null]);
        assert_eq!(of("validation_count")[3..5], [7, 0]);
        assert_eq!(lines[5]["error"], "no");
        let bytes = fs::read(&path).unwrap();
        let xxh3 = xxhash_rust::xxh3::xxh3_64(&bytes);
        assert_eq!(log.written(), Written { bytes: bytes.len() as u64, xxh3 });
    }
}
