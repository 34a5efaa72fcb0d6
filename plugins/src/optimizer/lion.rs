//! Lion, in one pass over all tensors of a group.
use super::params::LionParams;
use trainyard::{BoxError, GroupOptions, Optimizer, Update};
use trainyard_native::{LionStep, fused_lion};

/// Lion (Chen et al. 2023, <https://arxiv.org/abs/2302.06675>): steps of one size, by the sign of the
/// momentum that the gradient has just moved.
#[derive(Debug, Clone)]
pub struct Lion {
    /// What the configuration sets; the learning rate and the decay come with each update.
    pub params: LionParams,
}

impl Optimizer for Lion {
    fn kind(&self) -> &'static str {
        "Lion"
    }

    fn slots(&self, _: &GroupOptions) -> &'static [&'static str] {
        &["exp_avg"]
    }

    fn takes_scale(&self) -> bool {
        true
    }

    fn update(&mut self, update: &Update<'_>) -> Result<(), BoxError> {
        let (beta1, beta2) = update.betas.unwrap_or(self.params.betas);
        let weight_decay = update.options.weight_decay;
        let how = LionStep { lr: update.lr, beta1, beta2, weight_decay };
        let [momenta] = update.slots else {
            return Err("Lion needs its slot".into());
        };
        Ok(fused_lion(update.parameters, update.gradients, momenta, update.scale, how)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::trial::Trial;

    /// Four weights: gradients that agree with the momentum, that turn the sign, that do not, and none.
    #[test]
    fn every_step_by_the_definition() {
        let (beta1, beta2) = (0.9, 0.75);
        let params = LionParams { betas: (beta1, beta2), ..LionParams::default() };
        let mut trial = Trial::new(Lion { params }, &[1.0, -2.0, 3.0, 4.0]);
        trial.options.weight_decay = 0.1;
        let (mut w, mut m) = ([1.0, -2.0, 3.0, 4.0], [0.0f64; 4]);
        for (lr, gradient) in [
            (0.1, [1.0, 1.0, 1.0, 0.0]),
            (0.2, [0.5, -4.0, -1.0, 0.0]),
            (0.3, [0.1, 0.2, 0.3, 0.0]),
        ] {
            trial.step(lr, &gradient);
            for i in 0..4 {
                let c = beta1 * m[i] + (1.0 - beta1) * gradient[i];
                let sign = if c == 0.0 { 0.0 } else { c.signum() };
                w[i] -= lr * (sign + 0.1 * w[i]);
                m[i] = beta2 * m[i] + (1.0 - beta2) * gradient[i];
            }
            for (found, expected) in trial.weights().iter().zip(w) {
                assert!((found - expected).abs() < 1e-14, "{:?} is not {w:?}", trial.weights());
            }
        }
        // Where there is no gradient, decay and no more.
        assert!((w[3] - 4.0 * 0.99 * 0.98 * 0.97).abs() < 1e-14);
    }

    #[test]
    fn the_schedule_may_move_the_betas() {
        let run = |betas, moved| {
            let mut trial =
                Trial::new(Lion { params: LionParams { betas, ..LionParams::default() } }, &[1.0]);
            trial.betas = moved;
            [2.0, -1.0].iter().for_each(|&gradient| trial.step(0.1, &[gradient]));
            trial.slots[0][0].double_value(&[0])
        };
        assert_eq!(run((0.9, 0.99), Some((0.5, 0.5))), run((0.5, 0.5), None));
        assert_ne!(run((0.9, 0.99), None), run((0.5, 0.5), None));
    }
}
