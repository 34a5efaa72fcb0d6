//! The few libtorch functions that tch does not bind, each a small safe function over a C++ shim.
//!
//! The shim (`cpp/`) holds no policy: a function there does one libtorch call's worth of work and
//! turns every exception into a message, which becomes an [`Error`] here. This is the only crate of
//! the workspace with `unsafe` code.
#![allow(unsafe_code)]

mod arithmetic;
mod error;
mod ffi;
mod gradients;
mod optimizers;
mod settings;

pub use arithmetic::{add_scaled, norm_of, scale_all};
pub use error::{Error, Result};
pub use gradients::clear_gradients;
pub use optimizers::{AdamStep, SgdStep, fused_adam, fused_sgd};
pub use settings::{set_deterministic, set_flush_denormal};
