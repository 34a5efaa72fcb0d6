//! Why a configuration cannot be used.
use crate::problems::ConfigError;

/// Any error, as sections return them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of reading a configuration.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a configuration cannot be used. As a [`miette::Diagnostic`] an error of the text underlines it.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The text, or a layer over it, is not as it should be.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    /// The variables that place this process among others are wrong.
    #[error("{0}")]
    World(String),
}
