//! A run's folder, read: `steps.jsonl` and, where the run ended in an orderly way, `summary.json`.
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use trainyard::BoxError;

/// Keys of a line that are no figure of the step.
const OWN: [&str; 10] = [
    "step",
    "attempt",
    "elapsed_seconds",
    "count",
    "bytes_sent",
    "idle_parameters",
    "layer_calls_offered",
    "layer_calls_run",
    "skipped",
    "validation_count",
];

/// What the keys of an evaluation's figures begin with.
pub const VALIDATION: &str = "validation_";

/// Figures by name, a number for each row; NaN where a row has none.
pub type Columns = BTreeMap<String, Vec<f64>>;

/// A run.
#[derive(Debug, Default)]
pub struct Run {
    /// The folder's name.
    pub name: String,
    /// What `summary.json` holds; null for a run that did not come to write it.
    pub summary: Value,
    /// The completed steps.
    pub steps: Table,
    /// The evaluations.
    pub evaluations: Table,
    /// What is to be seen at once: skipped and failed steps.
    pub marks: Vec<Mark>,
    /// Time, in seconds.
    pub time: Time,
    /// Lines that could not be read.
    pub unread: usize,
}

/// Rows in order of their steps.
#[derive(Debug, Default, Clone)]
pub struct Table {
    /// Completed steps, the row's own among them, rising.
    pub step: Vec<f64>,
    /// Samples up to there, on all ranks; NaN where the batch size is not known.
    pub samples: Vec<f64>,
    /// Seconds since the run began.
    pub elapsed: Vec<f64>,
    /// The figures.
    pub columns: Columns,
}

/// Something that happened at a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Steps completed before.
    pub step: u64,
    /// Seconds since the run began.
    pub elapsed: f64,
    /// Samples up to there.
    pub samples: f64,
    /// In one sentence.
    pub text: String,
}

/// Where the time of a run went, in seconds.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Time {
    /// Within steps.
    pub steps: f64,
    /// Within evaluations; none where the log has no clock.
    pub evaluations: Option<f64>,
    /// From the beginning to the last line, or to the end where that is known.
    pub total: f64,
}

/// Figures of a run at most: each takes a place in every row.
const MOST_COLUMNS: usize = 500;

impl Table {
    fn push(&mut self, at: (f64, f64, f64), figures: impl Iterator<Item = (String, f64)>) {
        let rows = self.step.len();
        self.step.push(at.0);
        self.samples.push(at.1);
        self.elapsed.push(at.2);
        for (name, value) in figures {
            if self.columns.len() >= MOST_COLUMNS && !self.columns.contains_key(&name) {
                continue;
            }
            let column = self.columns.entry(name).or_default();
            column.resize(rows, f64::NAN);
            column.push(value);
        }
    }

    /// Fills up the columns that the last rows have nothing in.
    fn finish(&mut self) {
        let rows = self.step.len();
        self.columns.values_mut().for_each(|column| column.resize(rows, f64::NAN));
    }

    /// Takes the rows from `step` on away: those of a run that was killed and goes on from an earlier step.
    fn forget_from(&mut self, step: f64) {
        let rows = self.step.partition_point(|at| *at < step);
        for column in [&mut self.step, &mut self.samples, &mut self.elapsed] {
            column.truncate(rows);
        }
        self.columns.values_mut().for_each(|column| column.truncate(rows));
    }
}

impl Run {
    /// Reads the folder of a run.
    ///
    /// # Errors
    /// It has no `steps.jsonl`, or that cannot be read.
    pub fn read(folder: &Path) -> Result<Self, BoxError> {
        let path = folder.join("steps.jsonl");
        let file = File::open(&path)
            .map_err(|error| format!("{} holds no run: steps.jsonl: {error}", folder.display()))?;
        let mut reader = Reader::default();
        for line in BufReader::new(file).split(b'\n') {
            let line = line.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            reader.line(&line);
        }
        let summary = fs::read(folder.join("summary.json")).ok();
        let summary = summary.and_then(|text| serde_json::from_slice(&text).ok());
        let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let name = real.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
        Ok(reader.finished(name, summary.unwrap_or(Value::Null)))
    }

    /// How it ended, in one word or a few.
    pub fn state(&self) -> String {
        match self.summary["ended"].as_str() {
            Some(ended) => ended.to_owned(),
            None if self.marks.iter().any(|mark| mark.text.starts_with(FAILED)) => {
                "failed".to_owned()
            }
            None => "under way, or killed".to_owned(),
        }
    }

    /// The resolved configuration, where the run came to write it.
    pub fn configuration(&self) -> Option<&Map<String, Value>> {
        self.summary["configuration"].as_object()
    }
}

/// What the mark of a step that ended its run begins with.
const FAILED: &str = "failed: ";

/// What is known up to a line.
#[derive(Default)]
struct Reader {
    run: Run,
    /// Samples of all steps so far.
    samples: f64,
    /// The clock of the line before, and what to add to it: a run that goes on begins at 0 again.
    clock: f64,
    before: f64,
    evaluations: f64,
    has_clock: bool,
    has_step: bool,
}

