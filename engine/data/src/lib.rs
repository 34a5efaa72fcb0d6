//! Data to batches: text for masked-language-model training (BERT, <https://arxiv.org/abs/1810.04805>),
//! and arrays by input name ([`ArrayData`]) for models that bring names for their inputs.
//!
//! ```text
//! text file, one document a line, plain or Zstandard            text
//!   -> a vocabulary, where none is given                        vocabulary, pair_merging
//!   -> WordPiece ids                                            borders, tokens
//!   -> one memory-mapped file of all documents' ids             cache, token_file
//!   -> training and validation documents                        split
//!   -> [CLS] ids ... [SEP] ids ... [SEP], never padded          pack, sequences
//! for each optimizer step, on a thread of its own               loader, prefetch
//!   which samples this rank takes: f(seed, epoch)               order, permutation, shape
//!   which of their tokens are masked: f(seed, epoch, sample)    mask
//!   -> micro-batches of tensors                                 batch
//! ```
//!
//! Everything between the cache and the tensors is a pure function of (configuration, seed, step),
//! so that a run resumes at any step with nothing saved, and any number of ranks sees the same
//! data. [`MlmData`] is the way in; [`DataConfig`] is the section of the configuration.

mod arrays;
mod batch;
mod borders;
mod cache;
mod config;
mod error;
mod file;
mod loader;
mod mask;
mod memory;
mod order;
mod pack;
mod pair_merging;
mod permutation;
mod prefetch;
mod random;
mod sequences;
mod shape;
mod split;
mod steps;
mod text;
mod token_file;
mod tokens;
mod vocabulary;

pub use arrays::{ArrayBatch, ArrayConfig, ArrayData, Input, Masking, Suspect, TokenType};
pub use batch::MlmBatch;
pub use config::{DataConfig, Method, TokenizerConfig};
pub use error::{Defect, Error, Result};
pub use loader::MlmData;
pub use mask::{EVALUATION, MaskRule, Masked, SampleKey, mask};
pub use memory::{Bytes, available_memory, check_memory};
pub use order::order;
pub use pack::{Piece, Start, fill, pack};
pub use permutation::Permutation;
pub use shape::{BatchShape, Share};
pub use split::{Split, split};
pub use steps::TrainBatches;
pub use text::{Documents, MAX_DOCUMENT_BYTES};
pub use tokens::{SpecialTokens, Tokenizer};
