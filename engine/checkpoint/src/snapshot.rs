//! A copy of all that a checkpoint holds, apart from the run, so that the run can go on while it is written.
use crate::error::{Error, Result};
use crate::tensors::{self, Header};
use serde_json::{Map, Value, json};
use std::fs::File;
use tch::Tensor;
use trainyard::{BoxError, Engine, EngineState};

/// Parameters and buffers by name.
pub const MODEL: &str = "model.safetensors";

/// State tensors of the optimizer, each as `<parameter>/<slot>`.
pub const OPTIMIZER: &str = "optimizer.safetensors";

/// The user's own tensors.
pub const USER: &str = "user.safetensors";

/// Step, attempt, counts of updates, states of plugins, and what the program adds.
pub const STATE: &str = "state.json";

/// The resolved configuration.
pub const CONFIGURATION: &str = "configuration.json";

/// What a program keeps beside the engine's state.
#[derive(Debug, Default)]
pub struct Extra {
    /// Its own values; null for none.
    pub user: Value,
    /// Its own tensors, by name.
    pub tensors: Vec<(String, Tensor)>,
    /// The loss of an evaluation right at this step, by which the best checkpoint is known.
    pub validation_loss: Option<f64>,
    /// What a run keeps of itself; null for none.
    pub run: Value,
    /// The resolved configuration; null for none.
    pub configuration: Value,
    /// Files that belong to it and are put on the disk before it is there, such as a log.
    pub files: Vec<File>,
}

/// All that one rank puts into a checkpoint, copied.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub(crate) step: u64,
    pub(crate) rank: usize,
    pub(crate) world_size: usize,
    pub(crate) tensors: Vec<Staged>,
    pub(crate) texts: Vec<(String, Value)>,
    pub(crate) files: Vec<File>,
}

/// A file of tensors, in memory.
#[derive(Debug)]
pub(crate) struct Staged {
    pub name: String,
    pub header: Header,
    pub bytes: Vec<u8>,
}

impl Snapshot {
    /// Copies the state of an engine between two steps: all of it on the first rank, and on others what each has of
    /// its own, which is its buffers and what the user keeps.
    ///
    /// # Errors
    /// Memory does not suffice, a tensor is of a type that safetensors has not, or libtorch's.
    pub fn take<M>(engine: &Engine<M>, extra: Extra) -> Result<Self> {
        let mut snapshot = Snapshot::default();
        snapshot.retake(engine, extra)?;
        Ok(snapshot)
    }

    /// As [`take`](Self::take), into the memory of this one.
    ///
    /// # Errors
    /// As there.
    pub fn retake<M>(&mut self, engine: &Engine<M>, extra: Extra) -> Result<()> {
        self.step = engine.completed_steps();
        (self.rank, self.world_size) = (engine.rank(), engine.world_size());
        let copied = match self.rank {
            0 => self.take_all(&engine.live_state(), &extra),
            _ => self.take_part(engine, &extra),
        };
        self.files = extra.files;
        copied.map_err(|source| Error::Copy { step: self.step, source })
    }

    /// Completed steps of the engine.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Bytes of its tensors.
    pub fn tensor_bytes(&self) -> usize {
        self.tensors.iter().map(|file| file.bytes.len()).sum()
    }

    fn take_all(&mut self, state: &EngineState, extra: &Extra) -> Result<(), BoxError> {
        let model: Vec<_> = state.model.iter().map(|(name, t)| (name.clone(), t)).collect();
        let slots = state.optimizer.iter().flat_map(|(name, (_, slots))| {
            slots.iter().map(move |(slot, tensor)| (format!("{name}/{slot}"), tensor))
        });
        self.stage(MODEL, &model)?;
        self.stage(OPTIMIZER, &slots.collect::<Vec<_>>())?;
        self.stage(USER, &extra.tensors())?;
        self.texts = vec![
            (STATE.to_owned(), described(state, self.world_size, extra)),
            (CONFIGURATION.to_owned(), extra.configuration.clone()),
        ];
        Ok(())
    }

    fn take_part<M>(&mut self, engine: &Engine<M>, extra: &Extra) -> Result<(), BoxError> {
        let names = Part::of(self.rank);
        let buffers: Vec<_> = engine.buffers().map(|(name, t)| (name.to_owned(), t)).collect();
        self.stage(&names.buffers, &buffers)?;
        self.stage(&names.tensors, &extra.tensors())?;
        self.texts = vec![(names.state, json!({ "user": extra.user }))];
        Ok(())
    }

    fn stage(&mut self, name: &str, tensors: &[(String, &Tensor)]) -> Result<(), BoxError> {
        if tensors.is_empty() {
            self.tensors.retain(|file| file.name != name);
            return Ok(());
        }
        let header = tensors::header(tensors.iter().map(|(name, t)| (name.as_str(), *t)))?;
        let place = self.tensors.iter().position(|file| file.name == name);
        let place = place.unwrap_or_else(|| {
            let name = name.to_owned();
            self.tensors.push(Staged { name, header: Header::default(), bytes: Vec::new() });
            self.tensors.len() - 1
        });
        let file = &mut self.tensors[place];
        let missing = header.tensor_bytes.saturating_sub(file.bytes.len());
        file.bytes.try_reserve_exact(missing).map_err(|_| {
            format!("there is no room in memory for a copy of {} bytes", header.tensor_bytes)
        })?;
        file.bytes.resize(header.tensor_bytes, 0);
        file.header = header;
        let mut rest = file.bytes.as_mut_slice();
        for (_, tensor) in tensors {
            let (to, behind) = rest.split_at_mut(tensors::bytes_of(tensor));
            tensors::copy_to(tensor, to)?;
            rest = behind;
        }
        Ok(())
    }
}

impl Extra {
    fn tensors(&self) -> Vec<(String, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect()
    }
}

/// Names of the files that a rank above 0 writes.
pub(crate) struct Part {
    /// Its buffers.
    pub buffers: String,
    /// The user's tensors.
    pub tensors: String,
    /// The user's values.
    pub state: String,
}

impl Part {
    pub fn of(rank: usize) -> Self {
        Part {
            buffers: format!("rank-{rank}.{MODEL}"),
            tensors: format!("rank-{rank}.{USER}"),
            state: format!("rank-{rank}.{STATE}"),
        }
    }
}

/// What of the state is no tensor.
fn described(state: &EngineState, world_size: usize, extra: &Extra) -> Value {
    let updates: Map<_, _> =
        state.optimizer.iter().map(|(name, (updates, _))| (name.clone(), json!(updates))).collect();
    json!({
        "step": state.step,
        "attempt": state.attempt,
        "world_size": world_size,
        "optimizer": { "kind": state.optimizer_kind, "updates": updates },
        "plugins": state.plugins,
        "validation_loss": extra.validation_loss,
        "run": extra.run,
        "user": extra.user,
        "written": jiff::Timestamp::now().to_string(),
        "trainyard": env!("CARGO_PKG_VERSION"),
    })
}
