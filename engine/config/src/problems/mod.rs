//! What is to be said of a configuration, and where in its text.
pub(crate) mod invalid;
pub(crate) mod note;
pub(crate) mod problem;

pub use invalid::Invalid;
pub use note::{Note, Weight};
pub use problem::{ConfigError, Origin, Problem, ProblemKind};
