//! The example BERT's files in Hugging Face's layout.
use super::config::{TOKEN_TYPES, written};
use super::layout::{Family, POSITIONS, Place, TYPES};
use super::{CONFIG, VOCABULARY};
use crate::BertConfig;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};
use trainyard::BoxError;
use trainyard_checkpoint::{MODEL, TensorFile, write_tensors};
use trainyard_data::Tokenizer;
use trainyard_run::Files;

/// How text becomes tokens, for `AutoTokenizer`.
const TOKENIZER: &str = "tokenizer_config.json";

/// The files that are written.
pub const FILES: &[&str] = &[CONFIG, VOCABULARY, TOKENIZER, MODEL];

/// A BERT in Hugging Face's layout, in memory.
#[derive(Debug)]
pub struct Export {
    config: Value,
    tokenizer: Value,
    vocabulary: String,
    /// Sorted by name.
    tensors: BTreeMap<String, Tensor>,
}

impl Export {
    /// Of the example BERT whose tensors are in `weights`, trained on text of that vocabulary.
    ///
    /// # Errors
    /// The tensors are not those of such a model, or the vocabulary is none, or is another's.
    pub fn new(
        model: &BertConfig,
        weights: &TensorFile,
        vocabulary: &Path,
    ) -> Result<Self, BoxError> {
        check(model, weights)?;
        let tokenizer = Tokenizer::from_vocabulary(vocabulary)?;
        let tokens = tokenizer.vocabulary_size();
        if tokens as u64 > model.vocabulary as u64 {
            return Err(format!(
                "{} has {tokens} tokens, and the model {}: name the vocabulary with which it was trained",
                vocabulary.display(),
                model.vocabulary
            )
            .into());
        }
        let special = tokenizer.special();
        let family = Family::of(model.norm);
        let skipped = family.skipped_positions(special.pad.into());
        let mut tensors = BTreeMap::new();
        let mut add = |name: &str, tensor: Tensor| tensors.insert(family.full(name), tensor);
        for (ours, _) in model.shape().1 {
            let tensor = weights.read(&ours)?;
            match family.place(&ours) {
                Some(Place::One(name)) => {
                    add(&name, tensor);
                }
                Some(Place::Stacked(names)) => {
                    let parts = tensor.f_chunk(names.len() as i64, 0)?;
                    for (name, part) in names.iter().zip(parts) {
                        add(name, part);
                    }
                }
                Some(Place::Positions) => {
                    let zeros = |rows| {
                        Tensor::f_zeros([rows, model.hidden], (tensor.kind(), tensor.device()))
                    };
                    add(POSITIONS, Tensor::f_cat(&[zeros(skipped)?, tensor.shallow_clone()], 0)?);
                    add(TYPES, zeros(TOKEN_TYPES)?);
                }
                None => {
                    return Err(format!("`{ours}` has no place in Hugging Face's layout").into());
                }
            }
        }
        Ok(Export {
            config: written(model, special),
            // A BERT's tokenizer, whatever the model: RoBERTa's is another.
            tokenizer: json!({
                "tokenizer_class": "BertTokenizer", "do_lower_case": true, "model_max_length": model.max_positions,
            }),
            vocabulary: tokenizer.lines(),
            tensors,
        })
    }

    /// Writes [`FILES`], the weights last.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, files: &mut dyn Files) -> Result<(), BoxError> {
        let texts = [(CONFIG, &self.config), (TOKENIZER, &self.tokenizer)];
        for (name, value) in texts {
            files.file(name, &mut |to| Ok(writeln!(to, "{value:#}")?))?;
        }
        files.file(VOCABULARY, &mut |to| Ok(to.write_all(self.vocabulary.as_bytes())?))?;
        let tensors: Vec<_> =
            self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        // `transformers` asks for it.
        let metadata = [("format".to_owned(), "pt".to_owned())];
        files.file(MODEL, &mut |to| write_tensors(&tensors, Some(metadata.clone().into()), to))?;
        Ok(())
    }
}

/// That all tensors of the model are there, in float32 and with its sizes, and no others.
fn check(model: &BertConfig, weights: &TensorFile) -> Result<(), BoxError> {
    let refused = |why: String| format!("{}: {why}", weights.path().display());
    let parameters: BTreeMap<_, _> = model.shape().1.into_iter().collect();
    for (name, size) in &parameters {
        let Some(there) = weights.get(name) else {
            return Err(refused(format!(
                "it has no `{name}`: it is no example BERT of these sizes"
            ))
            .into());
        };
        if there.size() != *size || there.kind() != Some(Kind::Float) {
            let why = format!(
                "`{name}` is {:?} of {:?}, and the example BERT of these sizes has F32 of {size:?}",
                there.dtype,
                there.size()
            );
            return Err(refused(why).into());
        }
    }
    match weights.tensors().find(|tensor| !parameters.contains_key(tensor.name)) {
        Some(other) => {
            Err(refused(format!("it has `{}`, which the example BERT has not", other.name)).into())
        }
        None => Ok(()),
    }
}
