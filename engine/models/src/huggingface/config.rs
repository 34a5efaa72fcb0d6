//! `config.json` of Hugging Face's layout.
use super::layout::Family;
use crate::bert::NORM_EPS;
use crate::{BertConfig, Norm};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use trainyard_checkpoint::{Error, Result};
use trainyard_data::SpecialTokens;

/// Bytes of the file that are read at most.
const MOST_BYTES: u64 = 16 << 20;

/// Rows for token types in what is written: tokenizers give pairs of texts the types 0 and 1.
pub const TOKEN_TYPES: i64 = 2;

/// What of a model of theirs has to be the example BERT's. What a file leaves out is as `transformers` takes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    model_type: Option<String>,
    hidden_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    intermediate_size: i64,
    hidden_act: String,
    layer_norm_eps: Option<f64>,
    pad_token_id: Option<i64>,
    position_embedding_type: String,
    is_decoder: bool,
    add_cross_attention: bool,
    tie_word_embeddings: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            model_type: None,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: None,
            pad_token_id: None,
            position_embedding_type: "absolute".to_owned(),
            is_decoder: false,
            add_cross_attention: false,
            tie_word_embeddings: true,
        }
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or values are of another type.
    pub fn read(path: &Path) -> Result<Self> {
        let cannot = |error| Error::file(path, format!("cannot be read: {error}"));
        let bytes = fs::metadata(path).map_err(cannot)?.len();
        if bytes > MOST_BYTES {
            return Err(Error::file(path, format!("{bytes} bytes are no config.json")));
        }
        let text = fs::read(path).map_err(cannot)?;
        serde_json::from_slice(&text)
            .map_err(|error| Error::file(path, format!("it is no config.json of a model: {error}")))
    }

    /// Which of their models it is, where that has the structure and the sizes of ours, and how many of its positions
    /// no token has. Sizes that tensors have as well are left to them.
    ///
    /// # Errors
    /// A sentence: what differs, and what to do.
    pub fn check(&self, ours: &BertConfig) -> std::result::Result<(Family, i64), String> {
        let family = Family::of(ours.norm);
        self.check_type(family)?;
        let mut differs = Vec::new();
        let mut fixed = |key: &str, there: Value, here: Value| {
            if there != here {
                differs.push(format!("{key} = {there} there, and the example BERT has {here}"));
            }
        };
        fixed("hidden_act", json!(self.hidden_act), json!("gelu"));
        // RoBERTa has another value than BERT where none is given.
        let eps = self.layer_norm_eps.unwrap_or(if family == Family::Bert { 1e-12 } else { 1e-5 });
        fixed("layer_norm_eps", json!(eps), json!(NORM_EPS));
        fixed("position_embedding_type", json!(self.position_embedding_type), json!("absolute"));
        fixed("is_decoder", json!(self.is_decoder), json!(false));
        fixed("add_cross_attention", json!(self.add_cross_attention), json!(false));
        fixed("tie_word_embeddings", json!(self.tie_word_embeddings), json!(true));
        if !differs.is_empty() {
            return Err(format!("{}: such a model is not loaded", differs.join("; ")));
        }
        let sizes = [
            ("hidden", ours.hidden, self.hidden_size),
            ("layers", ours.layers, self.num_hidden_layers),
            ("heads", ours.heads, self.num_attention_heads),
            ("intermediate", ours.feed_forward(), self.intermediate_size),
        ];
        let other = sizes.iter().filter(|(_, here, there)| here != there);
        let (told, remedy): (Vec<_>, Vec<_>) = other
            .map(|(key, here, there)| {
                (format!("model.{key} is {here} and {there} there"), format!("\"{key}\": {there}"))
            })
            .unzip();
        if !told.is_empty() {
            let (told, remedy) = (told.join("; "), remedy.join(", "));
            return Err(format!("{told}: put {remedy} into the section model"));
        }
        let padding = self.pad_token_id.unwrap_or(if family == Family::Bert { 0 } else { 1 });
        if !(0..ours.vocabulary).contains(&padding) {
            return Err(format!("pad_token_id = {padding} is none of {} tokens", ours.vocabulary));
        }
        Ok((family, family.skipped_positions(padding)))
    }

    fn check_type(&self, family: Family) -> std::result::Result<(), String> {
        let Some(there) = self.model_type.as_deref() else {
            return Err("its config.json has no model_type".to_owned());
        };
        if there == family.model_type() {
            return Ok(());
        }
        let known = [Norm::Pre, Norm::Post].into_iter();
        match known.into_iter().find(|norm| Family::of(*norm).model_type() == there) {
            Some(norm) => {
                let [there, here] = [norm, other(norm)].map(|norm| match norm {
                    Norm::Pre => "pre",
                    Norm::Post => "post",
                });
                Err(format!(
                    "its normalisation is in another place: model.norm is \"{here}\", and it has \"{there}\": put \
                     \"norm\": \"{there}\" into the section model"
                ))
            }
            None => Err(format!(
                "model_type = {there:?} is neither \"bert\" nor \"roberta-prelayernorm\", whose structure the \
                 example BERT has"
            )),
        }
    }
}

