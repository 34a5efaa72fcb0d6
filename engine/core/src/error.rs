//! Errors of the engine.
use std::any::Any;
use tch::TchError;
pub(crate) use trainyard_config::BoxError;
use trainyard_config::ConfigError;

/// The result of the engine's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What a caught panic said, by its payload. libtorch's messages carry a C++ stack trace from the second
/// line on.
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message")
}

/// What can go wrong between a configuration and a trained model. As a [`miette::Diagnostic`] an error
/// of the configuration underlines the text.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The configuration is not one that this program can run.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    /// A plugin failed.
    #[error("`{section}` failed at step {step}: {source}")]
    Plugin {
        /// The plugin's first key in the configuration.
        section: &'static str,
        /// Completed optimizer steps.
        step: u64,
        /// What the plugin said.
        source: BoxError,
    },
    /// The forward returned an error.
    #[error("the forward failed at step {step}, micro-batch {micro_batch}: {source}")]
    Forward {
        /// Completed optimizer steps.
        step: u64,
        /// Index of the micro-batch in the step.
        micro_batch: u64,
        /// What the forward said.
        source: BoxError,
    },
    /// The forward panicked, as tch's operators do on shapes that do not fit.
    #[error("the forward panicked at step {step}, micro-batch {micro_batch}: {message}")]
    Panicked {
        /// Completed optimizer steps.
        step: u64,
        /// Index of the micro-batch in the step.
        micro_batch: u64,
        /// The panic's message.
        message: String,
    },
    /// The ranks could not do something together.
    #[error("rank {rank}: {operation} failed: {detail}")]
    Ranks {
        /// Who tells it.
        rank: usize,
        /// What they were at, in words: `averaging the gradients of step 12`.
        operation: String,
        /// What is likely behind it, and what the communicator said.
        detail: String,
    },
    /// Another rank failed in what all do together, and said so itself.
    #[error("{who} failed in {operation}: see its own error")]
    Peer {
        /// Which rank, or how many.
        who: String,
        /// What they were at: `an evaluation`.
        operation: &'static str,
    },
    /// Whoever made the batches of an evaluation failed.
    #[error(transparent)]
    Batches(BoxError),
    /// The variables that place this process among others are wrong.
    #[error("{0}")]
    World(String),
    /// The engine was called in a way that cannot work.
    #[error("{0}")]
    Usage(String),
    /// The file of a model from PyTorch, or its forward, is not as it should be.
    #[error("{0}")]
    Script(String),
    /// A saved state does not belong to this engine.
    #[error("the saved state does not fit: {0}")]
    State(String),
    /// libtorch refused a call of the engine.
    // From the second line on the message is a C++ stack trace.
    #[error("{}", .0.to_string().lines().next().unwrap_or_default())]
    Torch(#[from] TchError),
    /// libtorch refused a call of the engine.
    #[error(transparent)]
    Native(#[from] trainyard_native::Error),
}

impl From<trainyard_config::Error> for Error {
    fn from(error: trainyard_config::Error) -> Self {
        match error {
            trainyard_config::Error::Config(error) => Error::Config(error),
            trainyard_config::Error::World(message) => Error::World(message),
        }
    }
}
