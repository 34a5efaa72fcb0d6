//! Muon: orthogonal updates for matrices, AdamW for the rest.
mod orthogonal;
mod params;

pub use orthogonal::orthogonal;
pub use params::{AdjustLr, MuonParams, NsDtype, NsMethod};

use super::adam::Adam;
use super::params::AdamParams;
use std::collections::BTreeMap;
use tch::Tensor;
use trainyard::{BoxError, GroupOptions, Optimizer, Update};
use trainyard_native::{lerp_all, shrink_and_add};

/// Muon (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>), as PyTorch has it: the
/// momentum of a matrix, made orthogonal, is its update. A group that is adapted holds matrices; AdamW
/// takes the others.
#[derive(Debug, Clone)]
pub struct Muon {
    params: MuonParams,
    adam: Adam,
}

/// Most elements that are made orthogonal in one go: what goes beyond would only cost memory.
const BATCH_ELEMENTS: i64 = 1 << 24;

impl Muon {
    /// The learning rates and the decay come with each update.
    pub fn new(params: MuonParams) -> Self {
        let MuonParams { betas, eps, .. } = params;
        let adam = AdamParams { betas, eps, ..AdamParams::default() };
        Muon { params, adam: Adam { params: adam, decoupled: true } }
    }

    /// Updates parameters of one shape, by their indices in `update`. The first dimension counts as
    /// rows, all others together as `columns`.
    fn step(
        &self,
        update: &Update<'_>,
        momenta: &[Tensor],
        (rows, columns): (i64, i64),
        members: &[usize],
    ) -> Result<(), BoxError> {
        let of = |tensors: &[Tensor]| -> Vec<Tensor> {
            members.iter().map(|&i| tensors[i].shallow_clone()).collect()
        };
        let (gradients, means) = (of(update.gradients), of(momenta));
        lerp_all(&means, &gradients, 1.0 - self.params.momentum)?;
        let mut directions = Tensor::f_stack(&means, 0)?;
        if self.params.nesterov {
            directions =
                Tensor::f_stack(&gradients, 0)?.f_lerp(&directions, self.params.momentum)?;
        }
        let matrices = directions.f_reshape([-1, rows, columns])?;
        let matrices = matrices.f_to_kind(self.params.ns_dtype.kind())?;
        let rate = update.lr * self.params.adjust_lr_fn.factor((rows, columns));
        let steps = orthogonal(&matrices, self.params.ns_steps)?
            .f_to_kind(directions.kind())?
            .f_mul_scalar(-rate)?
            .f_reshape(directions.size())?
            .f_contiguous()?
            .f_unbind(0)?;
        let kept = 1.0 - update.lr * update.options.weight_decay;
        Ok(shrink_and_add(&of(update.parameters), &steps, kept)?)
    }
}

