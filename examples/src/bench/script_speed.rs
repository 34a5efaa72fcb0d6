//! What a training step of a model from PyTorch costs.
//!
//! The peer writes a BERT of `transformers` as TorchScript and trains that very model itself, in PyTorch
//! without a compiler; both sides have AdamW by one fused kernel, clip the gradients' norm and read the
//! loss in every step.
use super::arms::{Driven, plan};
use super::peer::{Peer, script_command};
use super::setting::Setting;
use super::{Benchmark, Figure, Target, pld_saving_share, step_speed};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::slice;
use std::time::Instant;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tracing::info;
use trainyard::script::{Outputs, Repeats, Script};
use trainyard::{BoxError, Engine, Layers, Loss, Report};
use trainyard_figures::statistics::{bootstrap, median};
use trainyard_models::BertConfig;

pub(super) const SCRIPT_STEP_VS_TORCH: Benchmark = Benchmark {
    name: "script_step_vs_torch",
    about: "time of a training step of a TorchScript BERT as a part of the same model's in PyTorch",
    unit: "ratio",
    target: Target::AtMost(1.03),
    run: against_torch,
};

pub(super) const SCRIPT_PLD_SAVING_SHARE: Benchmark = Benchmark {
    name: "script_pld_saving_share",
    about: "the same saving by layer dropping, of a TorchScript BERT",
    unit: "ratio",
    target: Target::AtLeast(0.9),
    run: saving_share,
};

pub(super) const SCRIPT_GATES_US: Benchmark = Benchmark {
    name: "script_gates_us",
    about: "time that a step of a TorchScript takes more with 24 layers gated, and all of them kept",
    unit: "us",
    target: Target::AtMost(50.0),
    run: gates,
};

/// The layers of the BERT.
const LAYERS: &str = "model.bert.encoder.layer.*";

/// This BERT guesses every position, so that with a larger one its output would take half of the time.
const SMALL_VOCABULARY: i64 = 1024;

/// Layers of the model on which gates are timed.
const GATED_LAYERS: i64 = 24;

/// Steps in a repetition of one arm, which counts by the fastest.
const STEPS: usize = 20;

fn against_torch(setting: &Setting) -> Result<Figure, BoxError> {
    let name = SCRIPT_STEP_VS_TORCH.name;
    let setting = step_speed::sizes(setting);
    info!("{name}: the exported BERT, and PyTorch's");
    let exported = Exported::new(&setting, "model.pt")?;
    let mut peer = exported.peer("fp32")?;
    let mut ours = Scripted::new(&exported, json!({}))?;
    let batches: Vec<_> = (0..8).map(|seed| Batch::random(&setting, seed)).collect();
    let step = |number| ours.step(&batches[number % batches.len()]).map(drop);
    step_speed::in_turn(name, &setting, "fp32", &mut peer, step)
}

fn saving_share(setting: &Setting) -> Result<Figure, BoxError> {
    let name = SCRIPT_PLD_SAVING_SHARE.name;
    info!("{name}: exporting a BERT");
    let model = BertConfig { vocabulary: SMALL_VOCABULARY, ..setting.model.clone() };
    let setting = &Setting { model, ..setting.clone() };
    let exported = Exported::new(setting, "model.pt")?;
    drop(exported.peer("fp32")?);
    let arm = |sections| Scripted::new(&exported, sections);
    let [off, on, closed] = pld_saving_share::sections();
    let arms = [arm(off)?, arm(on)?, arm(closed)?];
    let batch = |number| Batch::random(setting, number as i64);
    pld_saving_share::measure(name, setting, arms, batch, |arm, batch| arm.step(batch))
}

/// Takes turns, step by step, between three engines of layers that compute next to nothing: without layer
/// calls, with them and no plugin, and with layer dropping that lets all of them through.
fn gates(setting: &Setting) -> Result<Figure, BoxError> {
    let name = SCRIPT_GATES_US.name;
    info!("{name}: exporting {GATED_LAYERS} layers");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.pt");
    let mut export = script_command("script_layers.py", &[text(&path)?, &GATED_LAYERS.to_string()]);
    if !export.status()?.success() {
        return Err("script_layers.py failed; its own words are above".into());
    }
    // One thread: others would have nothing to do, and a busy machine makes libtorch wait for them.
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    let open = json!({ "progressive_layer_drop":
        { "enabled": true, "schedule": "constant", "theta": 1.0 } });
    let layers = ["layer.*".to_owned()];
    let mut arms = [
        engine(&path, &[], json!({}))?,
        engine(&path, &layers, json!({}))?,
        engine(&path, &layers, open)?,
    ];
    let x = Tensor::ones([1], (Kind::Float, Device::Cpu));
    let forward = |script: &Script, x: &Tensor| -> Result<Loss, BoxError> {
        let outputs = script.forward(&[("x", x)], true)?;
        Ok(Loss::mean(outputs.at(0).ok_or("the layers returned nothing")?.shallow_clone(), 1))
    };
    let mut seconds = Vec::new();
    // The first repetition warms up.
    for repetition in 0..=setting.effort.repetitions {
        let mut fastest = [f64::INFINITY; 3];
        for turn in 0..3 * STEPS {
            // Each arm comes after each of the others in turn.
            let arm = if repetition % 2 == 0 { turn % 3 } else { 2 - turn % 3 };
            let began = Instant::now();
            let report = arms[arm].step(slice::from_ref(&x), forward)?;
            fastest[arm] = fastest[arm].min(began.elapsed().as_secs_f64());
            let (run, expected) = (report.layer_calls.run, [0, GATED_LAYERS as u64][arm.min(1)]);
            if run != expected {
                return Err(format!("{run} layers ran, not {expected}").into());
            }
        }
        seconds.push(fastest);
    }
    seconds.remove(0);
    tch::set_num_threads(threads);
    let more = |some: &[[f64; 3]], arm: usize, than: usize| {
        median(some.iter().map(|seconds| seconds[arm] - seconds[than])) * 1e6
    };
    let detail = format!(
        "{:.0} us of it without a plugin; {:.0} us without layer calls; medians over {} \
         repetitions of the fastest of {STEPS} steps",
        more(&seconds, 1, 0),
        median(seconds.iter().map(|seconds| seconds[0])) * 1e6,
        seconds.len(),
    );
    let figure = |some: &[[f64; 3]]| more(some, 2, 0);
    let interval = bootstrap(&seconds, figure);
    Ok(Figure { value: figure(&seconds), interval, settled: true, detail })
}

