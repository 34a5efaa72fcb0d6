//! How long a run is, and when it is evaluated.
use crate::RunError;
use trainyard::{Plan, Report};

/// Steps in a row without an update after which there is no use in going on.
const MOST_SKIPPED: u32 = 100;

/// How long a run is and when it is evaluated.
pub struct Cadence {
    total_steps: u64,
    evaluate_every: u64,
    /// Skipped steps since the last update.
    skipped: u32,
}

impl Cadence {
    /// Of a plan that knows its steps.
    ///
    /// # Errors
    /// If the length of the run is not set.
    pub fn new(plan: &Plan) -> Result<Self, RunError> {
        let no_length = || plan.invalid("training.total_steps", "total_steps is not set");
        let total_steps = plan.total_steps()?.ok_or_else(no_length)?;
        let evaluate_every = plan.settings().training.evaluate_every;
        Ok(Cadence { total_steps, evaluate_every, skipped: 0 })
    }

    /// Optimizer steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// Takes note of a step that ended.
    ///
    /// # Errors
    /// A hundred skipped steps in a row.
    pub fn after(&mut self, report: &Report) -> Result<(), RunError> {
        self.skipped = if report.completes() { 0 } else { self.skipped + 1 };
        if self.skipped == MOST_SKIPPED {
            let message =
                format!("the last {MOST_SKIPPED} steps were all skipped; the log says why");
            return Err(RunError::Other(message));
        }
        Ok(())
    }

    /// Whether the configuration wants an evaluation now, after so many completed steps.
    pub fn evaluation_is_due(&self, completed: u64) -> bool {
        let every = self.evaluate_every;
        let now = completed >= self.total_steps
            || (every > 0 && completed > 0 && completed.is_multiple_of(every));
        now && self.skipped == 0
    }
}
