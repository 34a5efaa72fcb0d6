//! Saving beside the training: the step waits for a copy, and another thread writes it.
use crate::error::{Error, Result};
use crate::snapshot::{Extra, Snapshot};
use crate::store::Checkpoints;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use trainyard::Engine;

/// Writes checkpoints one after the other, each in a thread of its own.
///
/// One copy of the state is kept and used again. Where the one before is still being written, the next save waits for
/// it.
#[derive(Debug)]
pub struct Saver {
    idle: Option<(Checkpoints, Snapshot)>,
    writing: Option<JoinHandle<Done>>,
    cancelled: Arc<AtomicBool>,
}

struct Done {
    checkpoints: Checkpoints,
    snapshot: Snapshot,
    outcome: Result<Option<PathBuf>>,
}

impl Saver {
    /// Writes to `checkpoints`.
    pub fn new(checkpoints: Checkpoints) -> Self {
        let idle = Some((checkpoints, Snapshot::default()));
        Saver { idle, writing: None, cancelled: Arc::default() }
    }

    /// Copies the state of an engine, and has it written. Returns what came of the save before, if that is not known
    /// yet.
    ///
    /// # Errors
    /// That of the save before, the copy's, or the system gives no thread.
    pub fn save<M>(&mut self, engine: &Engine<M>, extra: Extra) -> Result<Option<PathBuf>> {
        let before = self.finish()?;
        let Some((mut checkpoints, mut snapshot)) = self.idle.take() else {
            let source = "the thread that wrote checkpoints could not be started before".into();
            return Err(Error::Copy { step: engine.completed_steps(), source });
        };
        if let Err(error) = snapshot.retake(engine, extra) {
            self.idle = Some((checkpoints, snapshot));
            return Err(error);
        }
        let folder = checkpoints.folder().to_owned();
        let cancelled = self.cancelled.clone();
        let write = move || {
            let outcome = checkpoints.save_until(&snapshot, &cancelled);
            Done { checkpoints, snapshot, outcome }
        };
        let thread = thread::Builder::new().name("checkpoint".to_owned()).spawn(write);
        self.writing = Some(thread.map_err(|error| Error::write(&folder, error))?);
        Ok(before)
    }

    /// Removes every checkpoint: see [`Checkpoints::clear`].
    ///
    /// # Errors
    /// That of the save before, or the system does not let it.
    pub fn clear(&mut self) -> Result<()> {
        self.finish()?;
        self.idle.as_mut().map_or(Ok(()), |(checkpoints, _)| checkpoints.clear())
    }

    /// What came of a save that has ended since, if one has.
    ///
    /// # Errors
    /// Its error.
    pub fn poll(&mut self) -> Result<Option<PathBuf>> {
        match &self.writing {
            Some(thread) if thread.is_finished() => self.finish(),
            _ => Ok(None),
        }
    }

    /// Waits for a save under way.
    ///
    /// # Errors
    /// Its error.
    pub fn finish(&mut self) -> Result<Option<PathBuf>> {
        let Some(thread) = self.writing.take() else { return Ok(None) };
        let Done { checkpoints, snapshot, outcome } =
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.idle = Some((checkpoints, snapshot));
        outcome
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // Other ranks may be gone; what this one writes itself it still writes.
        self.cancelled.store(true, Ordering::SeqCst);
        if let Some(thread) = self.writing.take() {
            thread.join().ok();
        }
    }
}
