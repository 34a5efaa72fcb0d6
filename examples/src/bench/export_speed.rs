//! What a program of torch.export costs: a training step, and loading it.
//!
//! The model is that of [`script_speed`](super::script_speed), and PyTorch trains it without a compiler.
use super::arms::plan;
use super::rounds::Patience;
use super::script_speed::{Batch, Exported, Scripted, sections};
use super::setting::Setting;
use super::step_speed::{self, ratio};
use super::{Benchmark, Figure, Target, pld_saving_share};
use serde_json::{Value, json};
use std::path::Path;
use std::slice;
use std::time::Instant;
use tch::Device;
use tch::nn::VarStore;
use tracing::info;
use trainyard::program::Program;
use trainyard::{BoxError, Engine, Layers, Loss};
use trainyard_figures::statistics::median;

pub(super) const EXPORT_STEP_VS_TORCH: Benchmark = Benchmark {
    name: "export_step_vs_torch",
    about: "time of a training step of a BERT of torch.export as a part of the same model's in PyTorch",
    unit: "ratio",
    target: Target::AtMost(0.75),
    run: |setting| against_torch(EXPORT_STEP_VS_TORCH.name, setting, "fp32", json!({})),
};

pub(super) const EXPORT_STEP_VS_TORCH_BF16: Benchmark = Benchmark {
    name: "export_step_vs_torch_bf16",
    about: "the same in bf16, as a part of PyTorch's with autocast",
    unit: "ratio",
    target: Target::AtMost(0.75),
    run: |setting| {
        let sections = json!({ "bf16": { "enabled": true } });
        against_torch(EXPORT_STEP_VS_TORCH_BF16.name, setting, "bf16", sections)
    },
};

pub(super) const EXPORT_STEP_VS_SCRIPT: Benchmark = Benchmark {
    name: "export_step_vs_script",
    about: "the same as a part of the model's as TorchScript, in this program",
    unit: "ratio",
    target: Target::AtMost(1.0),
    run: against_script,
};

pub(super) const EXPORT_LOAD_VS_TORCH: Benchmark = Benchmark {
    name: "export_load_vs_torch",
    about: "time of loading a BERT of torch.export as a part of torch.export.load's",
    unit: "ratio",
    target: Target::AtMost(0.2),
    run: loading,
};

/// Half the width of the 95 % interval at which there have been rounds enough.
const SPREAD: f64 = 0.03;

fn against_torch(
    name: &'static str,
    setting: &Setting,
    precision: &str,
    more: Value,
) -> Result<Figure, BoxError> {
    let setting = step_speed::sizes(setting);
    info!("{name}: the exported BERT, and PyTorch's");
    let exported = Exported::new(&setting, "model.pt2")?;
    let mut peer = exported.peer(precision)?;
    let mut ours = Programmed::new(&exported.path(), more)?;
    let batches: Vec<_> = (0..8).map(|seed| Batch::random(&setting, seed)).collect();
    let step = |number| ours.step(&batches[number % batches.len()]);
    step_speed::in_turn(name, &setting, precision, &mut peer, step)
}

fn against_script(setting: &Setting) -> Result<Figure, BoxError> {
    let name = EXPORT_STEP_VS_SCRIPT.name;
    let setting = step_speed::sizes(setting);
    info!("{name}: exporting a BERT both ways");
    let (program, script) =
        (Exported::new(&setting, "model.pt2")?, Exported::new(&setting, "model.pt")?);
    for exported in [&program, &script] {
        drop(exported.peer("fp32")?);
    }
    let mut program = Programmed::new(&program.path(), json!({}))?;
    let mut script = Scripted::new(&script, json!({}))?;
    let batches: Vec<_> = (0..8).map(|seed| Batch::random(&setting, seed)).collect();
    let round = |number: usize| {
        let batch = &batches[number % batches.len()];
        in_order(number, |side| match side {
            0 => program.step(batch),
            _ => script.step(batch).map(drop),
        })
    };
    let rounds = patience(name, &setting).rounds(round, <[_]>::to_vec, ratio)?;
    let side = |side: usize| median(rounds.all.iter().map(|seconds| seconds[side])) * 1e3;
    let detail = format!(
        "{:.1} ms, TorchScript {:.1} ms; medians of {} steps each, in turns; {} threads{}",
        side(0),
        side(1),
        rounds.all.len(),
        tch::get_num_threads(),
        rounds.noise(),
    );
    let value = ratio(&rounds.counted);
    Ok(Figure { value, interval: rounds.interval, settled: rounds.settled, detail })
}

fn loading(setting: &Setting) -> Result<Figure, BoxError> {
    let name = EXPORT_LOAD_VS_TORCH.name;
    let setting = step_speed::sizes(setting);
    info!("{name}: exporting a BERT");
    let exported = Exported::new(&setting, "model.pt2")?;
    let mut peer = exported.peer("fp32")?;
    let path = exported.path();
    let round = |number: usize| {
        let mut theirs = 0.0;
        let [ours, _] = in_order(number, |side| {
            match side {
                0 => drop(Program::load(&path, &VarStore::new(Device::Cpu))?),
                _ => theirs = median(peer.time("load", 1)?),
            }
            Ok(())
        })?;
        Ok([ours, theirs])
    };
    let rounds = patience(name, &setting).rounds(round, <[_]>::to_vec, ratio)?;
    let side = |side: usize| median(rounds.all.iter().map(|seconds| seconds[side])) * 1e3;
    let detail = format!(
        "{:.1} ms, PyTorch {:.1} ms; medians of {}, in turns; {:.1} MB; {}{}",
        side(0),
        side(1),
        rounds.all.len(),
        path.metadata()?.len() as f64 / 1e6,
        peer.about(),
        rounds.noise(),
    );
    let value = ratio(&rounds.counted);
    Ok(Figure { value, interval: rounds.interval, settled: rounds.settled, detail })
}

fn patience(name: &'static str, setting: &Setting) -> Patience {
    Patience { name, effort: setting.effort, spread: SPREAD, orders: 2 }
}

/// The seconds of each of two sides, of which every second round begins with the other one.
fn in_order(
    number: usize,
    mut run: impl FnMut(usize) -> Result<(), BoxError>,
) -> Result<[f64; 2], BoxError> {
    let mut seconds = [0.0; 2];
    for turn in 0..2 {
        let side = (turn + number) % 2;
        let began = Instant::now();
        run(side)?;
        seconds[side] = began.elapsed().as_secs_f64();
    }
    Ok(seconds)
}

/// A program with an engine.
struct Programmed(Engine<Program>);

impl Programmed {
    fn new(path: &Path, more: Value) -> Result<Self, BoxError> {
        let variables = VarStore::new(Device::Cpu);
        let program = Program::load(path, &variables)?;
        let plan = plan(pld_saving_share::registry(), &sections(more))?;
        Ok(Programmed(plan.engine(program, &variables, &Layers::new())?))
    }

    fn step(&mut self, batch: &Batch) -> Result<(), BoxError> {
        let forward = |program: &Program, batch: &Batch| -> Result<Loss, BoxError> {
            batch.loss(&program.forward(&batch.inputs(), true)?)
        };
        self.0.step(slice::from_ref(batch), forward)?;
        Ok(())
    }
}
