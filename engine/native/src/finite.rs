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

/// What a look at many numbers is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blemish {
    /// An infinity, or something that is not a number.
    NonFinite,
    /// Something that is not a number.
    Nan,
}

/// Whether one of `tensors` has such a `blemish`: a float32 scalar on their device, 1 or 0, not yet read by the host.
/// None if they have no elements.
///
/// float32 on the CPU takes one pass that only reads, on all threads.
///
/// # Errors
/// If a tensor is undefined, or the devices differ.
pub fn blemished(tensors: &[Tensor], blemish: Blemish) -> Result<Option<Tensor>> {
    let full = tensors.iter().filter(|tensor| tensor.numel() > 0);
    let handles: Vec<_> = full.map(Tensor::as_ptr).collect();
    if handles.is_empty() {
        return Ok(None);
    }
    let mut out = std::ptr::null_mut();
    let nan_only = blemish == Blemish::Nan;
    // SAFETY: `handles` holds `len` valid tensor pointers, which `tensors` keeps alive; `out` is written before
    // success is reported.
    check(unsafe { ffi::ty_blemished(&mut out, handles.as_ptr(), handles.len(), nan_only) })?;
    Ok(Some(ffi::take(out)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Every kind of number, layout and place: float32 in one block is our own loop's, all else libtorch's.
    #[test]
    fn blemishes_are_found_wherever_they_are() {
        let n = 40_000;
        let looked = |tensors: &[Tensor]| {
            [Blemish::NonFinite, Blemish::Nan].map(|blemish| {
                let found = blemished(tensors, blemish).unwrap().expect("there are elements");
                assert_eq!(found.kind(), Kind::Float);
                found.double_value(&[])
            })
        };
        for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::ComplexFloat] {
            for gaps in [false, true] {
                for (value, expected) in [
                    (3e38, [0.0, 0.0]),
                    (f64::INFINITY, [1.0, 0.0]),
                    (f64::NEG_INFINITY, [1.0, 0.0]),
                    (f64::NAN, [1.0, 1.0]),
                ] {
                    for place in [0, 16_400, n - 1] {
                        let whole = Tensor::ones([n, 2], (Kind::Float, Device::Cpu)).to_kind(kind);
                        let tensor =
                            if gaps { whole.select(1, 1) } else { whole.select(1, 1).contiguous() };
                        let _ = tensor.get(place).fill_(value);
                        let others = Tensor::from_slice(&[1f32, -3e38]);
                        let empty = Tensor::from_slice::<f32>(&[]);
                        let found = looked(&[others, empty, tensor]);
                        // The absolute value of a complex number that large is beyond its kind, or is not.
                        if kind != Kind::ComplexFloat || value.is_nan() || value < 1e38 {
                            assert_eq!(
                                found, expected,
                                "{kind:?}, gaps: {gaps}, {value} at {place}"
                            );
                        }
                    }
                }
            }
        }
        assert!(blemished(&[], Blemish::Nan).unwrap().is_none());
        assert!(blemished(&[Tensor::from_slice::<f32>(&[])], Blemish::Nan).unwrap().is_none());
    }

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
