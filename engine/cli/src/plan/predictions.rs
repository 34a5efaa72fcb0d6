//! What `trainyard plan` asks the simulation, and what it answers.
use super::Args;
use serde_json::{Value, json};
use trainyard::{BlockInfo, BoxError};
use trainyard_figures::scaling::{Dropping, Figures, Link, Prediction, Scenario, predict};
use trainyard_plugins::progressive_layer_drop::config::{
    Config, Course, Depth, Ranks, Redraw, Unit,
};
use trainyard_plugins::progressive_layer_drop::gates::Law;
use trainyard_plugins::progressive_layer_drop::schedule::Theta;
use trainyard_plugins::progressive_layer_drop::sites::Sites;

/// How the gates of the ranks hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Gates {
    /// No layer dropping.
    Off,
    /// All ranks draw the same gates.
    Shared,
    /// All ranks keep the same number of blocks, each its own choice.
    Balanced,
    /// Every rank draws for itself.
    Independent,
}

impl Gates {
    pub fn name(self) -> &'static str {
        match self {
            Gates::Off => "off",
            Gates::Shared => "shared",
            Gates::Balanced => "balanced",
            Gates::Independent => "independent",
        }
    }

    fn ranks(self) -> Option<Ranks> {
        match self {
            Gates::Off => None,
            Gates::Shared => Some(Ranks::Shared),
            Gates::Balanced => Some(Ranks::Balanced),
            Gates::Independent => Some(Ranks::Independent),
        }
    }
}

/// One prediction.
pub struct Row {
    pub ranks: u32,
    pub gates: Gates,
    pub bucket: u64,
    /// Sequences that all ranks train on in a second.
    pub samples_per_second: f64,
    /// Samples a second as a part of what so many single ranks would train on, at the same gates.
    pub efficiency: f64,
    /// Time saved of a step without layer dropping on as many ranks.
    pub saved: f64,
    pub found: Prediction,
}

impl Row {
    pub fn json(&self) -> Value {
        json!({
            "ranks": self.ranks,
            "gates": self.gates.name(),
            "reduce_bucket_size": self.bucket,
            "samples_per_second": self.samples_per_second,
            "efficiency": self.efficiency,
            "saved": self.saved,
            "step": self.found,
        })
    }
}

/// A prediction for each number of ranks, size of buckets and kind of gates.
///
/// # Errors
/// There is nothing to drop.
pub fn simulate(figures: &Figures, link: Link, args: &Args) -> Result<Vec<Row>, BoxError> {
    let dropping = args.gates.iter().any(|gates| *gates != Gates::Off);
    if dropping && figures.blocks() == 0 {
        return Err("the figures have no block, so there is nothing to drop: --gates off".into());
    }
    let block = |i: usize| BlockInfo { name: i.to_string(), sublayers: Vec::new() };
    let blocks: Vec<_> = (0..figures.blocks().max(1)).map(block).collect();
    let sites = Sites::new(&blocks, None, Unit::Block)?;
    let config = Config { theta: args.theta, schedule: Course::Constant, ..Config::default() };
    let theta = Theta::new(&config, None)?;
    let of = |ranks, gates: Gates, bucket_elements| {
        let (depth, redraw) = (Depth::Linear, Redraw::MicroBatch);
        let dropping = gates.ranks().map(|ranks| Dropping {
            law: Law { theta, depth, redraw, ranks },
            sites: &sites,
            seed: args.seed,
            attempts: 0..args.steps,
        });
        predict(figures, &Scenario { ranks, dropping, bucket_elements, link })
    };
    let mut rows = Vec::new();
    for &ranks in &args.ranks.0 {
        for &bucket in &args.bucket {
            let off = of(ranks, Gates::Off, bucket).seconds;
            for &gates in &args.gates {
                let found = of(ranks, gates, bucket);
                let single = of(1, gates, bucket).seconds;
                rows.push(Row {
                    ranks,
                    gates,
                    bucket,
                    samples_per_second: figures.samples as f64 * f64::from(ranks) / found.seconds,
                    efficiency: single / found.seconds,
                    saved: 1.0 - found.seconds / off,
                    found,
                });
            }
        }
    }
    Ok(rows)
}
