//! Where training stands.

/// Where training stands when a plugin is asked to decide or to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Completed optimizer steps: 0 during the first step.
    pub step: u64,
    /// Completed rounds of forward, backward and update, those included whose update was skipped
    /// (an overflow). Draws are keyed by it, so that a skipped step does not repeat its draws.
    pub attempt: u64,
    /// Index of the micro-batch within the step.
    pub micro_batch: u64,
}