impl Reader {
    fn line(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let Ok(Value::Object(line)) = serde_json::from_slice(line) else {
            self.run.unread += 1;
            return;
        };
        let number = |key: &str| line.get(key).and_then(Value::as_f64);
        let is_step = line.contains_key("loss");
        let seconds = number("seconds").filter(|seconds| is_step && *seconds >= 0.0);
        let passed = self.pass(number("elapsed_seconds"), seconds.unwrap_or(0.0));
        let step = number("step").unwrap_or(0.0);
        let figures = || {
            let of = line.iter().filter(|(key, _)| !OWN.contains(&key.as_str()));
            // What is not finite is null.
            of.filter_map(|(key, value)| match value {
                Value::Number(number) => Some((key.clone(), number.as_f64()?)),
                _ => None,
            })
        };
        if is_step {
            self.run.time.steps += seconds.unwrap_or(0.0);
            let batch = number("samples_per_second").zip(seconds).map(|(rate, time)| rate * time);
            let batch = batch.map_or(f64::NAN, f64::round);
            // The log of a run that goes on from another's checkpoint begins behind the first attempts.
            if std::mem::replace(&mut self.has_step, true) {
                self.samples += batch;
            } else {
                self.samples = batch * (number("attempt").unwrap_or(step) + 1.0);
            }
            let skipped = line.get("skipped").and_then(Value::as_bool) == Some(true);
            let reason =
                line.get("skip_reason").and_then(Value::as_str).unwrap_or("no reason given");
            if skipped {
                self.mark(step, format!("skipped: {}", reason.replace('_', " ")));
            } else if number("loss").is_none() {
                self.mark(step, "the loss is not a number".to_owned());
            }
            if !skipped || reason == "nothing_counted" {
                let shares = number("layer_calls_run").zip(number("layer_calls_offered"));
                let share = shares.filter(|(_, offered)| *offered > 0.0).map(|(run, of)| run / of);
                let share = share.map(|share| ("share_of_layers".to_owned(), share));
                let of_step = figures().filter(|(key, _)| !key.starts_with(VALIDATION));
                let at = (step + 1.0, self.samples, self.clock);
                self.run.steps.forget_from(at.0);
                self.run.steps.push(at, of_step.chain(share));
            }
        }
        if line.keys().any(|key| key.starts_with(VALIDATION)) {
            self.evaluations += passed;
            // A line of its own has the completed steps, as its axis does.
            let completed = if is_step { step + 1.0 } else { step };
            let evaluated = figures().filter(|(key, _)| key.starts_with(VALIDATION));
            self.run.evaluations.forget_from(completed);
            self.run.evaluations.push((completed, self.samples, self.clock), evaluated);
            if line.get("validation_loss").is_some_and(Value::is_null) {
                self.mark(completed, "the validation loss is not a number".to_owned());
            }
        }
        if let Some(error) = line.get("error").and_then(Value::as_str) {
            self.mark(step, format!("{FAILED}{error}"));
        }
    }

    /// Moves the clock on to a line's; what went by besides the step itself.
    fn pass(&mut self, elapsed: Option<f64>, seconds: f64) -> f64 {
        let last = self.clock;
        match elapsed.filter(|elapsed| elapsed.is_finite()) {
            Some(elapsed) => {
                self.has_clock = true;
                if self.before + elapsed < last {
                    self.before = last;
                }
                self.clock = self.before + elapsed;
            }
            None => self.clock += seconds,
        }
        (self.clock - last - seconds).max(0.0)
    }

    fn mark(&mut self, step: f64, text: String) {
        let (elapsed, samples) = (self.clock, self.samples);
        self.run.marks.push(Mark { step: step as u64, elapsed, samples, text });
    }

    fn finished(self, name: String, summary: Value) -> Run {
        let mut run = Run { name, summary, ..self.run };
        run.steps.finish();
        run.evaluations.finish();
        let total = run.summary["seconds"].as_f64().unwrap_or(self.clock);
        let evaluations = self.has_clock.then_some(self.evaluations);
        run.time = Time { evaluations, total: total.max(run.time.steps), ..run.time };
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Run {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("steps.jsonl"), lines).unwrap();
        Run::read(folder.path()).unwrap()
    }

    fn line(step: u64, more: &str) -> String {
        format!(
            r#"{{"step":{step},"loss":{}.5,"seconds":0.5,"samples_per_second":8.0,"skipped":false{more}}}"#,
            9 - step
        ) + "\n"
    }

