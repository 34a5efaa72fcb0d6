//! Stochastic gradient descent in libtorch's one pass over all tensors of a group.
use crate::error::{Result, check, same_length};
use crate::ffi;
use tch::Tensor;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn one(x: f64) -> Vec<Tensor> {
        vec![Tensor::from_slice(&[x])]
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
