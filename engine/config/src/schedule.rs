//! Values that depend on the step alone, so that there is nothing to save.

/// A value as a pure function of the completed optimizer steps.
pub trait Schedule: Send + Sync {
    /// The value in force after `step` completed steps.
    fn at(&self, step: u64) -> f64;
}

impl<F: Fn(u64) -> f64 + Send + Sync> Schedule for F {
    fn at(&self, step: u64) -> f64 {
        self(step)
    }
}

/// What a learning-rate schedule sets in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Learning rate.
    pub lr: f64,
    /// Both betas of an Adam-like optimizer, where the schedule moves them.
    pub betas: Option<(f64, f64)>,
}

/// The learning rate of a parameter group as a pure function of the completed optimizer steps.
pub trait LearningRate: Send + Sync {
    /// The rates for the update that follows `step` completed steps, for a group whose configured
    /// learning rate is `base`.
    fn at(&self, step: u64, base: f64) -> Rates;
}

/// The configured learning rate, always.
#[derive(Debug, Clone, Copy)]
pub struct Constant;

impl LearningRate for Constant {
    fn at(&self, _step: u64, base: f64) -> Rates {
        Rates { lr: base, betas: None }
    }
}
