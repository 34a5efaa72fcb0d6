//! Stochastic gradient descent, in libtorch's one pass over all tensors of a group.
use super::params::SgdParams;
use tch::Tensor;
use trainyard::{BoxError, GroupOptions, Optimizer, Update};
use trainyard_native::{SgdStep, fused_sgd};

/// Stochastic gradient descent with momentum, as PyTorch has it (Sutskever et al. 2013,
/// <https://proceedings.mlr.press/v28/sutskever13.html>).
#[derive(Debug, Clone)]
pub struct Sgd {
    /// What the configuration sets; the learning rate and the decay come with each update.
    pub params: SgdParams,
}

impl Optimizer for Sgd {
    fn kind(&self) -> &'static str {
        "SGD"
    }

    fn slots(&self, _: &GroupOptions) -> &'static [&'static str] {
        if self.params.momentum == 0.0 { &[] } else { &["momentum_buffer"] }
    }

    fn update(&mut self, update: &Update<'_>) -> Result<(), BoxError> {
        let SgdParams { momentum, dampening, nesterov, .. } = self.params;
        let weight_decay = update.options.weight_decay;
        let how =
            SgdStep { lr: update.lr, momentum, dampening, weight_decay, nesterov, first: false };
        let buffers = update.slots.first().map_or(&[][..], Vec::as_slice);
        if dampening == 0.0 {
            return Ok(fused_sgd(update.parameters, update.gradients, buffers, how)?);
        }
        // A buffer begins as the gradient, without dampening, at the parameter's own first update,
        // which comes late for one that was idle.
        for first in [true, false] {
            let of = |tensors: &[Tensor]| -> Vec<Tensor> {
                let steps = tensors.iter().zip(update.steps);
                steps.filter(|(_, t)| (**t == 1) == first).map(|(x, _)| x.shallow_clone()).collect()
            };
            let (parameters, gradients) = (of(update.parameters), of(update.gradients));
            if !parameters.is_empty() {
                fused_sgd(&parameters, &gradients, &of(buffers), SgdStep { first, ..how })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::trial::Trial;

    fn sgd(momentum: f64, dampening: f64, nesterov: bool) -> Sgd {
        Sgd { params: SgdParams { momentum, dampening, nesterov, ..SgdParams::default() } }
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-14, "{found} is not {expected}");
    }

    #[test]
    fn plain_with_decay_by_hand() {
        let mut trial = Trial::new(sgd(0.0, 0.0, false), &[2.0]);
        trial.options.weight_decay = 0.5;
        trial.step(0.1, &[3.0]);
        close(trial.weights()[0], 2.0 - 0.1 * (3.0 + 0.5 * 2.0));
        assert!(trial.slots.is_empty());
    }

    /// Gradients 1 and 1 at momentum 0.5.
    #[test]
    fn momentum_by_hand() {
        for (dampening, nesterov, moved) in [
            (0.0, false, 1.0 + 1.5),
            // g + momentum * buffer.
            (0.0, true, 1.5 + 1.75),
            // The first buffer is not damped, the second is 0.5 * 1 + 0.75 * 1.
            (0.25, false, 1.0 + 1.25),
        ] {
            let mut trial = Trial::new(sgd(0.5, dampening, nesterov), &[2.0]);
            trial.step(0.1, &[1.0]);
            trial.step(0.1, &[1.0]);
            close(trial.weights()[0], 2.0 - 0.1 * moved);
        }
    }

    /// The second parameter is idle in the first step, so its buffer is new in the second.
    #[test]
    fn each_parameter_has_its_own_first_buffer() {
        let mut trial = Trial::many(sgd(0.5, 0.25, false), &[&[2.0], &[2.0]]);
        trial.step_of(0.1, &[Some(&[1.0]), None]);
        trial.step_of(0.1, &[Some(&[1.0]), Some(&[1.0])]);
        close(trial.parameters[0].double_value(&[0]), 2.0 - 0.1 * (1.0 + 1.25));
        close(trial.parameters[1].double_value(&[0]), 2.0 - 0.1 * 1.0);
    }
}
