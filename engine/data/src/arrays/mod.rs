//! Samples by input name, for models whose inputs have names: arrays, token streams and safetensors
//! files in a folder.
//!
//! ```text
//! folder/train, folder/validation     or a folder that is split      config, split
//!   <input>.npy, <input>.bin, *.safetensors                          layout, npy, stream, folder
//!   -> one column for each input, memory-mapped                      column
//!   a part of the numbers is looked at                               looks
//! for each optimizer step: the same order and shares as for text     order, shape, steps
//!   -> rows copied into tensors, tokens masked where that is asked   mask
//! ```

mod column;
mod config;
mod data;
mod folder;
mod layout;
mod looks;
mod masking;
mod npy;
mod stream;
mod suspects;

pub use config::{ArrayConfig, Masking, TokenType};
pub use data::{ArrayBatch, ArrayData, Input};
pub use suspects::Suspect;
