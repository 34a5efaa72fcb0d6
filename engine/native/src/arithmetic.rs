//! Arithmetic that tch binds without the argument that makes it one pass.
use crate::error::{Result, check};
use crate::ffi;
use std::ptr::null_mut;
use tch::Tensor;

/// `x + scale * y` in one pass over memory, differentiable.
///
/// `x`, `y`: shapes that broadcast to each other.
///
/// # Errors
/// If the shapes do not broadcast or the devices differ.
pub fn add_scaled(x: &Tensor, y: &Tensor, scale: f64) -> Result<Tensor> {
    let mut out = null_mut();
    // SAFETY: `x` and `y` are valid for the call; `out` is written before success is reported.
    check(unsafe { ffi::ty_add_scaled(&mut out, x.as_ptr(), y.as_ptr(), scale) })?;
    Ok(ffi::take(out))
}

/// The Euclidean norm over all elements of all tensors together: a scalar on their device, not yet read by the host,
/// in float64 if one of them is, else in float32. An element that is not finite makes the norm so.
///
/// float32 on the CPU takes one pass over all of them on all threads, 4 bytes an element, with sums in
/// float64 in an order that the number of threads does not change.
///
/// # Errors
/// If `tensors` is empty or the devices differ.
pub fn norm_of(tensors: &[Tensor]) -> Result<Tensor> {
    let handles = ffi::handles(tensors);
    let mut out = null_mut();
    // SAFETY: `handles` holds `len` valid tensor pointers; `out` is written before success.
    check(unsafe { ffi::ty_norm_of(&mut out, handles.as_ptr(), handles.len()) })?;
    Ok(ffi::take(out))
}

/// Multiplies every tensor in place by `factor`, a scalar tensor on the same device.
///
/// # Errors
/// If `factor` is not a scalar or the devices differ.
pub fn scale_all(tensors: &[Tensor], factor: &Tensor) -> Result<()> {
    let handles = ffi::handles(tensors);
    // SAFETY: `handles` and `factor` are valid for the call; the tensors' storage is written to, as
    // by any in-place operation of tch on a shallow clone.
    check(unsafe { ffi::ty_scale_all(handles.as_ptr(), handles.len(), factor.as_ptr()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn adds_scaled_and_differentiates() {
        let x = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
        let y = Tensor::from_slice(&[10f32, 20.0]).set_requires_grad(true);
        let z = add_scaled(&x, &y, 0.5).unwrap();
        assert_eq!(z, Tensor::from_slice(&[6f32, 12.0]));
        z.sum(Kind::Float).backward();
        assert_eq!(y.grad(), Tensor::from_slice(&[0.5f32, 0.5]));
    }

    #[test]
    fn bad_shapes_are_errors() {
        let (x, y) = (Tensor::from_slice(&[1f32, 2.0]), Tensor::from_slice(&[1f32, 2.0, 3.0]));
        let error = add_scaled(&x, &y, 1.0).unwrap_err();
        assert!(error.to_string().starts_with("libtorch: The size of tensor a"), "{error}");
    }

    #[test]
    fn norm_spans_all_tensors_and_scaling_is_in_place() {
        let tensors = [Tensor::from_slice(&[3f32, 0.0]), Tensor::from_slice(&[0f32, 4.0, 0.0])];
        assert_eq!(norm_of(&tensors).unwrap().double_value(&[]), 5.0);
        scale_all(&tensors, &Tensor::from(2f32)).unwrap();
        assert_eq!(tensors[1], Tensor::from_slice(&[0f32, 8.0, 0.0]));
        assert!(norm_of(&[]).is_err());
    }

    #[test]
    fn the_norm_is_as_wide_as_its_widest_tensor() {
        let (narrow, wide) = (Tensor::from_slice(&[3f32]), Tensor::from_slice(&[4e100f64]));
        let norm = norm_of(&[narrow.shallow_clone(), wide]).unwrap();
        assert_eq!((norm.kind(), norm.double_value(&[])), (Kind::Double, 4e100));
        assert_eq!(norm_of(&[narrow]).unwrap().kind(), Kind::Float);
    }

    /// In several pieces, and with the squares beyond float32.
    #[test]
    fn norms_of_long_tensors() {
        let ones = |n: i64| Tensor::ones([n], (Kind::Float, Device::Cpu));
        for threads in [1, 2] {
            tch::set_num_threads(threads);
            for factor in [1.0, 1e25] {
                let tensors = [ones(40_000) * factor, ones(2) * factor, ones(59_998) * -factor];
                let norm = norm_of(&tensors).unwrap().double_value(&[]);
                assert!((norm / factor / 100_000f64.sqrt() - 1.0).abs() < 1e-7, "{norm}");
            }
        }
        let beyond = norm_of(&[ones(40_000) * 1e37]).unwrap().double_value(&[]);
        assert_eq!(beyond, f64::INFINITY);
        for odd in [f64::INFINITY, f64::NAN] {
            let long = ones(40_000);
            let _ = long.get(20_001).fill_(odd);
            assert!(!norm_of(&[ones(3), long]).unwrap().double_value(&[]).is_finite());
        }
    }
}
