//! How far the simulation of many ranks is from a few real ones.
//!
//! In each round unconnected ranks, as many side by side as the world has, tell what the parts of a step
//! take, and connected ones what an exchange takes; worlds of two and three ranks make steps. What the
//! simulation says from the former is held to the latter. With gates it simulates the very steps that were
//! made.
use super::super::{Benchmark, Figure, Target};
use super::team::{Team, Ties};
use super::worker::Job;
use super::{about, order, patience, sizes};
use crate::bench::Setting;
use serde_json::{Value, json};
use std::thread::available_parallelism;
use tch::Device;
use tch::nn::VarStore;
use trainyard::{Averaging, BlockInfo, BoxError, Layers};
use trainyard_figures::scaling::{
    Dropping, Exchanged, Figures, Link, Pass, Scenario, Unit, layout, predict,
};
use trainyard_figures::statistics::median;
use trainyard_models::Bert;
use trainyard_plugins::progressive_layer_drop::config::{
    Config, Course, Depth, Ranks, Redraw, Unit as GateUnit,
};
use trainyard_plugins::progressive_layer_drop::gates::Law;
use trainyard_plugins::progressive_layer_drop::schedule::Theta;
use trainyard_plugins::progressive_layer_drop::sites::Sites;

pub const PLAN_ERROR: Benchmark = Benchmark {
    name: "plan_error",
    about: "largest relative error of the step times that the simulation predicts for 2 and 3 ranks",
    unit: "ratio",
    target: Target::AtMost(0.15),
    run,
};

/// Half the width of the 95 % interval at which there have been rounds enough.
const SPREAD: f64 = 0.03;

/// Steps of a world in its turn.
const STEPS: usize = 2;

/// Sizes of the worlds.
const WORLDS: [usize; 2] = [2, 3];

const SEED: u64 = 42;
const THETA: f64 = 0.5;

/// A world whose steps are predicted.
struct Case {
    name: &'static str,
    ranks: u32,
    bucket_elements: u64,
    gates: Option<Ranks>,
}

const CASES: [Case; 4] = [
    Case { name: "2 ranks", ranks: 2, bucket_elements: DEFAULT, gates: None },
    Case { name: "2 ranks in small buckets", ranks: 2, bucket_elements: 800_000, gates: None },
    Case {
        name: "2 ranks with independent gates",
        ranks: 2,
        bucket_elements: DEFAULT,
        gates: Some(Ranks::Independent),
    },
    Case { name: "3 ranks", ranks: 3, bucket_elements: DEFAULT, gates: None },
];

const DEFAULT: u64 = Averaging::BUCKET_ELEMENTS as u64;

/// Seconds of a step, predicted and measured, of each case.
type Round = [[f64; 2]; CASES.len()];

fn run(setting: &Setting) -> Result<Figure, BoxError> {
    let setting = sizes(setting);
    let (units, sites) = model(&setting)?;
    let Setting { model, batch, time, .. } = setting.clone();
    let profile = Job::Profile { model, batch, time };
    let mut beside = Vec::new();
    for ranks in WORLDS {
        let exchange = Team::of(ranks, Ties::Connected, &Job::Exchange)?;
        beside.push((ranks, Team::of(ranks, Ties::Alone, &profile)?, exchange));
    }
    let mut worlds = Vec::new();
    for Case { ranks, bucket_elements, gates, .. } in &CASES {
        let sections = sections(*bucket_elements, *gates);
        worlds.push(Team::training(*ranks as usize, Ties::Connected, &setting, sections)?);
    }
    let mut links = Vec::new();
    let round = |number| {
        let mut parts = Vec::new();
        for (ranks, profile, exchange) in &mut beside {
            let link = link(&exchange.ask("exchange", 1)?)?;
            let pass = pass(&profile.ask("pass", 1)?, units.len())?;
            let figures = Figures::new(String::new(), batch as u64, &units, &pass, Some(link));
            parts.push((*ranks, figures, link));
        }
        let mut round = Round::default();
        for arm in order(CASES.len(), number) {
            let before = worlds[arm].steps();
            let measured = worlds[arm].step(STEPS)?.seconds;
            let attempts = before..worlds[arm].steps();
            let case = &CASES[arm];
            let (_, figures, link) = parts
                .iter()
                .find(|(ranks, ..)| *ranks == case.ranks as usize)
                .ok_or("a case has a world that is not measured")?;
            let scenario = scenario(case, &sites, *link, attempts)?;
            round[arm] = [predict(figures, &scenario).seconds, measured];
        }
        links = parts.iter().map(|(ranks, _, link)| (*ranks, *link)).collect();
        Ok(round)
    };
    let patience = patience(PLAN_ERROR.name, &setting, SPREAD, CASES.len());
    let found = patience.rounds(round, <[_]>::to_vec, largest)?;
    let of = |arm: usize, side: usize| median(found.all.iter().map(|round| round[arm][side]));
    let cases = CASES.iter().enumerate().map(|(arm, case)| {
        format!(
            "{} {:.1} ms, predicted {:.1} ({:+.1} %)",
            case.name,
            1e3 * of(arm, 1),
            1e3 * of(arm, 0),
            100.0 * error(&found.all, arm),
        )
    });
    let links = links.iter().map(|(ranks, link)| {
        format!(
            "{:.2} GB/s and {:.0} us a message between {ranks} ranks, of which the processor is busy {:.0} %",
            link.bytes_per_second / 1e9,
            1e6 * link.hop_seconds,
            1e2 * link.bytes_per_second * link.processor_seconds_per_byte,
        )
    });
    let detail = format!(
        "{}; medians of {} rounds of {STEPS} steps; {}, {} processors; {}{}",
        cases.collect::<Vec<_>>().join("; "),
        found.all.len(),
        about(&setting),
        available_parallelism().map_or(1, usize::from),
        links.collect::<Vec<_>>().join("; "),
        found.noise(),
    );
    let value = largest(&found.counted);
    Ok(Figure { value, interval: found.interval, settled: found.settled, detail })
}

