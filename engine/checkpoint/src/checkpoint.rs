//! A checkpoint that is there.
use crate::digest::{Digest, of_reader, read_whole};
use crate::error::{Error, Result};
use crate::record::Record;
use crate::snapshot::{CONFIGURATION, MODEL, OPTIMIZER, Part, STATE, USER};
use crate::tensors;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use tch::Tensor;
use trainyard::{Engine, EngineState};

/// A checkpoint whose files are there, with what it says of itself.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    record: Record,
    state: State,
}

/// What `state.json` holds.
#[derive(Debug, Clone, Deserialize)]
pub struct State {
    /// Completed optimizer steps.
    pub step: u64,
    /// Completed rounds, skipped updates included: the place in the data.
    pub attempt: u64,
    /// Ranks that trained.
    pub world_size: usize,
    /// Counts up within a folder.
    pub sequence: u64,
    /// When it was written, in UTC.
    pub written: String,
    /// Which version wrote it.
    pub trainyard: String,
    /// The optimizer's rule, and its updates by parameter.
    pub optimizer: OptimizerState,
    /// States of plugins by their first key.
    pub plugins: BTreeMap<String, Value>,
    /// The loss of an evaluation right at this step.
    #[serde(default)]
    pub validation_loss: Option<f64>,
    /// What the run keeps of itself.
    #[serde(default)]
    pub run: Value,
    #[serde(default)]
    user: Value,
}

/// What of the optimizer is no tensor.
#[derive(Debug, Clone, Deserialize)]
pub struct OptimizerState {
    /// Which rule's state it is.
    pub kind: String,
    /// Updates by parameter name.
    pub updates: BTreeMap<String, i64>,
}

impl Checkpoint {
    /// The checkpoint in the folder at `path`. Sizes are compared, and what it says of itself is; for the rest see
    /// [`verify`](Self::verify).
    ///
    /// # Errors
    /// It is not whole, or a later version wrote it.
    pub fn open(path: &Path) -> Result<Self> {
        let record = Record::read(path)?;
        let text = read(path, &record, STATE)?;
        let state = serde_json::from_slice(&text)
            .map_err(|error| Error::not_whole(path, format!("{STATE} is damaged: {error}")))?;
        Ok(Checkpoint { path: path.to_owned(), record, state })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Its files by name, with their sizes in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.record.files.iter().map(|(name, digest)| (name.as_str(), digest.bytes))
    }

    /// The configuration that it was trained by, resolved; null if it was not given.
    ///
    /// # Errors
    /// It is not whole.
    pub fn configuration(&self) -> Result<Value> {
        let text = read(&self.path, &self.record, CONFIGURATION)?;
        serde_json::from_slice(&text).map_err(|error| {
            Error::not_whole(&self.path, format!("{CONFIGURATION} is damaged: {error}"))
        })
    }

    /// Reads every file and compares it with its digest.
    ///
    /// # Errors
    /// The first that is not what was written.
    pub fn verify(&self) -> Result<()> {
        self.record.files.keys().try_for_each(|name| self.verify_file(name))
    }

    fn verify_file(&self, name: &str) -> Result<()> {
        let (at, said) = said(&self.path, &self.record, name)?;
        let digest = File::open(&at).and_then(|mut file| of_reader(&mut file));
        same(&self.path, name, said, &digest.map_err(|error| Error::read(&at, error))?)
    }

    /// Parameters and buffers by name, on the CPU.
    ///
    /// # Errors
    /// It is not whole, or memory does not suffice.
    pub fn model(&self) -> Result<BTreeMap<String, Tensor>> {
        self.tensors(MODEL)
    }

    /// The tensors that the user of this `rank` kept, by name, on the CPU.
    ///
    /// # Errors
    /// As for [`model`](Self::model).
    pub fn user_tensors(&self, rank: usize) -> Result<BTreeMap<String, Tensor>> {
        match rank {
            0 => self.tensors(USER),
            _ => self.tensors(&Part::of(rank).tensors),
        }
    }

