//! The section `init_from`.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Weights that the training begins with, in place of those that the seed makes.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum InitFrom {
    /// Where they are, see `file`.
    Path(PathBuf),
    /// Where they are, and how their names become the model's.
    Options(InitOptions),
}

/// Where weights are, and how their names become the model's.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InitOptions {
    /// A file of safetensors; a checkpoint; a folder with `model.safetensors`, or with
    /// `model.safetensors.index.json` and the files that it names; or a folder of checkpoints, whose newest
    /// is taken. For the example BERT also a folder of Hugging Face's layout, with `config.json`.
    pub file: PathBuf,
    /// Names in the file to names in the model: `{"bert.*": "*", "pooler.*": null}`. A `*` stands for any run
    /// of characters, dots included, on the right for what it stood for on the left; null leaves a tensor
    /// out. Where several patterns match, the one with the most other characters counts; where none does, the
    /// name stays.
    #[serde(default)]
    pub names: BTreeMap<String, Option<String>>,
    /// What becomes of tensors of the model that the file has not: `error`, or `warn`, and they begin as
    /// without `init_from`.
    #[serde(default = "Strictness::error")]
    pub missing: Strictness,
    /// What becomes of tensors of the file that the model has not: `error`, or `warn`, and they are left out.
    #[serde(default = "Strictness::warn")]
    pub unexpected: Strictness,
}

/// What becomes of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strictness {
    /// The run does not begin.
    Error,
    /// It is told.
    Warn,
}

impl Strictness {
    fn error() -> Self {
        Strictness::Error
    }

    fn warn() -> Self {
        Strictness::Warn
    }
}

impl InitOptions {
    /// Those of `file`, as they are where nothing else is said.
    pub fn of(file: &Path) -> Self {
        InitOptions {
            file: file.to_owned(),
            names: BTreeMap::new(),
            missing: Strictness::error(),
            unexpected: Strictness::warn(),
        }
    }
}

impl From<InitFrom> for InitOptions {
    fn from(section: InitFrom) -> Self {
        match section {
            InitFrom::Path(file) => InitOptions::of(&file),
            InitFrom::Options(options) => options,
        }
    }
}