    #[test]
    fn steps_evaluations_and_time() {
        let of_step =
            |step: u64, elapsed: f64| line(step, &format!(",\"elapsed_seconds\":{elapsed}"));
        let apart = of_step(0, 0.6)
            + &of_step(1, 1.2)
            + "{\"step\":2,\"validation_loss\":7.5,\"validation_count\":4,\"elapsed_seconds\":2.2}\n"
            + &of_step(2, 2.8);
        // A log of before, where an evaluation is in its step's line.
        let within = of_step(0, 0.6)
            + &line(1, ",\"elapsed_seconds\":2.1,\"validation_loss\":7.5")
            + &of_step(2, 2.7);
        for (lines, evaluations) in [(apart, 1.0), (within, 1.0)] {
            let run = read(&lines);
            assert_eq!(run.steps.step, [1.0, 2.0, 3.0]);
            assert_eq!(run.steps.samples, [4.0, 8.0, 12.0]);
            assert_eq!(run.steps.columns["loss"], [9.5, 8.5, 7.5]);
            assert_eq!(run.evaluations.step, [2.0]);
            assert_eq!(run.evaluations.columns["validation_loss"], [7.5]);
            assert!(!run.steps.columns.contains_key("validation_loss"));
            let Time { steps, evaluations: found, .. } = run.time;
            assert_eq!((steps, found.map(|s| (10.0 * s).round() / 10.0)), (1.5, Some(evaluations)));
        }
    }

    #[test]
    fn a_killed_runs_last_line_is_torn() {
        let run = read(&(line(0, "") + &line(1, "")[..20]));
        assert_eq!((run.steps.step.len(), run.unread), (1, 1));
        assert_eq!(run.state(), "under way, or killed");
        assert_eq!(run.time, Time { steps: 0.5, evaluations: None, total: 0.5 });
    }

    #[test]
    fn what_was_skipped_and_what_failed_is_marked() {
        let lines = line(0, "")
            + "{\"step\":1,\"loss\":null,\"seconds\":0.5,\"samples_per_second\":8.0,\"skipped\":true,\
               \"skip_reason\":\"non_finite\"}\n"
            + &line(1, "")
            + "{\"step\":2,\"attempt\":3,\"error\":\"no\"}\n";
        let run = read(&lines);
        assert_eq!(run.steps.step, [1.0, 2.0]);
        assert_eq!(run.steps.samples, [4.0, 12.0], "the skipped step had its samples");
        let marks: Vec<_> = run.marks.iter().map(|mark| (mark.step, mark.text.as_str())).collect();
        assert_eq!(marks, [(1, "skipped: non finite"), (2, "failed: no")]);
        assert_eq!(run.state(), "failed");
    }

    #[test]
    fn a_run_that_goes_on_from_an_earlier_step_takes_its_place() {
        let at = |step: u64, elapsed: f64, value: f64| {
            line(step, &format!(",\"elapsed_seconds\":{elapsed},\"theta\":{value}"))
        };
        let run = read(&(at(0, 1.0, 0.1) + &at(1, 2.0, 0.2) + &at(2, 3.0, 0.3) + &at(1, 1.0, 0.4)));
        assert_eq!(run.steps.step, [1.0, 2.0]);
        assert_eq!(run.steps.columns["theta"], [0.1, 0.4]);
        assert_eq!(run.steps.elapsed, [1.0, 4.0], "the clock goes on");
    }

    #[test]
    fn a_log_that_begins_later_counts_what_was_before() {
        let run = read(&line(6, ",\"attempt\":7"));
        assert_eq!((run.steps.step[0], run.steps.samples[0]), (7.0, 32.0));
    }

    #[test]
    fn an_evaluation_without_a_loss_is_marked() {
        let run =
            read(&(line(0, "") + "{\"step\":1,\"validation_loss\":null,\"validation_count\":0}\n"));
        assert_eq!(run.evaluations.step, [1.0]);
        assert_eq!(
            (run.marks[0].step, run.marks[0].text.as_str()),
            (1, "the validation loss is not a number")
        );
    }

    /// Each figure has a place in every row, so a log with a new one in each line has an end.
    #[test]
    fn figures_beyond_some_hundreds_are_left_out() {
        let line = |i| format!("{{\"step\":{i},\"loss\":1.5,\"k{i}\":1}}\n");
        let lines: String = (0..700).map(line).collect();
        let run = read(&lines);
        assert_eq!(run.steps.columns.len(), MOST_COLUMNS);
        assert_eq!(run.steps.step.len(), 700);
        assert!(run.steps.columns["loss"].iter().all(|loss| !loss.is_nan()));
    }

    #[test]
    fn what_is_no_log_is_passed_over() {
        let hostile = "[1]\nnull\n{\"step\":-1e300,\"loss\":1e308,\"seconds\":-5,\"elapsed_seconds\":1e400}\n\
                       {\"loss\":\"x\",\"step\":\"y\",\"samples_per_second\":{}}\n\u{0}\n";
        let run = read(hostile);
        assert_eq!(run.unread, 4, "{run:?}");
        let missing = Run::read(Path::new("nowhere")).unwrap_err().to_string();
        assert!(missing.starts_with("nowhere holds no run: steps.jsonl: "), "{missing}");
    }
}
