//! What `gradient_clipping` may be.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest Euclidean norm that the gradients of a step, all taken together, may have; longer ones are
/// scaled down to it. 0 or less: no clipping.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Config(pub f64);
