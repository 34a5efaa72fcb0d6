//! Checkpoints: all that a training run cannot compute anew, whole or not there.
//!
//! ```text
//! let mut checkpoints = Checkpoints::claim("runs/one/checkpoints".as_ref(), Keep::default())?;
//! if let (Some(checkpoint), _) = newest(checkpoints.folder())? {
//!     checkpoint.restore(&mut engine)?;
//! }
//! for batch in batches.skip(engine.attempts()) {
//!     engine.step(&batch, forward)?;
//!     if engine.completed_steps() % 100 == 0 {
//!         checkpoints.save(&Snapshot::take(&engine, Extra::default())?)?;
//!     }
//! }
//! ```
//!
//! A folder of checkpoints:
//!
//! ```text
//! latest                      the name of the newest
//! step-120/
//!   checkpoint.json           written last: the format, and of every other file its size and XXH3
//!   state.json                step, attempt, ranks, updates by parameter, states of plugins, the user's values
//!   configuration.json        as it was resolved
//!   model.safetensors         parameters and buffers by name
//!   optimizer.safetensors     <parameter>/<slot>: the optimizer's state
//!   user.safetensors          the user's tensors
//!   rank-1.model.safetensors  buffers of rank 1, and so on; rank-1.state.json, rank-1.user.safetensors
//! ```
//!
//! Weights alone, from a checkpoint or from elsewhere, are for [`load`].
//!
//! [`Saver`] writes beside the training. Where a checkpoint is not whole, [`newest`] takes the one before.
mod checkpoint;
mod commit;
mod digest;
mod disk;
mod error;
mod lock;
mod parts;
mod record;
mod saver;
mod snapshot;
mod store;
mod tensor_file;
mod tensors;
#[cfg(test)]
mod tests;
mod weights;

pub use checkpoint::{Checkpoint, OptimizerState, State};
pub use digest::Digest;
pub use disk::{Disk, Sink, SystemDisk};
pub use error::{Error, Result};
pub use lock::{Lock, NoLock};
pub use record::RECORD;
pub use saver::Saver;
pub use snapshot::{CONFIGURATION, Extra, MODEL, Snapshot};
pub use store::{Checkpoints, Found, Keep, find, list, newest};
pub use tensor_file::{Described, TensorFile, write_tensors};
pub use weights::{InitFrom, InitOptions, Offer, Offers, Strictness, Wanted, load};

/// Version of the layout that is written; earlier ones are read.
pub const FORMAT: u64 = 1;
