//! Adam and AdamW, in one pass over all tensors of a group.
use super::params::AdamParams;
use std::borrow::Cow;
use trainyard::{BoxError, GroupOptions, Optimizer, Update};
use trainyard_native::{AdamStep, fused_adam};

/// Adam (Kingma and Ba 2015, <https://arxiv.org/abs/1412.6980>), or AdamW (Loshchilov and Hutter 2019,
/// <https://arxiv.org/abs/1711.05101>) where the decay is `decoupled`.
#[derive(Debug, Clone)]
pub struct Adam {
    /// What the configuration sets; the learning rate and the decay come with each update.
    pub params: AdamParams,
    /// True: the weights shrink by `lr * weight_decay`. False: the decay is added to the gradient.
    pub decoupled: bool,
}

impl Optimizer for Adam {
    fn kind(&self) -> &'static str {
        "Adam"
    }

    fn slots(&self, _: &GroupOptions) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn takes_scale(&self) -> bool {
        true
    }

    fn update(&mut self, update: &Update<'_>) -> Result<(), BoxError> {
        let (beta1, beta2) = update.betas.unwrap_or(self.params.betas);
        let how = AdamStep {
            lr: update.lr,
            beta1,
            beta2,
            eps: self.params.eps,
            weight_decay: update.options.weight_decay,
            decoupled: self.decoupled,
        };
        let steps = correction_steps(update.steps, self.params.bias_correction);
        let [m, v] = update.slots else {
            return Err("Adam needs its two slots".into());
        };
        Ok(fused_adam(update.parameters, update.gradients, m, v, &steps, update.scale, how)?)
    }
}

/// The steps by which the moments are corrected for their start at zero: those of the update, or so many
/// that no correction is left. No beta below 1 keeps its power from being 0 after them, and 1 - beta^step
/// from being exactly 1.
pub(super) fn correction_steps(steps: &[i64], bias_correction: bool) -> Cow<'_, [i64]> {
    if bias_correction { steps.into() } else { vec![i64::MAX; steps.len()].into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::trial::Trial;

    /// Two steps of gradients 0.5 and -1 on w = 2.
    #[test]
    fn two_steps_by_hand() {
        for (bias_correction, decoupled) in
            [(true, true), (true, false), (false, true), (false, false)]
        {
            let params = AdamParams {
                betas: (0.9, 0.99),
                eps: 1e-3,
                bias_correction,
                ..AdamParams::default()
            };
            let mut trial = Trial::new(Adam { params, decoupled }, &[2.0]);
            trial.options.weight_decay = 0.1;
            let (mut w, mut m, mut v) = (2.0f64, 0.0, 0.0);
            for (t, gradient) in [(1, 0.5f64), (2, -1.0)] {
                trial.step(0.01, &[gradient]);
                let g = if decoupled { gradient } else { gradient + 0.1 * w };
                m = 0.9 * m + 0.1 * g;
                v = 0.99 * v + 0.01 * g * g;
                let (c1, c2) = match bias_correction {
                    true => (1.0 - 0.9f64.powi(t), 1.0 - 0.99f64.powi(t)),
                    false => (1.0, 1.0),
                };
                w -= if decoupled { 0.01 * 0.1 * w } else { 0.0 };
                w -= 0.01 * (m / c1) / ((v / c2).sqrt() + 1e-3);
            }
            let found = trial.weights()[0];
            assert!((found - w).abs() < 1e-12, "{bias_correction} {decoupled}: {found} is not {w}");
        }
    }

    #[test]
    fn the_schedule_may_move_the_betas() {
        let mut moved = Trial::new(Adam { params: AdamParams::default(), decoupled: true }, &[1.0]);
        moved.betas = Some((0.5, 0.9));
        let params = AdamParams { betas: (0.5, 0.9), ..AdamParams::default() };
        let mut set = Trial::new(Adam { params, decoupled: true }, &[1.0]);
        for gradient in [0.5, -2.0] {
            moved.step(0.1, &[gradient]);
            set.step(0.1, &[gradient]);
        }
        assert_eq!(moved.weights(), set.weights());
    }
}
