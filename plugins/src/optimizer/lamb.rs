//! LAMB, tensor by tensor, with nothing read by the host.
use super::params::{LambParams, LambVariant};
use tch::{TchError, Tensor};
use trainyard::{BoxError, Optimizer, Update};
use trainyard_native::add_scaled;

/// LAMB (You et al. 2020, <https://arxiv.org/abs/1904.00962>): Adam's direction u for each tensor w, at
/// a rate times |w| / |u|.
#[derive(Debug, Clone)]
pub struct Lamb {
    /// What the configuration sets; the learning rate and the decay come with each update.
    pub params: LambParams,
}

impl Optimizer for Lamb {
    fn slots(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn update(&mut self, update: &Update<'_>) -> Result<(), BoxError> {
        let [moments, squares] = update.slots else {
            return Err("LAMB needs its two slots".into());
        };
        let (beta1, beta2) = update.betas.unwrap_or(self.params.betas);
        let decay = update.options.weight_decay;
        for (i, gradient) in update.gradients.iter().enumerate() {
            let [mut w, mut m, mut v] =
                [&update.parameters[i], &moments[i], &squares[i]].map(Tensor::shallow_clone);
            let corrections = self.corrections((beta1, beta2), update.steps[i]);

            let _ = m.f_lerp_(gradient, 1.0 - beta1)?;
            let mut u = gradient.f_square()?;
            let _ = v.f_lerp_(&u, 1.0 - beta2)?;
            self.direction(&m, &v, corrections, &mut u)?;
            if decay != 0.0 {
                u = add_scaled(&u, &w, decay)?;
            }
            let rate = -update.lr * corrections.rate;
            let _ = if update.options.adapt {
                u.f_mul_(&self.ratio(&w, &u)?.f_mul_scalar(rate)?)?
            } else {
                u.f_mul_scalar_(rate)?
            };
            let _ = w.f_add_(&u)?;
        }
        Ok(())
    }
}

/// What makes up for the running means' start at zero.
#[derive(Debug, Clone, Copy)]
struct Corrections {
    /// Divides the mean gradient.
    mean: f64,
    /// Divides the mean square.
    square: f64,
    /// Multiplies the learning rate.
    rate: f64,
}

impl Lamb {
    fn corrections(&self, (beta1, beta2): (f64, f64), step: i64) -> Corrections {
        let of = |beta: f64| 1.0 - beta.powf(step as f64);
        let (mean, square) = (of(beta1), of(beta2));
        match self.params.variant {
            _ if !self.params.bias_correction => Corrections { mean: 1.0, square: 1.0, rate: 1.0 },
            LambVariant::Paper => Corrections { mean, square, rate: 1.0 },
            LambVariant::DeepSpeed => {
                Corrections { mean: 1.0, square: 1.0, rate: square.sqrt() / mean }
            }
        }
    }

    /// Adam's direction from the running means `m` and `v`, into `u` of their shape.
    fn direction(
        &self,
        m: &Tensor,
        v: &Tensor,
        corrections: Corrections,
        u: &mut Tensor,
    ) -> Result<(), TchError> {
        let eps = self.params.eps;
        // Both corrections as one factor: sqrt(v / c) + eps = (sqrt(v) + sqrt(c) * eps) / sqrt(c), and
        // with eps inside, sqrt(v / c + eps) = sqrt(v + c * eps) / sqrt(c).
        if self.params.eps_inside_sqrt {
            let _ = v.f_add_scalar_out(u, eps * corrections.square)?;
            let _ = u.f_sqrt_()?;
        } else {
            let _ = v.f_sqrt_out(u)?;
            let _ = u.f_add_scalar_(eps * corrections.square.sqrt())?;
        }
        let _ = m.f_div_out(u, u)?;
        let factor = corrections.square.sqrt() / corrections.mean;
        if factor != 1.0 {
            let _ = u.f_mul_scalar_(factor)?;
        }
        Ok(())
    }

