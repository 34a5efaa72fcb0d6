//! `trainyard train`.
use crate::device;
use crate::input::{Overrides, Sizes};
use crate::outline::{self, STEPS_PER_EPOCH, registry};
use crate::output::print;
use crate::problems;
use crate::script;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainyard::{BoxError, IntoLoss, Plan, World};
use trainyard_checkpoint::MODEL;
use trainyard_models::pretraining;
use trainyard_run::progress::{RankWarnings, Screen};
use trainyard_run::{Begin, Data, Ending, Folder, OUTPUTS, Origin, Run, Stop, missing};

/// Train a model that PyTorch exported, or without --model the example BERT on a text; on many ranks
/// under a launcher
#[derive(clap::Args)]
#[command(
    after_help = "SIGINT, SIGTERM and SIGUSR1 end the run after the step under way: what it has reached is written, \
    and the exit status is 130, 143 or 138. A second SIGINT ends it at once.\n\n\
    Examples:\n  trainyard train --config run.json\n  \
    trainyard train --config run.json --text my.txt --output runs/one\n  \
    trainyard train --config run.json --model bert.pt --data tokens/\n  \
    trainyard train --config run.json --steps 100 --set training.seed=7 --overwrite"
)]
pub struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Model to train, in place of script.model: TorchScript, or a program of torch.export (.pt2); `trainyard
    /// inspect` shows what is in it
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
    /// Folder for the trained model, steps.jsonl, a line for each step and each
    /// evaluation, and summary.json, which is written last
    /// [default: runs/ and the name of the configuration]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace the run that is found in the output folder, its checkpoints too
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Go on from the newest whole checkpoint of the output folder, or of DIR: a checkpoint, a folder of checkpoints, or
    /// another run's output. With a `checkpoint` section the same command started again does so by itself
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    resume: Option<Option<PathBuf>>,
    #[command(flatten)]
    sizes: Sizes,
    #[command(flatten)]
    overrides: Overrides,
}

impl Args {
    /// The folder that the run writes to.
    fn folder(&self) -> PathBuf {
        let default = || Path::new("runs").join(self.config.file_stem().unwrap_or_default());
        self.output.clone().unwrap_or_else(default)
    }

    /// Where the run is to begin.
    fn begin(&self) -> Begin {
        let first = match &self.resume {
            _ if self.overwrite => Begin::Anew,
            None => Begin::AsConfigured,
            Some(None) => Begin::Newest,
            Some(Some(path)) => Begin::At(path.clone()),
        };
        let restarts = std::env::var(World::RESTARTS).ok();
        match restarts.and_then(|count| count.parse::<u64>().ok()) {
            Some(1..) => Begin::Again(Box::new(first)),
            _ => first,
        }
    }

    /// What the command line says of values that the configuration has.
    fn overrides(&self) -> Result<Overrides, BoxError> {
        let mut overrides = self.overrides.clone();
        let paths = [
            ("--text", "data.text", &self.text),
            ("--model", "script.model", &self.model),
            ("--data", "script.data.folder", &self.data),
        ];
        for (option, key, path) in paths {
            let Some(path) = path else { continue };
            let shown = path.display();
            let utf8 = path.to_str();
            let utf8 = utf8.ok_or_else(|| format!("{option} {shown}: this path is not UTF-8"))?;
            overrides.push(key, utf8);
        }
        self.sizes.lay_over(&mut overrides);
        Ok(overrides)
    }
}

