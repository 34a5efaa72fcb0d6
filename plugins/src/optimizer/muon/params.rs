//! What Muon lets one set: DeepSpeed's keys, and PyTorch's and ours where it has none.
use crate::optimizer::params::betas;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use tch::Kind;

/// Muon, with AdamW for what is no matrix.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MuonParams {
    /// Learning rate of both, unless muon_lr or adam_lr is set; none: 0.02 for Muon and 0.0003 for AdamW.
    #[schemars(range(min = 0))]
    pub lr: Option<f64>,
    /// Learning rate of the orthogonal updates.
    #[schemars(range(min = 0))]
    pub muon_lr: Option<f64>,
    /// Learning rate of the parameters that AdamW takes.
    #[schemars(range(min = 0))]
    pub adam_lr: Option<f64>,
    /// Share of the running mean of the gradients that is kept.
    #[schemars(schema_with = "share")]
    pub momentum: f64,
    /// Nesterov's momentum: the gradient goes into the update once more.
    pub nesterov: bool,
    /// Weight decay of both, taken off the weights at the learning rate.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// AdamW's decay of the running means of the gradient and of its square.
    #[schemars(schema_with = "betas")]
    pub betas: (f64, f64),
    /// AdamW's eps, added to the root of the mean square.
    #[schemars(range(min = 0))]
    pub eps: f64,
    /// Newton-Schulz steps that make an update orthogonal.
    #[schemars(range(min = 1, max = 99))]
    pub ns_steps: u32,
    /// Changes nothing: there is one implementation.
    pub ns_method: NsMethod,
    /// The number format of the Newton-Schulz steps.
    pub ns_dtype: NsDtype,
    /// How the learning rate follows a matrix's shape.
    pub adjust_lr_fn: AdjustLr,
    /// Patterns on names of parameters that AdamW takes whatever their shape, as in no_decay.
    #[schemars(inner(length(min = 1)))]
    pub adam_names: Vec<String>,
}

impl Default for MuonParams {
    fn default() -> Self {
        MuonParams {
            lr: None,
            muon_lr: None,
            adam_lr: None,
            momentum: 0.95,
            nesterov: true,
            weight_decay: 0.0,
            betas: (0.9, 0.95),
            eps: 1e-10,
            ns_steps: 5,
            ns_method: NsMethod::Standard,
            ns_dtype: NsDtype::Bf16,
            adjust_lr_fn: AdjustLr::Original,
            adam_names: ["*embed*", "*lm_head*"].map(String::from).into(),
        }
    }
}

impl MuonParams {
    /// Learning rate of the orthogonal updates.
    pub fn muon_rate(&self) -> f64 {
        self.muon_lr.or(self.lr).unwrap_or(0.02)
    }

    /// Learning rate of the parameters that AdamW takes.
    pub fn adam_rate(&self) -> f64 {
        self.adam_lr.or(self.lr).unwrap_or(3e-4)
    }
}

/// DeepSpeed's ways to arrange the Newton-Schulz steps, which compute the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NsMethod {
    /// On the matrix.
    Standard,
    /// On its products with itself.
    Gram,
}

/// A number format of the Newton-Schulz steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NsDtype {
    /// bfloat16, as PyTorch has it: fast, and exact to three digits.
    Bf16,
    /// float32.
    Fp32,
}

impl NsDtype {
    /// As libtorch calls it.
    pub fn kind(self) -> Kind {
        match self {
            NsDtype::Bf16 => Kind::BFloat16,
            NsDtype::Fp32 => Kind::Float,
        }
    }
}

/// How the learning rate follows a matrix's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdjustLr {
    /// Times sqrt(max(1, rows / columns)).
    Original,
    /// Times 0.2 sqrt(max(rows, columns)), which makes steps about as large as AdamW's, so that its
    /// learning rate fits.
    MatchRmsAdamw,
}

impl AdjustLr {
    /// The factor on the learning rate of a matrix.
    pub fn factor(self, (rows, columns): (i64, i64)) -> f64 {
        let (rows, columns) = (rows as f64, columns as f64);
        match self {
            AdjustLr::Original => (rows / columns).max(1.0).sqrt(),
            AdjustLr::MatchRmsAdamw => 0.2 * rows.max(columns).sqrt(),
        }
    }
}

fn share(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "number", "minimum": 0, "exclusiveMaximum": 1 })
}
