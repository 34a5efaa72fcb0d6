mod damage;
mod faults;
mod power;
mod retention;
mod round;

use crate::{Checkpoint, Checkpoints, Extra, Keep, Snapshot, newest};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};
use trainyard::config::{self, Document, Source};
use trainyard::{Engine, EngineState, Layers, Loss};

/// A model of two layers, one of which has running statistics.
#[derive(Debug)]
struct Net {
    linear: nn::Linear,
    norm: nn::BatchNorm,
}

impl Net {
    fn loss(&self, x: &Tensor) -> Loss {
        let y = self.linear.forward(x).apply_t(&self.norm, true).dropout(0.25, true);
        Loss::mean((y - x).square().mean(Kind::Float), x.size()[0] as u64)
    }
}

/// An engine around it, always the same.
fn engine() -> Engine<Net> {
    engine_of(r#"{ "type": "AdamW", "params": { "lr": 0.01 } }"#, 5)
}

fn engine_of(optimizer: &str, width: i64) -> Engine<Net> {
    let text = format!(r#"{{ "optimizer": {optimizer}, "gradient_clipping": 1.0 }}"#);
    let document = Document::parse(Source::text("a.json", &text)).expect("it is JSON");
    let plan = trainyard_plugins::registry().plan(config::Layers::new(document)).expect("a plan");
    tch::manual_seed(7);
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let root = variables.root();
    let net = Net {
        linear: nn::linear(&root / "linear", width, width, nn::LinearConfig::default()),
        norm: nn::batch_norm1d(&root / "norm", width, nn::BatchNormConfig::default()),
    };
    plan.engine(net, &variables, &layers).expect("an engine")
}

/// Trains to so many steps. Step n sees the same whoever takes it.
fn train(engine: &mut Engine<Net>, steps: u64) -> Vec<f64> {
    let width = engine.parameters().next().expect("a parameter").1.size()[0];
    let mut losses = Vec::new();
    while engine.completed_steps() < steps {
        let x = Tensor::arange(4 * width, (Kind::Float, Device::Cpu)).view([4, width]);
        let x = (x + engine.attempts() as f64).sin();
        losses.push(engine.step(&[x], |net, x| net.loss(x)).expect("a step").loss);
    }
    losses
}

type Made = (Rc<Snapshot>, Rc<EngineState>);

thread_local! {
    static MADE: RefCell<HashMap<u64, Made>> = RefCell::default();
}

/// A copy of what an engine is after so many steps, and its state.
fn made(steps: u64) -> Made {
    let make = || {
        let mut engine = engine();
        train(&mut engine, steps);
        let snapshot = Snapshot::take(&engine, Extra::default()).expect("a copy");
        (Rc::new(snapshot), Rc::new(engine.state()))
    };
    MADE.with_borrow_mut(|made| made.entry(steps).or_insert_with(make).clone())
}

fn snapshot(steps: u64) -> Rc<Snapshot> {
    made(steps).0
}

/// A folder with checkpoints of these steps, of which `last` stay.
fn saved(folder: &Path, steps: &[u64], last: usize) -> Checkpoints {
    let mut checkpoints = Checkpoints::claim(folder, Keep { last, ..Keep::default() }).unwrap();
    for &step in steps {
        checkpoints.save(&snapshot(step)).unwrap();
    }
    checkpoints
}

/// The step of the newest whole checkpoint, once it is sure that it holds what it should.
fn newest_step(folder: &Path) -> Option<u64> {
    let (found, _) = newest(folder).unwrap();
    found.map(|checkpoint| holds_its_step(&checkpoint))
}

fn holds_its_step(checkpoint: &Checkpoint) -> u64 {
    let step = checkpoint.state().step;
    let differences = differences(&checkpoint.engine_state(0).unwrap(), &made(step).1);
    assert_eq!(differences, Vec::<String>::new(), "step {step}");
    step
}

/// Names of the tensors of two states that differ in a bit, and of the counts that do.
fn differences(one: &EngineState, other: &EngineState) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, equal: bool| {
        if !equal {
            found.push(what.to_owned());
        }
    };
    compare("step", (one.step, one.attempt) == (other.step, other.attempt));
    compare("plugins", one.plugins == other.plugins);
    compare("names", one.model.keys().eq(other.model.keys()));
    compare("slots", one.optimizer.keys().eq(other.optimizer.keys()));
    for (name, tensor) in &one.model {
        compare(name, other.model.get(name).is_some_and(|t| t.equal(tensor)));
    }
    for (name, (updates, slots)) in &one.optimizer {
        let theirs = other.optimizer.get(name);
        compare(name, theirs.is_some_and(|(u, t)| u == updates && t.keys().eq(slots.keys())));
        for (slot, tensor) in slots {
            let theirs = theirs.and_then(|(_, slots)| slots.get(slot));
            compare(&format!("{name}/{slot}"), theirs.is_some_and(|t| t.equal(tensor)));
        }
    }
    found
}

/// Names in a folder, hidden ones too, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        match from.is_dir() {
            true => copy_folder(&from, &to),
            false => drop(std::fs::copy(from, to).expect("a copy")),
        }
    }
}
