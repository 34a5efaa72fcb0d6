//! The data section of the configuration.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The text to train on and how it becomes sequences.
///
/// Relative paths start from the folder in which the program runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Text file: UTF-8, one document on each line, plain or compressed with Zstandard. The program
    /// says which one it takes if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<PathBuf>,

    /// BERT vocabulary file: one token on each line, with `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]` and
    /// `[MASK]` among them. The program says which one it takes if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<PathBuf>,

    /// A vocabulary of one's own, in place of `vocabulary`. It is kept in `cache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerConfig>,

    /// Tokens in a sequence, `[CLS]` and `[SEP]` included. Documents are cut and joined to this
    /// length, without padding.
    #[serde(default = "sequence_length")]
    #[schemars(range(min = 8, max = 65536))]
    pub sequence_length: usize,

    /// Share of the documents kept for validation, between 0 and 1; at least one document. Which
    /// ones depends on nothing else.
    #[serde(default = "validation_share")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub validation_share: f64,

    /// Share of a sequence's tokens to be guessed, above 0 and at most 1. Of these, 80 % are
    /// replaced by `[MASK]`, 10 % by a random token, and 10 % stay.
    #[serde(default = "mask_probability")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub mask_probability: f64,

    /// Validate on at most this many sequences, spread evenly over the validation documents. All,
    /// if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_validation_sequences: Option<usize>,

    /// Folder in which tokens are kept between runs; it can be deleted at any time.
    /// Without one, the text is tokenised at every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

/// A vocabulary that is trained on the text, all of it, lower case and without accents. The same text
/// gives the same vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizerConfig {
    /// How it is trained.
    pub train: Method,

    /// Number of tokens, the five special ones included; fewer where the text has no more to give.
    #[schemars(range(min = 256, max = 1048576))]
    pub vocabulary_size: usize,
}

/// How a vocabulary is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Characters, then the pair that occurs most often as one token, again and again.
    WordPiece,
}

fn sequence_length() -> usize {
    128
}

fn validation_share() -> f64 {
    0.05
}

fn mask_probability() -> f64 {
    0.15
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            text: None,
            vocabulary: None,
            tokenizer: None,
            sequence_length: sequence_length(),
            validation_share: validation_share(),
            mask_probability: mask_probability(),
            max_validation_sequences: None,
            cache: None,
        }
    }
}

impl DataConfig {
    /// The defaults, for a text file.
    pub fn new(text: impl Into<PathBuf>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// Checks the ranges that the schema also states, for a configuration that did not come through
    /// it.
    ///
    /// # Errors
    /// The first number out of its range.
    pub fn check(&self) -> Result<()> {
        let within = |key, value, holds, range| {
            if holds { Ok(()) } else { Err(Error::OutOfRange { key, value, range }) }
        };
        let (length, share, mask) =
            (self.sequence_length, self.validation_share, self.mask_probability);
        let most = self.max_validation_sequences.unwrap_or(1);
        let size = self.tokenizer.map_or(256, |tokenizer| tokenizer.vocabulary_size);
        within("sequence_length", length as f64, (8..=65536).contains(&length), "[8, 65536]")?;
        within("validation_share", share, share > 0.0 && share < 1.0, "(0, 1)")?;
        within("mask_probability", mask, mask > 0.0 && mask <= 1.0, "(0, 1]")?;
        within("max_validation_sequences", most as f64, most >= 1, "[1, infinity)")?;
        let sizes = 256..=1 << 20;
        within("tokenizer.vocabulary_size", size as f64, sizes.contains(&size), "[256, 1048576]")?;
        match (&self.vocabulary, self.tokenizer) {
            (Some(_), Some(_)) => Err(Error::TwoVocabularies),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults() {
        let config: DataConfig = serde_json::from_value(json!({})).unwrap();
        assert_eq!(config, DataConfig::default());
        let config: DataConfig = serde_json::from_value(json!({"text": "a.txt"})).unwrap();
        assert_eq!(config, DataConfig::new("a.txt"));
        let all = json!({
            "text": "a.txt.zst", "vocabulary": "v.txt", "sequence_length": 64, "validation_share": 0.25,
            "tokenizer": { "train": "wordpiece", "vocabulary_size": 4096 },
            "mask_probability": 0.5, "max_validation_sequences": 3, "cache": "c",
        });
        let config: DataConfig = serde_json::from_value(all.clone()).unwrap();
        assert_eq!(serde_json::to_value(&config).unwrap(), all);
    }

    #[test]
    fn schema_and_check_agree() {
        let schema = serde_json::to_value(schemars::schema_for!(DataConfig)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let base = serde_json::to_value(DataConfig::new("a")).unwrap();
        assert!(validator.is_valid(&base));
        let tokenizer = |size| json!({ "train": "wordpiece", "vocabulary_size": size });
        for (key, good, bad) in [
            (
                "sequence_length",
                vec![json!(8), json!(65536)],
                vec![json!(0), json!(7), json!(65537)],
            ),
            (
                "validation_share",
                vec![json!(1e-9), json!(0.999)],
                vec![json!(0), json!(1), json!(-0.5)],
            ),
            (
                "mask_probability",
                vec![json!(1e-9), json!(1)],
                vec![json!(0), json!(1.001), json!(-1)],
            ),
            ("max_validation_sequences", vec![json!(1), json!(null)], vec![json!(0)]),
            (
                "tokenizer",
                vec![tokenizer(256), tokenizer(1 << 20), json!(null)],
                vec![tokenizer(0), tokenizer(255), tokenizer((1 << 20) + 1)],
            ),
        ] {
            for (values, valid) in [(good, true), (bad, false)] {
                for value in values {
                    let mut config = base.clone();
                    config[key] = value.clone();
                    assert_eq!(validator.is_valid(&config), valid, "schema, {key} = {value}");
                    let config: DataConfig = serde_json::from_value(config).unwrap();
                    assert_eq!(config.check().is_ok(), valid, "check, {key} = {value}");
                }
            }
        }
        for bad in [json!({"text": 1}), json!({"text": "a", "seqence_length": 8})] {
            assert!(!validator.is_valid(&bad), "{bad}");
            assert!(serde_json::from_value::<DataConfig>(bad).is_err());
        }
    }

    #[test]
    fn a_bad_number_is_named() {
        let config = DataConfig { validation_share: f64::NAN, ..DataConfig::new("a") };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "data.validation_share = NaN is not in (0, 1)"
        );
        let tokenizer = TokenizerConfig { train: Method::WordPiece, vocabulary_size: 4096 };
        let config = DataConfig {
            vocabulary: Some("v".into()),
            tokenizer: Some(tokenizer),
            ..DataConfig::new("a")
        };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "data.vocabulary and data.tokenizer are both set: a text has one vocabulary, leave one out"
        );
    }
}
