//! LAMB, in two passes over all tensors of a group.
use super::adam::correction_steps;
use super::params::{LambParams, LambVariant};
use trainyard::{BoxError, GroupOptions, Optimizer, Update};
use trainyard_native::{LambStep, fused_lamb};

/// LAMB (You et al. 2020, <https://arxiv.org/abs/1904.00962>): Adam's direction u for each tensor w, at
/// a rate times |w| / |u|.
#[derive(Debug, Clone)]
pub struct Lamb {
    /// What the configuration sets; the learning rate and the decay come with each update.
    pub params: LambParams,
}

impl Optimizer for Lamb {
    fn kind(&self) -> &'static str {
        "Lamb"
    }

    fn slots(&self, _: &GroupOptions) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn takes_scale(&self) -> bool {
        true
    }

    fn update(&mut self, update: &Update<'_>) -> Result<(), BoxError> {
        let [m, v] = update.slots else {
            return Err("LAMB needs its two slots".into());
        };
        let (beta1, beta2) = update.betas.unwrap_or(self.params.betas);
        let how = LambStep {
            lr: update.lr,
            beta1,
            beta2,
            eps: self.params.eps,
            weight_decay: update.options.weight_decay,
            min_coeff: self.params.min_coeff,
            max_coeff: self.params.max_coeff,
            eps_inside_sqrt: self.params.eps_inside_sqrt,
            correct_rate: self.params.variant == LambVariant::DeepSpeed,
            adapt: update.options.adapt,
        };
        let steps = correction_steps(update.steps, self.params.bias_correction);
        Ok(fused_lamb(update.parameters, update.gradients, m, v, &steps, update.scale, how)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::lamb_reference::Reference;
    use crate::optimizer::trial::Trial;
    use tch::{Device, Kind, Tensor};

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

    /// Fifty steps of float32 tensors, whose loops are not those of float64, on one long and two short
    /// parameters: the norms of a tensor are of all its pieces.
    #[test]
    fn in_float32_too() {
        let sizes = [1, 7, 40_000];
        for variant in [LambVariant::Paper, LambVariant::DeepSpeed] {
            let params = LambParams { variant, weight_decay: 0.01, ..LambParams::default() };
            tch::manual_seed(2);
            let draw = |n: i64| Tensor::randn([n], (Kind::Float, Device::Cpu));
            let numbers = |t: &Tensor| Vec::<f64>::try_from(t.to_kind(Kind::Double)).unwrap();
            let start: Vec<_> = sizes.into_iter().map(draw).collect();
            let mut references: Vec<_> =
                start.iter().map(|w| Reference::new(params.clone(), &numbers(w))).collect();
            let options = GroupOptions { lr: 0.0, weight_decay: 0.01, adapt: true };
            let mut trial = Trial::of(Lamb { params }, options, start);
            for _ in 0..50 {
                let gradients: Vec<_> = sizes.into_iter().map(|n| numbers(&draw(n))).collect();
                trial.step_of(
                    0.01,
                    &gradients.iter().map(|g| Some(g.as_slice())).collect::<Vec<_>>(),
                );
                for (reference, gradient) in references.iter_mut().zip(&gradients) {
                    reference.step(0.01, gradient);
                }
            }
            let (mut apart, mut whole) = (0.0, 0.0);
            for (found, reference) in trial.parameters.iter().zip(&references) {
                for (x, y) in numbers(found).iter().zip(&reference.w) {
                    apart += (x - y) * (x - y);
                    whole += y * y;
                }
            }
            let relative = f64::sqrt(apart / whole);
            assert!(relative < 1e-6, "{variant:?}: {relative}");
        }
    }
}