    /// The values that the user of this `rank` kept; null for none.
    ///
    /// # Errors
    /// As for [`model`](Self::model).
    pub fn user(&self, rank: usize) -> Result<Value> {
        let name = Part::of(rank).state;
        if rank == 0 || !self.record.files.contains_key(&name) {
            return Ok(if rank == 0 { self.state.user.clone() } else { Value::Null });
        }
        let text = read(&self.path, &self.record, &name)?;
        let mut value: Value = serde_json::from_slice(&text)
            .map_err(|error| Error::not_whole(&self.path, format!("{name} is damaged: {error}")))?;
        Ok(value["user"].take())
    }

    /// All that an engine of this `rank` takes back.
    ///
    /// # Errors
    /// As for [`model`](Self::model).
    pub fn engine_state(&self, rank: usize) -> Result<EngineState> {
        let State { step, attempt, optimizer, plugins, .. } = &self.state;
        let mut slots: BTreeMap<String, (i64, BTreeMap<String, Tensor>)> = BTreeMap::new();
        for (name, updates) in &optimizer.updates {
            slots.insert(name.clone(), (*updates, BTreeMap::new()));
        }
        for (name, tensor) in self.tensors(OPTIMIZER)? {
            let of = name
                .rsplit_once('/')
                .and_then(|(parameter, slot)| Some((slots.get_mut(parameter)?, slot.to_owned())));
            let Some(((_, slots), slot)) = of else {
                let why = format!("{OPTIMIZER} has `{name}`, of no parameter that was updated");
                return Err(Error::not_whole(&self.path, why));
            };
            slots.insert(slot, tensor);
        }
        let mut model = self.model()?;
        if rank > 0 {
            // What each rank has of its own.
            model.extend(self.tensors(&Part::of(rank).buffers)?);
        }
        Ok(EngineState {
            step: *step,
            attempt: *attempt,
            model,
            optimizer_kind: optimizer.kind.clone(),
            optimizer: slots,
            plugins: plugins.clone(),
        })
    }

    /// Puts an engine where this checkpoint was taken: parameters, buffers, the optimizer's state, counts, the states of
    /// plugins. Nothing is changed before every file has been compared with its digest.
    ///
    /// # Errors
    /// It is not whole, or of another model, optimizer or set of sections.
    pub fn restore<M>(&self, engine: &mut Engine<M>) -> Result<()> {
        // In another world nobody is who was there.
        let same_world = engine.world_size() == self.state.world_size;
        let state = self.engine_state(if same_world { engine.rank() } else { 0 })?;
        engine.load_state(&state).map_err(|source| Error::DoesNotFit {
            path: self.path.clone(),
            remedy: match &source {
                trainyard::Error::State(_) => {
                    "; to begin anew with its weights alone, name another folder and set init_from to the checkpoint's"
                }
                _ => "",
            },
            source: Box::new(source),
        })
    }

    fn tensors(&self, name: &str) -> Result<BTreeMap<String, Tensor>> {
        if !self.record.files.contains_key(name) {
            return Ok(BTreeMap::new());
        }
        let file = read(&self.path, &self.record, name)?;
        let tensors = tensors::parse(&file);
        let tensors = tensors.map_err(|e| Error::not_whole(&self.path, format!("{name}: {e}")))?;
        Ok(tensors.into_iter().collect())
    }
}

/// A file of a checkpoint, as it was written.
fn read(path: &Path, record: &Record, name: &str) -> Result<Vec<u8>> {
    let (at, said) = said(path, record, name)?;
    let content = File::open(&at).and_then(|mut file| {
        // What is claimed is allocated only where it is there.
        let bytes = file.metadata()?.len().min(said.bytes);
        read_whole(&mut file, bytes)
    });
    let (content, digest) = content.map_err(|error| Error::read(&at, error))?;
    same(path, name, said, &digest).map(|()| content)
}

/// Where a file of a checkpoint is, and what it is to hold.
fn said<'a>(path: &Path, record: &'a Record, name: &str) -> Result<(PathBuf, &'a Digest)> {
    match record.files.get(name) {
        Some(digest) => Ok((path.join(name), digest)),
        None => Err(Error::not_whole(path, format!("it has no {name}"))),
    }
}

fn same(path: &Path, name: &str, said: &Digest, has: &Digest) -> Result<()> {
    match has == said {
        true => Ok(()),
        false => Err(Error::not_whole(path, format!("{name} is not what was written"))),
    }
}
