//! Models in the manner of tch's own examples, before and after their blocks were wrapped.
//!
//! tch's examples have no types of their own for layers: a function returns a closure over them, and
//! `nn::SequentialT` calls one after the other. A small GPT and a residual network for images are written
//! here that way; what differs between `plain_gpt.rs` and `gpt.rs`, and between `plain_resnet.rs` and
//! `resnet.rs`, is all that it takes.
pub mod gpt;
pub mod plain_gpt;
pub mod plain_resnet;
pub mod resnet;

/// Sizes of the GPT.
#[derive(Debug, Clone, Copy)]
pub struct GptConfig {
    /// Tokens in the vocabulary.
    pub vocabulary: i64,
    /// Longest sequence.
    pub max_positions: i64,
    /// Blocks.
    pub layers: i64,
    /// Attention heads; a divisor of `hidden`.
    pub heads: i64,
    /// Width of the residual stream.
    pub hidden: i64,
    /// Share of values that dropout sets to 0.
    pub dropout: f64,
}
