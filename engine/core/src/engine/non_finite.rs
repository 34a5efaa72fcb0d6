//! Where a number that is not finite came in, looked up only once there is one.
use crate::error::Result;
use crate::gradients::Gradients;
use tch::Tensor;

/// A number that an update needs is not finite.
#[derive(Debug, thiserror::Error)]
#[error("{what}; {reached}")]
pub(super) struct NonFinite {
    what: String,
    reached: String,
}

impl NonFinite {
    /// `norm`: of the gradients, where it is known. `created`: indices of the parameters in the order in
    /// which the model made them, which is as a rule the order of the forward.
    pub fn find(
        loss: f64,
        norm: Option<f64>,
        gradients: &Gradients<'_>,
        parameters: &[(String, Tensor)],
        created: &[usize],
    ) -> Result<Self> {
        let what = match norm {
            Some(norm) if loss.is_finite() => format!("the norm of the gradients is {norm}"),
            _ => format!("the loss is {loss}"),
        };
        let active = created.iter().filter_map(|&i| Some((i, gradients.at(i)?.shallow_clone())));
        let (indices, tensors): (Vec<_>, Vec<_>) = active.unzip();
        let reached = match trainyard_native::first_non_finite(&tensors)? {
            Some(at) => {
                format!("the first parameter it reached is `{}`", parameters[indices[at]].0)
            }
            None => "every number in the gradients is finite".to_owned(),
        };
        Ok(NonFinite { what, reached })
    }
}
