//! In which number format a step runs.
use crate::error::Result;
use crate::gradients::Gradients;
use crate::loss::Loss;

/// In which number format the forward and backward run, and how small gradients are kept from
/// vanishing in it. The parameters that the engine holds stay float32.
pub trait Precision: Send {
    /// Runs the forward in the format in force.
    ///
    /// # Errors
    /// Those of `forward`.
    fn forward(&mut self, forward: &mut dyn FnMut() -> Result<Loss>) -> Result<Loss> {
        forward()
    }

    /// Factor on the loss before the backward pass.
    fn loss_scale(&self) -> f64 {
        1.0
    }

    /// Undoes the loss scale in place; false: a gradient is not finite, skip this update.
    ///
    /// # Errors
    /// If libtorch refuses the tensors.
    fn unscale(&mut self, gradients: &mut Gradients<'_>) -> Result<bool> {
        let _ = gradients;
        Ok(true)
    }
}

/// Everything in the parameters' own format.
#[derive(Debug, Clone, Copy, Default)]
pub struct Float32;

impl Precision for Float32 {}
