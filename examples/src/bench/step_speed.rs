//! What a training step costs beside the same model in PyTorch.
//!
//! Both sides train the BERT of the examples on random tokens: AdamW by one fused kernel, the gradients'
//! norm clipped, the loss read in every step. PyTorch has its own way of everything, `torch.autocast`
//! included; what the model computes is the same.
use super::arms::{Batch, Driven};
use super::peer::Peer;
use super::rounds::Patience;
use super::setting::Setting;
use super::{Benchmark, Figure, Target};
use serde_json::{Value, json};
use std::time::Instant;
use tracing::info;
use trainyard::BoxError;
use trainyard_figures::statistics::median;
use trainyard_models::BertConfig;

pub(super) const STEP_VS_TORCH_FP32: Benchmark = Benchmark {
    name: "step_vs_torch_fp32",
    about: "time of a training step in float32 as a part of PyTorch's",
    unit: "ratio",
    target: Target::AtMost(1.0),
    run: |setting| compare(STEP_VS_TORCH_FP32.name, setting, "fp32", json!({})),
};

pub(super) const STEP_VS_TORCH_BF16: Benchmark = Benchmark {
    name: "step_vs_torch_bf16",
    about: "time of a training step in bf16 as a part of PyTorch's with autocast",
    unit: "ratio",
    target: Target::AtMost(0.95),
    run: |setting| {
        let sections = json!({ "bf16": { "enabled": true } });
        compare(STEP_VS_TORCH_BF16.name, setting, "bf16", sections)
    },
};

/// Half the width of the 95 % interval at which there have been rounds enough.
const SPREAD: f64 = 0.03;

/// 12 layers of 256 on 16 sequences of 128 tokens, of a vocabulary small enough for the layers to count.
pub(super) fn sizes(setting: &Setting) -> Setting {
    if *setting == Setting::quick() {
        return setting.clone();
    }
    let model = BertConfig { vocabulary: 8192, ..BertConfig::default() };
    Setting { model, batch: 16, time: 128, ..setting.clone() }
}

fn compare(
    name: &'static str,
    setting: &Setting,
    precision: &str,
    sections: Value,
) -> Result<Figure, BoxError> {
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
    let step = |number| ours.step(&batches[number % batches.len()]).map(drop);
    in_turn(name, &setting, precision, &mut peer, step)
}

/// The time of our `step`, which is given its number, as a part of the `peer`'s, from steps in turns.
///
/// # Errors
/// Those of either.
pub(super) fn in_turn(
    name: &'static str,
    setting: &Setting,
    precision: &str,
    peer: &mut Peer,
    mut step: impl FnMut(usize) -> Result<(), BoxError>,
) -> Result<Figure, BoxError> {
    let round = |number| {
        let mut seconds = [0.0; 2];
        for turn in 0..2 {
            let side = (turn + number) % 2;
            seconds[side] = match side {
                0 => {
                    let began = Instant::now();
                    step(number)?;
                    began.elapsed().as_secs_f64()
                }
                _ => median(peer.time("step", 1)?),
            };
        }
        Ok(seconds)
    };
    let patience = Patience { name, effort: setting.effort, spread: SPREAD, orders: 2 };
    // Every round counts: the median bears those in which the machine was busy.
    let rounds = patience.rounds(round, <[_]>::to_vec, ratio)?;
    let side = |side: usize| median(rounds.all.iter().map(|seconds| seconds[side])) * 1e3;
    let detail = format!(
        "{:.1} ms, PyTorch {:.1} ms; medians of {} steps each, in turns; {} layers of {}, batch {} of {} \
         tokens, {precision}; {} threads each; {}{}",
        side(0),
        side(1),
        rounds.all.len(),
        setting.model.layers,
        setting.model.hidden,
        setting.batch,
        setting.time,
        tch::get_num_threads(),
        peer.about(),
        rounds.noise(),
    );
    let value = ratio(&rounds.counted);
    Ok(Figure { value, interval: rounds.interval, settled: rounds.settled, detail })
}

/// The median of the first side's time as a part of the other's in the same round: neighbours had the same weather.
pub(super) fn ratio(rounds: &[[f64; 2]]) -> f64 {
    median(rounds.iter().map(|[ours, theirs]| ours / theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_round_moves_the_ratio_little() {
        // Bad weather for both in the second, and a step of ours that was held up in the last.
        assert_eq!(ratio(&[[0.5, 1.0], [3.0, 4.0], [1.0, 1.0], [0.5, 1.0], [9.0, 1.0]]), 0.75);
    }
}
