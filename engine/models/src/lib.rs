//! Models that Trainyard brings: a BERT, and its pre-training on a text.
pub mod bert;
mod bert_config;
mod bert_shape;
pub mod huggingface;
pub mod pretraining;

pub use bert::Bert;
pub use bert_config::{BertConfig, Norm};
