//! When a run saves checkpoints.
use crate::RunError;
use crate::origin::Origin;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use trainyard::{Checkpointing, Engine, Plan};
use trainyard_checkpoint::{Checkpoints, Extra, Keep, Saver};

/// When a run saves checkpoints, and who writes them.
pub struct Keeping {
    settings: Checkpointing,
    saver: Saver,
    /// When the last save was asked for.
    last: Instant,
    /// Completed steps at the last save, and whether that knew the validation loss.
    saved: Option<(u64, bool)>,
}

impl Keeping {
    /// As the plan has it; none where it keeps nothing. On the first rank the folder is made and locked; the others
    /// come behind it.
    ///
    /// # Errors
    /// The folder cannot be written, or another run has it.
    pub fn new(plan: &Plan, origin: &Origin) -> Result<Option<Self>, RunError> {
        let settings = plan.settings().checkpoint.clone();
        if !settings.enabled() {
            return Ok(None);
        }
        let keep = Keep {
            last: settings.keep_last,
            every_steps: settings.keep_every,
            best: settings.best,
        };
        let checkpoints = match plan.world().rank {
            0 => Checkpoints::claim(origin.folder(), keep)?,
            _ => Checkpoints::join(origin.folder())?,
        };
        let state = origin.checkpoint().map(|found| found.state());
        // Of another run, too. No rank may save before the first one has come here, and only a step or an evaluation of
        // all makes sure of that.
        let saved = state.map(|state| (state.step, state.validation_loss.is_some()));
        Ok(Some(Keeping { settings, saver: Saver::new(checkpoints), last: Instant::now(), saved }))
    }

    /// Removes checkpoints that the run takes the place of.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn begin(&mut self, origin: &Origin) -> Result<(), RunError> {
        if origin.is_anew() {
            self.saver.clear()?;
        }
        Ok(())
    }

    /// Whether this rank wants a save because of the time.
    pub fn time_is_due(&self) -> bool {
        let seconds = self.settings.every_seconds;
        seconds > 0.0
            && self.last.elapsed() >= Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Whether the configuration wants a save after so many completed steps.
    pub fn step_is_due(&self, completed: u64) -> bool {
        let every = self.settings.every_steps;
        every > 0 && completed > 0 && completed.is_multiple_of(every)
    }

    /// Has the state saved, unless nothing has happened since the last time. `validated`: with a validation loss.
    ///
    /// # Errors
    /// That of the save before; this one's, where it is not written in the background.
    pub fn save<M>(
        &mut self,
        engine: &Engine<M>,
        validated: bool,
        extra: impl FnOnce() -> Extra,
    ) -> Result<Vec<PathBuf>, RunError> {
        let step = engine.completed_steps();
        // Attempts that were skipped since are tried again in the same way.
        let news = self.settings.best && validated;
        if self.saved.is_some_and(|(saved, known)| saved == step && (known || !news)) {
            return Ok(Vec::new());
        }
        let mut done: Vec<_> = self.saver.save(engine, extra())?.into_iter().collect();
        (self.saved, self.last) = (Some((step, validated)), Instant::now());
        if !self.settings.background {
            done.extend(self.saver.finish()?);
        }
        Ok(done)
    }

    /// What has been written since.
    ///
    /// # Errors
    /// It could not be.
    pub fn poll(&mut self) -> Result<Option<PathBuf>, RunError> {
        Ok(self.saver.poll()?)
    }

    /// Waits for what is being written.
    ///
    /// # Errors
    /// It could not be.
    pub fn finish(&mut self) -> Result<Option<PathBuf>, RunError> {
        Ok(self.saver.finish()?)
    }
}
