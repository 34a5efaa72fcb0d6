//! The section `script`: how a model from PyTorch is trained.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use trainyard_data::ArrayConfig;

/// A model that PyTorch wrote, as TorchScript or by torch.export: its file, its data, and which of its outputs is the loss.
/// `trainyard train` reads it when it is given a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptConfig {
    /// TorchScript file, as torch.jit.save writes it, or a program of torch.export.save (.pt2). The command line's --model takes its place.
    pub model: Option<PathBuf>,
    /// The samples, by the names of forward's arguments. The command line's --data sets the folder.
    pub data: Option<ArrayConfig>,
    /// Names in the data, by the arguments of forward that have another name there.
    pub inputs: BTreeMap<String, String>,
    /// What is minimised.
    pub loss: LossConfig,
    /// Whether a layer that forward calls more than once, as where layers share their weights, is a layer
    /// anew in each call. Without it such layers are refused.
    pub repeated_layers: bool,
}

/// What is minimised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Who computes it.
    #[serde(rename = "type")]
    pub kind: LossKind,
    /// The output it is, or is computed from: counted from 0, or by name where forward returns a
    /// dictionary or a named tuple.
    pub output: Which,
    /// What to guess, by its name in the data: class numbers. `cross_entropy` needs it; for `output` it
    /// says what the loss is a mean over, which is the samples without it.
    pub labels: Option<String>,
    /// The label that marks what is not to be guessed.
    pub ignore_index: i64,
    /// Each position guesses the label of the next one, as a causal language model does whose labels
    /// are its own input.
    pub shift: bool,
}

/// Who computes the loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// The model: the output is the mean loss, one number.
    #[default]
    Output,
    /// The program: cross-entropy of the output, logits of [samples, ..., classes], and the labels,
    /// [samples, ...].
    CrossEntropy,
}

/// An output of forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Which {
    /// Counted from 0.
    Index(u16),
    /// By name.
    Name(String),
}

impl Default for LossConfig {
    fn default() -> Self {
        LossConfig {
            kind: LossKind::default(),
            output: Which::Index(0),
            labels: None,
            ignore_index: -100,
            shift: false,
        }
    }
}

impl LossConfig {
    /// Whether the labels are class numbers that the program compares with the output.
    pub fn compares(&self) -> bool {
        self.kind == LossKind::CrossEntropy
    }

    /// Checks what ranges alone cannot say.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        match (self.kind, &self.labels) {
            (LossKind::CrossEntropy, None) => Err((
                "labels",
                "labels is not set: which input of the data does cross_entropy compare with?"
                    .to_owned(),
            )),
            (LossKind::Output, None) if self.shift => {
                Err(("shift", "shift = true needs labels, which are what is shifted".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Index(index) => write!(f, "output {index}"),
            Which::Name(name) => write!(f, "output `{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn an_empty_section_is_a_model_that_returns_its_loss() {
        let config: ScriptConfig = serde_json::from_value(json!({})).expect("all has a default");
        assert_eq!(config, ScriptConfig::default());
        assert_eq!((config.loss.kind, config.loss.output), (LossKind::Output, Which::Index(0)));
    }

    #[test]
    fn losses_that_lack_something_are_named() {
        let check =
            |value: Value| serde_json::from_value::<LossConfig>(value).expect("read").check();
        assert_eq!(check(json!({ "type": "cross_entropy", "labels": "y" })), Ok(()));
        assert_eq!(check(json!({ "output": "loss", "labels": "y", "shift": true })), Ok(()));
        assert_eq!(
            check(json!({ "type": "cross_entropy" })).map_err(|(key, _)| key),
            Err("labels")
        );
        assert_eq!(check(json!({ "shift": true })).map_err(|(key, _)| key), Err("shift"));
    }
}
