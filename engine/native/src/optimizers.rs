//! libtorch's fused optimizer steps: one multi-threaded pass over all tensors of a group.
use crate::error::{Error, Result, check};
use crate::ffi;
use tch::Tensor;

/// Hyper-parameters of one Adam step (Kingma and Ba 2015, <https://arxiv.org/abs/1412.6980>).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay, as `decoupled` says.
    pub weight_decay: f64,
    /// True: AdamW (Loshchilov and Hutter 2019, <https://arxiv.org/abs/1711.05101>), the weights
    /// shrink by `lr * weight_decay`. False: `weight_decay * w` is added to the gradient.
    pub decoupled: bool,
}

/// Hyper-parameters of one step of stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Momentum; 0 keeps no buffers.
    pub momentum: f64,
    /// Dampening of the momentum.
    pub dampening: f64,
    /// `weight_decay * w` is added to the gradient.
    pub weight_decay: f64,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// True when the buffers are new: they become the gradient itself.
    pub first: bool,
}

/// One Adam or AdamW step, in place, for tensors of one device and kind.
///
/// `params`, `grads`, `exp_avgs`, `exp_avg_sqs`: equally many tensors, each of its parameter's shape.
/// `steps`: how many updates each parameter has had with this one, from 1 (the bias correction).
///
/// # Errors
/// If the lists differ in length or libtorch refuses the tensors.
pub fn fused_adam(
    params: &[Tensor],
    grads: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    steps: &[i64],
    how: AdamStep,
) -> Result<()> {
    same_length(params, &[grads.len(), exp_avgs.len(), exp_avg_sqs.len(), steps.len()])?;
    let [p, g, m, v] = [params, grads, exp_avgs, exp_avg_sqs].map(ffi::handles);
    // SAFETY: all five arrays hold `params.len()` elements, checked above, and outlive the call; the shim
    // checks that the tensors are laid out alike, which the kernel takes for granted.
    check(unsafe {
        ffi::ty_fused_adam(
            p.as_ptr(),
            g.as_ptr(),
            m.as_ptr(),
            v.as_ptr(),
            steps.as_ptr(),
            p.len(),
            how.decoupled.into(),
            how.lr,
            how.beta1,
            how.beta2,
            how.weight_decay,
            how.eps,
        )
    })
}

/// One step of stochastic gradient descent, in place, for tensors of one device and kind.
///
/// `momenta`: one buffer for each parameter, or empty when `momentum` is 0.
///
/// # Errors
/// If the lists differ in length or libtorch refuses the tensors.
pub fn fused_sgd(
    params: &[Tensor],
    grads: &[Tensor],
    momenta: &[Tensor],
    how: SgdStep,
) -> Result<()> {
    same_length(params, &[grads.len()])?;
    if how.momentum != 0.0 {
        same_length(params, &[momenta.len()])?;
    }
    let [p, g, m] = [params, grads, momenta].map(ffi::handles);
    // SAFETY: the arrays hold `params.len()` elements, checked above (`m` is read only when momentum
    // is not 0), and outlive the call; the shim checks the tensors' layouts.
    check(unsafe {
        ffi::ty_fused_sgd(
            p.as_ptr(),
            g.as_ptr(),
            m.as_ptr(),
            p.len(),
            how.lr,
            how.momentum,
            how.dampening,
            how.weight_decay,
            how.nesterov.into(),
            how.first.into(),
        )
    })
}

fn same_length(params: &[Tensor], others: &[usize]) -> Result<()> {
    match others.iter().find(|&&n| n != params.len()) {
        None => Ok(()),
        Some(n) => Err(Error(format!("{} parameters came with a list of {n}", params.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(x: f64) -> Vec<Tensor> {
        vec![Tensor::from_slice(&[x])]
    }

    /// w = 1, g = 0.5, first step: m' = g, v' = g^2, so the update is lr * g / (|g| + eps).
    #[test]
    fn adamw_by_hand() {
        let (p, m, v) = (one(1.0), one(0.0), one(0.0));
        let how = AdamStep {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            decoupled: true,
        };
        fused_adam(&p, &one(0.5), &m, &v, &[1], how).unwrap();
        let expected = 1.0 * (1.0 - 0.1 * 0.01) - 0.1 * 0.5 / (0.5 + 1e-8);
        assert!((p[0].double_value(&[0]) - expected).abs() < 1e-12);
        assert!((m[0].double_value(&[0]) - 0.05).abs() < 1e-12);
        assert!(fused_adam(&p, &one(0.5), &m, &v, &[], how).is_err());
        let longer = [Tensor::from_slice(&[0.0, 0.0])];
        let error = fused_adam(&p, &one(0.5), &m, &longer, &[1], how).unwrap_err();
        assert!(error.to_string().contains("came with a tensor of sizes [2]"), "{error}");
    }

    /// Two steps of g = 1 with momentum 0.5: buffers 1 and 1.5.
    #[test]
    fn sgd_by_hand() {
        let (p, b) = (one(1.0), one(0.0));
        let mut how = SgdStep {
            lr: 0.1,
            momentum: 0.5,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            first: true,
        };
        fused_sgd(&p, &one(1.0), &b, how).unwrap();
        how.first = false;
        fused_sgd(&p, &one(1.0), &b, how).unwrap();
        assert!((p[0].double_value(&[0]) - (1.0 - 0.1 - 0.15)).abs() < 1e-12);
        fused_sgd(&p, &one(1.0), &[], SgdStep { momentum: 0.0, ..how }).unwrap();
        assert!((p[0].double_value(&[0]) - 0.65).abs() < 1e-12);
    }
}
