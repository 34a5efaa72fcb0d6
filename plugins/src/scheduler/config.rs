//! What `scheduler` may hold: DeepSpeed's schedules by DeepSpeed's names.
use super::params::{LrRangeTest, OneCycle, WarmupCosineLr, WarmupDecayLr, WarmupLr};
use crate::choice::{self, Choice, Refused};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The learning rate over the steps, one of DeepSpeed's schedules.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Raw")]
pub struct Config {
    /// The schedule; without it, the section sets nothing.
    #[serde(flatten)]
    pub rule: Option<Rule>,
}

/// A schedule with its params.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "type", content = "params", rename_all = "lowercase")]
pub enum Rule {
    /// Up, and there it stays.
    WarmupLr(WarmupLr),
    /// Up, then down in a line.
    WarmupDecayLr(WarmupDecayLr),
    /// Up, then down along a cosine.
    WarmupCosineLr(WarmupCosineLr),
    /// Up without end, to find the largest rate that trains.
    LrRangeTest(LrRangeTest),
    /// Up, down, and out.
    OneCycle(OneCycle),
}

/// PyTorch's schedules, which DeepSpeed takes by their names.
const REFUSED: [Refused; 1] = [(
    &[
        "ChainedScheduler",
        "ConstantLR",
        "CosineAnnealingLR",
        "CosineAnnealingWarmRestarts",
        "CyclicLR",
        "ExponentialLR",
        "LambdaLR",
        "LinearLR",
        "MultiplicativeLR",
        "MultiStepLR",
        "OneCycleLR",
        "PolynomialLR",
        "ReduceLROnPlateau",
        "SequentialLR",
        "StepLR",
    ],
    "is PyTorch's, which is not supported; use \"WarmupCosineLR\", or another of the types here",
)];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    r#type: Option<String>,
    params: Option<Value>,
}

impl TryFrom<Raw> for Config {
    type Error = serde_json::Error;

    fn try_from(raw: Raw) -> serde_json::Result<Self> {
        Ok(Config { rule: choice::read(raw.r#type.as_deref(), raw.params)? })
    }
}

impl JsonSchema for Config {
    fn schema_name() -> Cow<'static, str> {
        "Scheduler".into()
    }

    fn schema_id() -> Cow<'static, str> {
        concat!(module_path!(), "::Config").into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let choices = vec![
            Choice::new::<WarmupLr>(generator, &["WarmupLR"]),
            Choice::new::<WarmupDecayLr>(generator, &["WarmupDecayLR"]),
            Choice::new::<WarmupCosineLr>(generator, &["WarmupCosineLR"]),
            Choice::new::<LrRangeTest>(generator, &["LRRangeTest"]),
            Choice::new::<OneCycle>(generator, &["OneCycle"]),
        ];
        let about = "The learning rate over the steps: a DeepSpeed schedule by its name. \
                     Left out: the optimizer's rate throughout.";
        choice::schema(about, choices, &REFUSED, Map::new())
    }
}
