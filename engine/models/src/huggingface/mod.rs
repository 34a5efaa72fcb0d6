//! The example BERT in Hugging Face's layout: `config.json`, `model.safetensors`, `vocab.txt`.
//!
//! ```text
//! layout    names and places of tensors, there and here
//! config    config.json: what has to be the same
//! read      tensors that are offered there, as the example BERT's
//! write     the example BERT's files there
//! ```
//!
//! Two of its models have the structure of the example BERT: BERT has it with the normalisation after each sum,
//! RoBERTa-PreLayerNorm with it before each branch.
mod config;
mod layout;
mod read;
mod write;

pub use read::{check_vocabulary, is_one, open};
pub use write::{Export, FILES};

/// What a folder of that layout has.
const CONFIG: &str = "config.json";
const VOCABULARY: &str = "vocab.txt";
