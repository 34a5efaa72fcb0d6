//! libtorch's fused Adagrad: one multi-threaded pass over all tensors of a group.
use crate::error::{Result, check, same_length};
use crate::ffi;
use tch::Tensor;

/// Hyper-parameters of one Adagrad step (Duchi et al. 2011, <https://jmlr.org/papers/v12/duchi11a.html>).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdagradStep {
    /// Learning rate of the first update; the t-th has `lr / (1 + (t - 1) * lr_decay)`.
    pub lr: f64,
    /// How fast the learning rate falls.
    pub lr_decay: f64,
    /// `weight_decay * w` is added to the gradient.
    pub weight_decay: f64,
    /// Added to the root of the sum of squares.
    pub eps: f64,
}

/// One Adagrad step, in place, for tensors of one device and kind.
///
/// `params`, `grads`, `sums` (of the squared gradients): equally many tensors, each of its parameter's
/// shape. `steps`: how many updates each parameter has had with this one, from 1.
///
/// # Errors
/// If the lists differ in length or libtorch refuses the tensors.
pub fn fused_adagrad(
    params: &[Tensor],
    grads: &[Tensor],
    sums: &[Tensor],
    steps: &[i64],
    how: AdagradStep,
) -> Result<()> {
    same_length(params, &[grads.len(), sums.len(), steps.len()])?;
    let [p, g, s] = [params, grads, sums].map(ffi::handles);
    // SAFETY: all four arrays hold `params.len()` elements, checked above, and outlive the call; the shim
    // checks that the tensors are laid out alike, which the kernel takes for granted.
    check(unsafe {
        ffi::ty_fused_adagrad(
            p.as_ptr(),
            g.as_ptr(),
            s.as_ptr(),
            steps.as_ptr(),
            p.len(),
            how.lr,
            how.lr_decay,
            how.weight_decay,
            how.eps,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two parameters at their own steps: w = 1, g = 2, sums 0 and 5.
    #[test]
    fn adagrad_by_hand() {
        let one = |x: f64| Tensor::from_slice(&[x]);
        let (p, g, s) = ([one(1.0), one(1.0)], [one(2.0), one(2.0)], [one(0.0), one(5.0)]);
        let how = AdagradStep { lr: 0.1, lr_decay: 0.5, weight_decay: 0.0, eps: 0.01 };
        fused_adagrad(&p, &g, &s, &[1, 3], how).unwrap();
        let found = |t: &Tensor| t.double_value(&[0]);
        assert!((found(&p[0]) - (1.0 - 0.1 * 2.0 / 2.01)).abs() < 1e-12);
        assert!((found(&p[1]) - (1.0 - 0.05 * 2.0 / 3.01)).abs() < 1e-12);
        assert_eq!([found(&s[0]), found(&s[1])], [4.0, 9.0]);
        assert!(fused_adagrad(&p, &g, &s, &[1], how).is_err());
        let longer = [one(0.0), Tensor::from_slice(&[0.0, 0.0])];
        let error = fused_adagrad(&p, &g, &longer, &[1, 1], how).unwrap_err();
        assert!(error.to_string().contains("came with a tensor of sizes [2]"), "{error}");
    }
}
