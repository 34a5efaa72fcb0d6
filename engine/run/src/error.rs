//! Why there is no run, or no more of it.

/// Why there is no run, or no more of it. Its text is one sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration, the model or the training.
    #[error(transparent)]
    Engine(#[from] trainyard::Error),
    /// The text, the vocabulary or the cache.
    #[error(transparent)]
    Data(#[from] trainyard_data::Error),
    /// libtorch could not make the parameters.
    #[error("a model of these sizes cannot be made: {0}")]
    Model(String),
    /// Something around the training.
    #[error("{0}")]
    Other(String),
}

impl From<trainyard::config::ConfigError> for RunError {
    fn from(error: trainyard::config::ConfigError) -> Self {
        RunError::Engine(error.into())
    }
}