fn text(path: &Path) -> Result<&str, BoxError> {
    Ok(path.to_str().ok_or("the temporary folder is not in UTF-8")?)
}

/// A BERT that the peer writes.
pub(super) struct Exported {
    folder: TempDir,
    /// `model.pt` is a TorchScript, `model.pt2` a program.
    file: &'static str,
    batch: i64,
    time: i64,
    sizes: Value,
}

impl Exported {
    /// A folder for it: [`Exported::peer`] writes it.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub(super) fn new(setting: &Setting, file: &'static str) -> Result<Self, BoxError> {
        let model = &setting.model;
        let sizes = json!({
            "layers": model.layers, "hidden": model.hidden, "heads": model.heads,
            "vocabulary": model.vocabulary, "length": setting.time, "dropout": model.dropout,
        });
        Ok(Exported {
            folder: tempfile::tempdir()?,
            file,
            batch: setting.batch,
            time: setting.time,
            sizes,
        })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(self.file)
    }

    /// Writes it, and waits to train the same in `precision`, fp32 or bf16.
    ///
    /// # Errors
    /// The peer's.
    pub(super) fn peer(&self, precision: &str) -> Result<Peer, BoxError> {
        let [batch, time, sizes] =
            [self.batch.to_string(), self.time.to_string(), self.sizes.to_string()];
        Peer::start("script_step.py", &[text(&self.path())?, &batch, &time, &sizes, precision])
    }
}

/// Random tokens, 15 % of which are to be predicted.
pub(super) struct Batch {
    /// `[batch, time]`.
    ids_bt: Tensor,
    /// The tokens to predict, -100 elsewhere: `[batch, time]`.
    labels_bt: Tensor,
    masked: u64,
}

impl Batch {
    pub(super) fn random(setting: &Setting, seed: i64) -> Self {
        tch::manual_seed(seed);
        let places = setting.batch * setting.time;
        let masked = (places * 15 / 100).max(1);
        let kind = (Kind::Int64, Device::Cpu);
        let tokens = |count: i64| Tensor::randint(setting.model.vocabulary, [count], kind);
        let mut labels = Tensor::full([places], -100, kind);
        let _ = labels.index_copy_(
            0,
            &Tensor::randperm(places, kind).narrow(0, 0, masked),
            &tokens(masked),
        );
        let size = [setting.batch, setting.time];
        Batch {
            ids_bt: tokens(places).view(size),
            labels_bt: labels.view(size),
            masked: masked as u64,
        }
    }

    /// By the names that the model has for them.
    pub(super) fn inputs(&self) -> [(&str, &Tensor); 2] {
        [("input_ids", &self.ids_bt), ("labels", &self.labels_bt)]
    }

    /// What the model returned, as the loss of this batch.
    ///
    /// # Errors
    /// It returned nothing.
    pub(super) fn loss(&self, outputs: &Outputs) -> Result<Loss, BoxError> {
        let loss = outputs.at(0).ok_or("the BERT returned nothing")?;
        Ok(Loss::mean(loss.shallow_clone(), self.masked))
    }
}

/// An engine of the script at `path`: layer calls for what `patterns` name, and the sections `more`.
///
/// # Errors
/// The script's and the configuration's.
fn engine(path: &Path, patterns: &[String], more: Value) -> Result<Engine<Script>, BoxError> {
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let script = Script::load(path, &variables, &layers, patterns, Repeats::Refused)?;
    let sections = sections(more);
    Ok(plan(pld_saving_share::registry(), &sections)?.engine(script, &variables, &layers)?)
}

/// Those of every arm, and `more`.
pub(super) fn sections(more: Value) -> Value {
    let mut sections = Driven::sections(more);
    // They go by names of the examples' own BERT.
    sections["optimizer"]["no_decay"] = json!([]);
    sections
}

/// The exported BERT with an engine.
pub(super) struct Scripted(Engine<Script>);

impl Scripted {
    pub(super) fn new(exported: &Exported, more: Value) -> Result<Self, BoxError> {
        Ok(Scripted(engine(&exported.path(), &[LAYERS.to_owned()], more)?))
    }

    pub(super) fn step(&mut self, batch: &Batch) -> Result<Report, BoxError> {
        let forward = |script: &Script, batch: &Batch| -> Result<Loss, BoxError> {
            batch.loss(&script.forward(&batch.inputs(), true)?)
        };
        Ok(self.0.step(slice::from_ref(batch), forward)?)
    }
}
