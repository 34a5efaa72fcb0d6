//! Adagrad, in libtorch's one pass over all tensors of a group.
use super::params::AdagradParams;
use trainyard::{BoxError, GroupOptions, Optimizer, Update};
use trainyard_native::{AdagradStep, fused_adagrad};

/// Adagrad (Duchi et al. 2011, <https://jmlr.org/papers/v12/duchi11a.html>), as PyTorch has it.
#[derive(Debug, Clone)]
pub struct Adagrad {
    /// What the configuration sets; the learning rate and the decay come with each update.
    pub params: AdagradParams,
}

impl Optimizer for Adagrad {
    fn kind(&self) -> &'static str {
        "Adagrad"
    }

    fn slots(&self, _: &GroupOptions) -> &'static [&'static str] {
        &["sum"]
    }

    fn update(&mut self, update: &Update<'_>) -> Result<(), BoxError> {
        let AdagradParams { lr_decay, eps, initial_accumulator_value, .. } = self.params;
        let [sums] = update.slots else {
            return Err("Adagrad needs its slot".into());
        };
        // Sums start as zeros here, and at the parameter's own first update there.
        if initial_accumulator_value != 0.0 {
            for (sum, _) in sums.iter().zip(update.steps).filter(|(_, step)| **step == 1) {
                let _ = sum.shallow_clone().f_fill_(initial_accumulator_value)?;
            }
        }
        let weight_decay = update.options.weight_decay;
        let how = AdagradStep { lr: update.lr, lr_decay, weight_decay, eps };
        Ok(fused_adagrad(update.parameters, update.gradients, sums, update.steps, how)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::trial::Trial;

    /// The second parameter is idle in the first step, and so at its first update in the second.
    #[test]
    fn by_hand_each_parameter_at_its_own_step() {
        let params = AdagradParams {
            lr_decay: 0.5,
            initial_accumulator_value: 0.25,
            eps: 1e-3,
            ..AdagradParams::default()
        };
        let mut trial = Trial::many(Adagrad { params }, &[&[2.0], &[2.0]]);
        trial.options.weight_decay = 0.1;
        trial.step_of(0.1, &[Some(&[1.0]), None]);
        trial.step_of(0.1, &[Some(&[-3.0]), Some(&[1.0])]);

        let first = |w: f64| {
            let g = 1.0 + 0.1 * w;
            let sum = 0.25 + g * g;
            (w - 0.1 * g / (sum.sqrt() + 1e-3), sum)
        };
        let (w, sum) = first(2.0);
        let g = -3.0 + 0.1 * w;
        let second = w - 0.1 / 1.5 * g / ((sum + g * g).sqrt() + 1e-3);
        for (parameter, expected) in trial.parameters.iter().zip([second, w]) {
            let found = parameter.double_value(&[0]);
            assert!((found - expected).abs() < 1e-14, "{found} is not {expected}");
        }
    }
}
