//! The configuration of data by input name.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A folder of samples by input name.
///
/// In the folder: `<input>.npy`, an array whose first axis counts the samples; `*.safetensors`, each
/// with a tensor for every input, whose first axis counts the samples, one file after the other in the
/// order of their names; `<input>.bin`, nothing but token ids. They lie in `train` and `validation`
/// within the folder (`val` is read as well); where there is no `validation`, a share of the samples is
/// kept for it. Files of nanoGPT and llm.c (`train.bin` and `val.bin`, `fineweb_train_000001.bin`) are
/// known by their names: those for one part follow one another as `input_ids`.
///
/// Files are mapped into memory and must not be changed while they are. Integers of 16 and 32 bits
/// become int64, which models expect of ids and labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArrayConfig {
    /// The folder. A relative path starts from the folder in which the program runs. The program says
    /// where it may be given besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,

    /// Tokens in a sequence. Arrays of one axis that hold integers, and `.bin` files, are then streams
    /// of tokens, cut into sequences of this length one after the other; what is left at the end is not
    /// used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 1048576))]
    pub sequence_length: Option<usize>,

    /// What a `.bin` file holds; files with llm.c's header say it themselves. `uint16`, if not given, and
    /// a file whose ids look like `uint32` is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<TokenType>,

    /// Share of the samples kept for validation where the folder has no `validation`, between 0 and 1;
    /// at least one sample. Which ones depends on their number alone.
    #[serde(default = "validation_share")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub validation_share: f64,

    /// Validate on at most this many samples, spread evenly. All, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_validation_samples: Option<usize>,

    /// Masks tokens anew in every epoch, for masked language modelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masking: Option<Masking>,
}

/// What the numbers of a `.bin` file are, without a header, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenType {
    /// Two bytes a token.
    Uint16,
    /// Four bytes a token.
    Uint32,
}

/// Masking as BERT does it: of the tokens that are not special, a share is to be guessed. Of these,
/// 80 % are replaced by the mask, 10 % by a random token, and 10 % stay. The tokens that stood there
/// become an input of their own, which has -100 everywhere else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Masking {
    /// The tokens, by their name in the data.
    #[serde(default = "masked_input")]
    pub input: String,

    /// What the labels are called.
    #[serde(default = "labels")]
    pub labels: String,

    /// Id of the mask.
    pub mask_token: u32,

    /// Number of ids there are.
    #[schemars(range(min = 1))]
    pub vocabulary: u32,

    /// Other ids that are never masked and never drawn, such as those of padding and separators.
    #[serde(default)]
    pub special_tokens: Vec<u32>,

    /// Share of a sample's ordinary tokens to be guessed, above 0 and at most 1.
    #[serde(default = "probability")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub probability: f64,
}

fn validation_share() -> f64 {
    0.05
}

fn masked_input() -> String {
    "input_ids".to_owned()
}

fn labels() -> String {
    "labels".to_owned()
}

fn probability() -> f64 {
    0.15
}

impl ArrayConfig {
    /// The defaults, for a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: Some(folder.into()),
            sequence_length: None,
            token_type: None,
            validation_share: validation_share(),
            max_validation_samples: None,
            masking: None,
        }
    }

    /// Checks the ranges that the schema also states, and that the special ids are in the vocabulary.
    ///
    /// # Errors
    /// The first number out of its range.
    pub(crate) fn check(&self) -> Result<()> {
        let within = |key, value, holds, range: String| {
            if holds { Ok(()) } else { Err(Error::ArrayOption { key, value, range }) }
        };
        let length = self.sequence_length.unwrap_or(2);
        let (share, most) = (self.validation_share, self.max_validation_samples.unwrap_or(1));
        let holds = (2..=1 << 20).contains(&length);
        within("sequence_length", length as f64, holds, "[2, 1048576]".to_owned())?;
        within("validation_share", share, share > 0.0 && share < 1.0, "(0, 1)".to_owned())?;
        within("max_validation_samples", most as f64, most >= 1, "[1, infinity)".to_owned())?;
        let Some(masking) = &self.masking else { return Ok(()) };
        let ids = f64::from(masking.vocabulary);
        within("masking.vocabulary", ids, masking.vocabulary > 0, "[1, 2^32)".to_owned())?;
        let share = masking.probability;
        let holds = share > 0.0 && share <= 1.0;
        within("masking.probability", share, holds, "(0, 1]".to_owned())?;
        let below = || format!("[0, {}), the ids of the vocabulary", masking.vocabulary);
        let token = masking.mask_token;
        within("masking.mask_token", f64::from(token), token < masking.vocabulary, below())?;
        for &token in &masking.special_tokens {
            let holds = token < masking.vocabulary;
            within("masking.special_tokens", f64::from(token), holds, below())?;
        }
        let special = masking.special().len();
        let holds = special < masking.vocabulary as usize;
        within("masking.vocabulary", ids, holds, format!("({special}, 2^32), which leaves a token"))
    }
}

impl Masking {
    /// All ids that are never masked, rising, each once.
    pub(crate) fn special(&self) -> Vec<u32> {
        let mut special = self.special_tokens.clone();
        special.push(self.mask_token);
        special.sort_unstable();
        special.dedup();
        special
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schema_and_check_agree() {
        let schema = serde_json::to_value(schemars::schema_for!(ArrayConfig)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let base = json!({
            "folder": "d", "sequence_length": 16, "token_type": "uint32", "validation_share": 0.5,
            "max_validation_samples": 3, "masking": { "mask_token": 4, "vocabulary": 9 },
        });
        assert!(validator.is_valid(&base));
        for (pointer, good, bad) in [
            ("/sequence_length", json!([2, 1 << 20]), json!([0, 1, (1 << 20) + 1])),
            ("/validation_share", json!([1e-9, 0.999]), json!([0, 1, -0.5])),
            ("/max_validation_samples", json!([1, null]), json!([0])),
            ("/masking/probability", json!([1e-9, 1]), json!([0, 1.001, -1])),
            ("/masking/vocabulary", json!([5, u32::MAX]), json!([0])),
        ] {
            for (values, valid) in [(good, true), (bad, false)] {
                for value in values.as_array().unwrap() {
                    let mut config = base.clone();
                    match config.pointer_mut(pointer) {
                        Some(place) => *place = value.clone(),
                        None => config["masking"]["probability"] = value.clone(),
                    }
                    assert_eq!(validator.is_valid(&config), valid, "{pointer} = {value}");
                    let config: ArrayConfig = serde_json::from_value(config).unwrap();
                    assert_eq!(config.check().is_ok(), valid, "{pointer} = {value}");
                }
            }
        }
        assert!(!validator.is_valid(&json!({ "folder": "d", "text": "t" })));
    }

    #[test]
    fn ids_outside_the_vocabulary_are_named() {
        let error = |masking: serde_json::Value| {
            let masking = Some(serde_json::from_value(masking).unwrap());
            let config = ArrayConfig { masking, ..ArrayConfig::new("d") };
            config.check().unwrap_err().to_string()
        };
        assert_eq!(
            error(json!({ "mask_token": 9, "vocabulary": 9 })),
            "masking.mask_token = 9 is not in [0, 9), the ids of the vocabulary"
        );
        assert_eq!(
            error(json!({ "mask_token": 1, "vocabulary": 9, "special_tokens": [0, 10] })),
            "masking.special_tokens = 10 is not in [0, 9), the ids of the vocabulary"
        );
        assert_eq!(
            error(json!({ "mask_token": 1, "vocabulary": 2, "special_tokens": [0] })),
            "masking.vocabulary = 2 is not in (2, 2^32), which leaves a token"
        );
    }
}