    /// |w| / |u| within its limits, 1 where either norm is 0: a scalar on their device.
    fn ratio(&self, w: &Tensor, u: &Tensor) -> Result<Tensor, TchError> {
        let (w, u) = (w.f_norm()?, u.f_norm()?);
        let mut ratio = w.f_div(&u)?;
        let _ = ratio.f_clamp_(self.params.min_coeff, self.params.max_coeff)?;
        let usable = w.f_logical_and(&u)?;
        ratio.f_where_self(&usable, &ratio.f_ones_like()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::lamb_reference::Reference;
    use crate::optimizer::trial::Trial;

    /// DeepSpeed's rule, traced in float64 from its definition. Columns: params, weights, step,
    /// gradient, norms of weights and update before it, ratio, weights after it.
    const GOLDEN: &str = include_str!("lamb_golden.tsv");

    fn close(found: &[f64], expected: &[f64], what: &str) {
        assert_eq!(found.len(), expected.len());
        for (x, y) in found.iter().zip(expected) {
            assert!((x - y).abs() <= 1e-12 * y.abs(), "{what}: {found:?} is not {expected:?}");
        }
    }

    fn trial(params: &LambParams, weights: &[f64]) -> Trial<Lamb> {
        let mut trial = Trial::new(Lamb { params: params.clone() }, weights);
        trial.options.weight_decay = params.weight_decay;
        trial
    }

    #[test]
    fn deepspeeds_rule_to_the_trace() {
        let numbers = |text: &str| -> Vec<f64> {
            text.split(' ').map(|number| number.parse().expect("a number")).collect()
        };
        let mut runs: Vec<(Reference, Trial<Lamb>)> = Vec::new();
        for line in GOLDEN.lines().skip(1) {
            let columns: Vec<_> = line.split('\t').collect();
            let mut params: LambParams = serde_json::from_str(columns[0]).unwrap();
            params.variant = LambVariant::DeepSpeed;
            let lr = params.lr;
            if columns[2] == "1" {
                let weights = numbers(columns[1]);
                runs.push((Reference::new(params.clone(), &weights), trial(&params, &weights)));
            }
            let (reference, trial) = runs.last_mut().expect("a run begins with step 1");
            let gradient = numbers(columns[3]);
            let (w, u, ratio) = reference.step(lr, &gradient);
            close(
                &[w, u, ratio],
                &columns[4..7].iter().flat_map(|x| numbers(x)).collect::<Vec<_>>(),
                line,
            );
            close(&reference.w, &numbers(columns[7]), line);
            trial.step(lr, &gradient);
            close(&trial.weights(), &numbers(columns[7]), line);
        }
        assert_eq!(runs.len(), 14);
    }

    #[test]
    fn every_option_agrees_with_the_reference() {
        let bools = [false, true];
        for variant in [LambVariant::Paper, LambVariant::DeepSpeed] {
            for (eps_inside_sqrt, bias_correction, adapt) in bools
                .iter()
                .flat_map(|a| bools.iter().flat_map(move |b| bools.map(|c| (*a, *b, c))))
            {
                let params = LambParams {
                    betas: (0.8, 0.95),
                    eps: 1e-3,
                    eps_inside_sqrt,
                    weight_decay: 0.1,
                    bias_correction,
                    max_coeff: 0.9,
                    variant,
                    ..LambParams::default()
                };
                let weights = [0.5, -1.0, 2.0];
                let mut reference = Reference::new(params.clone(), &weights);
                reference.adapt = adapt;
                let mut trial = trial(&params, &weights);
                trial.options.adapt = adapt;
                for (lr, gradient) in
                    [(0.1, [0.3, 0.0, -4.0]), (0.2, [1.0, 0.5, 0.1]), (0.3, [0.0; 3])]
                {
                    reference.step(lr, &gradient);
                    trial.step(lr, &gradient);
                    close(&trial.weights(), &reference.w, &format!("{params:?} {adapt}"));
                }
            }
        }
    }

    /// The first step of the paper's rule: m' = g and v' = g^2, so that each component of u is its
    /// gradient's sign plus the decay.
    #[test]
    fn the_papers_rule_by_hand() {
        let params = LambParams { eps: 0.0, weight_decay: 0.5, ..LambParams::default() };
        let mut trial = trial(&params, &[3.0, -4.0]);
        trial.step(0.1, &[0.2, 0.7]);
        let u = [1.0 + 1.5, 1.0 - 2.0];
        let ratio = 5.0 / f64::hypot(u[0], u[1]);
        close(&trial.weights(), &[3.0 - 0.1 * ratio * u[0], -4.0 - 0.1 * ratio * u[1]], "");
    }

    /// Norms belong to a tensor: two in one call do as each alone, and a zero tensor has ratio 1.
    #[test]
    fn each_tensor_has_its_own_norms() {
        let params = LambParams::default();
        let mut both = Trial::many(Lamb { params: params.clone() }, &[&[3.0, 4.0], &[0.0, 0.0]]);
        both.step(0.1, &[0.5, -0.25]);
        let mut first = trial(&params, &[3.0, 4.0]);
        first.step(0.1, &[0.5, -0.25]);
        assert_eq!(both.weights(), first.weights());
        let second = Vec::<f64>::try_from(&both.parameters[1]).unwrap();
        // Adam's direction is the sign, to within eps.
        close(&second, &[-0.1 / (1.0 + 1e-8 / 0.5), 0.1 / (1.0 + 1e-8 / 0.25)], "zero weights");
    }

    /// No gradient and no decay: no update, whatever the ratio of 0 and the norm would be.
    #[test]
    fn nothing_moves_without_a_gradient() {
        let mut trial = trial(&LambParams::default(), &[3.0, 4.0]);
        trial.step(0.1, &[0.0, 0.0]);
        assert_eq!(trial.weights(), [3.0, 4.0]);
    }
}
