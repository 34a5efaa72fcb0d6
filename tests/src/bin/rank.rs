//! One rank of the tests of data parallelism: trains a small BERT on its share of made-up batches, case by
//! case, and writes what came out.
//!
//! Called with a file of cases (a JSON list of [`Case`]) and a folder, in which it makes for each case
//! `NAME.RANK.npz` (the parameters) and `NAME.RANK.json` (the reports).
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use trainyard::config::{self, Document, Source};
use trainyard::{
    BoxError, Branch, BuildContext, Engine, LayerCall, LayerWrap, Layers, Loss, Moment, Next,
    Parts, Plugin, PluginSpec, Report, Section, World,
};
use trainyard_models::{Bert, BertConfig};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    config: Value,
    /// Parts that every batch has; a world of one takes all.
    shares: usize,
    steps: u64,
    accumulation: usize,
    /// A share is a micro-batch in a world of one, and not a part of one.
    #[serde(default)]
    shares_are_micro_batches: bool,
    /// The same number of masked tokens in all shares.
    #[serde(default)]
    even: bool,
    /// The step in which the loss of the last share overflows.
    #[serde(default)]
    overflow_at: Option<u64>,
    /// A buffer `statistics` to which each rank adds its number plus 1 in every step.
    #[serde(default)]
    statistics: bool,
    /// DeepSpeed's three calls in place of `step`.
    #[serde(default)]
    three_calls: bool,
    /// Write `NAME.RANK.given.npz` too: the weights before the first step, as all ranks have them, and the
    /// batches.
    #[serde(default)]
    record: bool,
}

const ROWS: i64 = 2;
const TIME: i64 = 16;
const VOCABULARY: i64 = 211;

struct Batch {
    ids_bt: Tensor,
    masked_k: Tensor,
    labels_k: Tensor,
    /// Factor on the loss.
    factor: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [cases, folder] => run(Path::new(cases), Path::new(folder)),
        _ => Err("rank CASES FOLDER".into()),
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
    let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(cases)?)?;
    for case in cases {
        let rank = World::from_env()?.rank;
        let (variables, mut engine) = engine(&case, rank)?;
        let path = |end: &str| folder.join(format!("{}.{rank}.{end}", case.name));
        if case.record {
            Tensor::write_npz(&given(&case, &variables, rank), path("given.npz"))?;
        }
        let mut reports = Vec::new();
        for step in 0..case.steps {
            reports.push(report(&train(&mut engine, &case, step)?));
            if let Some(statistics) = variables.variables().get_mut("statistics") {
                let _ = statistics.g_add_scalar_(rank as f64 + 1.0);
            }
        }
        let validation = mine(&case, 1000);
        let evaluation = engine.evaluate(&validation, |model, batch| loss(model, batch, false))?;
        reports.push(json!({"evaluation": evaluation.loss, "count": evaluation.count}));
        Tensor::write_npz(&parameters(&variables), path("npz"))?;
        std::fs::write(path("json"), serde_json::to_string(&reports)?)?;
    }
    Ok(())
}

fn parameters(variables: &VarStore) -> Vec<(String, Tensor)> {
    let mut parameters: Vec<_> = variables.variables().into_iter().collect();
    parameters.sort_by(|a, b| a.0.cmp(&b.0));
    parameters
}

/// What another program needs to do the same.
fn given(case: &Case, variables: &VarStore, rank: usize) -> Vec<(String, Tensor)> {
    let weight = |(name, tensor): (String, Tensor)| (format!("weights/{name}"), tensor);
    let mut given: Vec<_> = parameters(variables).into_iter().map(weight).collect();
    for step in 0..case.steps {
        for Batch { ids_bt, masked_k, labels_k, .. } in mine(case, step) {
            let named = |what: &str, tensor| (format!("{what}/{step}/{rank}"), tensor);
            given.extend([
                named("ids", ids_bt),
                named("masked", masked_k),
                named("labels", labels_k),
            ]);
        }
    }
    given
}

fn engine(case: &Case, rank: usize) -> Result<(VarStore, Engine<Bert>), BoxError> {
    let registry = trainyard_plugins::registry().add::<DropByShare>();
    let document = Document::parse(Source::text("case.json", case.config.to_string()))?;
    let plan = registry.plan(config::Layers::new(document))?;
    let sizes = BertConfig {
        layers: 4,
        hidden: 32,
        heads: 2,
        vocabulary: VOCABULARY,
        max_positions: TIME,
        dropout: 0.0,
        ..BertConfig::default()
    };
    // Rank 0's weights are everybody's, so the others may begin with what they like.
    tch::manual_seed(1 + rank as i64);
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let model = Bert::new(variables.root(), &sizes, &layers);
    if case.statistics {
        let _ = variables.root().zeros_no_train("statistics", &[1]);
    }
    let engine = plan.engine(model, &variables, &layers)?;
    Ok((variables, engine))
}

