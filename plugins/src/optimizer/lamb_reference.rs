//! LAMB on plain float64 numbers, written from the definition, to hold the tensors against.
use super::params::{LambParams, LambVariant};

/// One parameter tensor in training.
pub struct Reference {
    pub params: LambParams,
    /// Weight decay and adaptation of its group.
    pub weight_decay: f64,
    pub adapt: bool,
    pub w: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
    t: i32,
}

impl Reference {
    pub fn new(params: LambParams, weights: &[f64]) -> Self {
        let zeros = vec![0.0; weights.len()];
        let weight_decay = params.weight_decay;
        let (m, v) = (zeros.clone(), zeros);
        Reference { params, weight_decay, adapt: true, w: weights.to_vec(), m, v, t: 0 }
    }

    /// One update at rate `lr`; returns |w| before it, |u|, and the ratio used.
    pub fn step(&mut self, lr: f64, gradient: &[f64]) -> (f64, f64, f64) {
        let LambParams { betas: (b1, b2), eps, .. } = self.params;
        self.t += 1;
        let (c1, c2) = match self.params.bias_correction {
            true => (1.0 - b1.powi(self.t), 1.0 - b2.powi(self.t)),
            false => (1.0, 1.0),
        };
        let paper = self.params.variant == LambVariant::Paper;
        let (d1, d2) = if paper { (c1, c2) } else { (1.0, 1.0) };
        let mut u = Vec::new();
        for (i, g) in gradient.iter().enumerate() {
            self.m[i] = b1 * self.m[i] + (1.0 - b1) * g;
            self.v[i] = b2 * self.v[i] + (1.0 - b2) * g * g;
            let v = self.v[i] / d2;
            let root = if self.params.eps_inside_sqrt { (v + eps).sqrt() } else { v.sqrt() + eps };
            u.push(self.m[i] / d1 / root + self.weight_decay * self.w[i]);
        }
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (w_norm, u_norm) = (norm(&self.w), norm(&u));
        let ratio = match self.adapt && w_norm > 0.0 && u_norm > 0.0 {
            true => (w_norm / u_norm).min(self.params.max_coeff).max(self.params.min_coeff),
            false => 1.0,
        };
        let rate = if paper { lr } else { lr * c2.sqrt() / c1 };
        for (w, u) in self.w.iter_mut().zip(&u) {
            *w -= rate * ratio * u;
        }
        (w_norm, u_norm, ratio)
    }
}
