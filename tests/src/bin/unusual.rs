//! One rank of the tests of unusual tensors: trains [`Unusual`], or a script, on its share of made-up samples, case by
//! case, and writes what came out.
//!
//! Called with a file of cases (a JSON list of [`Case`]) and a folder, in which it makes for each case `NAME.RANK.npz`
//! (parameters and real buffers) and `NAME.RANK.json` (the reports, and then the evaluation).
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainyard::config::{self, Document, Source};
use trainyard::script::{Repeats, Script};
use trainyard::{BoxError, Engine, Layers, Loss, Plan, Report, World};
use trainyard_tests::unusual::{Layout, Unusual, buffers};

/// Parts that every batch has; a world of one takes both.
const SHARES: usize = 2;
const STEPS: u64 = 4;
const MICRO_BATCHES: u64 = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    config: Value,
    #[serde(default)]
    layout: Layout,
    #[serde(default)]
    double: bool,
    #[serde(default)]
    sparse: bool,
    /// With buffers of every kind.
    #[serde(default)]
    buffers: bool,
    /// Steps and shares that count nothing.
    #[serde(default)]
    uncounted: Vec<(u64, usize)>,
    /// A TorchScript file in place of [`Unusual`], with its inputs in the `.npz` beside it.
    script: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [cases, folder] => run(Path::new(cases), Path::new(folder)),
        _ => Err("unusual CASES FOLDER".into()),
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
        let World { rank, world_size, .. } = World::from_env()?;
        let document = Document::parse(Source::text("case.json", case.config.to_string()))?;
        let plan = trainyard_plugins::registry().plan(config::Layers::new(document))?;
        let variables = VarStore::new(Device::Cpu);
        let reports = match &case.script {
            Some(path) => script(path, &plan, &variables, rank)?,
            None => unusual(&case, &plan, &variables, (rank, world_size))?,
        };
        let written = |kind: Kind| !matches!(kind, Kind::ComplexFloat | Kind::BFloat16);
        let mut found: Vec<_> = variables.variables().into_iter().collect();
        found.retain(|(_, tensor)| written(tensor.kind()) && tensor.numel() > 0);
        if let Some(complex) = variables.variables().get("complex") {
            found.push(("complex".to_owned(), complex.view_as_real()));
        }
        let found: Vec<_> = found
            .into_iter()
            .map(|(name, tensor)| (name, tensor.detach().contiguous().to_kind(Kind::Double)))
            .collect();
        let path = |end: &str| folder.join(format!("{}.{rank}.{end}", case.name));
        Tensor::write_npz(&found, path("npz"))?;
        std::fs::write(path("json"), Value::from(reports).to_string())?;
    }
    Ok(())
}

fn unusual(
    case: &Case,
    plan: &Plan,
    variables: &VarStore,
    (rank, world_size): (usize, usize),
) -> Result<Vec<Value>, BoxError> {
    let layers = Layers::new();
    let kind = if case.double { Kind::Double } else { Kind::Float };
    // Rank 0's weights are everybody's, so the others may begin with what they like.
    let model = Unusual::new(&variables.root(), 1 + rank as i64, (case.layout, kind), case.sparse);
    if case.buffers {
        buffers(&variables.root(), 1 + rank as i64);
    }
    let mut engine = plan.engine(model, variables, &layers)?;
    let part = |step: u64, micro_batch: u64, share: usize| {
        let place = (step * MICRO_BATCHES + micro_batch) as i64 * SHARES as i64 + share as i64;
        (Unusual::samples(3, place, kind), !case.uncounted.contains(&(step, share)))
    };
    let mine = |step: u64| -> Vec<_> {
        let of = |micro_batch| match world_size {
            1 => {
                let [(a, counts_a), (b, counts_b)] =
                    [0, 1].map(|share| part(step, micro_batch, share));
                match (counts_a, counts_b) {
                    (true, false) => (a, true),
                    (false, true) => (b, true),
                    (both, _) => (Unusual::joined(&a, &b), both),
                }
            }
            _ => part(step, micro_batch, rank),
        };
        (0..MICRO_BATCHES).map(of).collect()
    };
    let mut reports = Vec::new();
    for step in 0..STEPS {
        let report =
            engine.step(&mine(step), |model, (samples, counted)| model.loss(samples, *counted))?;
        reports.push(line(&report));
    }
    for (held_out, counted) in [(mine(99), true), (mine(99), false)] {
        let found =
            engine.evaluate(&held_out, |model, (samples, _)| model.loss(samples, counted))?;
        reports.push(json!({ "evaluation": found.measured(), "count": found.count }));
    }
    Ok(reports)
}

/// Each rank's inputs are its own: statistics differ until the ranks evaluate.
fn script(
    path: &Path,
    plan: &Plan,
    variables: &VarStore,
    rank: usize,
) -> Result<Vec<Value>, BoxError> {
    let layers = Layers::new();
    let script = Script::load(path, variables, &layers, &[], Repeats::Refused)?;
    let mut engine: Engine<Script> = plan.engine(script, variables, &layers)?;
    let inputs = Tensor::read_npz(path.with_extension("npz"))?.into_iter();
    let inputs =
        inputs.filter_map(|(name, tensor)| Some((name.strip_prefix("input/")?.to_owned(), tensor)));
    let own = |(name, tensor): (String, Tensor)| match tensor.is_floating_point() {
        true => (name, tensor * (1.0 + rank as f64)),
        false => (name, tensor),
    };
    let inputs: Vec<_> = inputs.map(own).collect();
    let loss = |script: &Script, train: bool| -> Result<Loss, BoxError> {
        let outputs = script.forward(&inputs, train)?;
        Ok(Loss::mean(outputs.at(0).ok_or("no output")?.shallow_clone(), 1))
    };
    let mut reports = Vec::new();
    for _ in 0..STEPS {
        reports.push(line(&engine.step(&[(), ()], |script, ()| loss(script, true))?));
    }
    let found = engine.evaluate([()], |script, ()| loss(script, false))?;
    reports.push(json!({ "evaluation": found.measured(), "count": found.count }));
    Ok(reports)
}

fn line(report: &Report) -> Value {
    json!({
        "step": report.step,
        "loss": report.loss,
        "count": report.count,
        "skipped": report.skipped,
        "skip_reason": report.skip_reason.map(trainyard::Skipped::name),
    })
}
