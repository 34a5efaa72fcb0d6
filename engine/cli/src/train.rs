//! `trainyard train`.
use crate::device;
use crate::input::Overrides;
use crate::outline::{self, STEPS_PER_EPOCH, registry};
use crate::output::print;
use crate::problems;
use crate::script::ScriptRun;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tch::Device;
use trainyard::{BoxError, Evaluation, Plan, Report, Skipped};
use trainyard_data::TrainBatches;
use trainyard_examples::progress::Screen;
use trainyard_examples::run::{BertRun, missing, next};

/// Train a model that PyTorch exported, or without --model the example BERT on a text; on many ranks
/// under a launcher
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard train --config run.json\n  \
    trainyard train --config run.json --text my.txt --output runs/one\n  \
    trainyard train --config run.json --model bert.pt --data tokens/\n  \
    trainyard train --config run.json --set training.total_steps=100 --set training.seed=7")]
pub struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// TorchScript model to train, in place of script.model; `trainyard inspect` shows what is in it
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    model: Option<PathBuf>,
    /// Folder of samples for the model, in place of script.data.folder: .npy, .bin or .safetensors
    #[arg(long, value_name = "DIR", conflicts_with = "text")]
    data: Option<PathBuf>,
    /// Text to train on, in place of data.text: UTF-8, one document on each line, plain or .zst
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Where to train: `cpu`; `cuda`, where each rank of a machine has a GPU of its own; `cuda:N`, the GPU of that
    /// number; `auto`, a GPU where there is one
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: device::Choice,
    /// Folder for steps.jsonl, a line for each step, summary.json and, with --model, the trained model
    #[arg(long, value_name = "DIR", default_value = "target/train")]
    output: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

/// A model that is being trained.
pub trait Run {
    /// Optimizer steps of the whole run.
    fn total_steps(&self) -> u64;
    /// Completed optimizer steps.
    fn completed_steps(&self) -> u64;
    /// One optimizer step on the next batch.
    fn step(&mut self) -> Result<Report, BoxError>;
    /// Whether to evaluate now.
    fn evaluation_is_due(&self) -> bool;
    /// The loss at full depth over the validation data.
    fn evaluate(&mut self) -> Result<Evaluation, BoxError>;
    /// Writes the trained model into the folder; the names of the files.
    fn save(&self, folder: &Path) -> Result<Vec<&'static str>, BoxError>;
}

pub fn run(args: Args, screen: &Screen) -> Result<ExitCode, BoxError> {
    let mut overrides = args.overrides;
    let paths = [
        ("--text", "data.text", &args.text),
        ("--model", "script.model", &args.model),
        ("--data", "script.data.folder", &args.data),
    ];
    for (option, key, path) in paths {
        let Some(path) = path else { continue };
        let utf8 = path.to_str();
        let shown = path.display();
        overrides
            .push(key, utf8.ok_or_else(|| format!("{option} {shown}: this path is not UTF-8"))?);
    }
    let (registry, configuration) = (registry(), overrides.read(&args.config)?);
    let planned = registry.plan(configuration.clone());
    let planned = planned.and_then(|plan| {
        plan.config().require_none(missing(plan.config()))?;
        Ok(plan.with_steps_per_epoch(STEPS_PER_EPOCH))
    });
    let plan = match planned {
        Ok(plan) => plan,
        Err(error) => {
            let error = problems::add_missing(error, &configuration);
            return Err(problems::complete(error, &registry.assume(), configuration).into());
        }
    };
    // Before anything seeds libtorch's generators.
    let device = device::of(args.device, plan.world())?;
    if let (true, Some(key)) = (outline::is_script(&plan), other_model(&plan)) {
        let message = format!(
            "{key} describes the example BERT, and the model is a script (`script`, --model, --data); keep one"
        );
        return Err(plan.invalid(key, message).into());
    }
    // Finds what is wrong before a large text is tokenised; how long an epoch really is comes with it.
    let of_script = outline::is_script(&plan).then(|| plan.layer_patterns()).transpose()?;
    if !outline::explain(&plan, of_script)?.optimizer {
        return Err(plan.no_optimizer().into());
    }
    let configuration = plan.config().value().clone();
    // All ranks have the same figures; one of them tells.
    let tells = plan.world().rank == 0;
    let mut run = of(plan, device)?;
    // Nothing is written before all is known to be right.
    let mut output = tells.then(|| Output::create(&args.output)).transpose()?;
    let began = Instant::now();
    let (mut loss, mut validation) = (None, None);
    let mut progress = tells.then(|| screen.progress("train", 0, run.total_steps()));
    while run.completed_steps() < run.total_steps() {
        let report = run.step()?;
        if let Some(progress) = &mut progress {
            progress.step(&report);
        }
        let mut evaluated = None;
        if run.evaluation_is_due() {
            let evaluation = run.evaluate()?;
            if let Some(progress) = &mut progress {
                progress.evaluated(run.completed_steps(), &evaluation);
            }
            evaluated = evaluation.measured();
        }
        if let Some(output) = &mut output {
            output.step(&report, evaluated)?;
        }
        loss = (report.count > 0).then_some(report.loss).or(loss);
        validation = evaluated.or(validation);
    }
    drop(progress);
    let Some(output) = output else { return Ok(ExitCode::SUCCESS) };
    let saved = run.save(&args.output)?;
    let seconds = began.elapsed().as_secs_f64();
    let steps = run.completed_steps();
    output.summary(&json!({
        "steps": steps,
        "loss": loss,
        "validation_loss": validation,
        "seconds": seconds,
        "configuration": configuration,
    }))?;
    let shown = |loss: Option<f64>| loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
    let saved =
        if saved.is_empty() { String::new() } else { format!(" with {}", saved.join(", ")) };
    print(&format!(
        "loss {}, validation loss {} after {steps} steps in {seconds:.1} s; written to {}{saved}\n",
        shown(loss),
        shown(validation),
        args.output.display(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The section that only the example BERT reads, if there is one.
fn other_model(plan: &Plan) -> Option<&'static str> {
    ["model", "data"].into_iter().find(|key| plan.config().value().get(key).is_some())
}

/// The model that the configuration names: a script, or the example BERT.
fn of(plan: Plan, device: Device) -> Result<Box<dyn Run>, BoxError> {
    match outline::is_script(&plan) {
        true => Ok(Box::new(ScriptRun::new(plan, device)?)),
        false => {
            let run = BertRun::new(plan, device)?;
            let batches = run.batches()?;
            Ok(Box::new(OnText { run, batches }))
        }
    }
}

/// The example BERT.
struct OnText {
    run: BertRun,
    batches: TrainBatches,
}

impl Run for OnText {
    fn total_steps(&self) -> u64 {
        self.run.total_steps()
    }

    fn completed_steps(&self) -> u64 {
        self.run.engine().completed_steps()
    }

    fn step(&mut self) -> Result<Report, BoxError> {
        let micro_batches = next(&mut self.batches)?;
        Ok(self.run.step(&micro_batches)?)
    }

    fn evaluation_is_due(&self) -> bool {
        self.run.evaluation_is_due()
    }

    fn evaluate(&mut self) -> Result<Evaluation, BoxError> {
        Ok(self.run.evaluate()?)
    }

    fn save(&self, _folder: &Path) -> Result<Vec<&'static str>, BoxError> {
        Ok(Vec::new())
    }
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
    if let Some(loss) = validation_loss {
        line["validation_loss"] = json!(loss);
    }
    line
}

fn cannot_write(path: &Path, error: &io::Error) -> BoxError {
    format!("cannot write {}: {error}", path.display()).into()
}
