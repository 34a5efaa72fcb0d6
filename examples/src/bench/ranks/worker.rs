//! A rank of ours: the other end of a [`Team`](super::team::Team).
use super::super::arms::{Batch, Driven, plan};
use super::super::setting::{Effort, Setting};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{self, BufRead, Write};
use std::process::Command;
use std::time::Instant;
use tch::Device;
use trainyard::{BoxError, World};
use trainyard_figures::scaling::{Exchanger, Profiler, SkipEverySecond};
use trainyard_models::BertConfig;

/// The variable of the environment that makes a process such a rank, and says what it does, in JSON.
pub const JOB: &str = "TRAINYARD_BENCHMARK_RANK";

/// Batches that a rank trains on in turn.
const BATCHES: i64 = 8;

/// What a rank does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Job {
    /// Trains: the arm `step`.
    Train {
        /// The model.
        model: BertConfig,
        /// Sequences in a batch.
        batch: i64,
        /// Tokens in a sequence.
        time: i64,
        /// Sections that are on besides those of the benchmarks.
        sections: Value,
    },
    /// Trains alone, and tells what the parts of a step take: the arm `pass`.
    Profile {
        /// The model.
        model: BertConfig,
        /// Sequences in a batch.
        batch: i64,
        /// Tokens in a sequence.
        time: i64,
    },
    /// Exchanges bytes of no use: the arm `exchange`.
    Exchange,
}

impl Job {
    /// For messages.
    pub fn name(&self) -> &'static str {
        match self {
            Job::Train { .. } => "training",
            Job::Profile { .. } => "profile",
            Job::Exchange => "exchange",
        }
    }
}

/// Starts this program anew as a rank.
///
/// # Errors
/// If it cannot tell where it lies.
pub fn worker_command(job: &Job) -> Result<Command, BoxError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(JOB, serde_json::to_string(job)?);
    if cfg!(test) {
        command.args(["--exact", "bench::ranks::worker::tests::a_rank", "--nocapture"]);
    }
    Ok(command)
}

/// Where this process was started as a rank: does what is asked for until the benchmark closes the pipe.
/// Programs that run benchmarks of ranks call it first.
pub fn serve_if_asked() -> Option<Result<(), BoxError>> {
    let job = std::env::var(JOB).ok()?;
    Some(serve(&job))
}

/// What a rank does when it is asked: so many calls of an arm, and numbers for an answer.
type Arms = Box<dyn FnMut(&str, usize) -> Result<Vec<f64>, BoxError>>;

fn serve(job: &str) -> Result<(), BoxError> {
    let job: Job = serde_json::from_str(job).map_err(|e| format!("{JOB} is no job ({e})"))?;
    let mut arms = match job {
        Job::Train { model, batch, time, sections } => {
            train(setting(model, batch, time), sections)?
        }
        Job::Profile { model, batch, time } => profile(&setting(model, batch, time))?,
        Job::Exchange => exchange()?,
    };
    let mut out = io::stdout();
    if cfg!(test) {
        writeln!(out)?;
    }
    writeln!(out, "ready {} this program", tch::get_num_threads())?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (arm, count) = line.split_once(' ').ok_or("a question is an arm and a number")?;
        let numbers = arms(arm, count.parse()?)?;
        let words: Vec<_> = numbers.iter().map(f64::to_string).collect();
        writeln!(out, "{}", words.join(" "))?;
        out.flush()?;
    }
    Ok(())
}

fn setting(model: BertConfig, batch: i64, time: i64) -> Setting {
    let effort = Effort { repetitions: 0, rounds: 0, seconds: 0.0 };
    Setting { model, batch, time, device: Device::Cpu, effort }
}

fn unknown(arm: &str) -> BoxError {
    format!("no arm is called {arm:?}").into()
}

/// The arm `step`: seconds, bytes given to be summed and blocks run, of each step.
fn train(setting: Setting, sections: Value) -> Result<Arms, BoxError> {
    let rank = World::from_env()?.rank as i64;
    let mut engine = Driven::new(trainyard_plugins::registry(), &setting, sections)?;
    let of = |i| Batch::random(&setting, rank * BATCHES + i);
    let batches: Vec<_> = (0..BATCHES).map(of).collect();
    let (mut next, layers) = (0, setting.model.layers as f64);
    Ok(Box::new(move |arm, count| {
        if arm != "step" {
            return Err(unknown(arm));
        }
        let mut numbers = Vec::new();
        for _ in 0..count {
            let began = Instant::now();
            let report = engine.step(&batches[next % batches.len()])?;
            next += 1;
            let calls = report.layer_calls;
            let depth = layers * calls.run as f64 / calls.offered.max(1) as f64;
            numbers.extend([began.elapsed().as_secs_f64(), report.bytes_sent as f64, depth]);
        }
        Ok(numbers)
    }))
}

/// The arm `pass`: the numbers of one [`Pass`](trainyard_figures::scaling::Pass), whatever the count.
fn profile(setting: &Setting) -> Result<Arms, BoxError> {
    let registry = trainyard_plugins::registry().add::<SkipEverySecond>();
    let sections = Driven::sections(json!({ "skip_every_second": true }));
    let plan = plan(registry, &sections)?;
    let mut profiler = Profiler::new(&plan, &setting.model, setting.batch, setting.time)?;
    Ok(Box::new(move |arm, _| match arm {
        "pass" => Ok(profiler.pass()?.numbers()),
        _ => Err(unknown(arm)),
    }))
}

/// The arm `exchange`: seconds and processor seconds of a short exchange and of a large one, whatever the
/// count.
fn exchange() -> Result<Arms, BoxError> {
    let exchanger = Exchanger::new(World::from_env()?)?;
    Ok(Box::new(move |arm, _| match arm {
        "exchange" => {
            let both = exchanger.both()?;
            Ok(both.iter().flat_map(|one| [one.seconds, one.processor_seconds]).collect())
        }
        _ => Err(unknown(arm)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the processes run that other tests start; by itself it has nothing to do.
    #[test]
    fn a_rank() -> Result<(), BoxError> {
        serve_if_asked().unwrap_or(Ok(()))
    }

    #[test]
    fn a_wrong_job_is_an_error() {
        let error = serve("{}").unwrap_err().to_string();
        assert!(error.starts_with("TRAINYARD_BENCHMARK_RANK is no job ("), "{error}");
    }
}
