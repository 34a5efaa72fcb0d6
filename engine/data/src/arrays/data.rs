//! From a folder to the batches of any step.

use std::path::Path;
use std::sync::Arc;

use tch::{Kind, Tensor};
use xxhash_rust::xxh3::Xxh3;

use super::column::{Column, Place};
use super::config::ArrayConfig;
use super::folder::Table;
use super::masking::masked;
use super::{layout, looks};
use crate::sequences::spread;
use crate::split::{Side, sides};
use crate::steps::{TrainBatches, few_to_validate, train_batches, validation_batches};
use crate::{BatchShape, EVALUATION, Error, Result, SampleKey, Share, Suspect, check_memory};

/// Samples by input name, ready to train on. Cheap to clone.
#[derive(Clone)]
pub struct ArrayData(Arc<Inner>);

struct Inner {
    config: ArrayConfig,
    seed: u64,
    train: Table,
    /// Rows of `train` to train on.
    trained: Side,
    /// Where the samples to validate on are files of their own; else they are rows of `train`.
    validation: Option<Table>,
    /// Rows to validate on, before `max_validation_samples`.
    validated: Side,
}

/// An input that the data has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name in the data.
    pub name: String,
    /// Type of its numbers in a batch.
    pub kind: Kind,
    /// Sizes of one sample.
    pub item: Vec<i64>,
}

/// A micro-batch, on the CPU.
#[derive(Debug)]
pub struct ArrayBatch {
    /// By name, sorted: `[samples, sizes of one sample...]`.
    pub inputs: Vec<(String, Tensor)>,
    /// Samples in it.
    pub samples: usize,
    /// Their rows.
    rows: Vec<usize>,
    /// Whether they are rows of the validation files.
    validates: bool,
}

impl ArrayBatch {
    /// The input of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        let at = self.inputs.binary_search_by(|(have, _)| have.as_str().cmp(name));
        at.ok().map(|at| &self.inputs[at].1)
    }
}

impl ArrayData {
    /// Maps the files and checks their headers; `seed` is the run's.
    ///
    /// # Errors
    /// The configuration is out of range, a file is not what it should be, train and validation do not
    /// have the same inputs, or there are too few samples to be split.
    pub fn open(config: &ArrayConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let what = "a folder of .npy, .bin or .safetensors files";
        let folder = config.folder.as_deref().ok_or(Error::NotSet { key: "folder", what })?;
        let what = "data folder";
        if !folder.exists() {
            return Err(Error::Missing { what, path: folder.into() });
        }
        if !folder.is_dir() {
            let problem = "is a file, not a folder of .npy, .bin or .safetensors files".to_owned();
            return Err(Error::DataFile { path: folder.into(), problem });
        }
        let (trained, validated) = layout::sides(folder)?;
        let train = Table::open(&trained, config)?;
        let validation = validated.as_ref().map(|files| Table::open(files, config)).transpose()?;
        let (trained, validated) = match (&validation, validated) {
            (Some(validation), Some(files)) => {
                alike(&train, validation, &files.folder)?;
                (Side::All(train.rows), Side::All(validation.rows))
            }
            _ => sides(train.rows, config.validation_share).ok_or_else(|| {
                let problem = "has 1 sample; at least 2 are needed, one of them to validate on";
                Error::DataFolder { path: folder.into(), problem: problem.to_owned() }
            })?,
        };
        check_masking(config, folder, &train)?;
        let config = config.clone();
        let data = Inner { config, seed, train, trained, validation, validated };
        data.look()?;
        let data = Self(Arc::new(data));
        tracing::info!(
            folder = %folder.display(),
            inputs = ?data.0.train.columns.keys().collect::<Vec<_>>(),
            training_samples = data.training_samples(),
            validation_samples = data.validation_samples(),
            "data ready"
        );
        Ok(data)
    }

    /// What tells this data from other data: of the inputs' names, types, sizes and numbers of samples, how
    /// they are split and masked, and the content, of which at most some 4 MiB an input are read.
    ///
    /// Ranks that train together must have the same; where the folder lies does not matter, and neither
    /// does the seed. Files that are alike in size and differ in few places may be taken for the same.
    pub fn fingerprint(&self) -> String {
        let Inner { config, train, validation, .. } = &*self.0;
        let mut hasher = Xxh3::new();
        let options = ArrayConfig { folder: None, ..config.clone() };
        hasher.update(format!("{options:?}").as_bytes());
        for table in std::iter::once(train).chain(validation) {
            hasher.update(&table.rows.to_le_bytes());
            table.columns.values().for_each(|column| looks::digest(column, &mut hasher));
        }
        format!("{:032x}", hasher.digest128())
    }

