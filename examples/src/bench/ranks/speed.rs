//! What two ranks take beside PyTorch's DistributedDataParallel, and beside two processes that are not
//! connected.
//!
//! Every rank trains the BERT of the examples on random tokens in float32: AdamW by one fused kernel, the
//! gradients' norm clipped, the loss read in every step.
use super::super::setting::Setting;
use super::super::{Benchmark, Figure, Target};
use super::team::{Team, Ties};
use super::{about, order, patience, sizes};
use serde_json::json;
use trainyard::BoxError;
use trainyard_figures::statistics::median;

pub const DDP_VS_TORCH: Benchmark = Benchmark {
    name: "ddp_vs_torch",
    about: "time of a step on two ranks as a part of PyTorch's DistributedDataParallel's",
    unit: "ratio",
    target: Target::AtMost(1.03),
    run: |setting| {
        let setting = sizes(setting);
        let ours = Team::training(2, Ties::Connected, &setting, json!({}))?;
        let theirs = Team::torch(2, &setting, "fp32")?;
        let name = theirs.about().to_owned();
        compare("ddp_vs_torch", &setting, [ours, theirs], &name)
    },
};

pub const DDP_VS_SINGLE: Benchmark = Benchmark {
    name: "ddp_vs_single",
    about: "time of a step on two ranks as a part of two unconnected processes' side by side",
    unit: "ratio",
    target: Target::AtMost(1.1),
    run: |setting| {
        let setting = sizes(setting);
        let connected = Team::training(2, Ties::Connected, &setting, json!({}))?;
        let alone = Team::training(2, Ties::Alone, &setting, json!({}))?;
        compare("ddp_vs_single", &setting, [connected, alone], "unconnected")
    },
};

/// Steps of one side in its turn, which counts by their mean.
const STEPS: usize = 2;

/// Half the width of the 95 % interval that a value may have.
const SPREAD: f64 = 0.015;

fn compare(
    name: &'static str,
    setting: &Setting,
    mut teams: [Team; 2],
    other: &str,
) -> Result<Figure, BoxError> {
    let mut bytes = 0.0;
    let round = |number| {
        let mut seconds = [0.0; 2];
        for arm in order(2, number) {
            let turn = teams[arm].step(STEPS)?;
            seconds[arm] = turn.seconds;
            bytes = turn.bytes.max(bytes);
        }
        Ok(seconds)
    };
    // Of neighbours, which had the same weather.
    let ratio = |some: &[[f64; 2]]| median(some.iter().map(|[ours, theirs]| ours / theirs));
    let patience = patience(name, setting, SPREAD, 2);
    let found = patience.rounds(round, <[_]>::to_vec, ratio)?;
    let side = |side: usize| 1e3 * median(found.all.iter().map(|seconds| seconds[side]));
    let detail = format!(
        "{:.1} ms, {other} {:.1} ms; medians of {} turns of {STEPS} steps each; {}; a rank gives {:.1} MB a \
         step to be summed{}",
        side(0),
        side(1),
        found.all.len(),
        about(setting),
        bytes / 1e6,
        found.noise(),
    );
    let value = ratio(&found.counted);
    Ok(Figure { value, interval: found.interval, settled: found.settled, detail })
}
