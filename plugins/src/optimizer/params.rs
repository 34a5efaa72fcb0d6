//! The params of each optimizer but Muon; DeepSpeed's names and defaults.
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Adam and AdamW.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamParams {
    /// Learning rate.
    #[schemars(range(min = 0))]
    pub lr: f64,
    /// Decay of the running means of the gradient and of its square.
    #[schemars(schema_with = "betas")]
    pub betas: (f64, f64),
    /// Added to the root of the mean square.
    #[schemars(range(min = 0))]
    pub eps: f64,
    /// Weight decay.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Make up for the running means' start at zero.
    pub bias_correction: bool,
    /// Take the decay off the weights (AdamW); false, for type Adam only: add it to the gradient. Type
    /// AdamW never does, as in DeepSpeed.
    pub adam_w_mode: bool,
    /// Only false.
    #[schemars(extend("allOf" = [refused(AMSGRAD)]))]
    pub amsgrad: bool,
    /// Changes nothing: there is one implementation.
    pub torch_adam: bool,
    /// Changes nothing: the engine sees to the memory of gradients.
    pub set_grad_none: bool,
    /// Changes nothing: the optimizer's state is float32.
    pub fp32_optimizer_states: bool,
    /// Only false.
    #[schemars(extend("allOf" = [refused(MAXIMIZE)]))]
    pub maximize: bool,
    /// Changes nothing: there is one implementation.
    pub foreach: Option<bool>,
    /// Changes nothing: there is one implementation.
    pub fused: Option<bool>,
    /// Changes nothing: no CUDA graph is recorded.
    pub capturable: bool,
    /// Changes nothing: nobody differentiates the update.
    pub differentiable: bool,
}

impl Default for AdamParams {
    fn default() -> Self {
        AdamParams {
            lr: 1e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            bias_correction: true,
            adam_w_mode: true,
            amsgrad: false,
            torch_adam: false,
            set_grad_none: true,
            fp32_optimizer_states: true,
            maximize: false,
            foreach: None,
            fused: None,
            capturable: false,
            differentiable: false,
        }
    }
}

/// LAMB.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LambParams {
    /// Learning rate.
    #[schemars(range(min = 0))]
    pub lr: f64,
    /// Decay of the running means of the gradient and of its square.
    #[schemars(schema_with = "betas")]
    pub betas: (f64, f64),
    /// Added to the root of the mean square.
    #[schemars(range(min = 0))]
    pub eps: f64,
    /// Add eps to the mean square before its root is taken.
    pub eps_inside_sqrt: bool,
    /// Weight decay, which counts in the norm of the update.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Make up for the running means' start at zero.
    pub bias_correction: bool,
    /// Largest ratio of the norms of weights and update.
    #[schemars(range(min = 0))]
    pub max_coeff: f64,
    /// Smallest ratio of the norms of weights and update.
    #[schemars(range(min = 0))]
    pub min_coeff: f64,
    /// Where the bias correction goes.
    pub variant: LambVariant,
    /// Only false.
    #[schemars(extend("allOf" = [refused(AMSGRAD)]))]
    pub amsgrad: bool,
}

impl Default for LambParams {
    fn default() -> Self {
        LambParams {
            lr: 1e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            eps_inside_sqrt: false,
            weight_decay: 0.0,
            bias_correction: true,
            max_coeff: 10.0,
            min_coeff: 0.01,
            variant: LambVariant::Paper,
            amsgrad: false,
        }
    }
}

/// Where LAMB's bias correction goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LambVariant {
    /// Into the running means, before the norm of the update is taken.
    #[default]
    Paper,
    /// Into the learning rate, so that the norm is of the uncorrected update, and the weight decay is
    /// corrected too: DeepSpeed's rule.
    DeepSpeed,
}

/// Stochastic gradient descent.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SgdParams {
    /// Learning rate.
    #[schemars(range(min = 0))]
    pub lr: f64,
    /// Share of the last update that is kept; 0: no momentum.
    #[schemars(range(min = 0))]
    pub momentum: f64,
    /// Share of the gradient that is left out of the momentum.
    pub dampening: f64,
    /// Weight decay, added to the gradient.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Nesterov's momentum; needs a momentum and no dampening.
    pub nesterov: bool,
    /// Only false.
    #[schemars(extend("allOf" = [refused(MAXIMIZE)]))]
    pub maximize: bool,
    /// Changes nothing: there is one implementation.
    pub foreach: Option<bool>,
    /// Changes nothing: there is one implementation.
    pub fused: Option<bool>,
    /// Changes nothing: nobody differentiates the update.
    pub differentiable: bool,
}

impl Default for SgdParams {
    fn default() -> Self {
        SgdParams {
            lr: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            maximize: false,
            foreach: None,
            fused: None,
            differentiable: false,
        }
    }
}

/// Lion.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LionParams {
    /// Learning rate: the size of every step, so a third to a tenth of AdamW's.
    #[schemars(range(min = 0))]
    pub lr: f64,
    /// Weight of the momentum in the update's sign, and decay of the momentum itself.
    #[schemars(schema_with = "betas")]
    pub betas: (f64, f64),
    /// Weight decay, taken off the weights.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Changes nothing: the engine sees to the memory of gradients.
    pub set_grad_none: bool,
}

impl Default for LionParams {
    fn default() -> Self {
        LionParams { lr: 1e-3, betas: (0.9, 0.999), weight_decay: 0.0, set_grad_none: true }
    }
}

/// Adagrad.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdagradParams {
    /// Learning rate.
    #[schemars(range(min = 0))]
    pub lr: f64,
    /// The t-th update of a parameter is divided by 1 + (t - 1) * lr_decay.
    #[schemars(range(min = 0))]
    pub lr_decay: f64,
    /// Weight decay, added to the gradient.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// What the sum of squared gradients starts from.
    #[schemars(range(min = 0))]
    pub initial_accumulator_value: f64,
    /// Added to the root of the sum of squares.
    #[schemars(range(min = 0))]
    pub eps: f64,
}

impl Default for AdagradParams {
    fn default() -> Self {
        AdagradParams {
            lr: 1e-2,
            lr_decay: 0.0,
            weight_decay: 0.0,
            initial_accumulator_value: 0.0,
            eps: 1e-10,
        }
    }
}

const AMSGRAD: &str =
    "is not supported: updates divide by the running mean, not by its largest value";
const MAXIMIZE: &str =
    "is not supported: the loss is made smaller; give the negative of what is to grow";

/// Part of a flag's schema: true is refused, and `why` follows it in a sentence.
fn refused(why: &str) -> Value {
    json!({ "not": { "const": true }, "errorMessage": why })
}

/// The schema of two decays.
pub(super) fn betas(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "type": "number", "minimum": 0, "exclusiveMaximum": 1 },
        "minItems": 2,
        "maxItems": 2,
    })
}
