//! From a configuration to the batches of any step.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::sequences::Sequences;
use crate::steps::{TrainBatches, few_to_validate, train_batches, validation_batches};
use crate::token_file::TokenFile;
use crate::{
    BatchShape, DataConfig, EVALUATION, Error, MaskRule, MlmBatch, Result, SampleKey, Share,
    Tokenizer, cache, check_memory, mask, split, vocabulary,
};

/// A text ready to train on: tokenised, split and packed. Cheap to clone.
#[derive(Clone)]
pub struct MlmData(Arc<Inner>);

struct Inner {
    config: DataConfig,
    seed: u64,
    /// Of the text and the vocabulary.
    fingerprint: u128,
    rule: MaskRule,
    tokenizer: Tokenizer,
    tokens: TokenFile,
    train: Sequences,
    validation: Sequences,
    /// The sequences of `validation` that are used.
    validated: Vec<usize>,
}

impl MlmData {
    /// Tokenises the text, or finds its tokens in the cache, and packs them. `seed` is the run's.
    ///
    /// Any number of processes may do this at once; where they share a cache it is quicker to let
    /// one go first.
    ///
    /// # Errors
    /// The configuration lacks the text or the vocabulary, or is out of range; a file cannot be read or is not
    /// what it should be; the cache cannot be written; the text is too small to be split, or for
    /// one sequence on each side.
    pub fn open(config: &DataConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let text = given(&config.text, "text", "a text file, one document on each line")?;
        let tokenizer = match config.tokenizer {
            Some(own) => vocabulary::trained(text, own.vocabulary_size, config.cache.as_deref())?,
            None => {
                let path = given(&config.vocabulary, "vocabulary", "a BERT vocabulary file")?;
                Tokenizer::from_vocabulary(path)?
            }
        };
        let tokens = cache::tokens(text, &tokenizer, config.cache.as_deref())?;
        let (train, validation) = sides(text, config, &tokenizer, &tokens)?;
        let validated = validation.spread(config.max_validation_sequences);
        let rule = MaskRule {
            probability: config.mask_probability,
            vocabulary_size: tokenizer.vocabulary_size(),
            special: tokenizer.special(),
        };
        tracing::info!(
            text = %text.display(),
            documents = tokens.documents(),
            tokens = tokens.ids(),
            training_sequences = train.len(),
            validation_sequences = validated.len(),
            "data ready"
        );
        Ok(Self(Arc::new(Inner {
            config: config.clone(),
            seed,
            fingerprint: tokens.fingerprint(),
            rule,
            tokenizer,
            tokens,
            train,
            validation,
            validated,
        })))
    }

    /// What tells this data from other data: of the whole text, the vocabulary, and how both become
    /// sequences. Ranks that train together must have the same; where the files lie does not matter, and
    /// neither does the seed.
    pub fn fingerprint(&self) -> String {
        let Inner { config, fingerprint, .. } = &*self.0;
        let options = DataConfig {
            text: None,
            vocabulary: None,
            tokenizer: None,
            cache: None,
            ..config.clone()
        };
        let about = format!("{fingerprint:032x} {options:?}");
        format!("{:032x}", xxh3_128(about.as_bytes()))
    }

    /// Number of ids a model must have embeddings for.
    pub fn vocabulary_size(&self) -> usize {
        self.0.rule.vocabulary_size
    }

    /// What made the text's tokens.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// The vocabulary, if it was trained on the text: one token a line.
    pub fn own_vocabulary(&self) -> Option<String> {
        self.0.config.tokenizer.map(|_| self.0.tokenizer.lines())
    }

    /// Tokens in each sequence.
    pub fn sequence_length(&self) -> usize {
        self.0.config.sequence_length
    }

    /// Documents in the text, on both sides of the split.
    pub fn documents(&self) -> usize {
        self.0.tokens.documents()
    }

    /// Tokens in the text, special ones not counted.
    pub fn tokens(&self) -> usize {
        self.0.tokens.ids()
    }

