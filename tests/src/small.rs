//! A model small enough to reason about, and engines around it.
use tch::nn::{self, ModuleT, VarStore};
use tch::{Device, Kind, Reduction, Tensor};
use trainyard::config::{self, Document, Source};
use trainyard::{Engine, EngineState, Layers, Loss, Plan, Registry, Report};

/// Blocks of two residual branches on a stream of width [`Small::WIDTH`], with dropout.
#[derive(Debug)]
pub struct Small {
    blocks: Vec<SmallBlock>,
}

#[derive(Debug)]
struct SmallBlock {
    branches: [(trainyard::SubLayer, nn::Linear); 2],
    dropout: f64,
}

/// Inputs and targets, each `[batch, width]`.
pub type Inputs = (Tensor, Tensor);

impl Small {
    /// Width of the stream.
    pub const WIDTH: i64 = 6;

    /// `blocks` blocks whose parameters are under `blocks.<index>`.
    pub fn new(root: nn::Path, layers: &Layers, blocks: i64, dropout: f64) -> Self {
        let block = |i: i64| {
            let path = &root / "blocks" / i;
            let block = layers.block(&path);
            let branch = |name: &str| {
                let c = nn::LinearConfig::default();
                (block.sublayer(name), nn::linear(&path / name, Self::WIDTH, Self::WIDTH, c))
            };
            SmallBlock { branches: [branch("attention"), branch("feed_forward")], dropout }
        };
        Small { blocks: (0..blocks).map(block).collect() }
    }

    /// Mean squared error, counted by rows.
    pub fn loss(&self, (x, y): &Inputs, train: bool) -> Loss {
        let output = self.forward_t(x, train);
        Loss::mean(output.mse_loss(y, Reduction::Mean), x.size()[0] as u64)
    }

    /// Deterministic inputs and targets of `rows` rows.
    pub fn inputs(rows: i64, offset: i64) -> Inputs {
        let n = rows * Self::WIDTH;
        let x = Tensor::arange_start(offset, offset + n, (Kind::Float, Device::Cpu));
        let x = x.view([rows, Self::WIDTH]).sin();
        let y = &x * 0.5;
        (x, y)
    }
}

impl ModuleT for Small {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let mut x = x.shallow_clone();
        for block in &self.blocks {
            for (handle, linear) in &block.branches {
                x = handle
                    .residual(&x, train, |x| x.apply(linear).tanh().dropout(block.dropout, train));
            }
        }
        x
    }
}

/// Every plugin, and nothing else.
pub fn registry() -> Registry {
    trainyard_plugins::registry()
}

/// A plan from JSON text.
///
/// # Errors
/// The configuration's.
pub fn plan(registry: Registry, json: &str) -> trainyard::Result<Plan> {
    registry.plan(config::Layers::new(Document::parse(Source::text("run.json", json))?))
}

/// The small model with 4 blocks under an engine, its weights from a fixed seed. The `VarStore` is
/// returned to keep the parameters' names at hand.
///
/// # Panics
/// If the configuration is not right.
pub fn engine(registry: Registry, json: &str, dropout: f64) -> (VarStore, Engine<Small>) {
    tch::manual_seed(1);
    let variables = VarStore::new(Device::Cpu);
    let layers = Layers::new();
    let model = Small::new(variables.root(), &layers, 4, dropout);
    let plan = plan(registry, json).unwrap_or_else(|e| panic!("{e}"));
    let engine = plan.engine(model, &variables, &layers).unwrap_or_else(|e| panic!("{e}"));
    (variables, engine)
}

/// Trains for `steps` steps of one micro-batch of 4 rows, from where the engine stands.
///
/// # Panics
/// If a step fails.
pub fn train(engine: &mut Engine<Small>, steps: u64) -> Vec<Report> {
    let step = |_| {
        let batch = Small::inputs(4, engine.completed_steps() as i64 * 24);
        let report = engine.step(&[batch], |model, batch| model.loss(batch, true)).expect("a step");
        Report { seconds: 0.0, samples_per_second: None, ..report }
    };
    (0..steps).map(step).collect()
}

/// Asserts that two states are the same, bit for bit.
///
/// # Panics
/// If they are not.
pub fn same_bits(a: &EngineState, b: &EngineState) {
    assert_eq!((a.step, a.attempt), (b.step, b.attempt));
    assert_eq!(a.plugins, b.plugins);
    assert_eq!(a.model.keys().collect::<Vec<_>>(), b.model.keys().collect::<Vec<_>>());
    for (name, tensor) in &a.model {
        assert!(tensor.equal(&b.model[name]), "{name} differs");
    }
    assert_eq!(a.optimizer.keys().collect::<Vec<_>>(), b.optimizer.keys().collect::<Vec<_>>());
    for (name, (updates, slots)) in &a.optimizer {
        assert_eq!(*updates, b.optimizer[name].0, "updates of {name}");
        for (slot, tensor) in slots {
            assert!(tensor.equal(&b.optimizer[name].1[slot]), "{slot} of {name} differs");
        }
    }
}
