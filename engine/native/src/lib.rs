//! The few libtorch functions that tch does not bind, each a small safe function over a C++ shim, and one of
//! the system's.
//!
//! The shim (`cpp/`) holds no policy: a function there does one libtorch call's worth of work, or one
//! pass over memory where libtorch has none, and turns every exception into a message, which becomes an
//! [`Error`] here. This is the only crate of the workspace with `unsafe` code.
#![allow(unsafe_code)]

mod adagrad;
mod adam;
mod arithmetic;
mod attention;
#[cfg(test)]
mod attention_tests;
mod autocast;
mod c10d;
mod cuda;
mod dropout;
mod error;
mod ffi;
mod finite;
mod foreach;
mod gradients;
mod lamb;
mod lion;
mod memory;
mod operator;
mod process;
mod script;
mod settings;
mod sgd;
mod store;
#[cfg(test)]
mod trial;

pub use adagrad::{AdagradStep, fused_adagrad};
pub use adam::{AdamStep, fused_adam};
pub use arithmetic::{add_scaled, norm_of, scale_all};
pub use attention::{Attentions, own_attentions, set_own_attention};
pub use autocast::{autocast, clear_autocast_cache, without_autocast};
pub use c10d::{ProcessGroup, Reduction, Work};
pub use cuda::{count_waits, load_cuda};
pub use dropout::set_parallel_dropout;
pub use error::{Error, Result};
pub use finite::{Blemish, blemished, first_non_finite};
pub use foreach::{lerp_all, shrink_and_add};
pub use gradients::{Listening, clear_gradients, reached, set_gradient};
pub use lamb::{LambStep, fused_lamb};
pub use lion::{LionStep, fused_lion};
pub use memory::keep_freed_memory;
pub use operator::{Call as OperatorCall, Given, Operator, Parameter, Signature, Value};
pub use process::{kill_with_parent, skip_teardown};
pub use script::{
    Argument, Call, CallInput, Identity, Modes, Module, Output, Run, Script, Variable,
};
pub use settings::{set_deterministic, set_flush_denormal, set_log_level};
pub use sgd::{SgdStep, fused_sgd};
pub use store::Store;
