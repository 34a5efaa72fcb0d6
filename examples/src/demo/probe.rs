//! How much of a step's time the gated layers take: steps with all of them against steps with none.
use super::arms::step;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Tensor};
use trainyard::{
    BoxError, Branch, BuildContext, LayerCall, LayerWrap, Moment, Next, Parts, Plan, Plugin,
    PluginSpec, Section,
};
use trainyard_data::{MlmBatch, MlmData};
use trainyard_models::pretraining::{self, BertRun};
use trainyard_run::RunError;

/// The section `open_and_closed`, of the demo alone: every layer runs in one step, none in the next.
#[derive(Debug)]
pub struct OpenAndClosed;

/// There is nothing to set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OpenAndClosed")]
pub struct Config {}

impl Section for OpenAndClosed {
    const KEYS: &'static [&'static str] = &["open_and_closed"];
    type Config = Config;
}

impl PluginSpec for OpenAndClosed {
    fn build(_: &Config, _: &BuildContext, parts: &mut Parts) -> Result<(), BoxError> {
        parts.plugin(Switch);
        Ok(())
    }
}

struct Switch;

impl Plugin for Switch {
    fn begin_forward(&mut self, now: Moment) -> Result<Option<Arc<dyn LayerWrap>>, BoxError> {
        Ok(is_closed(now.attempt).then(|| Arc::new(Closed) as _))
    }
}

/// Open, closed, closed, open: a slow drift of the machine's speed hits both alike.
fn is_closed(attempt: u64) -> bool {
    matches!(attempt % 4, 1 | 2)
}

struct Closed;

impl LayerWrap for Closed {
    fn layer(&self, call: &LayerCall<'_>, x: &Tensor, next: Next<'_>) -> Result<Branch, BoxError> {
        if call.train { Ok(Branch::Skipped) } else { next.run(x) }
    }
}

/// Times of two steps, one after the other, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// All layers ran.
    pub open: f64,
    /// None did.
    pub closed: f64,
}

/// A model of its own that is stepped with all layers and with none.
pub(super) struct Probe {
    run: BertRun,
    /// Measured so far.
    pub pairs: Vec<Pair>,
}

impl Probe {
    /// `plan`: has the section `open_and_closed`.
    pub fn new(plan: Plan, data: MlmData) -> Result<Self, RunError> {
        Ok(Probe { run: pretraining::run(plan, data, Device::Cpu)?, pairs: Vec::new() })
    }

    /// Steps that are not measured: the first ones allocate.
    pub fn warm_up(&mut self, micro_batches: &[MlmBatch]) -> Result<(), RunError> {
        (0..4).try_for_each(|_| step(&mut self.run, micro_batches).map(drop))
    }

    /// One step with all layers and one with none.
    pub fn measure(&mut self, micro_batches: &[MlmBatch]) -> Result<(), RunError> {
        let mut pair = Pair { open: f64::NAN, closed: f64::NAN };
        for _ in 0..2 {
            let began = Instant::now();
            let report = step(&mut self.run, micro_batches)?;
            let seconds = began.elapsed().as_secs_f64();
            match report.layer_calls.run {
                0 => pair.closed = seconds,
                _ => pair.open = seconds,
            }
        }
        self.pairs.push(pair);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_one_of_each_and_the_order_turns() {
        let pairs: Vec<_> = (0..4).map(|i| [2 * i, 2 * i + 1].map(is_closed)).collect();
        assert_eq!(pairs, [[false, true], [true, false], [false, true], [true, false]]);
    }
}