    /// A number of an integer input for which `wrong` holds, if a look at a part of the data finds one.
    pub fn seen(&self, input: &str, wrong: impl Fn(i64) -> bool + Copy) -> Option<Suspect> {
        self.0.seen(input, wrong)
    }

    /// Where a sample of a batch lies, of an input or of what is made from one.
    pub(super) fn place(
        &self,
        batch: &ArrayBatch,
        input: &str,
        sample: usize,
    ) -> Option<Place<'_>> {
        let masking = self.0.config.masking.as_ref();
        let input = match masking {
            Some(masking) if masking.labels == input => &masking.input,
            _ => input,
        };
        let column = self.0.table(batch.validates).columns.get(input)?;
        Some(column.place(*batch.rows.get(sample)?))
    }

    /// What every batch has, sorted by name; labels of the masking among them.
    pub fn inputs(&self) -> Vec<Input> {
        let columns = self.0.train.columns.values();
        let of = |column: &Column| Input {
            name: column.name.clone(),
            kind: column.element.kind(),
            item: column.item.clone(),
        };
        let mut inputs: Vec<_> = columns.map(of).collect();
        if let Some(masking) = &self.0.config.masking {
            let tokens = inputs.iter().find(|input| input.name == masking.input).cloned();
            inputs.extend(tokens.map(|tokens| Input { name: masking.labels.clone(), ..tokens }));
            inputs.sort_by(|a, b| a.name.cmp(&b.name));
        }
        inputs
    }

    /// Samples to train on.
    pub fn training_samples(&self) -> usize {
        self.0.trained.len()
    }

    /// Samples to validate on, after `max_validation_samples`.
    pub fn validation_samples(&self) -> usize {
        spread(self.0.validated.len(), self.0.config.max_validation_samples).len()
    }

    /// The micro-batches of every optimizer step from `start_step` (from 0) on, without end: the
    /// `gradient_accumulation_steps` ones of this rank, each of `micro_batch` samples, on the CPU.
    ///
    /// Step n gives the same whatever the start. Every epoch has its own order and masks; what is
    /// left at its end and fills no global batch is not used in that epoch.
    ///
    /// # Errors
    /// The shape is impossible, there is less than one global batch, a micro-batch does not fit into
    /// memory, or the system gives no thread.
    pub fn train_batches(
        &self,
        shape: BatchShape,
        start_step: u64,
    ) -> Result<TrainBatches<ArrayBatch>> {
        let data = self.0.clone();
        let samples = self.training_samples();
        few_to_validate(self.validation_samples(), shape.share);
        shape.steps_per_epoch(samples)?;
        let bytes = data.check_batch(shape.micro_batch)?;
        let bytes = bytes.saturating_mul(shape.gradient_accumulation_steps as u64);
        train_batches(samples, self.0.seed, shape, start_step, bytes, move |epoch, samples| {
            let rows = samples.iter().map(|&sample| data.trained.at(sample)).collect();
            let key = SampleKey { seed: data.seed, epoch, sample: 0 };
            data.batch(false, rows, key)
        })
    }

    /// This rank's validation samples, `batch` at a time, the last batch with what is left; always
    /// masked the same. Every `world_size`th sample is this rank's.
    ///
    /// # Errors
    /// `batch` is 0 or does not fit into memory, or there is no such rank; an item, if a batch cannot be
    /// made.
    pub fn validation_batches(
        &self,
        batch: usize,
        share: Share,
    ) -> Result<impl Iterator<Item = Result<ArrayBatch>> + use<>> {
        let data = self.0.clone();
        let chosen = spread(data.validated.len(), data.config.max_validation_samples);
        data.check_batch(batch.min(chosen.len()))?;
        validation_batches(chosen, batch, share, move |samples| {
            let rows = samples.iter().map(|&sample| data.validated.at(sample)).collect();
            data.batch(data.validation.is_some(), rows, EVALUATION)
        })
    }
}

impl Inner {
    fn tables(&self) -> impl Iterator<Item = &Table> {
        std::iter::once(&self.train).chain(&self.validation)
    }

    fn table(&self, validates: bool) -> &Table {
        self.validation.as_ref().filter(|_| validates).unwrap_or(&self.train)
    }

    /// As [`ArrayData::seen`].
    fn seen(&self, input: &str, wrong: impl Fn(i64) -> bool + Copy) -> Option<Suspect> {
        self.tables().find_map(|table| {
            let column = table.columns.get(input)?;
            let (part, sample) = looks::integer(column, wrong)?;
            let bytes = column.row_bytes(part);
            let row = &column.bytes(part)[sample * bytes..][..bytes];
            let value = part.element.integers(row).find(|&number| wrong(number))?;
            let path = part.path.clone();
            Some(Suspect { input: input.to_owned(), value: value as f64, sample, path })
        })
    }

