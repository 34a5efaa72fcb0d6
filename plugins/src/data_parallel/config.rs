//! What you may set about training on many ranks.
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Kind;
use trainyard::Averaging;

/// How gradients are averaged over the ranks. Without any of it: on Gloo between CPUs and NCCL between
/// GPUs, in the gradients' own number format.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "DataParallel")]
pub struct Config {
    /// In which number format gradients travel between ranks and are summed; absent: their own, which is
    /// float32.
    pub communication_data_type: Option<CommunicationType>,
    /// Divide gradients by the number of ranks before they are summed, whatever
    /// `gradient_predivide_factor` says. It matters in float16 alone, where a sum may overflow.
    pub prescale_gradients: Option<bool>,
    /// What gradients are divided by before they are summed over the ranks; the rest of the division
    /// comes afterwards. Absent: all of it comes before.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub gradient_predivide_factor: Option<f64>,
    /// How the ranks of a run speak to one another.
    pub distributed: Option<Distributed>,
}

/// A number format for gradients on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(transform = in_capitals_too)]
pub enum CommunicationType {
    /// float32.
    #[serde(rename = "fp32", alias = "FP32")]
    Fp32,
    /// float16: half the bytes; prefer bfloat16, whose range is that of float32.
    #[serde(rename = "fp16", alias = "FP16")]
    Fp16,
    /// bfloat16: half the bytes, three significant digits.
    #[serde(rename = "bf16", alias = "BF16")]
    Bf16,
}

/// Lets the schema take the names in capitals too.
fn in_capitals_too(schema: &mut Schema) {
    schema.remove("oneOf");
    let capitals = json!({ "deprecated": true, "enum": ["FP32", "FP16", "BF16"] });
    schema.insert("anyOf".to_owned(), json!([{ "enum": ["fp32", "fp16", "bf16"] }, capitals]));
}

/// How the ranks of a run speak to one another. Which ranks there are, and where they meet, comes from the
/// launcher.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Distributed {
    /// What carries the gradients.
    pub backend: Backend,
    /// Seconds that a rank waits for the others, when they meet and in each exchange, before the run ends
    /// with an error.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub timeout_seconds: f64,
    /// Elements (not bytes) of gradients that are sent together. A block of the model is never divided.
    /// Smaller ones leave earlier, larger ones take fewer exchanges.
    #[schemars(range(min = 1))]
    pub reduce_bucket_size: u64,
}

impl Default for Distributed {
    fn default() -> Self {
        Distributed {
            backend: Backend::Auto,
            timeout_seconds: 600.0,
            reduce_bucket_size: Averaging::BUCKET_ELEMENTS as u64,
        }
    }
}

/// What carries the gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// NCCL where the model is on a CUDA device, Gloo elsewhere.
    Auto,
    /// Gloo, between CPUs.
    Gloo,
    /// NCCL, between CUDA devices.
    Nccl,
}

impl Config {
    /// How gradients are averaged.
    pub fn averaging(&self) -> Averaging {
        let kind = self.communication_data_type.map(|kind| match kind {
            CommunicationType::Fp32 => Kind::Float,
            CommunicationType::Fp16 => Kind::Half,
            CommunicationType::Bf16 => Kind::BFloat16,
        });
        // It is all one when the division happens but for overflows in float16, against which before is
        // better; and before costs nothing.
        let predivide = match self.prescale_gradients {
            Some(true) => None,
            _ => self.gradient_predivide_factor,
        };
        let distributed = self.distributed.clone().unwrap_or_default();
        let bucket_elements = usize::try_from(distributed.reduce_bucket_size).unwrap_or(usize::MAX);
        Averaging { bucket_elements, kind, predivide }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn averaging(config: Value) -> Averaging {
        serde_json::from_value::<Config>(config).expect("it is right").averaging()
    }

    #[test]
    fn keys_become_averaging() {
        assert_eq!(averaging(json!({})), Averaging::default());
        for (config, kind, predivide) in [
            (json!({"communication_data_type": "bf16"}), Some(Kind::BFloat16), None),
            (json!({"communication_data_type": "FP16"}), Some(Kind::Half), None),
            (
                json!({"communication_data_type": "fp16", "prescale_gradients": true,
                    "gradient_predivide_factor": 4}),
                Some(Kind::Half),
                None,
            ),
            (json!({"gradient_predivide_factor": 4}), None, Some(4.0)),
        ] {
            assert_eq!(averaging(config), Averaging { kind, predivide, ..Averaging::default() });
        }
        let small = averaging(json!({"distributed": {"reduce_bucket_size": 7}}));
        assert_eq!(small.bucket_elements, 7);
    }
}
