//! LAMB in two passes over all tensors of a group.
use crate::error::{Result, check, same_length};
use crate::ffi;
use tch::Tensor;

/// Hyper-parameters of one LAMB step (You et al. 2020, <https://arxiv.org/abs/1904.00962>).
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct LambStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment, or below it.
    pub eps: f64,
    /// `weight_decay * w` is added to the direction.
    pub weight_decay: f64,
    /// Smallest ratio of the norms of weights and direction.
    pub min_coeff: f64,
    /// Largest ratio.
    pub max_coeff: f64,
    /// Whether `eps` is added below the root.
    pub eps_inside_sqrt: bool,
    /// False: the moments are corrected for their start at zero, as in the paper. True: the learning rate
    /// is, by `sqrt(1 - beta2^t) / (1 - beta1^t)`, as DeepSpeed has it, and so the decay with it.
    pub correct_rate: bool,
    /// Whether the rate follows the ratio of the norms; otherwise this is AdamW.
    pub adapt: bool,
}

/// One LAMB step, in place, for tensors of one device and kind.
///
/// The arguments are those of [`fused_adam`](crate::fused_adam), but `scale` never changes the gradients.
///
/// float32 on the CPU takes loops of ours. The first pass reads parameter, gradient and moments and writes
/// the moments, 24 bytes a parameter, and sums the squares of the norms in float64, in an order that the
/// number of threads does not change; the second writes the parameter, once the ratio is known. Each
/// thread keeps up to 2 million elements of the direction from one pass to the other in a buffer that stays
/// in the caches, so that the second pass moves at most 8 bytes more; the rest it computes once more, for 16.
/// Without `adapt` it is one pass of 28. All else takes libtorch's multi-tensor operations and, to apply
/// the ratios, one operation for each tensor; the ratios stay on the device, and nothing is read by the
/// host.
///
/// # Errors
/// If the lists differ in length or the tensors in layout, or libtorch refuses them.
pub fn fused_lamb(
    params: &[Tensor],
    grads: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    steps: &[i64],
    scale: Option<&Tensor>,
    how: LambStep,
) -> Result<()> {
    same_length(params, &[grads.len(), exp_avgs.len(), exp_avg_sqs.len(), steps.len()])?;
    let [p, g, m, v] = [params, grads, exp_avgs, exp_avg_sqs].map(ffi::handles);
    // SAFETY: all five arrays hold `params.len()` elements, checked above, and outlive the call, as `scale`
    // and `how` do; the shim checks that the tensors are laid out alike, which the loops take for granted.
    check(unsafe {
        ffi::ty_fused_lamb(
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
    use tch::{Device, Kind};

    #[test]
    fn float32_agrees_with_float64() {
        let bools = [false, true];
        for (eps_inside_sqrt, correct_rate, adapt) in
            bools.iter().flat_map(|a| bools.iter().flat_map(move |b| bools.map(|c| (*a, *b, c))))
        {
            let how = LambStep {
                lr: 1e-2,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-6,
                weight_decay: 0.01,
                min_coeff: 0.01,
                max_coeff: 10.0,
                eps_inside_sqrt,
                correct_rate,
                adapt,
            };
            agree(|Case { w, g, slots: [m, v], steps, scale }| {
                fused_lamb(w, g, m, v, steps, scale, how)
            });
        }
    }

    /// What is too large for all of its direction to be kept, and tensors before and after it. How much is
    /// kept depends on the threads, the result does not.
    #[test]
    fn large_tensors_agree_with_float64() {
        let how = LambStep {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay: 0.01,
            min_coeff: 0.01,
            max_coeff: 10.0,
            eps_inside_sqrt: false,
            correct_rate: false,
            adapt: true,
        };
        let sizes = [300_000, 7, 300_000, (1 << 22) + 5, 300_000];
        let run = |kind| {
            tch::manual_seed(4);
            let draw =
                || sizes.map(|n| Tensor::randn([n], (Kind::Float, Device::Cpu)).to_kind(kind));
            let w = draw();
            let [m, v] = [0, 1].map(|_| sizes.map(|n| Tensor::zeros([n], (kind, Device::Cpu))));
            for step in 1..=2 {
                fused_lamb(&w, &draw(), &m, &v, &[step; 5], None, how).unwrap();
            }
            w
        };
        tch::set_num_threads(2);
        let by_two = run(Kind::Float);
        tch::set_num_threads(1);
        assert_eq!(run(Kind::Float), by_two);
        for (i, (found, exact)) in by_two.iter().zip(run(Kind::Double)).enumerate() {
            let apart = (found.to_kind(Kind::Double) - &exact).norm().double_value(&[]);
            let relative = apart / exact.norm().double_value(&[]);
            assert!(relative < 1e-6, "tensor {i}: {relative}");
        }
    }
}