    /// Bytes of a sample in a batch.
    fn sample_bytes(&self) -> u64 {
        let masking = self.config.masking.as_ref();
        let of = |column: &Column| {
            let masked = masking.is_some_and(|masking| masking.input == column.name);
            column.sample_bytes() * if masked { 2 } else { 1 }
        };
        self.train.columns.values().map(of).sum()
    }

    /// Bytes of a micro-batch.
    ///
    /// # Errors
    /// They do not fit into memory.
    fn check_batch(&self, samples: usize) -> Result<u64> {
        let bytes = self.sample_bytes().saturating_mul(samples as u64);
        let what = format!("a micro-batch of {samples} samples");
        check_memory(what, bytes, "lower train_micro_batch_size_per_gpu")?;
        Ok(bytes)
    }

    /// Looks at a part of the numbers for what no training gets over.
    ///
    /// # Errors
    /// A token that the vocabulary of the masking does not have.
    fn look(&self) -> Result<()> {
        for table in self.tables() {
            for column in table.columns.values() {
                if let Some((part, sample)) = looks::not_finite(column) {
                    tracing::warn!(
                        "`{}` has NaN or infinity in sample {sample} of {:?}: where it reaches the loss, that is not finite either",
                        column.name,
                        part.path
                    );
                }
            }
        }
        let Some(masking) = &self.config.masking else { return Ok(()) };
        let vocabulary = i64::from(masking.vocabulary);
        let data = |suspect: Suspect| Error::Token {
            name: suspect.input,
            sample: suspect.sample,
            path: suspect.path,
            id: suspect.value as i64,
            vocabulary: masking.vocabulary,
        };
        let found = self.seen(&masking.input, |id| !(0..vocabulary).contains(&id));
        found.map_or(Ok(()), |suspect| Err(data(suspect)))
    }

    fn batch(&self, validates: bool, rows: Vec<usize>, key: SampleKey) -> Result<ArrayBatch> {
        let table = self.table(validates);
        let mut inputs = Vec::with_capacity(table.columns.len() + 1);
        for (name, column) in &table.columns {
            let tensor = column.gather(&rows)?;
            match &self.config.masking {
                Some(masking) if masking.input == *name => {
                    let (shown, labels) = masked(masking, &tensor, column, &rows, key)?;
                    inputs.push((name.clone(), shown));
                    inputs.push((masking.labels.clone(), labels));
                }
                _ => inputs.push((name.clone(), tensor)),
            }
        }
        inputs.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(ArrayBatch { inputs, samples: rows.len(), rows, validates })
    }
}

/// Both sides have the same inputs, of the same types and sizes.
fn alike(train: &Table, validation: &Table, path: &Path) -> Result<()> {
    let bad = |problem| Err(Error::DataFolder { path: path.into(), problem });
    for name in train.columns.keys().chain(validation.columns.keys()) {
        match (train.columns.get(name), validation.columns.get(name)) {
            (Some(a), Some(b)) if (a.element.kind(), &a.item) == (b.element.kind(), &b.item) => {}
            (Some(a), Some(b)) => {
                return bad(format!(
                    "has `{name}` as {:?} of {:?} a sample, and the training data as {:?} of {:?}",
                    b.element, b.item, a.element, a.item
                ));
            }
            (Some(_), None) => {
                return bad(format!("lacks `{name}`, which the training data has"));
            }
            _ => return bad(format!("has `{name}`, which the training data lacks")),
        }
    }
    Ok(())
}

/// The masked input is there, holds sequences of integers, and the labels' name is free.
fn check_masking(config: &ArrayConfig, folder: &Path, table: &Table) -> Result<()> {
    let Some(masking) = &config.masking else { return Ok(()) };
    let bad = |problem| Err(Error::DataFolder { path: folder.into(), problem });
    let names =
        || table.columns.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let name = &masking.input;
    let Some(column) = table.columns.get(name) else {
        return bad(format!("has no `{name}`, which masking.input names; it has {}", names()));
    };
    if column.element.kind() != Kind::Int64 || column.item.len() != 1 {
        return bad(format!(
            "has `{name}` as {:?} of {:?} a sample; masking needs sequences of token ids, of 16 bits or \
             more",
            column.element, column.item
        ));
    }
    if table.columns.contains_key(&masking.labels) {
        let labels = &masking.labels;
        return bad(format!("has `{labels}`, which is what masking.labels is to make; keep one"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
