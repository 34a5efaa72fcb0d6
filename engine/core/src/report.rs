//! What happened in a step.
use std::collections::BTreeMap;

/// What happened in one step, for progress, monitors and tests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The step reported, from 0.
    pub step: u64,
    /// Mean loss over all that was counted in the step's micro-batches, on all ranks; NaN where nothing was.
    pub loss: f64,
    /// What was counted (masked tokens, samples), on all ranks.
    pub count: u64,
    /// Learning rate of the first parameter group.
    pub lr: f64,
    /// Norm of all gradients that are not idle, before clipping; none where nothing asked for it.
    pub grad_norm: Option<f64>,
    /// Factor on the loss while the gradients were computed; 1 without fp16.
    pub loss_scale: f64,
    /// True when the update was left out.
    pub skipped: bool,
    /// Why it was.
    pub skip_reason: Option<Skipped>,
    /// Parameters that nothing used in this step.
    pub idle_parameters: usize,
    /// Layer calls that the model offered, and how many of them ran, on this rank.
    pub layer_calls: LayerCalls,
    /// Bytes of gradients that this rank gave to be summed over the ranks; on the wire a ring of n ranks
    /// sends 2 (n - 1) / n of them. 0 in a world of one.
    pub bytes_sent: u64,
    /// Wall-clock time of the step.
    pub seconds: f64,
    /// Training samples a second, where the batch size is known from the configuration.
    pub samples_per_second: Option<f64>,
    /// Figures by the plugins, each the mean over the ranks, by name: `theta`, `expected_depth`, `realised_depth`.
    pub metrics: BTreeMap<String, f64>,
}

/// Why an update was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// A gradient overflowed at this loss scale, which the next steps lower. The step is yet to come.
    Overflow,
    /// The loss or a gradient was not finite. The step is yet to come.
    NonFinite,
    /// No micro-batch of any rank counted anything. The step counts as completed: it had nothing to learn from.
    NothingCounted,
}

impl Skipped {
    /// In one word: `overflow`, `non_finite`, `nothing_counted`.
    pub fn name(self) -> &'static str {
        match self {
            Skipped::Overflow => "overflow",
            Skipped::NonFinite => "non_finite",
            Skipped::NothingCounted => "nothing_counted",
        }
    }
}

impl Report {
    /// Whether the step is among the completed ones. One whose update was left out for numbers that were not finite
    /// is not: the next batch tries it again.
    pub fn completes(&self) -> bool {
        !self.skipped || self.skip_reason == Some(Skipped::NothingCounted)
    }
}

/// Layer calls in training forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerCalls {
    /// Calls that reached a handle.
    pub offered: u64,
    /// Calls whose layer was computed.
    pub run: u64,
}

/// What an evaluation found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean loss over all that was counted; NaN where nothing was, see [`measured`](Evaluation::measured).
    pub loss: f64,
    /// What was counted.
    pub count: u64,
}

impl Evaluation {
    /// The loss; none where nothing was counted.
    pub fn measured(&self) -> Option<f64> {
        (self.count > 0).then_some(self.loss)
    }
}