impl Optimizer for Muon {
    fn kind(&self) -> &'static str {
        "Muon"
    }

    fn slots(&self, group: &GroupOptions) -> &'static [&'static str] {
        if group.adapt { &["momentum_buffer"] } else { self.adam.slots(group) }
    }

    fn update(&mut self, update: &Update<'_>) -> Result<(), BoxError> {
        if !update.options.adapt {
            return self.adam.update(update);
        }
        let [momenta] = update.slots else {
            return Err("Muon needs its slot".into());
        };
        let mut of_shape = BTreeMap::<_, Vec<_>>::new();
        for (i, weights) in update.parameters.iter().enumerate().filter(|(_, w)| w.numel() > 0) {
            of_shape.entry(weights.size()).or_default().push(i);
        }
        for (shape, members) in of_shape {
            let (rows, columns) = (shape[0], shape[1..].iter().product::<i64>());
            let at_once = (BATCH_ELEMENTS / (rows * columns)).max(1) as usize;
            for batch in members.chunks(at_once) {
                self.step(update, momenta, (rows, columns), batch)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::trial::Trial;
    use tch::Kind;

    const MATRICES: GroupOptions = GroupOptions { lr: 0.0, weight_decay: 0.5, adapt: true };

    fn params() -> MuonParams {
        MuonParams { ns_dtype: NsDtype::Fp32, momentum: 0.5, ns_steps: 1, ..MuonParams::default() }
    }

    fn polynomial(x: f64) -> f64 {
        3.4445 * x - 4.7750 * x.powi(3) + 2.0315 * x.powi(5)
    }

    fn close(found: &[f64], expected: &[f64]) {
        let near = |(x, y): (&f64, &f64)| (x - y).abs() < 1e-6;
        assert!(found.iter().zip(expected).all(near), "{found:?} is not {expected:?}");
    }

    /// A matrix with one column: its update is its direction's unit vector, through the polynomial.
    #[test]
    fn two_steps_by_hand() {
        for nesterov in [true, false] {
            let params = MuonParams { nesterov, ..params() };
            let weights = Tensor::from_slice(&[1.0, 2.0, 0.0, 0.0]).reshape([4, 1]);
            let mut trial = Trial::of(Muon::new(params), MATRICES, vec![weights]);
            trial.step(0.1, &[3.0, 4.0, 0.0, 0.0]);
            trial.step(0.1, &[0.0, 1.0, 0.0, 0.0]);

            let mut w = [1.0, 2.0];
            let (mut m, mut length) = ([0.0; 2], 0.0);
            for g in [[3.0, 4.0], [0.0, 1.0]] {
                m = [0, 1].map(|i| 0.5 * m[i] + 0.5 * g[i]);
                let d = if nesterov { [0, 1].map(|i| 0.5 * m[i] + 0.5 * g[i]) } else { m };
                length = f64::hypot(d[0], d[1]);
                w = [0, 1].map(|i| {
                    w[i] * (1.0 - 0.1 * 0.5) - 0.1 * 2.0 * polynomial(1.0) * d[i] / length
                });
            }
            assert!(length > 0.0);
            close(&trial.weights(), &[w[0], w[1], 0.0, 0.0]);
            close(
                &Vec::try_from(trial.slots[0][0].flatten(0, -1)).unwrap(),
                &[0.75, 1.5, 0.0, 0.0],
            );
        }
    }

    /// Of two matrices of a shape, one idle now and then, and one of another: each as on its own.
    #[test]
    fn each_matrix_has_its_own_update() {
        let start = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let shapes: [&[i64]; 4] = [&[2, 3], &[2, 3], &[3, 2], &[2, 3, 1]];
        let tensor = |shape: &[i64]| Tensor::from_slice(&start).reshape(shape);
        let all = shapes.map(tensor).into();
        let mut together = Trial::of(Muon::new(params()), MATRICES, all);
        let mut alone = shapes.map(|s| Trial::of(Muon::new(params()), MATRICES, vec![tensor(s)]));
        for step in 0..4 {
            let gradient =
                |i: usize| [0, 1, 2, 3, 4, 5].map(|j| ((i + 2) * (j + step)) as f64 % 5.0 - 2.0);
            let gradients = [0, 1, 2, 3].map(gradient);
            let used = |i: usize| (i + step) % 3 != 1;
            let given: Vec<_> =
                gradients.iter().enumerate().map(|(i, g)| used(i).then_some(&g[..])).collect();
            together.step_of(0.1, &given);
            for i in (0..4).filter(|&i| used(i)) {
                alone[i].step(0.1, &gradients[i]);
            }
        }
        for (i, trial) in alone.iter().enumerate() {
            let found = together.parameters[i].flatten(0, -1);
            close(&Vec::try_from(found).unwrap(), &trial.weights());
        }
        assert_eq!(together.parameters[3].size(), [2, 3, 1]);
    }

    /// What is no matrix is AdamW's, with its own slots; the factor follows the shape.
    #[test]
    fn the_rest_is_adamws() {
        let rest = GroupOptions { adapt: false, ..MATRICES };
        let muon = Muon::new(params());
        assert_eq!(muon.slots(&rest), ["exp_avg", "exp_avg_sq"]);
        assert_eq!(muon.slots(&MATRICES), ["momentum_buffer"]);
        let vector = || vec![Tensor::from_slice(&[1.0, 2.0])];
        let mut ours = Trial::of(muon, rest, vector());
        let adam = AdamParams { betas: (0.9, 0.95), eps: 1e-10, ..AdamParams::default() };
        let mut theirs = Trial::of(Adam { params: adam, decoupled: true }, rest, vector());
        for gradient in [[1.0, -2.0], [0.5, 0.0]] {
            ours.step(0.1, &gradient);
            theirs.step(0.1, &gradient);
        }
        assert_eq!(ours.weights(), theirs.weights());
        assert_ne!(ours.weights(), [1.0, 2.0]);
        let factors = |adjust: AdjustLr| [(1, 4), (9, 1)].map(|shape| adjust.factor(shape));
        close(&factors(AdjustLr::Original), &[1.0, 3.0]);
        close(&factors(AdjustLr::MatchRmsAdamw), &[0.4, 0.6]);
    }

    /// In bfloat16 as in float32, but for its three digits; nothing but the steps is in bfloat16.
    #[test]
    fn bfloat16_is_near() {
        let run = |ns_dtype| {
            let params = MuonParams { ns_dtype, ..MuonParams::default() };
            let weights = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0]).reshape([2, 2]);
            let mut trial = Trial::of(Muon::new(params), MATRICES, vec![weights]);
            trial.step(0.01, &[0.3, -0.1, 0.7, 0.2]);
            assert_eq!(trial.parameters[0].kind(), Kind::Double);
            (trial.weights(), Vec::<f64>::try_from(trial.slots[0][0].flatten(0, -1)).unwrap())
        };
        let (short, long) = (run(NsDtype::Bf16), run(NsDtype::Fp32));
        assert!(short.0.iter().zip(&long.0).all(|(x, y)| (x - y).abs() < 0.01 * 0.02));
        assert_ne!(short.0, long.0);
        assert_eq!(short.1, long.1);
    }
}
