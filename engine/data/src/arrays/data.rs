//! From a folder to the batches of any step.

use std::path::Path;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::config::ArrayConfig;
use super::folder::Table;
use super::masking::masked;
use crate::sequences::spread;
use crate::steps::{TrainBatches, train_batches, validation_batches};
use crate::{BatchShape, EVALUATION, Error, Result, SampleKey, Share, split};

/// Samples by input name, ready to train on. Cheap to clone.
#[derive(Clone)]
pub struct ArrayData(Arc<Inner>);

struct Inner {
    config: ArrayConfig,
    seed: u64,
    train: Table,
    /// Rows of `train` to train on.
    trained: Vec<usize>,
    validation: Table,
    /// Rows of `validation` to validate on.
    validated: Vec<usize>,
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
        let part = |name| Some(folder.join(name)).filter(|path: &std::path::PathBuf| path.is_dir());
        let train_folder = part("train");
        let train = Table::open(train_folder.as_deref().unwrap_or(folder), config)?;
        let (validation, trained, validated) = match part("validation") {
            Some(path) => {
                let validation = Table::open(&path, config)?;
                alike(&train, &validation, &path)?;
                let (trained, validated) = (0..train.rows, 0..validation.rows);
                (validation, trained.collect(), validated.collect())
            }
            None => {
                let rows = train.rows;
                let sides = split(rows, config.validation_share).ok_or_else(|| {
                    let problem = "has 1 sample; at least 2 are needed, one of them to validate on";
                    Error::DataFolder { path: folder.into(), problem: problem.to_owned() }
                })?;
                (train.clone(), sides.train, sides.validation)
            }
        };
        let validated: Vec<usize> =
            spread(validated.len(), config.max_validation_samples).map(|i| validated[i]).collect();
        check_masking(config, folder, &train)?;
        tracing::info!(
            folder = %folder.display(),
            inputs = ?train.columns.keys().collect::<Vec<_>>(),
            training_samples = trained.len(),
            validation_samples = validated.len(),
            "data ready"
        );
        let config = config.clone();
        Ok(Self(Arc::new(Inner { config, seed, train, trained, validation, validated })))
    }

    /// What every batch has, sorted by name; labels of the masking among them.
    pub fn inputs(&self) -> Vec<Input> {
        let columns = self.0.train.columns.values();
        let of = |column: &super::column::Column| Input {
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
        self.0.validated.len()
    }

    /// The micro-batches of every optimizer step from `start_step` (from 0) on, without end: the
    /// `gradient_accumulation_steps` ones of this rank, each of `micro_batch` samples, on the CPU.
    ///
    /// Step n gives the same whatever the start. Every epoch has its own order and masks; what is
    /// left at its end and fills no global batch is not used in that epoch.
    ///
    /// # Errors
    /// The shape is impossible, there is less than one global batch, or the system gives no thread.
    pub fn train_batches(
        &self,
        shape: BatchShape,
        start_step: u64,
    ) -> Result<TrainBatches<ArrayBatch>> {
        let data = self.0.clone();
        let samples = self.training_samples();
        train_batches(samples, self.0.seed, shape, start_step, move |epoch, samples| {
            let rows: Vec<_> = samples.iter().map(|&sample| data.trained[sample]).collect();
            let key = SampleKey { seed: data.seed, epoch, sample: 0 };
            data.batch(&data.train, &rows, key)
        })
    }

    /// This rank's validation samples, `batch` at a time, the last batch with what is left; always
    /// masked the same. Every `world_size`th sample is this rank's.
    ///
    /// # Errors
    /// `batch` is 0, or there is no such rank; an item, if a batch cannot be made.
    pub fn validation_batches(
        &self,
        batch: usize,
        share: Share,
    ) -> Result<impl Iterator<Item = Result<ArrayBatch>> + use<>> {
        let data = self.0.clone();
        validation_batches(data.validated.clone(), batch, share, move |rows| {
            data.batch(&data.validation, rows, EVALUATION)
        })
    }
}

impl Inner {
    fn batch(&self, table: &Table, rows: &[usize], key: SampleKey) -> Result<ArrayBatch> {
        let mut inputs = Vec::with_capacity(table.columns.len() + 1);
        for (name, column) in &table.columns {
            let tensor = column.gather(rows)?;
            match &self.config.masking {
                Some(masking) if masking.input == *name => {
                    let (shown, labels) = masked(masking, &tensor, rows, key)?;
                    inputs.push((name.clone(), shown));
                    inputs.push((masking.labels.clone(), labels));
                }
                _ => inputs.push((name.clone(), tensor)),
            }
        }
        inputs.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(ArrayBatch { inputs, samples: rows.len() })
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
