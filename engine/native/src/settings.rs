//! Settings of libtorch that hold for the whole process.
use crate::error::{Result, check};
use crate::ffi;

/// Makes libtorch choose algorithms that give the same bits on every run with the same number of
/// threads; an operation that has none becomes an error.
///
/// # Errors
/// None known.
pub fn set_deterministic(on: bool) -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ty_set_deterministic(on.into()) })
}

/// Flushes denormal numbers to zero on the calling thread and on libtorch's worker threads.
///
/// # Errors
/// If the processor cannot.
pub fn set_flush_denormal(on: bool) -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ty_set_flush_denormal(on.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    #[test]
    fn denormals_are_flushed_only_when_asked() {
        let tiny = Tensor::from_slice(&[1e-39f32]);
        set_flush_denormal(true).unwrap();
        assert_eq!((&tiny * 0.5f64).double_value(&[0]), 0.0);
        set_flush_denormal(false).unwrap();
        assert!((&tiny * 0.5f64).double_value(&[0]) > 0.0);
    }
}
