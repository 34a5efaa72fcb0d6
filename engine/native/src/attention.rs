//! `scaled_dot_product_attention` on CPUs.
use crate::error::{Result, check};
use crate::ffi;

/// Lets kernels of our own compute `scaled_dot_product_attention` on CPUs, forward and backward, in the whole
/// process: for float32 and bf16, with any mask that wants no gradient, dropout included. The rest, and shapes
/// for which libtorch's are faster, stay libtorch's.
///
/// The scores are never whole in memory, forward or backward; dropout keeps a bit for each of them. Its masks
/// are those of [`set_parallel_dropout`](crate::set_parallel_dropout): one number is taken from libtorch's
/// generator for each call, and the result is the same for every number of threads.
///
/// # Errors
/// None known.
pub fn set_own_attention(on: bool) -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ty_set_own_attention(on.into()) })
}

/// How often our kernels ran in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attentions {
    /// Forwards.
    pub forwards: u64,
    /// Backwards.
    pub backwards: u64,
}

/// How often our kernels of attention ran in this process.
///
/// # Errors
/// None known.
pub fn own_attentions() -> Result<Attentions> {
    let (mut forwards, mut backwards) = (0, 0);
    // SAFETY: the pointers are valid for writes.
    check(unsafe { ffi::ty_own_attentions(&raw mut forwards, &raw mut backwards) })?;
    Ok(Attentions { forwards, backwards })
}
