//! What a step costs more through the engine than in a loop written by hand.
//!
//! The engine's work for a step grows with the number of tensors and of layer calls, not with their
//! sizes. So it is measured on a model of the layers of `bert.json` but a width of a few, where a step is short
//! enough for a difference of microseconds to be seen, and held against a step at its width, whose
//! own noise would drown it.
use super::arms::{Bare, Batch, Driven, WARM_UP, plan};
use super::setting::Setting;
use super::{Benchmark, Figure, Target};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::Instant;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use tracing::info;
use trainyard::{BoxError, Layers, Loss};
use trainyard_figures::statistics::{bootstrap, median};

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "engine_overhead",
    about: "time a step takes more through the engine than in a bare tch loop, as a part of a step of bert.json",
    unit: "ratio - 1",
    target: Target::AtMost(0.01),
    run,
};

/// Layers of the smaller of the two models that tell the cost of a tensor from that of a step.
const FEW_LAYERS: i64 = 2;

/// Steps in a repetition of one arm, which counts by their median.
const STEPS: usize = 20;

fn run(setting: &Setting) -> Result<Figure, BoxError> {
    info!("engine_overhead: a step of bert.json");
    let step = whole_step(setting)?;
    // One thread: others would have nothing to do, and a busy machine makes libtorch wait for them.
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    info!("engine_overhead: steps of a narrow model");
    let few = Overheads::measure(&setting.narrow(FEW_LAYERS))?;
    let all = Overheads::measure(&setting.narrow(setting.model.layers))?;
    info!("engine_overhead: layer calls");
    let [call, gated_call] = call_costs(setting.effort.repetitions)?;
    tch::set_num_threads(threads);

    let (low, high) = bootstrap(&all.seconds, |some| median(some.iter().map(off)));
    let (overhead, gated) = (all.off(), median(all.seconds.iter().map(on)));
    let of_tensors = |o: &Overheads| o.off() - call * o.calls;
    let tensor = (of_tensors(&all) - of_tensors(&few)) / (all.tensors - few.tensors);
    let fixed = of_tensors(&few) - tensor * few.tensors;
    let us = |seconds: f64| format!("{:.1} us", seconds * 1e6);
    let ns = |seconds: f64| format!("{:.0} ns", seconds * 1e9);
    let detail = format!(
        "{} a step ({} to {}; {} with layer dropping that keeps all) of {:.0} ms, with {} layers; \
         {} for the step, {} for each of {} tensors, {} for each of {} layer calls ({} through layer \
         dropping); medians of {} repetitions of {STEPS} steps; whole step on {threads} threads",
        us(overhead),
        us(low),
        us(high),
        us(gated),
        step * 1e3,
        setting.model.layers,
        us(fixed),
        ns(tensor),
        all.tensors,
        ns(call),
        all.calls,
        ns(gated_call),
        setting.effort.repetitions,
    );
    Ok(Figure {
        value: overhead / step,
        interval: (low / step, high / step),
        settled: true,
        detail,
    })
}

/// Seconds of a bare step of `bert.json`: of the fastest one, so that a busy machine does not make
/// the overhead look small.
fn whole_step(setting: &Setting) -> Result<f64, BoxError> {
    let mut bare = Bare::new(setting);
    let mut fastest = f64::INFINITY;
    for round in 0..WARM_UP + setting.effort.repetitions.min(10) {
        let batch = Batch::random(setting, round as i64);
        let seconds = time(|| bare.step(&batch).map(drop))?;
        if round >= WARM_UP {
            fastest = fastest.min(seconds);
        }
    }
    Ok(fastest)
}

/// What the steps of one model cost more through the engine.
struct Overheads {
    tensors: f64,
    /// Layer calls in a step.
    calls: f64,
    /// Seconds a step by repetition, without layer dropping and with it.
    seconds: Vec<[f64; 2]>,
}

fn off(seconds: &[f64; 2]) -> f64 {
    seconds[0]
}

fn on(seconds: &[f64; 2]) -> f64 {
    seconds[1]
}

impl Overheads {
    /// Takes turns between the three loops, step by step.
    fn measure(setting: &Setting) -> Result<Overheads, BoxError> {
        let mut bare = Bare::new(setting);
        let mut off = Driven::new(trainyard_plugins::registry(), setting, json!({}))?;
        let mut on = Driven::new(trainyard_plugins::registry(), setting, keep_all())?;
        let tensors = off.tensors() as f64;
        let mut seconds = Vec::new();
        // The first repetition warms up.
        for repetition in 0..=setting.effort.repetitions {
            let batch = Batch::random(setting, repetition as i64);
            let mut times = [const { Vec::new() }; 3];
            for turn in 0..3 * STEPS {
                // Each arm comes after each of the others in turn.
                let arm = if repetition % 2 == 0 { turn % 3 } else { 2 - turn % 3 };
                times[arm].push(time(|| match arm {
                    0 => bare.step(&batch).map(drop),
                    1 => off.step(&batch).map(drop),
                    _ => on.step(&batch).map(drop),
                })?);
            }
            let [bare, off, on] = times.map(median);
            seconds.push([off - bare, on - bare]);
        }
        seconds.remove(0);
        Ok(Overheads { tensors, calls: 2.0 * setting.model.layers as f64, seconds })
    }

    fn off(&self) -> f64 {
        median(self.seconds.iter().map(off))
    }
}

/// Seconds that `step` takes.
fn time(step: impl FnOnce() -> Result<(), BoxError>) -> Result<f64, BoxError> {
    let began = Instant::now();
    step()?;
    Ok(began.elapsed().as_secs_f64())
}

/// Layer dropping that draws gates and keeps all.
fn keep_all() -> Value {
    json!({
        "progressive_layer_drop": { "enabled": true, "schedule": "constant", "theta": 1 },
    })
}

/// Seconds that a layer call takes more than an addition by hand, with an engine and no plugin, and with
/// an engine and layer dropping.
fn call_costs(repetitions: usize) -> Result<[f64; 2], BoxError> {
    let [plain, dropping] = [json!({}), keep_all()].map(|more| call_cost(repetitions, more));
    Ok([plain?, dropping?])
}

fn call_cost(repetitions: usize, mut sections: Value) -> Result<f64, BoxError> {
    const CALLS: u32 = 1000;
    let variables = VarStore::new(Device::Cpu);
    let weight = variables.root().ones("weight", &[1]);
    let layers = Layers::new();
    let branch = layers.block(variables.root() / "block").sublayer("branch");
    sections["optimizer"] = json!({ "type": "SGD" });
    let mut engine =
        plan(trainyard_plugins::registry(), &sections)?.engine(branch, &variables, &layers)?;

    let x = Tensor::zeros([1], (Kind::Float, Device::Cpu));
    let mut seconds = Vec::new();
    let each = |call: &dyn Fn() -> Tensor| {
        let began = Instant::now();
        (0..CALLS).for_each(|_| drop(black_box(call())));
        began.elapsed().as_secs_f64() / f64::from(CALLS)
    };
    for _ in 0..repetitions {
        // Inside a forward, so that the layer calls go where those of a model go.
        engine.step(&[()], |branch, ()| {
            let by_hand = each(&|| &x + black_box(&x).shallow_clone());
            let through = each(&|| branch.residual(&x, true, |x| x.shallow_clone()));
            seconds.push(through - by_hand);
            Loss::mean(weight.sum(Kind::Float), 1)
        })?;
    }
    Ok(median(seconds))
}