fn train(engine: &mut Engine<Bert>, case: &Case, step: u64) -> Result<Report, BoxError> {
    let batches = mine(case, step);
    if !case.three_calls {
        return Ok(engine.step(&batches, |model, batch| loss(model, batch, true))?);
    }
    let mut last = None;
    for batch in &batches {
        let loss = engine.forward(|model| loss(model, batch, true))?;
        engine.backward(&loss)?;
        last = engine.update()?;
    }
    last.ok_or_else(|| "the last update made no report".into())
}

fn loss(model: &Bert, batch: &Batch, train: bool) -> Loss {
    let mean = model.loss(&batch.ids_bt, &batch.masked_k, &batch.labels_k, train);
    let mean = if batch.factor == 1.0 { mean } else { mean * batch.factor };
    Loss::mean(mean, batch.labels_k.size()[0] as u64)
}

/// This process's micro-batches of a step.
fn mine(case: &Case, step: u64) -> Vec<Batch> {
    let World { rank, world_size, .. } = World::from_env().expect("it was read before");
    let share = |micro_batch, share| part(case, step, micro_batch, share);
    match world_size {
        1 if case.shares_are_micro_batches => (0..case.shares).map(|s| share(0, s)).collect(),
        1 => {
            let whole = |m| joined((0..case.shares).map(|s| share(m, s)).collect());
            (0..case.accumulation).map(whole).collect()
        }
        _ => (0..case.accumulation).map(|m| share(m, rank)).collect(),
    }
}

/// One share of a batch: a function of its place alone.
fn part(case: &Case, step: u64, micro_batch: usize, share: usize) -> Batch {
    let number = |place: u64, below: i64| {
        let key = [step, micro_batch as u64, share as u64, place];
        let mixed = key.into_iter().fold(0x9e37_79b9_7f4a_7c15u64, |hash, word| {
            let mixed = (hash ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 29)
        });
        (mixed % below as u64) as i64
    };
    // Some shares have nothing masked at all.
    let masked = match (case.even, share, step) {
        (true, ..) => 4,
        (_, 1, 5) => 0,
        _ => [3, 5, 2][share % 3] + step % 3,
    };
    let row = |from: u64, count: u64, below| -> Vec<i64> {
        (from..from + count).map(|i| number(i, below)).collect()
    };
    let places = (ROWS * TIME) as u64;
    let ids = Tensor::from_slice(&row(0, places, VOCABULARY)).view([ROWS, TIME]);
    let masked_k = (0..masked).map(|i| (i * 5 + number(900, 5) as u64) as i64 % places as i64);
    let overflows = case.overflow_at == Some(step) && share == case.shares - 1;
    Batch {
        ids_bt: ids,
        masked_k: Tensor::from_slice(&masked_k.collect::<Vec<_>>()),
        labels_k: Tensor::from_slice(&row(1000, masked, VOCABULARY)),
        factor: if overflows { 1e30 } else { 1.0 },
    }
}

/// The shares of a micro-batch as one.
fn joined(parts: Vec<Batch>) -> Batch {
    let cat = |tensors: Vec<Tensor>| Tensor::cat(&tensors, 0);
    let masked = parts.iter().enumerate().map(|(i, p)| &p.masked_k + i as i64 * ROWS * TIME);
    Batch {
        masked_k: cat(masked.collect()),
        ids_bt: cat(parts.iter().map(|part| part.ids_bt.shallow_clone()).collect()),
        labels_k: cat(parts.iter().map(|part| part.labels_k.shallow_clone()).collect()),
        factor: parts.iter().map(|part| part.factor).fold(1.0, f64::max),
    }
}

fn report(report: &Report) -> Value {
    json!({
        "loss": report.loss,
        "count": report.count,
        "grad_norm": report.grad_norm,
        "loss_scale": report.loss_scale,
        "skipped": report.skipped,
        "idle_parameters": report.idle_parameters,
        "bytes_sent": report.bytes_sent,
        "layer_calls_run": report.layer_calls.run,
    })
}

/// The section `drop_by_share`: true leaves out another block in each share of a batch, of which a rank
/// has one and a world of one has a micro-batch each.
struct DropByShare {
    rank: Option<usize>,
}

impl Section for DropByShare {
    const KEYS: &'static [&'static str] = &["drop_by_share"];
    type Config = bool;
}

impl PluginSpec for DropByShare {
    fn build(on: &bool, context: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        if *on {
            let World { rank, world_size, .. } = context.run.world;
            parts.plugin(DropByShare { rank: (world_size > 1).then_some(rank) });
        }
        Ok(())
    }
}

impl Plugin for DropByShare {
    fn begin_forward(&mut self, now: Moment) -> Result<Option<Arc<dyn LayerWrap>>, BoxError> {
        let share = self.rank.unwrap_or(now.micro_batch as usize);
        Ok(Some(Arc::new(Without((now.attempt as usize + 2 * share) % 4))))
    }
}

/// Every block but this one.
struct Without(usize);

impl LayerWrap for Without {
    fn layer(&self, call: &LayerCall<'_>, x: &Tensor, next: Next<'_>) -> Result<Branch, BoxError> {
        match call.train && call.block == self.0 {
            true => Ok(Branch::Skipped),
            false => next.run(x),
        }
    }
}
