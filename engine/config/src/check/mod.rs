//! Holding a configuration against the JSON Schema, in words.
pub(crate) mod branch;
pub(crate) mod checker;
pub(crate) mod expectation;
pub(crate) mod places;
pub(crate) mod suggest;

pub use checker::{Checker, SchemaError, check};
pub use expectation::expectation;
pub use suggest::{Alias, did_you_mean};
