//! In which number format a step runs.
use crate::error::{BoxError, Error};
use crate::gradients::Gradients;
use crate::loss::Loss;
use serde_json::Value;

/// In which number format the forward and backward run, and how small gradients are kept from
/// vanishing in it. The parameters that the engine holds stay float32.
pub trait Precision: Send {
    /// Runs the forward in the format in force; evaluations run in it as well, while no gradients are
    /// recorded.
    ///
    /// # Errors
    /// Those of `forward`.
    fn forward(&mut self, forward: &mut dyn FnMut() -> Result<Loss, Error>) -> Result<Loss, Error> {
        forward()
    }

    /// Factor on the loss before the backward pass; the same in all micro-batches of a step.
    fn loss_scale(&self) -> f64 {
        1.0
    }

    /// Undoes the loss scale, once a step. False: the gradients overflowed at this scale, and the update
    /// is skipped; the scale may be another one from the next step on.
    ///
    /// # Errors
    /// Any; the step then fails with it.
    fn unscale(&mut self, gradients: &mut Gradients<'_>) -> Result<bool, BoxError> {
        let _ = gradients;
        Ok(true)
    }

    /// Forgets the copies in another format that forwards left of the parameters. The engine calls it
    /// before the first forward of a step, before the parameters change, and after evaluating: a copy
    /// serves the micro-batches of one step, or the batches of one evaluation.
    ///
    /// # Errors
    /// Any.
    fn forget_casts(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// What a resumed run needs and cannot compute from (configuration, seed, step); null for most.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Takes back what [`Precision::state`] gave; null: none was saved, start anew.
    ///
    /// # Errors
    /// If it is not what this precision saves.
    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        match state {
            Value::Null => Ok(()),
            other => Err(format!("this precision keeps no state, the saved one is {other}").into()),
        }
    }
}

/// Everything in the parameters' own format.
#[derive(Debug, Clone, Copy, Default)]
pub struct Float32;

impl Precision for Float32 {}
