//! Adam and AdamW in one pass over all tensors of a group.
use crate::error::{Result, check, same_length};
use crate::ffi;
use tch::Tensor;

/// Hyper-parameters of one Adam step (Kingma and Ba 2015, <https://arxiv.org/abs/1412.6980>).
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
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

/// One Adam or AdamW step, in place, for tensors of one device and kind.
///
/// `params`, `grads`, `exp_avgs`, `exp_avg_sqs`: equally many tensors, each laid out in memory like its
/// parameter. `steps`: how many updates each parameter has had with this one, from 1 (the bias
/// correction). `scale`: a real scalar on the gradients' device that multiplies them; on CUDA they are
/// multiplied in place, elsewhere they stay as they are.
///
/// float32 on the CPU takes a loop of ours that moves 28 bytes a parameter and gives the same bits
/// whatever the number of threads; all else takes libtorch's fused kernel. Nothing is read by the host.
///
/// # Errors
/// If the lists differ in length or the tensors in layout, or libtorch refuses them.
pub fn fused_adam(
    params: &[Tensor],
    grads: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    steps: &[i64],
    scale: Option<&Tensor>,
    how: AdamStep,
) -> Result<()> {
    same_length(params, &[grads.len(), exp_avgs.len(), exp_avg_sqs.len(), steps.len()])?;
    let [p, g, m, v] = [params, grads, exp_avgs, exp_avg_sqs].map(ffi::handles);
    // SAFETY: all five arrays hold `params.len()` elements, checked above, and outlive the call, as `scale`
    // and `how` do; the shim checks that the tensors are laid out alike, which the kernels take for granted.
    check(unsafe {
        ffi::ty_fused_adam(
            p.as_ptr(),
            g.as_ptr(),
            m.as_ptr(),
            v.as_ptr(),
            steps.as_ptr(),
            p.len(),
            ffi::handle(scale),
            &how,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{Case, agree};
    use tch::Kind;

    const HOW: AdamStep = AdamStep {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        decoupled: true,
    };

    /// w = 1, g = 0.5, first step: m' = g, v' = g^2, so the update is lr * g / (|g| + eps).
    #[test]
    fn adamw_by_hand() {
        for kind in [Kind::Double, Kind::Float] {
            let one = |x: f64| vec![Tensor::from_slice(&[x]).to_kind(kind)];
            let (p, m, v) = (one(1.0), one(0.0), one(0.0));
            fused_adam(&p, &one(0.5), &m, &v, &[1], None, HOW).unwrap();
            let expected = 1.0 * (1.0 - 0.1 * 0.01) - 0.1 * 0.5 / (0.5 + 1e-8);
            let near = if kind == Kind::Double { 1e-12 } else { 1e-7 };
            assert!((p[0].double_value(&[0]) - expected).abs() < near);
            assert!((m[0].double_value(&[0]) - 0.05).abs() < near);
        }
    }

    #[test]
    fn wrong_lists_are_errors() {
        let one = || vec![Tensor::from_slice(&[0f32])];
        let error = fused_adam(&one(), &one(), &one(), &one(), &[], None, HOW).unwrap_err();
        assert_eq!(error.to_string(), "libtorch: 1 parameters came with a list of 0");
        let longer = [Tensor::from_slice(&[0f32, 0.0])];
        let error = fused_adam(&one(), &one(), &one(), &longer, &[1], None, HOW).unwrap_err();
        assert!(error.to_string().contains("came with a tensor of sizes [2]"), "{error}");
        let scale = Tensor::from_slice(&[1f32, 2.0]);
        let error =
            fused_adam(&one(), &one(), &one(), &one(), &[1], Some(&scale), HOW).unwrap_err();
        assert!(error.to_string().contains("not a real scalar"), "{error}");
        fused_adam(&[], &[], &[], &[], &[], None, HOW).unwrap();
    }

    /// A gradient's stride along a dimension of size 1 may be anything.
    #[test]
    fn only_strides_that_are_used_count() {
        let column = |x: f32| Tensor::from_slice(&[x, x]).as_strided([2, 1], [1, 2], 0);
        let row = Tensor::from_slice(&[1f32, 1.0]).reshape([2, 1]);
        fused_adam(&[row], &[column(1.0)], &[column(0.0)], &[column(0.0)], &[1], None, HOW)
            .unwrap();
        let square = Tensor::ones([2, 2], (Kind::Float, tch::Device::Cpu));
        let crossed = square.transpose(0, 1);
        let lists = [&square, &square, &square].map(|t| [t.copy()]);
        let [p, m, v] = &lists;
        assert!(fused_adam(p, &[crossed], m, v, &[1], None, HOW).is_err());
    }

    /// A backward pass through weights that an update has changed since would be wrong.
    #[test]
    fn autograd_notices_the_change() {
        for kind in [Kind::Float, Kind::Double] {
            let w = Tensor::from_slice(&[1.0]).to_kind(kind).set_requires_grad(true);
            let loss = (&w * &w).sum(kind);
            let [g, m, v] = [1.0, 0.0, 0.0].map(|x| [Tensor::from_slice(&[x]).to_kind(kind)]);
            fused_adam(std::slice::from_ref(&w), &g, &m, &v, &[1], None, HOW).unwrap();
            let error = loss.f_backward().unwrap_err().to_string();
            assert!(error.contains("modified by an inplace operation"), "{kind:?}: {error}");
        }
    }

    #[test]
    fn float32_agrees_with_float64() {
        for decoupled in [true, false] {
            agree(|Case { w, g, slots: [m, v], steps, scale }| {
                let how = AdamStep { eps: 1e-6, lr: 1e-2, decoupled, ..HOW };
                fused_adam(w, g, m, v, steps, scale, how)
            });
        }
    }
}
