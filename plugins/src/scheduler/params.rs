//! The params of each schedule; DeepSpeed's names and defaults.
use super::warmup::Shape;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

/// Optimizer steps of the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum TotalSteps {
    /// So many.
    Steps(#[schemars(range(min = 1))] u64),
    /// As many as the run has.
    Auto(Auto),
}

impl Default for TotalSteps {
    fn default() -> Self {
        TotalSteps::Auto(Auto::Auto)
    }
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// What the run has.
    Auto,
}

/// A value, or a list of one: DeepSpeed takes a value for each group of parameters, of which it has one.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrList<T> {
    One(T),
    List([T; 1]),
}

fn one<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Ok(match OneOrList::deserialize(value)? {
        OneOrList::One(value) | OneOrList::List([value]) => value,
    })
}

fn rate(_: &mut SchemaGenerator) -> Schema {
    one_or_list(json!("number"))
}

fn rate_or_null(_: &mut SchemaGenerator) -> Schema {
    one_or_list(json!(["number", "null"]))
}

/// The schema of a rate, or of a list of one.
fn one_or_list(of_type: Value) -> Schema {
    let why = "has a rate for each of several groups of parameters, which is not supported; write one rate";
    json_schema!({
        "anyOf": [
            { "type": of_type, "minimum": 0 },
            {
                "type": "array", "items": { "type": "number", "minimum": 0 }, "minItems": 1,
                "deprecated": true,
            },
        ],
        "allOf": [{
            "if": { "type": "array", "minItems": 2 },
            "then": { "not": {}, "errorMessage": why },
        }],
    })
}

/// From one rate up to another, where it stays.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WarmupLr {
    /// Learning rate of the first two steps.
    #[serde(deserialize_with = "one")]
    #[schemars(schema_with = "rate")]
    pub warmup_min_lr: f64,
    /// Learning rate after the warm-up; null: the optimizer's.
    #[serde(deserialize_with = "one")]
    #[schemars(schema_with = "rate_or_null")]
    pub warmup_max_lr: Option<f64>,
    /// Steps of the warm-up; 1 counts as 2.
    #[schemars(range(min = 1))]
    pub warmup_num_steps: u64,
    /// How the rate rises: along a logarithm or in a line.
    pub warmup_type: Shape,
    /// Only -1: a run that goes on takes up its own step.
    #[schemars(extend("const" = -1))]
    pub last_batch_iteration: i64,
}

impl Default for WarmupLr {
    fn default() -> Self {
        WarmupLr {
            warmup_min_lr: 0.0,
            warmup_max_lr: None,
            warmup_num_steps: 1000,
            warmup_type: Shape::Log,
            last_batch_iteration: -1,
        }
    }
}

/// From one rate up to another and back in a line, reached at the end of the run.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WarmupDecayLr {
    /// Step at which the rate is down again; "auto" or left out: the last one of the run.
    pub total_num_steps: TotalSteps,
    /// Learning rate of the first two steps, and at the end.
    #[serde(deserialize_with = "one")]
    #[schemars(schema_with = "rate")]
    pub warmup_min_lr: f64,
    /// Learning rate at the top; null: the optimizer's. Left out it is 0.001, as in DeepSpeed, and not
    /// the optimizer's.
    #[serde(deserialize_with = "one")]
    #[schemars(schema_with = "rate_or_null")]
    pub warmup_max_lr: Option<f64>,
    /// Steps of the warm-up; 1 counts as 2.
    #[schemars(range(min = 1))]
    pub warmup_num_steps: u64,
    /// How the rate rises: along a logarithm or in a line.
    pub warmup_type: Shape,
    /// Only -1: a run that goes on takes up its own step.
    #[schemars(extend("const" = -1))]
    pub last_batch_iteration: i64,
}

impl Default for WarmupDecayLr {
    fn default() -> Self {
        WarmupDecayLr {
            total_num_steps: TotalSteps::default(),
            warmup_min_lr: 0.0,
            warmup_max_lr: Some(0.001),
            warmup_num_steps: 1000,
            warmup_type: Shape::Log,
            last_batch_iteration: -1,
        }
    }
}

