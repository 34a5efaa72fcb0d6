//! What you may set in `bf16` and `fp16`.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trainyard::truth;

/// Mixed precision in bfloat16: matrix products, convolutions and attention run in bfloat16, what loses
/// too much in it in float32. Parameters, gradients and the optimizer's state stay float32. As robust
/// as float32, and faster where the processor has bfloat16 products. There is no loss scale.
///
/// `{ "enabled": true }` is enough. Not together with `fp16`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(
    rename = "Bf16",
    extend("allOf" = [
        refused("bf16_master_weights_and_grads", "is not supported: master weights and gradients are always float32"),
        refused("bf16_optimizer_states", "is not supported: the optimizer's state is always float32"),
    ])
)]
pub struct Bf16Config {
    /// Switches bfloat16 on.
    pub enabled: bool,
    /// Compute the norm of the gradients in every step, for the report, unless clipping does so anyway. False: no
    /// norm. Gradients are looked at for what is not finite either way.
    pub check_grad_overflow: bool,
    /// Changes nothing: gradients are gathered in float32 as they appear.
    pub immediate_grad_update: bool,
    /// Only false: the parameters that the optimizer updates are float32.
    pub bf16_master_weights_and_grads: bool,
    /// Only false: the optimizer's state is float32.
    pub bf16_optimizer_states: bool,
}

impl Default for Bf16Config {
    fn default() -> Self {
        Bf16Config {
            enabled: false,
            check_grad_overflow: true,
            immediate_grad_update: false,
            bf16_master_weights_and_grads: false,
            bf16_optimizer_states: false,
        }
    }
}

/// The section `bf16`, by its name of today and its old one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bf16Keys {
    /// Holds where both names are there.
    pub bf16: Option<Bf16Config>,
    /// The old name of `bf16`.
    pub bfloat16: Option<Bf16Config>,
}

impl Bf16Keys {
    /// What holds.
    pub(super) fn config(&self) -> Bf16Config {
        self.bf16.clone().or_else(|| self.bfloat16.clone()).unwrap_or_default()
    }
}

/// Mixed precision in float16 with a loss scale: matrix products, convolutions and attention run in
/// float16, what loses too much in it in float32. Parameters, gradients and the optimizer's state stay
/// float32. The loss is multiplied by a scale before the backward pass so that small gradients do not
/// vanish in float16, and the gradients are divided by it; a step whose gradients overflow is skipped.
///
/// `{ "enabled": true }` is enough. Prefer `bf16`, which needs no scale, where the hardware has it. Not
/// together with `bf16`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(
    rename = "Fp16",
    extend("if" = {
        "properties": { "enabled": truth(),
            "loss_scale": { "enum": [0, "0", "auto"] } },
        "required": ["enabled"]
    }),
    extend("then" = {
        "properties": {
            "loss_scale_window": { "minimum": 1 },
            "hysteresis": { "minimum": 1 },
            "min_loss_scale": { "minimum": 1 }
        }
    }),
    extend("allOf" = [
        refused("fp16_master_weights_and_grads", "is not supported: master weights and gradients are always float32"),
    ])
)]
pub struct Fp16Config {
    /// Switches float16 on.
    pub enabled: bool,
    /// The scale, in [1e-30, 1e30], which then never changes; 0: a dynamic one, as the other keys say.
    #[schemars(range(min = 0))]
    pub loss_scale: f64,
    /// The dynamic scale starts at 2 to the power of this.
    #[schemars(range(min = -99, max = 99))]
    pub initial_scale_power: i32,
    /// Steps without an overflow after which the dynamic scale doubles; at least 1.
    pub loss_scale_window: u64,
    /// Overflows it takes to halve the dynamic scale: the ones before are only skipped steps. A doubling
    /// of the scale restores the number. At least 1.
    pub hysteresis: u64,
    /// Whether every step without an overflow restores `hysteresis`.
    pub consecutive_hysteresis: bool,
    /// The dynamic scale falls no lower; at least 1. After 20 overflows in a row there the run stops.
    pub min_loss_scale: u64,
    /// Changes nothing: operations that run in float16 cast their inputs.
    pub auto_cast: bool,
    /// Only false: the parameters that the optimizer updates, and their gradients, are float32.
    pub fp16_master_weights_and_grads: bool,
}

impl Default for Fp16Config {
    fn default() -> Self {
        Fp16Config {
            enabled: false,
            loss_scale: 0.0,
            initial_scale_power: 16,
            loss_scale_window: 1000,
            hysteresis: 2,
            consecutive_hysteresis: false,
            min_loss_scale: 1,
            auto_cast: false,
            fp16_master_weights_and_grads: false,
        }
    }
}

/// Part of a section's schema: where the section is on, `key` may not be true, and `why` follows it in a sentence.
fn refused(key: &str, why: &str) -> Value {
    json!({
        "if": { "properties": { "enabled": truth() }, "required": ["enabled"] },
        "then": { "properties": { key: { "not": truth(), "errorMessage": why } } },
    })
}
