//! One rank of the tests of resuming: trains case by case, once without a break, and once more in two parts, of which
//! the first dies.
//!
//! Called with a file of cases (a JSON list of [`Case`]) and a folder, in which each case makes `NAME/straight` and
//! `NAME/broken`. Ranks wait for each other by files in that folder.
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::config::{self, Document};
use trainyard::program::Program;
use trainyard::script::{Repeats, Script};
use trainyard::{BoxError, Event, IntoLoss, Layers, Loss, Plan, World};
use trainyard_checkpoint::newest;
use trainyard_data::{ArrayBatch, ArrayConfig, ArrayData};
use trainyard_models::pretraining;
use trainyard_run::{Begin, Data, Folder, OUTPUTS, Origin, Run, Weights, with_data};
use trainyard_tests::Small;

/// The step behind which the first part dies.
const LAST: u64 = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    source: Source,
    config: Value,
}

/// What is trained, and on what.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// The example BERT, on the text that the configuration names.
    Text,
    /// A model of the tests, on the arrays of a folder.
    Rust { data: PathBuf },
    /// A file of TorchScript, likewise.
    Script { model: PathBuf, data: PathBuf },
    /// A file of torch.export, likewise.
    Program { model: PathBuf, data: PathBuf },
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [cases, folder] => run(Path::new(cases), Path::new(folder)),
        _ => Err("resuming CASES FOLDER".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cases: &Path, folder: &Path) -> Result<(), BoxError> {
    trainyard_native::skip_teardown()?;
    let cases: Vec<Case> = serde_json::from_str(&fs::read_to_string(cases)?)?;
    for case in cases {
        let at = |error: BoxError| BoxError::from(format!("{}: {error}", case.name));
        let output = folder.join(&case.name);
        // What is random outside of the engine must not matter to a run that goes on.
        for (part, output, dies, seed) in [
            ("straight", output.join("straight"), false, 1),
            ("first", output.join("broken"), true, 1),
            (SECOND, output.join("broken"), false, 77),
        ] {
            tch::manual_seed(seed);
            meet(folder, &format!("{}-{part}", case.name))?;
            if part == SECOND && newest(&output.join("checkpoints"))?.0.is_none() {
                return Err(at("nothing was saved before the death".into()));
            }
            let ended = train(&case, &output, dies);
            match (ended, dies) {
                (Ok(()), false) => {}
                (Err(error), true) if error.to_string().contains(DEATH) => {}
                (Err(error), _) => return Err(at(format!("{part}: {error}").into())),
                (Ok(()), true) => return Err(at("it did not die".into())),
            }
        }
    }
    Ok(())
}

/// The part that goes on.
const SECOND: &str = "second";

/// What the first part dies of.
const DEATH: &str = "the test kills it";

fn train(case: &Case, output: &Path, dies: bool) -> Result<(), BoxError> {
    let document = Document::parse(config::Source::text("case.json", case.config.to_string()))?;
    let plan = pretraining::registry().plan(config::Layers::new(document))?;
    let origin = Origin::find(&plan, output, Begin::AsConfigured)?;
    let plan = origin.compared(plan);
    let way = Way { origin, output, dies };
    match &case.source {
        Source::Text => {
            let data = pretraining::open_data(&plan)?;
            let run = pretraining::run(plan, data, Device::Cpu)?;
            way.through(run, pretraining::forward(Device::Cpu))
        }
        Source::Rust { data } => {
            let (data, plan) = arrays(plan, data)?;
            let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
            let model = Small::new(variables.root(), &layers, 3, 0.2);
            let engine = plan.engine(model, &variables, &layers)?;
            let run = saving(Run::new(plan, engine, data)?, &variables);
            let loss = |model: &Small, batch: &ArrayBatch, train: bool| {
                let of = |name: &str| batch.get(name).map(Tensor::shallow_clone).ok_or("no input");
                Ok::<_, BoxError>(model.loss(&(of("x")?, of("y")?), train))
            };
            way.through(run, loss)
        }
        Source::Script { model, data } => {
            let (data, plan) = arrays(plan, data)?;
            let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
            let patterns = plan.layer_patterns();
            let script = Script::load(model, &variables, &layers, &patterns, Repeats::Refused)?;
            let engine = plan.engine(script, &variables, &layers)?;
            let run = saving(Run::new(plan, engine, data)?, &variables);
            let loss = |model: &Script, batch: &ArrayBatch, train: bool| {
                mean(model.forward(&batch.inputs, train)?.at(0), batch)
            };
            way.through(run, loss)
        }
        Source::Program { model, data } => {
            let (data, plan) = arrays(plan, data)?;
            let variables = VarStore::new(Device::Cpu);
            let program = Program::load(model, &variables)?;
            let engine = plan.engine(program, &variables, &Layers::new())?;
            let run = saving(Run::new(plan, engine, data)?, &variables);
            let loss = |model: &Program, batch: &ArrayBatch, train: bool| {
                mean(model.forward(&batch.inputs, train)?.at(0), batch)
            };
            way.through(run, loss)
        }
    }
}

fn arrays(plan: Plan, folder: &Path) -> Result<(ArrayData, Plan), BoxError> {
    let data = ArrayData::open(&ArrayConfig::new(folder), plan.settings().training.seed)?;
    let plan = with_data(plan, &data)?;
    Ok((data, plan))
}

fn mean(loss: Option<&Tensor>, batch: &ArrayBatch) -> Result<Loss, BoxError> {
    let loss = loss.ok_or("the model returns nothing")?.to_kind(Kind::Float);
    Ok(Loss::mean(loss, batch.samples as u64))
}

fn saving<M: 'static>(run: Run<M, ArrayData>, variables: &VarStore) -> Run<M, ArrayData> {
    let weights = Weights::of(variables);
    run.saved(move |_, files| weights.save(files))
}

/// From where a run begins to its end or its death.
struct Way<'a> {
    origin: Origin,
    output: &'a Path,
    dies: bool,
}

impl Way<'_> {
    fn through<M, D: Data, L: IntoLoss>(
        self,
        run: Run<M, D>,
        forward: impl FnMut(&M, &D::Batch, bool) -> L,
    ) -> Result<(), BoxError> {
        let Way { origin, output, dies } = self;
        let claim = || Folder::claim(output, OUTPUTS, origin.existing());
        let folder = (World::from_env()?.rank == 0).then(claim).transpose()?;
        let kills = move |event: &Event<'_>| match event {
            Event::Step { report, .. } if dies && report.step == LAST => Err(DEATH.into()),
            _ => Ok(()),
        };
        let mut run = run.beginning(origin)?.observed(kills);
        if let Some(folder) = folder {
            run = run.written_to(folder);
        }
        run.train(forward)?;
        Ok(())
    }
}

/// Waits for all ranks to come to `place`.
fn meet(folder: &Path, place: &str) -> Result<(), BoxError> {
    let World { rank, world_size, .. } = World::from_env()?;
    let file = |rank: usize| folder.join(format!("{place}.{rank}"));
    fs::write(file(rank), "")?;
    let began = Instant::now();
    while (0..world_size).any(|rank| !file(rank).exists()) {
        if began.elapsed() > Duration::from_secs(60) {
            return Err(format!("another rank did not come to {place}").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
