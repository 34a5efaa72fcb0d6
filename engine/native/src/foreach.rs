//! libtorch's multi-tensor operations: on CUDA, many tensors in one launch.
use crate::error::{Result, check, same_length};
use crate::ffi;
use tch::Tensor;

/// Moves each tensor of `starts` in place towards its counterpart in `ends`, all the way where `weight`
/// is 1.
///
/// `starts`, `ends`: equally many tensors of the same shapes, any.
///
/// # Errors
/// If the lists differ in length or the tensors in shape, kind or device.
pub fn lerp_all(starts: &[Tensor], ends: &[Tensor], weight: f64) -> Result<()> {
    same_length(starts, &[ends.len()])?;
    let [x, y] = [starts, ends].map(ffi::handles);
    // SAFETY: both arrays hold `starts.len()` valid pointers; the storage of `starts` is written to, as by
    // any in-place operation of tch on a shallow clone.
    check(unsafe { ffi::ty_lerp_all(x.as_ptr(), y.as_ptr(), x.len(), weight) })
}

/// Multiplies each of `tensors` in place by `kept` and adds its counterpart in `others`.
///
/// `tensors`, `others`: equally many tensors of the same shapes, any.
///
/// # Errors
/// If the lists differ in length or the tensors in shape or device.
pub fn shrink_and_add(tensors: &[Tensor], others: &[Tensor], kept: f64) -> Result<()> {
    same_length(tensors, &[others.len()])?;
    let [x, y] = [tensors, others].map(ffi::handles);
    // SAFETY: as in `lerp_all`.
    check(unsafe { ffi::ty_shrink_and_add(x.as_ptr(), y.as_ptr(), x.len(), kept) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> [Tensor; 2] {
        [Tensor::from_slice(&[1f32, 2.0]), Tensor::from(4f32)]
    }

    #[test]
    fn by_hand_in_place() {
        let (x, y) = (pair(), pair().map(|t| t * 5));
        lerp_all(&x, &y, 0.25).unwrap();
        assert_eq!(x, [Tensor::from_slice(&[2f32, 4.0]), Tensor::from(8f32)]);
        shrink_and_add(&x, &y, 0.5).unwrap();
        assert_eq!(x, [Tensor::from_slice(&[6f32, 12.0]), Tensor::from(24f32)]);
        shrink_and_add(&x, &y, 1.0).unwrap();
        assert_eq!(x[0], Tensor::from_slice(&[11f32, 22.0]));
        assert!(lerp_all(&x, &y[..1], 0.5).is_err());
        assert!(
            lerp_all(&x, &[pair()[1].shallow_clone(), Tensor::from_slice(&[1f32; 3])], 0.5)
                .is_err()
        );
    }
}
