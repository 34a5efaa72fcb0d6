//! Models and helpers that the example programs share.
pub mod bench;
pub mod bert;
mod bert_config;
mod bert_shape;
pub mod chart;
pub mod demo;
pub mod existing;
pub mod failure;
pub mod plain_bert;
pub mod program;
pub mod progress;
pub mod run;
pub mod scaling;
pub mod statistics;

pub use bert::Bert;
pub use bert_config::{BertConfig, Norm};
