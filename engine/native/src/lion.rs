//! Lion in one pass over all tensors of a group.
use crate::error::{Result, check, same_length};
use crate::ffi;
use tch::Tensor;

/// Hyper-parameters of one Lion step (Chen et al. 2023, <https://arxiv.org/abs/2302.06675>).
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct LionStep {
    /// Learning rate: every weight moves by so much, but for the decay.
    pub lr: f64,
    /// Weight of the momentum against the gradient where the sign is taken.
    pub beta1: f64,
    /// Decay of the momentum.
    pub beta2: f64,
    /// The weights shrink by `lr * weight_decay`.
    pub weight_decay: f64,
}

/// One Lion step, in place, for tensors of one device and kind: `w -= lr * (sign(c) + weight_decay * w)`
/// with `c = beta1 * m + (1 - beta1) * g`, then `m = beta2 * m + (1 - beta2) * g`. The sign of 0 is 0, and of what is no number it is no number
/// either.
///
/// `params`, `grads`, `exp_avgs`: equally many tensors, each laid out in memory like its parameter.
/// `scale`: a real scalar on the gradients' device that multiplies them; it does not change them.
///
/// float32 on the CPU takes a loop of ours that moves 20 bytes a parameter and gives the same bits
/// whatever the number of threads; all else takes libtorch's multi-tensor operations. Nothing is read by
/// the host.
///
/// # Errors
/// If the lists differ in length or the tensors in layout, or libtorch refuses them.
pub fn fused_lion(
    params: &[Tensor],
    grads: &[Tensor],
    exp_avgs: &[Tensor],
    scale: Option<&Tensor>,
    how: LionStep,
) -> Result<()> {
    same_length(params, &[grads.len(), exp_avgs.len()])?;
    let [p, g, m] = [params, grads, exp_avgs].map(ffi::handles);
    // SAFETY: the three arrays hold `params.len()` elements, checked above, and outlive the call, as `scale`
    // and `how` do; the shim checks that the tensors are laid out alike, which the loop takes for granted.
    check(unsafe {
        ffi::ty_fused_lion(p.as_ptr(), g.as_ptr(), m.as_ptr(), p.len(), ffi::handle(scale), &how)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{Case, agree};

    const HOW: LionStep = LionStep { lr: 0.1, beta1: 0.9, beta2: 0.5, weight_decay: 0.5 };

    /// Gradients of both signs, none, and one that the momentum outweighs.
    #[test]
    fn by_hand() {
        for kind in [tch::Kind::Float, tch::Kind::Double] {
            let tensor = |x: &[f64]| [Tensor::from_slice(x).to_kind(kind)];
            let (w, m) = (tensor(&[1.0, 1.0, 1.0, -2.0]), tensor(&[0.0, 0.0, 0.0, 1.0]));
            let g = tensor(&[0.5, -0.25, 0.0, -2.0]);
            fused_lion(&w, &g, &m, None, HOW).unwrap();
            let shrunk = |w: f64| w * (1.0 - 0.1 * 0.5);
            let expected = [shrunk(1.0) - 0.1, shrunk(1.0) + 0.1, shrunk(1.0), shrunk(-2.0) - 0.1];
            let far = (&w[0] - &tensor(&expected)[0]).abs().max().double_value(&[]);
            assert!(far < 1e-7, "{kind:?}: {far}");
            assert_eq!(m, tensor(&[0.25, -0.125, 0.0, -0.5]));
        }
    }

    #[test]
    fn float32_agrees_with_float64() {
        agree(|Case { w, g, slots: [m, _], scale, .. }| {
            fused_lion(w, g, m, scale, LionStep { lr: 1e-3, beta2: 0.99, ..HOW })
        });
    }

    /// So that the next loss tells of it: nobody need have looked at the gradients before.
    #[test]
    fn what_is_no_number_shows_in_the_weights() {
        for kind in [tch::Kind::Float, tch::Kind::Double] {
            let tensor = |x: &[f64]| [Tensor::from_slice(x).to_kind(kind)];
            let (w, m) = (tensor(&[1.0; 3]), tensor(&[0.0; 3]));
            fused_lion(&w, &tensor(&[0.5, f64::NAN, -0.5]), &m, None, HOW).unwrap();
            let w = Vec::<f64>::try_from(w[0].to_kind(tch::Kind::Double)).unwrap();
            assert!(w[0] < 1.0 && w[1].is_nan() && w[2] > 1.0, "{kind:?}: {w:?}");
        }
    }
}
