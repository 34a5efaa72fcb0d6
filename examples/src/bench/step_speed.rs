//! What a training step costs beside the same model in PyTorch.
//!
//! Both sides train the BERT of the examples on random tokens: AdamW by one fused kernel, the gradients'
//! norm clipped, the loss read in every step. PyTorch has its own way of everything, `torch.autocast`
//! included; what the model computes is the same.
use super::arms::{Batch, Driven, WARM_UP};
use super::peer::Peer;
use super::setting::Setting;
use super::{Benchmark, Figure, Target};
use crate::BertConfig;
use crate::statistics::{bootstrap, median};
use serde_json::{Value, json};
use std::time::Instant;
use tracing::info;
use trainyard::BoxError;

pub(super) const STEP_VS_TORCH_FP32: Benchmark = Benchmark {
    name: "step_vs_torch_fp32",
    about: "time of a training step in float32 as a part of PyTorch's",
    unit: "ratio",
    target: Target::AtMost(1.0),
    run: |setting| compare(setting, "fp32", json!({})),
};

pub(super) const STEP_VS_TORCH_BF16: Benchmark = Benchmark {
    name: "step_vs_torch_bf16",
    about: "time of a training step in bf16 as a part of PyTorch's with autocast",
    unit: "ratio",
    target: Target::AtMost(0.95),
    run: |setting| compare(setting, "bf16", json!({ "bf16": { "enabled": true } })),
};

/// Steps of one side in its turn, which counts by their median.
const STEPS: usize = 3;

/// Half the width of the 95 % interval that a value may have.
const SPREAD: f64 = 0.03;

/// 12 layers of 256 on 16 sequences of 128 tokens, of a vocabulary small enough for the layers to count.
fn sizes(setting: &Setting) -> Setting {
    if *setting == Setting::quick() {
        return setting.clone();
    }
    let model = BertConfig { vocabulary: 8192, ..BertConfig::default() };
    Setting { model, batch: 16, time: 128, effort: setting.effort }
}

fn compare(setting: &Setting, precision: &str, sections: Value) -> Result<Figure, BoxError> {
    let setting = sizes(setting);
    info!("a step in {precision}, ours and PyTorch's");
    let model = &setting.model;
    let theirs = json!({
        "layers": model.layers, "hidden": model.hidden, "heads": model.heads,
        "vocabulary": model.vocabulary, "max_positions": model.max_positions,
        "dropout": model.dropout,
    });
    let [batch, time] = [setting.batch, setting.time].map(|size| size.to_string());
    let arguments = [precision, &batch, &time, &theirs.to_string()];
    let mut peer = Peer::start("bert_step.py", &arguments)?;
    let mut ours = Driven::new(trainyard_plugins::registry(), &setting, sections)?;
    let batches: Vec<_> = (0..8).map(|seed| Batch::random(&setting, seed)).collect();
    let mut batches = batches.iter().cycle();
    let mut rounds = Vec::new();
    for round in 0..WARM_UP + setting.effort.repetitions.clamp(3, 30) {
        let mut seconds = [0.0; 2];
        for turn in 0..2 {
            seconds[(turn + round) % 2] = match (turn + round) % 2 {
                0 => {
                    let mut times = Vec::new();
                    for batch in batches.by_ref().take(STEPS) {
                        let began = Instant::now();
                        ours.step(batch)?;
                        times.push(began.elapsed().as_secs_f64());
                    }
                    median(times)
                }
                _ => median(peer.time("step", STEPS)?),
            };
        }
        if round >= WARM_UP {
            rounds.push(seconds);
        }
    }
    let side = |some: &[[f64; 2]], side: usize| median(some.iter().map(|s| s[side]));
    // Of neighbours, which had the same weather.
    let ratio = |some: &[[f64; 2]]| median(some.iter().map(|[ours, theirs]| ours / theirs));
    let (value, interval) = (ratio(&rounds), bootstrap(&rounds, ratio));
    let settled = (interval.1 - interval.0) / 2.0 < SPREAD;
    let noise = if settled { "" } else { "; TOO NOISY: it takes a quieter machine" };
    let detail = format!(
        "{:.1} ms, PyTorch {:.1} ms; medians of {} turns of {STEPS} steps each; {} layers of {}, batch \
         {} of {} tokens; {} threads each; {}{noise}",
        side(&rounds, 0) * 1e3,
        side(&rounds, 1) * 1e3,
        rounds.len(),
        model.layers,
        model.hidden,
        setting.batch,
        setting.time,
        tch::get_num_threads(),
        peer.about(),
    );
    Ok(Figure { value, interval, settled, detail })
}
