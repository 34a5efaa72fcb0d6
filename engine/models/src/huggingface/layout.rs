//! Where the example BERT's tensors are in Hugging Face's models.
use crate::Norm;

/// A model of Hugging Face's that has the structure of the example BERT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Normalised after each sum.
    Bert,
    /// RoBERTa-PreLayerNorm (<https://arxiv.org/abs/1904.01038>): normalised before each branch.
    PreLayerNorm,
}

/// Where a tensor of ours is in theirs. Names are without the model's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is this one.
    One(String),
    /// Queries, keys and values, one below the other.
    Stacked([String; 3]),
    /// The rows of the positions, each with that of the first token type added.
    Positions,
}

/// Their tensors that make up our positions.
pub const POSITIONS: &str = "embeddings.position_embeddings.weight";
pub const TYPES: &str = "embeddings.token_type_embeddings.weight";

impl Family {
    /// The one for where the normalisation stands.
    pub fn of(norm: Norm) -> Self {
        match norm {
            Norm::Post => Family::Bert,
            Norm::Pre => Family::PreLayerNorm,
        }
    }

    /// As `model_type` names it.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Bert => "bert",
            Family::PreLayerNorm => "roberta-prelayernorm",
        }
    }

    /// The class in `transformers` with the head for masked language modelling.
    pub fn architecture(self) -> &'static str {
        match self {
            Family::Bert => "BertForMaskedLM",
            Family::PreLayerNorm => "RobertaPreLayerNormForMaskedLM",
        }
    }

    /// Rows of the positions that no token has: RoBERTa counts from the one behind the padding's.
    pub fn skipped_positions(self, padding: i64) -> i64 {
        match self {
            Family::Bert => 0,
            Family::PreLayerNorm => padding + 1,
        }
    }

    /// Where the model is in one that has a head too, and where that is.
    fn prefixes(self) -> [&'static str; 2] {
        match self {
            Family::Bert => ["bert.", "cls."],
            Family::PreLayerNorm => ["roberta_prelayernorm.", "lm_head."],
        }
    }

    /// A name as a model with a head has it.
    pub fn full(self, name: &str) -> String {
        let [model, head] = self.prefixes();
        if name.starts_with(head) { name.to_owned() } else { format!("{model}{name}") }
    }

    /// A name without the model's prefix, and with the words that are used today.
    pub fn canonical(self, name: &str) -> String {
        let [model, _] = self.prefixes();
        let name = name.strip_prefix(model).unwrap_or(name);
        for (old, new) in [("LayerNorm.gamma", "weight"), ("LayerNorm.beta", "bias")] {
            if let Some(before) = name.strip_suffix(old) {
                return format!("{before}LayerNorm.{new}");
            }
        }
        name.to_owned()
    }

    /// Whether a tensor says nothing that others do not say: a count, or what is tied to the token embedding.
    pub fn is_redundant(self, canonical: &str) -> bool {
        match canonical {
            "embeddings.position_ids" => true,
            "cls.predictions.decoder.weight" | "cls.predictions.decoder.bias" => {
                self == Family::Bert
            }
            "lm_head.decoder.weight" | "lm_head.decoder.bias" => self == Family::PreLayerNorm,
            _ => false,
        }
    }

    /// Where the parameter of the example BERT that is called `ours` is; none for what is no such name.
    pub fn place(self, ours: &str) -> Option<Place> {
        let one = |name: &str| Some(Place::One(name.to_owned()));
        match (ours, self) {
            ("tokens", _) => return one("embeddings.word_embeddings.weight"),
            ("positions", _) => return Some(Place::Positions),
            ("bias", Family::Bert) => return one("cls.predictions.bias"),
            ("bias", Family::PreLayerNorm) => return one("lm_head.bias"),
            _ => {}
        }
        let (module, kind) = ours.rsplit_once('.')?;
        let named = |name: &str| Some(Place::One(format!("{name}.{kind}")));
        match (module, self) {
            ("norm", _) => return named("embeddings.LayerNorm"),
            ("last_norm", Family::PreLayerNorm) => return named("LayerNorm"),
            ("transform", Family::Bert) => return named("cls.predictions.transform.dense"),
            ("transform", Family::PreLayerNorm) => return named("lm_head.dense"),
            ("transform_norm", Family::Bert) => {
                return named("cls.predictions.transform.LayerNorm");
            }
            ("transform_norm", Family::PreLayerNorm) => return named("lm_head.layer_norm"),
            _ => {}
        }
        let (layer, part) = module.strip_prefix("layers.")?.split_once('.')?;
        let within = |part: &str| format!("encoder.layer.{layer}.{part}.{kind}");
        let part = match (part, self) {
            ("attention.query_key_value", _) => {
                let parts = ["query", "key", "value"];
                return Some(Place::Stacked(
                    parts.map(|part| within(&format!("attention.self.{part}"))),
                ));
            }
            ("attention.output", _) => "attention.output.dense",
            ("up", _) => "intermediate.dense",
            ("down", _) => "output.dense",
            ("attention_norm", Family::Bert) => "attention.output.LayerNorm",
            ("attention_norm", Family::PreLayerNorm) => "attention.LayerNorm",
            ("feed_forward_norm", Family::Bert) => "output.LayerNorm",
            ("feed_forward_norm", Family::PreLayerNorm) => "intermediate.LayerNorm",
            _ => return None,
        };
        Some(Place::One(within(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BertConfig;
    use std::collections::BTreeSet;

    /// Each parameter has a place, and no two have the same.
    #[test]
    fn all_parameters_have_a_place_of_their_own() {
        for norm in [Norm::Pre, Norm::Post] {
            let family = Family::of(norm);
            let config = BertConfig { layers: 2, norm, ..BertConfig::default() };
            let (_, parameters) = config.shape();
            let mut places = BTreeSet::new();
            for (name, _) in &parameters {
                let place = family.place(name).unwrap_or_else(|| panic!("{name} has no place"));
                let theirs = match place {
                    Place::One(name) => vec![name],
                    Place::Stacked(names) => names.to_vec(),
                    Place::Positions => vec![POSITIONS.to_owned(), TYPES.to_owned()],
                };
                for theirs in theirs {
                    assert_eq!(family.canonical(&family.full(&theirs)), theirs);
                    assert!(!family.is_redundant(&theirs), "{theirs}");
                    assert!(places.insert(theirs.clone()), "{theirs} twice");
                }
            }
            // Queries, keys and values are one here, with weights and biases in two layers.
            assert_eq!(places.len(), parameters.len() + 2 * 4 + 1);
            for none in ["token", "layers.0", "layers.0.left.weight", "x.y", ""] {
                assert_eq!(family.place(none), None, "{none}");
            }
        }
    }

    #[test]
    fn old_names_and_prefixes_are_known() {
        let bert = Family::Bert;
        for (name, canonical) in [
            ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
            ("encoder.layer.0.output.LayerNorm.beta", "encoder.layer.0.output.LayerNorm.bias"),
            ("cls.predictions.bias", "cls.predictions.bias"),
            ("gamma", "gamma"),
        ] {
            assert_eq!(bert.canonical(name), canonical);
        }
        assert!(bert.is_redundant("cls.predictions.decoder.weight"));
        assert!(!bert.is_redundant("lm_head.decoder.weight"));
        assert_eq!(Family::PreLayerNorm.skipped_positions(1), 2);
    }
}