    /// Sequences to train on.
    pub fn training_sequences(&self) -> usize {
        self.0.train.len()
    }

    /// Sequences to validate on, after `max_validation_sequences`.
    pub fn validation_sequences(&self) -> usize {
        self.0.validated.len()
    }

    /// The micro-batches of every optimizer step from `start_step` (from 0) on, without end: the
    /// `gradient_accumulation_steps` ones of this rank, each of `micro_batch` sequences, on the
    /// CPU.
    ///
    /// Step n gives the same whatever the start. Every epoch has its own order and masks; what is
    /// left at its end and fills no global batch is not used in that epoch.
    ///
    /// # Errors
    /// The shape is impossible, there is less than one global batch, a micro-batch does not fit into
    /// memory, or the system gives no thread.
    pub fn train_batches(&self, shape: BatchShape, start_step: u64) -> Result<TrainBatches> {
        let data = self.0.clone();
        let sequences = self.training_sequences();
        few_to_validate(self.validation_sequences(), shape.share);
        shape.steps_per_epoch(sequences)?;
        let bytes = (shape.micro_batch as u64).saturating_mul(8 * self.sequence_length() as u64);
        let what = format!("a micro-batch of {} sequences", shape.micro_batch);
        check_memory(what, bytes, "lower train_micro_batch_size_per_gpu")?;
        let bytes = bytes.saturating_mul(shape.gradient_accumulation_steps as u64);
        train_batches(sequences, self.0.seed, shape, start_step, bytes, move |epoch, samples| {
            let key = SampleKey { seed: data.seed, epoch, sample: 0 };
            Ok(data.batch(&data.train, samples, key))
        })
    }

    /// This rank's validation sequences, `batch` at a time, the last batch with what is left;
    /// always masked the same. Every `world_size`th sequence is this rank's.
    ///
    /// # Errors
    /// `batch` is 0, or there is no such rank.
    pub fn validation_batches(
        &self,
        batch: usize,
        share: Share,
    ) -> Result<impl Iterator<Item = MlmBatch> + use<>> {
        let data = self.0.clone();
        validation_batches(data.validated.clone().into_iter(), batch, share, move |samples| {
            data.batch(&data.validation, samples, EVALUATION)
        })
    }
}

impl Inner {
    fn batch(&self, side: &Sequences, samples: &[usize], key: SampleKey) -> MlmBatch {
        let masked: Vec<_> = samples
            .iter()
            .map(|&sample| {
                let key = SampleKey { sample: sample as u64, ..key };
                mask(&side.get(&self.tokens, sample), key, &self.rule)
            })
            .collect();
        MlmBatch::new(&masked)
    }
}

/// A path of the section that the program may have filled in.
fn given<'c>(path: &'c Option<PathBuf>, key: &'static str, what: &'static str) -> Result<&'c Path> {
    path.as_deref().ok_or(Error::NotSet { key, what })
}

/// Both sides of the split, packed.
fn sides(
    text: &Path,
    config: &DataConfig,
    tokenizer: &Tokenizer,
    tokens: &TokenFile,
) -> Result<(Sequences, Sequences)> {
    let length = config.sequence_length;
    if tokens.ids() + 2 < length {
        return Err(Error::TooSmall {
            path: text.into(),
            tokens: tokens.ids(),
            part: "",
            sequence_length: length,
            remedy: "give more text or lower sequence_length",
        });
    }
    let documents = tokens.documents();
    let split = split(documents, config.validation_share)
        .ok_or_else(|| Error::TooFewDocuments { path: text.into(), documents })?;
    let train =
        (text, " to train on", "give more text, or lower validation_share or sequence_length");
    let validation = (
        text,
        " to validate on",
        "give more text, raise validation_share or lower sequence_length",
    );
    let special = tokenizer.special();
    Ok((
        Sequences::new(tokens, split.train, length, special, train)?,
        Sequences::new(tokens, split.validation, length, special, validation)?,
    ))
}

#[cfg(test)]
mod tests;
