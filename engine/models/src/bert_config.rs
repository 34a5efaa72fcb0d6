//! The sizes of a BERT, as the `model` section of a configuration gives them.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The sizes of a BERT.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BertConfig {
    /// Number of layers, each of an attention and a feed-forward branch.
    #[schemars(range(min = 1, max = 1024))]
    pub layers: i64,
    /// Width of the residual stream; a multiple of `heads`.
    #[schemars(range(min = 1, max = 65536))]
    pub hidden: i64,
    /// Attention heads.
    #[schemars(range(min = 1, max = 1024))]
    pub heads: i64,
    /// Width of the feed-forward networks; four times `hidden` by default.
    #[schemars(range(min = 1, max = 1048576))]
    pub intermediate: Option<i64>,
    /// Number of tokens in the vocabulary.
    #[schemars(range(min = 1, max = 16777216))]
    pub vocabulary: i64,
    /// Longest sequence.
    #[schemars(range(min = 1, max = 1048576))]
    pub max_positions: i64,
    /// Probability of dropping an element after the embedding and on each residual branch.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Where the normalisation stands: `pre`, before each branch (Progressive Layer Dropping was
    /// studied with it), or `post`, after each sum, as in the first BERT.
    pub norm: Norm,
}

/// Where a transformer's normalisation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// `x + f(norm(x))`.
    Pre,
    /// `norm(x + f(x))`.
    Post,
}

impl Default for BertConfig {
    fn default() -> Self {
        BertConfig {
            layers: 12,
            hidden: 256,
            heads: 4,
            intermediate: None,
            vocabulary: 30_522,
            max_positions: 512,
            dropout: 0.1,
            norm: Norm::Pre,
        }
    }
}

impl BertConfig {
    /// Width of the feed-forward networks.
    pub fn feed_forward(&self) -> i64 {
        self.intermediate.unwrap_or(4 * self.hidden)
    }

    /// Checks what ranges alone cannot say.
    ///
    /// # Errors
    /// If the heads do not divide the width.
    pub fn check(&self) -> Result<(), String> {
        match self.hidden % self.heads {
            0 => Ok(()),
            _ => Err(format!(
                "hidden = {} is not a multiple of heads = {}; {} would be",
                self.hidden,
                self.heads,
                (self.hidden / self.heads).max(1) * self.heads
            )),
        }
    }
}
