//! One rank of the tests of faults: trains a small model, says so step by step on standard output, and
//! misbehaves as told.
//!
//! Called with an [`Order`] as JSON.
use rustix::process::{Signal, getpid, kill_process};
use serde::Deserialize;
use serde_json::Value;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tch::nn::{self, VarStore};
use tch::{Device, Kind, Reduction, Tensor};
use trainyard::config::{self, Document, Source};
use trainyard::{BoxError, Layers, Loss, Mismatch, World};
use trainyard_native::Listening;

/// What to do.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    config: Value,
    steps: u64,
    width: i64,
    /// A fingerprint of data that there is none of.
    #[serde(default = "some_data")]
    data: String,
    /// Whether the model makes its last layer first.
    #[serde(default)]
    backwards: bool,
    /// The folder where `RANK.npz` is written in the end, the parameters.
    #[serde(default)]
    parameters: Option<PathBuf>,
    #[serde(default)]
    fault: Option<Fault>,
}

fn some_data() -> String {
    "a".to_owned()
}

/// What goes wrong, and when.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    act: Act,
    place: Place,
    /// In which step, from 0.
    #[serde(default)]
    step: u64,
    /// On which rank, where all get the same order.
    #[serde(default)]
    rank: Option<i64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Act {
    /// The process is killed.
    Kill,
    /// The process is stopped.
    Stop,
    /// The forward fails.
    Fail,
    /// The program ends well.
    End,
    /// A pause: a short one in every step, or a second at the end.
    Pause,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    /// Before the ranks meet.
    Start,
    /// In the forward, when the others may be ahead.
    Forward,
    /// In the backward pass, when the gradients of the last layers are on their way.
    Backward,
    /// Behind the backward pass, before the update.
    Update,
    /// After the last step.
    Last,
}

/// Layers, each of which has something to listen to before it.
struct Model {
    layers: Vec<nn::Linear>,
    leaves: Vec<Tensor>,
}

const LAYERS: i64 = 4;

fn main() -> ExitCode {
    let result = match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [order] => serde_json::from_str(order).map_err(BoxError::from).and_then(run),
        _ => Err("faulty ORDER".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(order: Order) -> Result<(), BoxError> {
    let Order { config, steps, width, data, backwards, parameters, fault } = order;
    writeln!(stdout(), "process {}", std::process::id())?;
    let rank = World::from_env()?.rank as i64;
    let fault = fault.filter(|fault| fault.rank.is_none_or(|culprit| culprit == rank));
    if let Some(fault) = fault.filter(|fault| fault.place == Place::Start) {
        misbehave(fault.act)?;
    }
    let document = Document::parse(Source::text("order.json", config.to_string()))?;
    let plan = trainyard_plugins::registry().plan(config::Layers::new(document))?;
    let plan = plan.with_fingerprint("data", data, Mismatch::Refuse);
    tch::manual_seed(1 + rank);
    let variables = VarStore::new(Device::Cpu);
    let model = Model::new(&variables.root(), width, backwards);
    let leaves: Vec<_> = model.leaves.iter().map(Tensor::shallow_clone).collect();
    let mut engine = plan.engine(model, &variables, &Layers::new())?;
    let now = Arc::new(AtomicU64::new(0));
    let _listening = {
        let (now, place) = (now.clone(), Place::Backward);
        let due = move || fault.filter(|f| f.place == place && f.step == now.load(Relaxed));
        Listening::new(leaves, move |leaf| match (leaf, due()) {
            // Until the ranks have agreed on what they send.
            (2, Some(_)) => std::thread::sleep(Duration::from_millis(300)),
            (1, Some(fault)) => drop(misbehave(fault.act)),
            _ => {}
        })?
    };
    for step in 0..steps {
        now.store(step, Relaxed);
        let forward = fault.filter(|f| f.place == Place::Forward);
        match forward {
            Some(Fault { act: Act::End, step: last, .. }) if step == last => return Ok(()),
            Some(Fault { act: Act::Pause, .. }) => std::thread::sleep(Duration::from_millis(20)),
            _ => {}
        }
        let due = forward.filter(|fault| fault.step == step);
        if let Some(fault) = fault.filter(|f| f.place == Place::Update && f.step == step) {
            let loss = engine.forward(|model| model.loss(&batch(width, rank, step)))?;
            engine.backward(&loss)?;
            let evaluated = engine.evaluate([0], |model, _| model.loss(&batch(width, rank, step)));
            writeln!(
                stdout(),
                "evaluated {}",
                evaluated.map_or_else(|e| e.to_string(), |_| "yes".into())
            )?;
            misbehave(fault.act)?;
        }
        let report = engine.step(&[batch(width, rank, step)], |model, batch| {
            due.map_or(Ok(()), |fault| misbehave(fault.act))?;
            Ok::<_, BoxError>(model.loss(batch))
        })?;
        writeln!(stdout(), "step {} {}", report.step, report.loss)?;
    }
    if let Some(Fault { act: Act::Pause, .. }) = fault.filter(|f| f.place == Place::Last) {
        std::thread::sleep(Duration::from_secs(1));
    }
    let Some(folder) = parameters else { return Ok(()) };
    let mut parameters: Vec<_> = variables.variables().into_iter().collect();
    parameters.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Tensor::write_npz(&parameters, folder.join(format!("{rank}.npz")))?)
}

fn misbehave(act: Act) -> Result<(), BoxError> {
    let signal = |signal| Ok(kill_process(getpid(), signal)?);
    match act {
        Act::Kill => signal(Signal::KILL),
        Act::Stop => signal(Signal::STOP),
        Act::Fail => Err("no more data".into()),
        Act::End | Act::Pause => Ok(()),
    }
}

/// Inputs of this rank: a function of their place alone.
fn batch(width: i64, rank: i64, step: u64) -> Tensor {
    let from = 1000 * rank + step as i64;
    let x = Tensor::arange_start(from, from + 4 * width, (Kind::Float, Device::Cpu));
    x.view([4, width]).sin()
}

impl Model {
    fn new(root: &nn::Path<'_>, width: i64, backwards: bool) -> Self {
        let layer = |i| nn::linear(root / "layers" / i, width, width, nn::LinearConfig::default());
        let zeros = || Tensor::zeros([width], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let layers = match backwards {
            true => (0..LAYERS).rev().map(layer).collect::<Vec<_>>().into_iter().rev().collect(),
            false => (0..LAYERS).map(layer).collect(),
        };
        Model { layers, leaves: (0..LAYERS).map(|_| zeros()).collect() }
    }

    fn loss(&self, x: &Tensor) -> Loss {
        let layers = self.layers.iter().zip(&self.leaves);
        let y = layers.fold(x.shallow_clone(), |x, (layer, leaf)| (x + leaf).apply(layer).tanh());
        Loss::mean(y.mse_loss(&(x * 0.5), Reduction::Mean), x.size()[0] as u64)
    }
}