/// Up to the optimizer's rate, then down along half a cosine, reached at the end of the run. The first
/// step has rate 0.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WarmupCosineLr {
    /// Step at which the rate is down; "auto" or left out: the last one of the run.
    pub total_num_steps: TotalSteps,
    /// Rate at the start of the warm-up, as a share of the optimizer's.
    #[schemars(range(min = 0))]
    pub warmup_min_ratio: f64,
    /// Steps of the warm-up; 1 counts as 2.
    #[schemars(range(min = 1))]
    pub warmup_num_steps: u64,
    /// Rate at the end, as a share of the optimizer's.
    #[schemars(range(min = 0))]
    pub cos_min_ratio: f64,
    /// How the rate rises: along a logarithm or in a line.
    pub warmup_type: Shape,
    /// Only -1: a run that goes on takes up its own step.
    #[schemars(extend("const" = -1))]
    pub last_batch_iteration: i64,
}

impl Default for WarmupCosineLr {
    fn default() -> Self {
        WarmupCosineLr {
            total_num_steps: TotalSteps::default(),
            warmup_min_ratio: 0.0,
            warmup_num_steps: 1000,
            cos_min_ratio: 0.0001,
            warmup_type: Shape::Log,
            last_batch_iteration: -1,
        }
    }
}

/// Up from one rate without end, to find the largest that trains.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LrRangeTest {
    /// Learning rate of the first step.
    #[serde(deserialize_with = "one")]
    #[schemars(schema_with = "rate")]
    pub lr_range_test_min_lr: f64,
    /// Steps of an interval.
    #[schemars(range(min = 1))]
    pub lr_range_test_step_size: u64,
    /// How much the rate grows in an interval, as a multiple of the first rate.
    #[schemars(range(min = 0))]
    pub lr_range_test_step_rate: f64,
    /// Grow at the end of each interval only.
    pub lr_range_test_staircase: bool,
    /// Only -1: a run that goes on takes up its own step.
    #[schemars(extend("const" = -1))]
    pub last_batch_iteration: i64,
}

impl Default for LrRangeTest {
    fn default() -> Self {
        LrRangeTest {
            lr_range_test_min_lr: 1e-3,
            lr_range_test_step_size: 2000,
            lr_range_test_step_rate: 1.0,
            lr_range_test_staircase: false,
            last_batch_iteration: -1,
        }
    }
}

/// Up to one rate and back, the first beta down and back with it, then slowly out.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneCycle {
    /// Learning rate at both ends of the cycle.
    #[schemars(range(min = 0))]
    pub cycle_min_lr: f64,
    /// Learning rate at its top.
    #[schemars(range(min = 0))]
    pub cycle_max_lr: f64,
    /// After the cycle the rate is `cycle_min_lr / (1 + decay_lr_rate * intervals)`.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub decay_lr_rate: f64,
    /// Steps of the first half.
    #[serde(default = "first_step_size")]
    #[schemars(range(min = 1))]
    pub cycle_first_step_size: u64,
    /// Steps of the second half; null: as the first.
    #[serde(default)]
    pub cycle_second_step_size: Option<u64>,
    /// Stairs that the first half is cut into; 0: a line.
    #[serde(default)]
    pub cycle_first_stair_count: u64,
    /// Stairs that the second half is cut into; null: as the first.
    #[serde(default)]
    pub cycle_second_stair_count: Option<u64>,
    /// Steps of an interval after the cycle; 0: nothing changes any more.
    #[serde(default)]
    pub decay_step_size: u64,
    /// Move the betas of Adam-like optimizers too: the second is 0.99 then.
    #[serde(default = "yes")]
    pub cycle_momentum: bool,
    /// First beta at the top of the cycle, and in the first step.
    #[serde(default = "min_mom")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub cycle_min_mom: f64,
    /// First beta at both ends of the cycle.
    #[serde(default = "max_mom")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub cycle_max_mom: f64,
    /// After the cycle the first beta is `cycle_max_mom * (1 + decay_mom_rate * intervals)`, which grows
    /// and may pass 1, as in DeepSpeed.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub decay_mom_rate: f64,
    /// Only -1: a run that goes on takes up its own step.
    #[serde(default = "last")]
    #[schemars(extend("const" = -1))]
    pub last_batch_iteration: i64,
}

fn first_step_size() -> u64 {
    2000
}

fn yes() -> bool {
    true
}

fn min_mom() -> f64 {
    0.8
}

fn max_mom() -> f64 {
    0.9
}

fn last() -> i64 {
    -1
}
