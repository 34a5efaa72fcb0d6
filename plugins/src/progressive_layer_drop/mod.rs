//! Progressive Layer Dropping: leaves layers out of training, more of them as it goes on, so that steps
//! get faster. Zhang and He, NeurIPS 2020, <https://arxiv.org/abs/2010.13369>.
//!
//! A residual branch f of block i becomes `x + (G / keep) f(x)`, with a gate G that is 1 with
//! probability keep = 1 - (i / L)(1 - theta(t)) after t completed steps, and 0 otherwise: then f is not
//! computed, and its parameters are idle. The mean of G / keep is 1, so evaluation, which always runs at
//! full depth, needs no scaling. A block wrapped whole becomes `x + (G / keep)(block(x) - x)`.
//!
//! [`gates::gates`] decides with plain values; what is here acts on them.
mod balanced;
pub mod config;
mod describe;
pub mod gates;
pub mod promise;
pub mod schedule;
pub mod sites;

#[cfg(test)]
mod tests;

use config::{Config, Idle, Patterns};
use gates::{Gate, Law, gates};
use schedule::Theta;
use sites::Sites;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tch::Tensor;
use trainyard::{
    BoxError, Branch, BuildContext, Gradients, LayerCall, LayerWrap, Moment, Next, Parts, Plugin,
    PluginSpec, Report, Schedule,
};

/// A configuration with this plugin.
pub const EXAMPLE: &str =
    r#"{ "progressive_layer_drop": { "enabled": true, "theta": 0.5, "gamma": 0.001 } }"#;

/// The section `progressive_layer_drop`.
#[derive(Debug)]
pub struct ProgressiveLayerDrop;

impl PluginSpec for ProgressiveLayerDrop {
    const KEYS: &'static [&'static str] = &["progressive_layer_drop"];
    type Config = Config;

    fn layer_patterns(config: &Config) -> Vec<String> {
        match &config.layers {
            Some(Patterns::One(pattern)) if config.enabled => vec![pattern.clone()],
            Some(Patterns::Many(patterns)) if config.enabled => patterns.clone(),
            _ => Vec::new(),
        }
    }

    fn build(config: Config, context: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        if !config.enabled {
            parts.describe("off: `enabled` is not true");
            return Ok(());
        }
        let theta = Theta::new(&config, context.total_steps)?;
        let sites = Sites::new(&context.blocks, config.layers.as_ref(), config.gate)?;
        parts.describe(describe::line(&config, &theta, &sites, context));
        if let Some(warning) = describe::too_slow(&config, &theta, context.total_steps) {
            parts.warn(warning);
        }
        parts.curve("theta", theta);
        parts.plugin(LayerDrop {
            law: Law { theta, depth: config.depth, redraw: config.redraw, ranks: config.ranks },
            sites: Arc::new(sites),
            seed: config.seed.unwrap_or(context.seed),
            rank: u32::try_from(context.world.rank)?,
            idle: config.idle,
            depths: Vec::new(),
            last: None,
            warned: false,
        });
        Ok(())
    }
}

struct LayerDrop {
    law: Law,
    sites: Arc<Sites>,
    seed: u64,
    rank: u32,
    idle: Idle,
    /// Blocks that run, by micro-batch of the step.
    depths: Vec<f64>,
    last: Option<Arc<Decision>>,
    warned: bool,
}

impl Plugin for LayerDrop {
    fn begin_forward(&mut self, now: Moment) -> Result<Option<Arc<dyn LayerWrap>>, BoxError> {
        let gates = gates(&self.law, &self.sites, self.seed, now, self.rank);
        // Forgets what a step that failed midway left.
        self.depths.truncate(now.micro_batch as usize);
        self.depths.push(self.sites.depth(&gates));
        let met = AtomicBool::new(false);
        let decision = Arc::new(Decision { gates, sites: self.sites.clone(), met });
        self.last = Some(decision.clone());
        Ok(Some(decision))
    }

    fn gradients(&mut self, _: Moment, gradients: &mut Gradients<'_>) -> Result<(), BoxError> {
        if self.idle == Idle::Decay {
            gradients.fill_idle()?;
        }
        Ok(())
    }

    fn end_step(&mut self, report: &mut Report) -> Result<(), BoxError> {
        let theta = self.law.theta.at(report.step);
        let realised = self.depths.iter().sum::<f64>() / self.depths.len() as f64;
        report.metrics.extend([
            ("theta".to_owned(), theta),
            ("expected_depth".to_owned(), promise::expected_depth(self.sites.blocks, theta)),
            ("realised_depth".to_owned(), realised),
        ]);
        let met = self.last.take().is_none_or(|decision| decision.met.load(Relaxed));
        if !met && !self.warned {
            self.warned = true;
            tracing::warn!(
                step = report.step,
                "no gated layer ran with `train` set, so nothing was dropped; does the forward go \
                 through the layers' handles, in training mode?"
            );
        }
        Ok(())
    }
}

/// The gates of one forward.
struct Decision {
    gates: Vec<Gate>,
    sites: Arc<Sites>,
    /// Whether a layer call asked for its gate.
    met: AtomicBool,
}

impl LayerWrap for Decision {
    fn layer(&self, call: &LayerCall<'_>, x: &Tensor, next: Next<'_>) -> Result<Branch, BoxError> {
        if !call.train {
            return next.run(x);
        }
        let Some(gate) = self.sites.of(call)? else { return next.run(x) };
        self.met.store(true, Relaxed);
        match self.gates[gate] {
            Gate::Drop => Ok(Branch::Skipped),
            Gate::Keep { probability } => Ok(match next.run(x)? {
                Branch::Skipped => Branch::Skipped,
                Branch::Ran { output, scale } => Branch::Ran { output, scale: scale / probability },
            }),
        }
    }
}
