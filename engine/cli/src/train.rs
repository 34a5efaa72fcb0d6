//! `trainyard train`.
use crate::input::Overrides;
use crate::outline::{self, STEPS_PER_EPOCH, registry};
use crate::output::print;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use trainyard::{BoxError, Report};
use trainyard_examples::progress::Screen;
use trainyard_examples::run::{BertRun, next};

/// Train the example BERT on a text by masked language modelling; on many ranks under a launcher
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard train --config run.json\n  \
    trainyard train --config run.json --text my.txt --output runs/one\n  \
    trainyard train --config run.json --set training.total_steps=100 --set training.seed=7")]
pub struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Text to train on, in place of data.text: UTF-8, one document on each line, plain or .zst
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Folder for steps.jsonl, a line for each step, and summary.json
    #[arg(long, value_name = "DIR", default_value = "target/train")]
    output: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

pub fn run(args: Args, screen: &Screen) -> Result<ExitCode, BoxError> {
    let mut overrides = args.overrides;
    if let Some(text) = &args.text {
        let utf8 = text.to_str();
        let text =
            utf8.ok_or_else(|| format!("--text {}: this path is not UTF-8", text.display()))?;
        overrides.push("data.text", text);
    }
    let plan =
        registry().plan(overrides.read(&args.config)?)?.with_steps_per_epoch(STEPS_PER_EPOCH);
    // Finds what is wrong before a large text is tokenised; how long an epoch really is comes with it.
    if !outline::explain(&plan)?.optimizer {
        return Err(plan.no_optimizer().into());
    }
    let configuration = plan.config().value().clone();
    // All ranks have the same figures; one of them tells.
    let tells = plan.world().rank == 0;
    let mut run = BertRun::new(plan)?;
    // Nothing is written before all is known to be right.
    let mut output = tells.then(|| Output::create(&args.output)).transpose()?;
    let began = Instant::now();
    let (mut loss, mut validation) = (None, None);
    let mut batches = run.batches()?;
    let mut progress = tells.then(|| screen.progress("train", 0, run.total_steps()));
    while run.engine().completed_steps() < run.total_steps() {
        let report = run.step(&next(&mut batches)?)?;
        if let Some(progress) = &mut progress {
            progress.step(&report);
        }
        let mut evaluated = None;
        if run.evaluation_is_due() {
            let evaluation = run.evaluate()?;
            if let Some(progress) = &mut progress {
                progress.evaluated(run.engine().completed_steps(), &evaluation);
            }
            evaluated = Some(evaluation.loss);
        }
        if let Some(output) = &mut output {
            output.step(&report, evaluated)?;
        }
        loss = Some(report.loss);
        validation = evaluated.or(validation);
    }
    drop(progress);
    let Some(output) = output else { return Ok(ExitCode::SUCCESS) };
    let seconds = began.elapsed().as_secs_f64();
    let steps = run.engine().completed_steps();
    output.summary(&json!({
        "steps": steps,
        "loss": loss,
        "validation_loss": validation,
        "seconds": seconds,
        "configuration": configuration,
    }))?;
    let shown = |loss: Option<f64>| loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
    print(&format!(
        "loss {}, validation loss {} after {steps} steps in {seconds:.1} s; written to {}\n",
        shown(loss),
        shown(validation),
        args.output.display(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The files of a run.
struct Output {
    folder: PathBuf,
    log: File,
}

impl Output {
    /// Makes the folder and an empty log; an earlier run's summary goes, for it is not this run's.
    fn create(folder: &Path) -> Result<Self, BoxError> {
        fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        let (log, summary) = (folder.join("steps.jsonl"), folder.join("summary.json"));
        match fs::remove_file(&summary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot_write(&summary, &error));
            }
            _ => {}
        }
        let log = File::create(&log).map_err(|error| cannot_write(&log, &error))?;
        Ok(Output { folder: folder.to_owned(), log })
    }

    /// Adds the line of a step.
    fn step(&mut self, report: &Report, validation_loss: Option<f64>) -> Result<(), BoxError> {
        let line = line(report, validation_loss).to_string() + "\n";
        let written = self.log.write_all(line.as_bytes());
        written.map_err(|error| cannot_write(&self.folder.join("steps.jsonl"), &error))
    }

    /// Writes the summary, whole or not at all.
    fn summary(&self, summary: &Value) -> Result<(), BoxError> {
        let (path, new) = (self.folder.join("summary.json"), self.folder.join("summary.json.new"));
        let write = || {
            fs::write(&new, serde_json::to_string_pretty(summary)? + "\n")?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| cannot_write(&path, &error))
    }
}

/// A step as one object, the plugins' figures among the engine's.
fn line(report: &Report, validation_loss: Option<f64>) -> Value {
    let mut line = json!({
        "step": report.step,
        "loss": report.loss,
        "count": report.count,
        "lr": report.lr,
        "grad_norm": report.grad_norm,
        "skipped": report.skipped,
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
    if let Some(loss) = validation_loss {
        line["validation_loss"] = json!(loss);
    }
    line
}

fn cannot_write(path: &Path, error: &io::Error) -> BoxError {
    format!("cannot write {}: {error}", path.display()).into()
}
