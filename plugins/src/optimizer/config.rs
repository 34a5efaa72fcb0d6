//! What `optimizer` may hold.
use super::muon::MuonParams;
use super::params::{AdagradParams, AdamParams, LambParams, LionParams, SgdParams};
use crate::choice::{self, Choice, Refused};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The rule that turns gradients into updates.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Raw")]
pub struct Config {
    /// The rule with its params; without it, the section sets nothing.
    #[serde(flatten)]
    pub rule: Option<Rule>,
    /// Patterns on names of parameters that get neither weight decay nor, with LAMB, adaptation.
    pub no_decay: Vec<String>,
    /// Parameter groups with options of their own.
    pub groups: Vec<GroupConfig>,
}

/// A rule with its params.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "type", content = "params", rename_all = "lowercase")]
pub enum Rule {
    /// AdamW, unless `adam_w_mode` is false.
    #[serde(alias = "fusedadam", alias = "deepspeedcpuadam")]
    Adam(AdamParams),
    /// AdamW.
    AdamW(AdamParams),
    /// LAMB.
    #[serde(alias = "fusedlamb")]
    Lamb(LambParams),
    /// Stochastic gradient descent.
    Sgd(SgdParams),
    /// Lion.
    #[serde(alias = "fusedlion", alias = "deepspeedcpulion")]
    Lion(LionParams),
    /// Adagrad.
    #[serde(alias = "deepspeedcpuadagrad")]
    Adagrad(AdagradParams),
    /// Muon, with AdamW for what is no matrix.
    Muon(MuonParams),
}

/// DeepSpeed's optimizers that are not here, and what is.
const REFUSED: [Refused; 4] = [
    (
        &["OneBitAdam", "ZeroOneAdam"],
        "is Adam with compressed communication, which is not supported; use \"Adam\"",
    ),
    (
        &["OneBitLamb"],
        "is LAMB with compressed communication, which is not supported; use \"Lamb\"",
    ),
    (
        &["MuAdam", "MuAdamW", "MuSGD"],
        "is of the package mup, which is not supported; use \"Adam\", \"AdamW\" or \"SGD\"",
    ),
    (
        &[
            "Adadelta",
            "Adafactor",
            "Adamax",
            "ASGD",
            "LBFGS",
            "NAdam",
            "RAdam",
            "RMSprop",
            "Rprop",
            "SparseAdam",
        ],
        "is PyTorch's, which is not supported; use \"AdamW\", or another of the types here",
    ),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    r#type: Option<String>,
    params: Option<Value>,
    /// Changes nothing; the schema has it.
    #[serde(default, rename = "legacy_fusion")]
    _legacy_fusion: bool,
    #[serde(default)]
    no_decay: Vec<String>,
    #[serde(default)]
    groups: Vec<GroupConfig>,
}

impl TryFrom<Raw> for Config {
    type Error = serde_json::Error;

    fn try_from(raw: Raw) -> serde_json::Result<Self> {
        let rule = choice::read(raw.r#type.as_deref(), raw.params)?;
        Ok(Config { rule, no_decay: raw.no_decay, groups: raw.groups })
    }
}

impl JsonSchema for Config {
    fn schema_name() -> Cow<'static, str> {
        "Optimizer".into()
    }

    fn schema_id() -> Cow<'static, str> {
        concat!(module_path!(), "::Config").into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let choices = vec![
            Choice::new::<AdamParams>(
                generator,
                &["AdamW", "Adam", "FusedAdam", "DeepSpeedCPUAdam"],
            ),
            Choice::new::<LambParams>(generator, &["Lamb", "FusedLamb"]),
            Choice::new::<SgdParams>(generator, &["SGD"]),
            Choice::new::<LionParams>(generator, &["Lion", "FusedLion", "DeepSpeedCPULion"]),
            Choice::new::<AdagradParams>(generator, &["Adagrad", "DeepSpeedCPUAdagrad"]),
            Choice::new::<MuonParams>(generator, &["Muon"]),
        ];
        let more = Map::from_iter([
            (
                "legacy_fusion".to_owned(),
                json!({
                    "description": "Changes nothing: there is one implementation of each type.",
                    "type": "boolean",
                    "default": false,
                }),
            ),
            (
                "no_decay".to_owned(),
                json!({
                    "description": "Patterns on names of parameters, such as \"bias\" or \"ln*\", that \
                        get no weight decay and, with Lamb, no adaptation. A pattern takes a run of \
                        dotted components anywhere in the name; * stands for any characters and ? for \
                        one within a component.",
                    "type": "array",
                    "items": { "type": "string", "minLength": 1 },
                    "default": [],
                }),
            ),
            (
                "groups".to_owned(),
                json!({
                    "description": "Parameters with options of their own. The first group that matches \
                        a name holds, and what it sets goes before no_decay and params.",
                    "type": "array",
                    "items": generator.subschema_for::<GroupConfig>(),
                    "default": [],
                }),
            ),
        ]);
        let about = "The rule that turns gradients into updates, by DeepSpeed's names.";
        let mut schema = choice::schema(about, choices, &REFUSED, more);
        // DeepSpeed knows the name and refuses it, too.
        let params = schema.pointer_mut("/properties/params").expect("a type has params");
        params["properties"] = json!({
            "max_grad_norm": {
                "not": {},
                "errorMessage": "belongs to no optimizer; set \"gradient_clipping\" beside \"optimizer\"",
            },
        });
        schema
    }
}

/// Options of some parameters.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "OptimizerGroup")]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Patterns on names of parameters, as in no_decay; a parameter that one of them matches belongs
    /// here.
    #[serde(rename = "match")]
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub patterns: Vec<String>,
    /// Learning rate that the schedule starts from.
    #[schemars(range(min = 0))]
    pub lr: Option<f64>,
    /// Weight decay.
    #[schemars(range(min = 0))]
    pub weight_decay: Option<f64>,
    /// Lamb: whether the rate follows the norms of these parameters. Muon: whether their updates are
    /// made orthogonal; with false, AdamW takes them.
    pub adapt: Option<bool>,
}
