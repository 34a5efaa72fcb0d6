//! How much a gradient that is too long is scaled down.
use tch::{TchError, Tensor};

/// `min(1, clip / (norm + 1e-6))`, DeepSpeed's and PyTorch's rule, as a scalar on the device of `norm`:
/// the host reads nothing. `norm`: a scalar of at least 0; `clip`: above 0.
///
/// # Errors
/// libtorch's.
pub fn factor(norm: &Tensor, clip: f64) -> Result<Tensor, TchError> {
    let mut factor = norm.f_add_scalar(1e-6)?;
    let _ = factor.f_reciprocal_()?;
    let _ = factor.f_mul_scalar_(clip)?;
    factor.f_clamp_max_(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ones_shrink_to_the_limit_and_short_ones_stay() {
        for (norm, clip, expected) in [
            (4.0, 1.0, 1.0 / 4.000001),
            (4.0, 8.0, 1.0),
            (0.0, 1.0, 1.0),
            (0.5, 0.25, 0.25 / 0.500001),
        ] {
            let found = factor(&Tensor::from(norm), clip).unwrap().double_value(&[]);
            assert!((found - expected).abs() < 1e-15, "{norm} {clip}: {found} is not {expected}");
        }
    }
}
