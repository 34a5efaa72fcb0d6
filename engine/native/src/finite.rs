//! Where a number is not finite.
use crate::error::{Result, check};
use crate::ffi;
use tch::Tensor;

/// The first of `tensors` that holds an infinity or something that is not a number. Empty tensors are
/// finite. The host reads once, whatever their number.
///
/// # Errors
/// If a tensor is undefined, or the devices differ.
pub fn first_non_finite(tensors: &[Tensor]) -> Result<Option<usize>> {
    // libtorch has no largest element of nothing.
    let (at, full): (Vec<_>, Vec<_>) =
        tensors.iter().enumerate().filter(|(_, tensor)| tensor.numel() > 0).unzip();
    let handles: Vec<_> = full.iter().map(|tensor: &&Tensor| tensor.as_ptr()).collect();
    let mut index = -1;
    // SAFETY: `handles` holds `len` valid tensor pointers, which `tensors` keeps alive; `index` is
    // written before success is reported.
    check(unsafe { ffi::ty_first_non_finite(&mut index, handles.as_ptr(), handles.len()) })?;
    Ok(usize::try_from(index).ok().map(|index| at[index]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_found_and_large_numbers_are_finite() {
        let fine = || Tensor::from_slice(&[1f32, 3e38, -3e38]);
        let empty = || Tensor::from_slice::<f32>(&[]);
        assert_eq!(first_non_finite(&[]).unwrap(), None);
        assert_eq!(first_non_finite(&[empty(), fine(), fine()]).unwrap(), None);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bad = || Tensor::from_slice(&[0.0, bad, 1.0]);
            let list = [fine(), empty(), bad().to_kind(tch::Kind::Half), bad()];
            assert_eq!(first_non_finite(&list).unwrap(), Some(2));
        }
    }
}
