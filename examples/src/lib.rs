//! Models and helpers that the example programs share.
pub mod bench;
pub mod demo;
pub mod existing;
pub mod plain_bert;

use trainyard_models::{BertConfig, Norm};
