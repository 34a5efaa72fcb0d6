//! Exceptions of libtorch as errors.
use std::ffi::{CStr, c_char};

/// What libtorch said when a call failed: its message, without the C++ stack trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("libtorch: {0}")]
pub struct Error(pub String);

/// The result of a call into libtorch.
pub type Result<T> = std::result::Result<T, Error>;

/// Turns the shim's return value into a result and releases the message.
pub(crate) fn check(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null message is a NUL-terminated string from `strdup`, ours to read and release.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: the same pointer, released once and not used afterwards.
    unsafe { crate::ffi::ty_free_message(message) };
    Err(Error(text))
}

/// Checks that lists of these lengths belong to `params`.
pub(crate) fn same_length(params: &[tch::Tensor], others: &[usize]) -> Result<()> {
    match others.iter().find(|&&n| n != params.len()) {
        None => Ok(()),
        Some(n) => Err(Error(format!("{} parameters came with a list of {n}", params.len()))),
    }
}
