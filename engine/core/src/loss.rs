//! A loss and what it is a mean over.
use crate::BoxError;
use tch::Tensor;

/// The mean loss of a micro-batch with the count that it is a mean over (masked tokens, samples).
///
/// The count is the weight: accumulating micro-batches of different counts gives the mean over all
/// that was counted, as one large batch would.
#[derive(Debug)]
pub struct Loss {
    /// Mean loss, a scalar with a gradient function while training.
    pub mean: Tensor,
    /// How many items `mean` is the mean over; 0 takes the micro-batch out of the step.
    pub count: u64,
}

impl Loss {
    /// `mean`: a scalar, the mean over `count` items.
    pub fn mean(mean: Tensor, count: u64) -> Self {
        Loss { mean, count }
    }
}

/// What a forward may return: a [`Loss`], or a `Result` of one.
pub trait IntoLoss {
    /// The loss, or why there is none.
    ///
    /// # Errors
    /// The forward's own.
    fn into_loss(self) -> Result<Loss, BoxError>;
}

impl IntoLoss for Loss {
    fn into_loss(self) -> Result<Loss, BoxError> {
        Ok(self)
    }
}

impl<E: Into<BoxError>> IntoLoss for Result<Loss, E> {
    fn into_loss(self) -> Result<Loss, BoxError> {
        self.map_err(Into::into)
    }
}
