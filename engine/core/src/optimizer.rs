//! The rule that turns gradients into updates.
use crate::error::BoxError;
use tch::Tensor;
use trainyard_config::GroupOptions;

/// One update of one parameter group: the parameters that are not idle in this step, all of one kind, float32 or
/// float64. Parameter, gradient and slots lie in memory alike, each in one block, its axes in whatever order.
#[derive(Debug)]
pub struct Update<'a> {
    /// Learning rate in force.
    pub lr: f64,
    /// Both betas, where the schedule moves them.
    pub betas: Option<(f64, f64)>,
    /// The group's options.
    pub options: &'a GroupOptions,
    /// The parameters, any shapes, to be changed in place.
    pub parameters: &'a [Tensor],
    /// Their gradients, in the same order and shapes.
    pub gradients: &'a [Tensor],
    /// What the gradients still have to be multiplied by, a real scalar on their device; always
    /// none unless the optimizer [takes it](Optimizer::takes_scale).
    pub scale: Option<&'a Tensor>,
    /// The optimizer's state: `slots[s][p]` is slot s of parameter p, of its shape and kind.
    pub slots: &'a [Vec<Tensor>],
    /// How many updates each parameter has had, this one included: from 1.
    pub steps: &'a [i64],
}

/// The rule that turns gradients into updates, one call for each parameter group so that an
/// implementation can fuse. The engine owns the state under the parameters' names.
pub trait Optimizer: Send {
    /// Which rule it is, in a word: a state of one kind does not load into another.
    fn kind(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// Names of the state tensors of each parameter of a group, which start as zeros: `exp_avg`,
    /// `exp_avg_sq`.
    fn slots(&self, group: &GroupOptions) -> &'static [&'static str];

    /// Whether it multiplies the gradients by [`Update::scale`] as it reads them, which saves a pass
    /// over them; otherwise they come multiplied.
    fn takes_scale(&self) -> bool {
        false
    }

    /// Changes `update.parameters` and `update.slots` in place. Runs without gradients being recorded.
    ///
    /// # Errors
    /// Any; the step then fails with it.
    fn update(&mut self, update: &Update<'_>) -> Result<(), BoxError>;
}
