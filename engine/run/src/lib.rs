//! What a training run is: its cadence, its progress, how a program begins and ends.
mod cadence;
mod error;
pub mod failure;
mod needs;
pub mod program;
pub mod progress;

pub use cadence::Cadence;
pub use error::RunError;
pub use needs::{batch_shape, missing};
