//! CUDA, loaded when a program asks for it.
use crate::error::{Result, check};
use crate::ffi;

/// Loads libtorch's CUDA part, which programs here are not linked to: without it libtorch knows no
/// device but the processor. To be called before anything else of libtorch, seeding included, for
/// libtorch looks for CUDA once; calling it again does no harm. It sets variables of the environment, those
/// with which c10d ends a process whose NCCL fails, so a program calls it before it starts threads.
///
/// # Errors
/// Why there is no CUDA device to use: no driver, no device, no CUDA part of libtorch, or too late a
/// call.
pub fn load_cuda() -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ty_load_cuda() })
}

/// Runs `body` and counts how often the calling thread waited for a CUDA device in it, such as to read
/// a number or to copy from memory that is not pinned. Of libtorch's own waits, not those of a
/// `cudaDeviceSynchronize` elsewhere. Not to be nested, nor used by two threads at a time.
///
/// # Errors
/// If CUDA is not loaded; `body` does not run then.
pub fn count_waits<T>(body: impl FnOnce() -> T) -> Result<(T, u64)> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ty_begin_counting_waits() })?;
    let counting = Counting;
    let out = body();
    std::mem::forget(counting);
    Ok((out, end()?))
}

/// Ends the counting if the body panics.
struct Counting;

impl Drop for Counting {
    fn drop(&mut self) {
        end().ok();
    }
}

fn end() -> Result<u64> {
    let mut count = 0;
    // SAFETY: `count` outlives the call.
    check(unsafe { ffi::ty_end_counting_waits(&mut count) })?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Here, as a rule, there is none; where there is one the tests of `scripts/gpu-check` say more.
    #[test]
    fn without_a_device_it_says_so_and_nothing_is_counted() {
        let Err(error) = load_cuda() else { return };
        assert!(error.to_string().starts_with("libtorch: no CUDA device: "), "{error}");
        let counted = count_waits(|| unreachable!("nothing to count"));
        assert!(counted.unwrap_err().to_string().contains("CUDA"), "{error}");
    }
}