fn other(norm: Norm) -> Norm {
    match norm {
        Norm::Pre => Norm::Post,
        Norm::Post => Norm::Pre,
    }
}

/// The content of `config.json` for a model of ours with such special tokens.
pub fn written(ours: &BertConfig, special: SpecialTokens) -> Value {
    let family = Family::of(ours.norm);
    let positions = ours.max_positions + family.skipped_positions(special.pad.into());
    json!({
        "architectures": [family.architecture()],
        "model_type": family.model_type(),
        "vocab_size": ours.vocabulary,
        "hidden_size": ours.hidden,
        "num_hidden_layers": ours.layers,
        "num_attention_heads": ours.heads,
        "intermediate_size": ours.feed_forward(),
        "hidden_act": "gelu",
        "hidden_dropout_prob": ours.dropout,
        // Here nothing is dropped there.
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": positions,
        "position_embedding_type": "absolute",
        "type_vocab_size": TOKEN_TYPES,
        "initializer_range": 0.02,
        "layer_norm_eps": NORM_EPS,
        "tie_word_embeddings": true,
        "pad_token_id": special.pad,
        "bos_token_id": special.classify,
        "eos_token_id": special.separator,
        "torch_dtype": "float32",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: SpecialTokens =
        SpecialTokens { pad: 3, unknown: 1, classify: 2, separator: 0, mask: 4 };

    fn ours(norm: Norm) -> BertConfig {
        BertConfig {
            layers: 2,
            hidden: 8,
            heads: 2,
            intermediate: Some(20),
            norm,
            ..BertConfig::default()
        }
    }

    fn check(value: Value, norm: Norm) -> std::result::Result<(Family, i64), String> {
        serde_json::from_value::<Config>(value).expect("of the types").check(&ours(norm))
    }

    #[test]
    fn what_is_written_is_accepted() {
        for (norm, expected) in
            [(Norm::Post, (Family::Bert, 0)), (Norm::Pre, (Family::PreLayerNorm, 4))]
        {
            let value = written(&ours(norm), SPECIAL);
            assert_eq!(value["max_position_embeddings"], 512 + expected.1);
            assert_eq!(check(value, norm), Ok(expected));
        }
    }

    /// Each value that would give other numbers is an error that names it.
    #[test]
    fn what_differs_is_named() {
        for (key, value, says) in [
            ("model_type", json!("distilbert"), "model_type = \"distilbert\" is neither"),
            (
                "model_type",
                json!("roberta-prelayernorm"),
                "model.norm is \"post\", and it has \"pre\"",
            ),
            ("model_type", Value::Null, "no model_type"),
            ("hidden_act", json!("gelu_new"), "hidden_act = \"gelu_new\" there"),
            ("layer_norm_eps", json!(1e-5), "layer_norm_eps = 0.00001 there"),
            ("position_embedding_type", json!("relative_key"), "position_embedding_type"),
            ("is_decoder", json!(true), "is_decoder = true"),
            ("add_cross_attention", json!(true), "add_cross_attention"),
            ("tie_word_embeddings", json!(false), "tie_word_embeddings"),
            ("hidden_size", json!(16), "model.hidden is 8 and 16 there: put \"hidden\": 16 into"),
            ("num_hidden_layers", json!(3), "\"layers\": 3"),
            ("num_attention_heads", json!(4), "\"heads\": 4"),
            ("intermediate_size", json!(32), "\"intermediate\": 32"),
            ("pad_token_id", json!(-1), "pad_token_id = -1"),
            ("pad_token_id", json!(i64::MAX), "is none of 30522 tokens"),
        ] {
            let mut config = written(&ours(Norm::Post), SPECIAL);
            config[key] = value;
            let error = check(config, Norm::Post).expect_err(key);
            assert!(error.contains(says), "{says}: {error}");
        }
        // RoBERTa's own default.
        let mut config = written(&ours(Norm::Pre), SPECIAL);
        config.as_object_mut().expect("an object").remove("layer_norm_eps");
        assert!(check(config, Norm::Pre).expect_err("1e-5").contains("layer_norm_eps"));
    }
}
