//! What you may set in `progressive_layer_drop`.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Progressive Layer Dropping: leaves layers out of the training forward and backward, none at first
/// and more as training goes on, so that steps get faster. Evaluation always runs at full depth.
///
/// `{ "enabled": true }` is enough. After t steps the last of L blocks is kept with probability
/// theta(t), and block i with 1 - (i / L)(1 - theta(t)); what a kept block adds is scaled so that it is
/// right on average. With the default theta of 0.5, 27 % of the work of 12 blocks is saved in the end.
///
/// DeepSpeed itself takes this section for an error since 0.19.8 (October 2026).
///
/// Paper: [Zhang and He, NeurIPS 2020](https://arxiv.org/abs/2010.13369).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ProgressiveLayerDrop")]
pub struct Config {
    /// Switches layer dropping on.
    pub enabled: bool,
    /// Keep probability of the last block once the schedule has settled. 1 drops nothing.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub theta: f64,
    /// How fast the exponential schedule settles, per step: a number above 0, or `"auto"` for 100 / total
    /// steps. The other schedules do not use it.
    pub gamma: Gamma,
    /// How the keep probability of the last block, theta(t), moves over the steps t.
    pub schedule: Course,
    /// The part of the run in which the linear schedule comes down to `theta`. The other schedules do
    /// not use it.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub ramp: f64,
    /// The last part of the run, as a fraction of its steps, in which nothing is dropped.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub full_depth_tail: f64,
    /// How dropping spreads over the blocks.
    pub depth: Depth,
    /// What one draw decides on.
    pub gate: Unit,
    /// How often gates are drawn anew when a step has several micro-batches.
    pub redraw: Redraw,
    /// How the gates of several processes hang together.
    pub ranks: Ranks,
    /// What the optimizer does with a parameter that nothing used in a step.
    pub idle: Idle,
    /// Which blocks are gated: a pattern on their names such as `"encoder.*"`, where `*` stands for
    /// anything between two dots, or a list of patterns. All blocks, if left out. The blocks that no
    /// pattern matches always run, and do not count in L.
    pub layers: Option<Patterns>,
    /// Seed of the gates. The run's seed, if left out.
    pub seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            enabled: false,
            theta: 0.5,
            gamma: Gamma::Value(0.001),
            schedule: Course::Exponential,
            ramp: 0.1,
            full_depth_tail: 0.0,
            depth: Depth::Linear,
            gate: Unit::Block,
            redraw: Redraw::MicroBatch,
            ranks: Ranks::Shared,
            idle: Idle::Skip,
            layers: None,
            seed: None,
        }
    }
}

/// How fast the exponential schedule settles, per step.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Gamma {
    /// A rate per step.
    Value(#[schemars(extend("exclusiveMinimum" = 0))] f64),
    /// The paper's rule of thumb, 100 / total steps. It needs the length of the run.
    Auto(Auto),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Auto {
    /// Chosen by a rule.
    Auto,
}

/// How theta(t) moves over the completed steps t, of T in the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Course {
    /// From 1 down to `theta`: (1 - theta) exp(-gamma t) + theta. The paper's.
    Exponential,
    /// `theta` from the first step on.
    Constant,
    /// From 1 down to `theta` on a straight line over the first `ramp` T steps. Needs the length of the
    /// run.
    Linear,
    /// From `theta` up to 1 on a straight line over the run: deep drop early, full depth late. Needs the
    /// length of the run.
    Decreasing,
}

/// How dropping spreads over the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Depth {
    /// The deeper a block, the more often it is dropped.
    Linear,
    /// All blocks alike, with the expected depth of `linear`.
    Uniform,
}

/// What one draw decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Unit {
    /// All of a block.
    Block,
    /// One residual branch, so that a block's attention and feed-forward are dropped independently. A
    /// block that is wrapped whole counts as one branch.
    Sublayer,
}

/// How often gates are drawn anew when a step has several micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Redraw {
    /// For every micro-batch.
    MicroBatch,
    /// Once a step.
    Step,
}

/// How the gates of several processes (ranks) hang together. A step takes as long as its slowest rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Ranks {
    /// All ranks draw the same gates.
    Shared,
    /// All ranks keep the same number of blocks, each its own choice.
    Balanced,
    /// Every rank draws for itself. Most of the saving is lost to waiting for the slowest.
    Independent,
}

/// What the optimizer does with a parameter that nothing used in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Idle {
    /// The parameter and its moments stay as they are.
    Skip,
    /// As with a gradient of zero: moments shrink, weight decay applies. With LAMB such a parameter
    /// still moves at full speed along its old momentum.
    Decay,
}

/// A pattern, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Patterns {
    /// One pattern.
    One(#[schemars(length(max = 1000))] String),
    /// What any of these matches.
    Many(#[schemars(length(min = 1, max = 1000), inner(length(max = 1000)))] Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Result<Config, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn deepspeed_section_and_defaults() -> Result<(), serde_json::Error> {
        assert_eq!(read(json!({}))?, Config::default());
        let on = Config { enabled: true, ..Config::default() };
        assert_eq!(read(json!({ "enabled": true }))?, on);
        assert_eq!(read(json!({ "enabled": true, "theta": 0.5, "gamma": 0.001 }))?, on);
        assert_eq!(read(serde_json::to_value(&on)?)?, on);
        Ok(())
    }

    #[test]
    fn every_key() -> Result<(), serde_json::Error> {
        let all = json!({
            "enabled": true, "theta": 1, "gamma": "auto", "schedule": "decreasing", "ramp": 1,
            "full_depth_tail": 0.25, "depth": "uniform", "gate": "sublayer", "redraw": "step",
            "ranks": "balanced", "idle": "decay", "layers": ["a.*", "b.*"], "seed": 7,
        });
        let expected = Config {
            enabled: true,
            theta: 1.0,
            gamma: Gamma::Auto(Auto::Auto),
            schedule: Course::Decreasing,
            ramp: 1.0,
            full_depth_tail: 0.25,
            depth: Depth::Uniform,
            gate: Unit::Sublayer,
            redraw: Redraw::Step,
            ranks: Ranks::Balanced,
            idle: Idle::Decay,
            layers: Some(Patterns::Many(vec!["a.*".to_owned(), "b.*".to_owned()])),
            seed: Some(7),
        };
        assert_eq!(read(all)?, expected);
        assert!(read(json!({ "theata": 0.5 })).is_err());
        assert!(read(json!({ "gamma": "fast" })).is_err());
        Ok(())
    }

    #[test]
    fn the_schema_states_the_ranges() {
        let schema = serde_json::to_value(schemars::schema_for!(Config)).expect("plain data");
        let of = |key: &str| &schema["properties"][key];
        let range = |schema: &Value| {
            ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"]
                .map(|k| schema[k].as_f64())
        };
        assert_eq!(range(of("theta")), [None, Some(0.0), Some(1.0), None]);
        assert_eq!(range(of("ramp")), [None, Some(0.0), Some(1.0), None]);
        assert_eq!(range(of("full_depth_tail")), [Some(0.0), None, None, Some(1.0)]);
        assert_eq!(range(&of("gamma")["anyOf"][0]), [None, Some(0.0), None, None]);
        assert_eq!(schema["additionalProperties"], json!(false));
        // Flat: a schema of all sections needs no names for the inner types.
        assert_eq!(schema["$defs"], Value::Null);
    }
}
