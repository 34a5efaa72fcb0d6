//! How much of the time that layer dropping promises to save it saves.
//!
//! Let s be the share of a full step's time that goes when every layer is skipped. Dropping then promises
//! to save s (1 - realised depth / L), with the depth that was drawn in the timed steps, and it saves 1
//! minus the ratio of the mean step times. Three engines on the same batches take turns: without dropping,
//! with theta held at 0.5, and with every layer skipped, so that a noisy machine hits all three.
use super::arms::{Batch, Driven};
use super::rounds::{Patience, Rounds};
use super::setting::Setting;
use super::{Benchmark, Figure, Target};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use tch::Tensor;
use trainyard::{
    BoxError, Branch, BuildContext, LayerCall, LayerWrap, Moment, Next, Parts, Plugin, PluginSpec,
    Registry, Report, Section,
};
use trainyard_figures::statistics::{mean, median};
use trainyard_plugins::progressive_layer_drop::promise::promised;

pub(super) const BENCHMARK: Benchmark = Benchmark {
    name: "pld_saving_share",
    about: "time that layer dropping at theta 0.5 saves, as a part of what it promises to save",
    unit: "ratio",
    target: Target::AtLeast(0.95),
    run,
};

/// Half the width of the 95 % interval at which there have been rounds enough.
const SPREAD: f64 = 0.05;

/// Orders in which the arms take their turns, round after round.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0], [1, 0, 2], [0, 2, 1]];

/// The steps of one round, which share the state of the machine.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Seconds: without dropping, with it, with every layer skipped.
    seconds: [f64; 3],
    /// Layers that ran with dropping.
    depth: f64,
}

/// The figure and what it is made of, from means over rounds.
#[derive(Debug, Clone, Copy)]
struct Share {
    seconds: [f64; 3],
    depth: f64,
    /// Share of the time that goes when every layer is skipped.
    gateable: f64,
    saving: f64,
    promised: f64,
    share: f64,
}

impl Share {
    fn of(rounds: &[Round], layers: usize) -> Share {
        let seconds = [0, 1, 2].map(|arm| mean(rounds.iter().map(|round| round.seconds[arm])));
        let depth = mean(rounds.iter().map(|round| round.depth));
        let [off, on, closed] = seconds;
        let (gateable, saving) = (1.0 - closed / off, 1.0 - on / off);
        let promised = promised(gateable, depth, layers);
        Share { seconds, depth, gateable, saving, promised, share: saving / promised }
    }
}

fn run(setting: &Setting) -> Result<Figure, BoxError> {
    let [off, on, closed] = sections();
    let arm = |sections| Driven::new(registry(), setting, sections);
    let arms = [arm(off)?, arm(on)?, arm(closed)?];
    let batch = |number| Batch::random(setting, number as i64);
    measure(BENCHMARK.name, setting, arms, batch, |arm, batch| arm.step(batch))
}

/// The figure from three engines, made of [`sections`] in their order.
///
/// # Errors
/// Those of a step.
pub(super) fn measure<A, B>(
    name: &'static str,
    setting: &Setting,
    mut arms: [A; 3],
    batch: impl Fn(usize) -> B,
    step: impl Fn(&mut A, &B) -> Result<Report, BoxError>,
) -> Result<Figure, BoxError> {
    let layers = setting.model.layers as usize;
    let share = |rounds: &[Round]| Share::of(rounds, layers).share;
    let patience = Patience { name, effort: setting.effort, spread: SPREAD, orders: ORDERS.len() };
    let round = |number| {
        let batch = batch(number);
        round(number, |arm| step(&mut arms[arm], &batch))
    };
    let rounds = patience.rounds(round, undisturbed, share)?;
    let found = Share::of(&rounds.counted, layers);
    let [off, on, closed] = found.seconds.map(|s| s * 1e3);
    let detail = format!(
        "{off:.1} ms off, {on:.1} ms on, {closed:.1} ms with every layer skipped (s = {:.3}); saved \
         {:.4} of {:.4} promised at realised depth {:.2} of {layers}; means of {} rounds, without {} \
         in which the machine was busy (with them {:.3}); {} threads{}",
        found.gateable,
        found.saving,
        found.promised,
        found.depth,
        rounds.counted.len(),
        rounds.all.len() - rounds.counted.len(),
        share(&rounds.all),
        tch::get_num_threads(),
        rounds.noise(),
    );
    let Rounds { interval, settled, .. } = rounds;
    Ok(Figure { value: found.share, interval, settled, detail })
}

/// The rounds that took no longer than 1.25 of the median one. The depths drawn alone make a round of
/// three steps take at most 1.15 of it; which arm was held up makes no difference, so none is favoured.
fn undisturbed(rounds: &[Round]) -> Vec<Round> {
    let total = |round: &Round| round.seconds.iter().sum::<f64>();
    let most = 1.25 * median(rounds.iter().map(total));
    rounds.iter().filter(|round| total(round) <= most).copied().collect()
}