/// The largest of the cases' errors, without its sign.
fn largest(rounds: &[Round]) -> f64 {
    (0..CASES.len()).map(|arm| error(rounds, arm).abs()).fold(0.0, f64::max)
}

/// By how much the prediction of a case is too long, in the median of rounds.
fn error(rounds: &[Round], arm: usize) -> f64 {
    median(rounds.iter().map(|round| round[arm][0] / round[arm][1])) - 1.0
}

fn sections(bucket_elements: u64, gates: Option<Ranks>) -> Value {
    let mut sections = json!({ "distributed": { "reduce_bucket_size": bucket_elements } });
    if let Some(ranks) = gates {
        sections["progressive_layer_drop"] = json!({
            "enabled": true, "schedule": "constant", "theta": THETA, "ranks": ranks, "seed": SEED,
        });
    }
    sections
}

/// The model's units, without times, and what gates are drawn for.
fn model(setting: &Setting) -> Result<(Vec<Unit>, Sites), BoxError> {
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let _model = Bert::new(variables.root(), &setting.model, &layers);
    let blocks: Vec<BlockInfo> = layers.blocks();
    Ok((layout(&variables, &layers).0, Sites::new(&blocks, None, GateUnit::Block)?))
}

fn scenario<'a>(
    case: &Case,
    sites: &'a Sites,
    link: Link,
    attempts: std::ops::Range<u64>,
) -> Result<Scenario<'a>, BoxError> {
    let config = Config { theta: THETA, schedule: Course::Constant, ..Config::default() };
    let theta = Theta::new(&config, None)?;
    let (depth, redraw) = (Depth::Linear, Redraw::MicroBatch);
    let dropping = case.gates.map(|ranks| {
        let law = Law { theta, depth, redraw, ranks };
        Dropping { law, sites, seed: SEED, attempts }
    });
    let Case { ranks, bucket_elements, .. } = *case;
    Ok(Scenario { ranks, dropping, bucket_elements, link })
}

/// The mean of what the ranks say of one step.
fn pass(answers: &[Vec<f64>], units: usize) -> Result<Pass, BoxError> {
    Pass::from_numbers(&means(answers), units).ok_or_else(|| "a rank has another model".into())
}

fn link(answers: &[Vec<f64>]) -> Result<Link, BoxError> {
    let means = means(answers);
    let &[short, short_processor, large, large_processor] = &means[..] else {
        return Err(format!("an exchange is four numbers, not {}", means.len()).into());
    };
    let exchanged = |seconds, processor_seconds| Exchanged { seconds, processor_seconds };
    let both = [exchanged(short, short_processor), exchanged(large, large_processor)];
    Ok(Link::new(answers.len(), both))
}

fn means(answers: &[Vec<f64>]) -> Vec<f64> {
    let length = answers.iter().map(Vec::len).min().unwrap_or(0);
    let mean = |i: usize| answers.iter().map(|a| a[i]).sum::<f64>() / answers.len() as f64;
    (0..length).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_error_counts_whatever_its_sign() {
        let good = [1.0, 1.0];
        let rounds = [[good, [1.1, 1.0], good, [0.8, 1.0]], [good, [1.1, 1.0], good, [1.6, 2.0]]];
        assert!((largest(&rounds) - 0.2).abs() < 1e-12);
        assert!((error(&rounds, 1) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn every_world_is_measured() {
        assert!(CASES.iter().all(|case| WORLDS.contains(&(case.ranks as usize))));
        assert!(WORLDS.iter().all(|size| CASES.iter().any(|case| case.ranks as usize == *size)));
    }

    #[test]
    fn answers_become_a_pass_and_a_link() {
        let answers = [vec![1.0; 7], vec![3.0; 7]];
        assert_eq!(pass(&answers, 2).map(|pass| pass.backward).ok(), Some(vec![2.0, 2.0]));
        assert!(pass(&answers, 3).is_err() && link(&answers).is_err());
        let link =
            link(&[vec![2.0, 0.0, 3.0, 0.5], vec![4.0, 0.0, 5.0, 0.5]]).expect("four numbers");
        // Two ranks, two messages in 3 s.
        assert_eq!(link.hop_seconds, 1.5);
    }
}