pub fn run(args: Args, screen: &Screen) -> Result<ExitCode, BoxError> {
    let plan = plan(&args)?;
    // Before anything seeds libtorch's generators.
    let device = device::of(args.device, plan.world())?;
    if let (true, Some(key)) = (outline::is_script(&plan), other_model(&plan)) {
        let message = format!(
            "{key} describes the example BERT, and the model is a script (`script`, --model, --data); keep one"
        );
        return Err(plan.invalid(key, message).into());
    }
    // Finds what is wrong before a large text is tokenised; how long an epoch really is comes with it.
    let of_script = outline::is_script(&plan).then(|| plan.layer_patterns());
    if !outline::explain(&plan, of_script)?.optimizer {
        return Err(plan.resolved().no_optimizer().into());
    }
    // All ranks have the same figures; one of them tells.
    let inputs = inputs(&args, &plan);
    Folder::check_inputs(&args.folder(), OUTPUTS, inputs.iter().map(PathBuf::as_path))?;
    let origin = Origin::find(&plan, &args.folder(), args.begin())?;
    inputs.iter().try_for_each(|input| origin.check_input(input))?;
    let rank = plan.world().rank;
    let claim = || Folder::claim(&args.folder(), OUTPUTS, origin.existing());
    let folder = (rank == 0).then(claim).transpose()?;
    let plan = origin.compared(plan);
    if outline::is_script(&plan) {
        let (run, forward) = script::run(plan, device)?;
        return train(
            run.beginning(origin)?,
            |script, batch, train| forward.loss(script, batch, train),
            (folder, rank),
            screen,
        );
    }
    let data = pretraining::open_data(&plan)?;
    train(
        pretraining::run(plan, data, device)?.beginning(origin)?,
        pretraining::forward(device),
        (folder, rank),
        screen,
    )
}

/// The configuration, with all that is wrong or missing told at once.
fn plan(args: &Args) -> Result<Plan, BoxError> {
    let (registry, configuration) = (registry(), args.overrides()?.read(&args.config)?);
    let planned = registry.plan(configuration.clone());
    let planned = planned.and_then(|plan| {
        plan.config().require_none(missing(plan.config()))?;
        Ok(plan.with_steps_per_epoch(STEPS_PER_EPOCH))
    });
    planned.map_err(|error| {
        let error = problems::add_missing(error, &configuration);
        problems::complete(error, &registry.assume(), configuration).into()
    })
}

/// The files that a run reads.
fn inputs(args: &Args, plan: &Plan) -> Vec<PathBuf> {
    let named = |pointer: &&str| plan.config().value().pointer(pointer).and_then(Value::as_str);
    let files = ["/script/model", "/data/text", "/init_from", "/init_from/file"];
    let mut files: Vec<_> = files.iter().filter_map(named).map(PathBuf::from).collect();
    // Weights may be named by the folder that they are in.
    files.extend(
        ["/init_from", "/init_from/file"]
            .iter()
            .filter_map(named)
            .map(|at| Path::new(at).join(MODEL)),
    );
    files.push(args.config.clone());
    files
}

/// The section that only the example BERT reads, if there is one.
fn other_model(plan: &Plan) -> Option<&'static str> {
    ["model", "data"].into_iter().find(|key| plan.config().value().get(key).is_some())
}

/// Trains, and on the first rank, which has the folder, tells what came of it.
fn train<M, D: Data, L: IntoLoss>(
    run: Run<M, D>,
    forward: impl FnMut(&M, &D::Batch, bool) -> L,
    (folder, rank): (Option<Folder>, usize),
    screen: &Screen,
) -> Result<ExitCode, BoxError> {
    let stop = Stop::on_signals().map_err(|e| format!("cannot listen to signals: {e}"))?;
    let output = folder.as_ref().map(|folder| folder.path().to_owned());
    let run = run.until(stop.clone());
    let mut run = match folder {
        Some(folder) => {
            let steps = run.total_steps();
            run.observed(screen.progress("train", steps)).written_to(folder)
        }
        None => run.observed(RankWarnings { rank }),
    };
    let ending = run.train(forward)?;
    if let (Some(record), Some(output)) = (run.record(), output) {
        let shown = |loss: Option<f64>| loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
        let (steps, total) = (run.engine().completed_steps(), run.total_steps());
        let of = if ending == Ending::Stopped { format!(" of {total}") } else { String::new() };
        // A run that was stopped has not looked at where it is now.
        let behind = match record.validation() {
            Some((step, _)) if step != steps => format!(" (of step {step})"),
            _ => String::new(),
        };
        print(&format!(
            "loss {}, validation loss {}{behind} after {steps}{of} steps in {:.1} s; written to {} with {}\n",
            shown(record.loss()),
            shown(record.validation().map(|(_, loss)| loss)),
            record.seconds(),
            output.display(),
            record.saved().collect::<Vec<_>>().join(", "),
        ))?;
    }
    Ok(match ending {
        Ending::Stopped => ExitCode::from(stop.status()),
        _ => ExitCode::SUCCESS,
    })
}