/// The plugins, and [`SkipAll`].
pub(super) fn registry() -> Registry {
    trainyard_plugins::registry().add::<SkipAll>()
}

/// Sections without dropping, with it, and with every layer skipped.
pub(super) fn sections() -> [Value; 3] {
    let dropping = json!({ "enabled": true, "schedule": "constant", "theta": 0.5 });
    [json!({}), json!({ "progressive_layer_drop": dropping }), json!({ "skip_all": true })]
}

/// One step of each arm, in another order from round to round.
fn round(
    number: usize,
    mut step: impl FnMut(usize) -> Result<Report, BoxError>,
) -> Result<Round, BoxError> {
    let mut seconds = [0.0; 3];
    let mut depth = None;
    for arm in ORDERS[number % ORDERS.len()] {
        let began = Instant::now();
        let Report { metrics, layer_calls, .. } = step(arm)?;
        seconds[arm] = began.elapsed().as_secs_f64();
        match (arm, layer_calls.run) {
            (0, run) if run < layer_calls.offered => {
                return Err("a layer was skipped, and none should".into());
            }
            (1, _) => depth = metrics.get("realised_depth").copied(),
            (2, 1..) => return Err("a layer ran, and none should".into()),
            _ => {}
        }
    }
    Ok(Round { seconds, depth: depth.ok_or("layer dropping reported no realised depth")? })
}

/// The section `skip_all`: true skips every layer in training.
struct SkipAll;

impl Section for SkipAll {
    const KEYS: &'static [&'static str] = &["skip_all"];
    type Config = bool;
}

impl PluginSpec for SkipAll {
    fn build(on: &bool, _: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        if *on {
            parts.plugin(SkipAll);
        }
        Ok(())
    }
}

impl Plugin for SkipAll {
    fn begin_forward(&mut self, _: Moment) -> Result<Option<Arc<dyn LayerWrap>>, BoxError> {
        Ok(Some(Arc::new(SkipAll)))
    }
}

impl LayerWrap for SkipAll {
    fn layer(&self, _: &LayerCall<'_>, _: &Tensor, _: Next<'_>) -> Result<Branch, BoxError> {
        Ok(Branch::Skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard_figures::statistics::bootstrap;

    /// Rounds of a machine where a step of d of 12 layers takes 20 + 80 d / 12 ms, and a layer that runs
    /// under dropping `gate` ms more, all in a round slowed by the same factor.
    fn rounds(gate: f64) -> Vec<Round> {
        let depths = [7.0, 8.0, 9.0, 12.0, 9.0, 10.0, 6.0, 9.0];
        let round = |(number, depth): (usize, f64)| {
            let slow = 1.0 + number as f64 % 3.0 / 10.0;
            let on = 20.0 + (80.0 / 12.0 + gate) * depth;
            Round { seconds: [100.0, on, 20.0].map(|ms| slow * ms / 1e3), depth }
        };
        depths.into_iter().enumerate().map(round).collect()
    }

    #[test]
    fn a_gate_that_costs_nothing_keeps_the_promise() {
        // Without the slow rounds, whose depths differ from the others'.
        let even: Vec<_> = rounds(0.0).into_iter().step_by(3).collect();
        let found = Share::of(&even, 12);
        assert!((found.gateable - 0.8).abs() < 1e-12);
        assert!((found.promised - 0.8 * (1.0 - found.depth / 12.0)).abs() < 1e-12);
        assert!((found.share - 1.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn a_gate_that_costs_something_does_not() {
        let even = |gate| rounds(gate).into_iter().step_by(3).collect::<Vec<_>>();
        let found = Share::of(&even(0.5), 12);
        let expected = 1.0 - 0.5 * found.depth / (100.0 * found.promised);
        assert!((found.share - expected).abs() < 1e-12 && found.share < 0.85, "{found:?}");
    }

    /// One step of one arm took long: its round goes, whichever arm it was.
    #[test]
    fn disturbed_rounds_do_not_count() {
        let quiet: Vec<_> = rounds(0.0).into_iter().step_by(3).collect();
        for arm in 0..3 {
            let mut some = [quiet.clone(), quiet.clone()].concat();
            some[1].seconds[arm] += 0.5;
            let kept = undisturbed(&some);
            assert_eq!(kept.len(), some.len() - 1);
            assert!((Share::of(&kept, 12).share - 1.0).abs() < 1e-12);
        }
        assert_eq!(undisturbed(&quiet).len(), quiet.len(), "depths alone disturb no round");
    }

    #[test]
    fn the_interval_narrows_with_the_depth_known() {
        let rounds = rounds(0.0);
        let width = |(low, high): (f64, f64)| high - low;
        let share = width(bootstrap(&rounds, |some| Share::of(some, 12).share));
        let saving = width(bootstrap(&rounds, |some| Share::of(some, 12).saving));
        // The saving moves with the draw, its share of the promise only with the machine.
        assert!(share < 0.5 * saving / 0.2, "{share} and {saving}");
    }
}
