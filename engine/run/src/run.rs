//! The loop of a training run.
use crate::data::{Batches, Data};
use crate::files::{Files, Trial};
use crate::folder::Folder;
use crate::keeping::Keeping;
use crate::needs::batch_shape;
use crate::origin::{Origin, differences};
use crate::record::{Known, Record};
use crate::{Cadence, RunError, Stop};
use std::path::PathBuf;
use tch::Device;
use trainyard::{
    BoxError, Ending, Engine, Evaluation, Event, IntoLoss, Mismatch, Observer, Plan, Report,
};
use trainyard_checkpoint::Extra;
use trainyard_data::BatchShape;

/// Writes the files of a trained model.
type Save<M> = dyn Fn(&M, &mut dyn Files) -> Result<(), BoxError>;

/// A training run: an engine, the data, when it is evaluated, and who is told.
///
/// ```text
/// the model's files are written on trial    what cannot be saved, or finds no room, is told before step 0
/// observers: Started
/// for each step
///   engine.step on the next batches         observers: Step, or Failed
///   asked to stop? the run ends here        observers: Stopping
///   due? evaluated at full depth            observers: Evaluating, Evaluated
///     asked to stop? the rest is left out   observers: Stopping
///   due? the state is copied, and saved     observers: Checkpointed, once it is
/// the model's files, then summary.json      observers: Saved
/// observers: Ended
/// ```
///
/// On many ranks every rank has a run. One folder is enough, the first rank's.
pub struct Run<M, D: Data> {
    plan: Plan,
    engine: Engine<M>,
    data: D,
    shape: BatchShape,
    cadence: Cadence,
    observers: Vec<Box<dyn Observer>>,
    record: Option<Record>,
    save: Option<Box<Save<M>>>,
    stop: Stop,
    origin: Option<Origin>,
    keeping: Option<Keeping>,
    /// Steps completed at the latest evaluation, and its loss where it measured something.
    evaluated: Option<(u64, Option<f64>)>,
}

impl<M, D: Data> Run<M, D> {
    /// A run of the plan that the engine was made from. The observers that the plan asked for are told.
    ///
    /// # Errors
    /// The configuration has no batch size, or no length that is known: for one in epochs see [`with_data`].
    pub fn new(plan: Plan, mut engine: Engine<M>, data: D) -> Result<Self, RunError> {
        let (shape, cadence) = (batch_shape(&plan)?, Cadence::new(&plan)?);
        let asked_for = engine.take_observers().into_iter();
        let observers = asked_for.map(|observer| observer as Box<dyn Observer>).collect();
        let stop = Stop::new();
        Ok(Run {
            plan,
            engine,
            data,
            shape,
            cadence,
            observers,
            record: None,
            save: None,
            stop,
            origin: None,
            keeping: None,
            evaluated: None,
        })
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observed(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Has `save` write the trained model's files: [`Weights::save`](crate::Weights::save) or more.
    #[must_use]
    pub fn saved(
        mut self,
        save: impl Fn(&M, &mut dyn Files) -> Result<(), BoxError> + 'static,
    ) -> Self {
        self.save = Some(Box::new(save));
        self
    }

    /// Writes to `folder`, claimed with [`OUTPUTS`](crate::OUTPUTS): `steps.jsonl`, the trained model, and
    /// `summary.json` when all else is there.
    #[must_use]
    pub fn written_to(mut self, folder: Folder) -> Self {
        self.record = Some(Record::new(folder));
        self
    }

    /// Ends after the step under way once `stop` is asked, on any rank, and before the next batch of an evaluation. Ranks
    /// that were not asked are through their share of the evaluation first.
    #[must_use]
    pub fn until(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// Begins where `origin` says, and saves checkpoints where the plan does.
    ///
    /// # Errors
    /// The checkpoint is not whole or does not fit the engine; its folder cannot be written, or another run has it.
    pub fn beginning(mut self, origin: Origin) -> Result<Self, RunError> {
        if let Some(found) = origin.checkpoint() {
            found.restore(&mut self.engine)?;
            let known = Known::of(found.state());
            self.evaluated = known.evaluated.map(|step| (step, found.state().validation_loss));
        }
        self.keeping = Keeping::new(&self.plan, &origin)?;
        self.origin = Some(origin);
        Ok(self)
    }

    /// Optimizer steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.cadence.total_steps()
    }

    /// Optimizer steps of one pass over the data.
    ///
    /// # Errors
    /// The data has less than one batch.
    pub fn steps_per_epoch(&self) -> Result<u64, RunError> {
        Ok(self.shape.steps_per_epoch(self.data.training_samples())?)
    }

    /// The data.
    pub fn data(&self) -> &D {
        &self.data
    }

    /// The engine, with the model in it.
    pub fn engine(&self) -> &Engine<M> {
        &self.engine
    }

    /// The batches of every step from the next one on, without end.
    ///
    /// # Errors
    /// As [`Data::training`].
    pub fn batches(&self) -> Result<Batches<Vec<D::Batch>>, RunError> {
        self.data.training(self.shape, self.engine.attempts()).map_err(told)
    }

    /// Trains to the end of the run. `forward` gets the model, a micro-batch, and whether it trains; it returns the
    /// [`Loss`](trainyard::Loss), or a `Result` of one.
    ///
    /// Returns [`Ending::Completed`] or [`Ending::Stopped`].
    ///
    /// # Errors
    /// The first of a step, an evaluation, the data, an observer or a file that cannot be written; a hundred
    /// skipped steps in a row; weights that are not finite at the end; of a run that was stopped, another rank's. Then
    /// no file of the model is written, and no `summary.json`.
    pub fn train<L: IntoLoss>(
        &mut self,
        mut forward: impl FnMut(&M, &D::Batch, bool) -> L,
    ) -> Result<Ending<'static>, RunError> {
        let ending = self.train_and_write(&mut forward);
        match &ending {
            Ok(ending) => self.tell(&Event::Ended { ending: *ending })?,
            Err(error) => {
                let error = error.to_string();
                // What an observer has to say now matters less than that.
                self.tell(&Event::Ended { ending: Ending::Failed(&error) }).ok();
            }
        }
        ending
    }

    fn train_and_write<L: IntoLoss>(
        &mut self,
        forward: &mut impl FnMut(&M, &D::Batch, bool) -> L,
    ) -> Result<Ending<'static>, RunError> {
        let changes = self.begin()?;
        let mut batches = self.batches()?;
        let (completed_steps, total_steps) = (self.engine.completed_steps(), self.total_steps());
        {
            let Run { plan, observers, record, .. } = self;
            let folder = record.as_ref().map(Record::path);
            tell(observers, &Event::Started { plan, completed_steps, total_steps, folder })?;
        }
        for message in &changes {
            self.tell(&Event::Warned { message })?;
        }
        // A run that was stopped may have left its evaluation to the one that goes on.
        let mut evaluates =
            completed_steps > 0 && self.evaluated.is_none_or(|(of, _)| of != completed_steps);
        let ending = loop {
            let stops = self.engine.completed_steps() < total_steps && self.stops();
            if !stops
                && std::mem::replace(&mut evaluates, true)
                && self.evaluation_is_due()
                && self.evaluate(|model, batch| forward(model, batch, false))?.is_none()
            {
                break Ending::Stopped;
            }
            self.keep()?;
            if self.engine.completed_steps() >= total_steps {
                break Ending::Completed;
            }
            if self.stops() {
                break Ending::Stopped;
            }
            self.step(&next(&mut batches)?, |model, batch| forward(model, batch, true))?;
        };
        let finished = self.finish(ending);
        if ending == Ending::Stopped {
            // A rank that ends at once, with the status of a signal, makes launchers end those that still write.
            let failed = self.engine.end_together(finished.is_err());
            finished?;
            return match failed? {
                0 => Ok(ending),
                _ => Err(RunError::peer("another rank", "the end of the run that was stopped")),
            };
        }
        finished?;
        Ok(ending)
    }

    /// One optimizer step on the micro-batches of [`batches`](Self::batches); observers are told.
    ///
    /// # Errors
    /// As [`Engine::step`]; an observer's; a hundred skipped steps in a row.
    pub fn step<L: IntoLoss>(
        &mut self,
        micro_batches: &[D::Batch],
        forward: impl FnMut(&M, &D::Batch) -> L,
    ) -> Result<Report, RunError> {
        let (attempt, step) = (self.engine.attempts(), self.engine.completed_steps());
        let stepped = self.engine.step(micro_batches, forward);
        if !stepped.as_ref().is_ok_and(|report| report.loss.is_finite())
            && let Some(message) = self.data.not_finite(micro_batches)
        {
            self.tell(&Event::Warned { message: &message })?;
        }
        match stepped {
            Ok(report) => {
                let lasting = self.cadence.after(&report);
                self.tell(&Event::Step { attempt, report: &report })?;
                lasting?;
                Ok(report)
            }
            Err(error) => {
                let text = error.to_string();
                // The step's own error is the one to tell.
                self.tell(&Event::Failed { attempt, step, error: &text }).ok();
                Err(error.into())
            }
        }
    }

    /// The loss at full depth over the validation data, as many samples at a time as in training; observers are
    /// told. None if the run was asked to stop meanwhile, on any rank.
    ///
    /// # Errors
    /// As [`Engine::evaluate_until`]; the data's; an observer's. Whichever it is, the other ranks get
    /// [`RunError::Peer`].
    pub fn evaluate<L: IntoLoss>(
        &mut self,
        mut forward: impl FnMut(&M, &D::Batch) -> L,
    ) -> Result<Option<Evaluation>, RunError> {
        let step = self.engine.completed_steps();
        let Run { engine, data, shape, observers, stop, .. } = self;
        let share = shape.share;
        let mine = data.validation_samples().saturating_sub(share.rank).div_ceil(share.world_size);
        let batches = mine.div_ceil(shape.micro_batch.max(1));
        // The other ranks wait for this one, so all that fails here fails in the engine, which tells them.
        let (made, failed) = match data.validation(*shape) {
            Ok(made) => (Some(made), None),
            Err(error) => (None, Some(Err(error))),
        };
        let told = made.into_iter().flatten().enumerate().map(|(done, batch)| {
            let batch = batch?;
            tell(observers, &Event::Evaluating { step, done, batches })?;
            Ok(batch)
        });
        let told = told.chain(failed);
        let Some(evaluation) =
            engine.evaluate_until(told, || stop.asked(), &mut forward).map_err(of_evaluation)?
        else {
            return Ok(None);
        };
        self.evaluated = Some((step, evaluation.measured()));
        self.tell(&Event::Evaluated { step, evaluation: &evaluation })?;
        Ok(Some(evaluation))
    }

    /// Whether the configuration wants an evaluation now, after the steps completed so far.
    pub fn evaluation_is_due(&self) -> bool {
        self.cadence.evaluation_is_due(self.engine.completed_steps())
    }

    /// The folder's record, where there is one.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// What can fail is tried before anything is changed, in the model and in the folder. Returns what a user should
    /// know of a run that goes on.
    fn begin(&mut self) -> Result<Vec<String>, RunError> {
        let changes = self.changes()?;
        if let Some(record) = &mut self.record {
            let mut trial = Trial::default();
            if let Some(save) = &self.save {
                save(self.engine.model(), &mut trial).map_err(told)?;
            }
            match self.origin.as_ref().and_then(|origin| Some((origin, origin.checkpoint()?))) {
                Some((origin, found)) => {
                    record.resume(trial.bytes, found.state(), origin.is_own())?
                }
                None => record.begin(trial.bytes)?,
            }
        }
        if let (Some(origin), 0) = (&self.origin, self.plan.world().rank) {
            match &mut self.keeping {
                Some(keeping) => keeping.begin(origin)?,
                None => origin.clear()?,
            }
        }
        Ok(changes)
    }

    /// What differs from the run that a checkpoint is of.
    fn changes(&self) -> Result<Vec<String>, RunError> {
        let Some(found) = self.origin.as_ref().and_then(Origin::checkpoint) else {
            return Ok(Vec::new());
        };
        if self.plan.world().rank > 0 {
            return Ok(Vec::new());
        }
        let state = found.state();
        let known = Known::of(state);
        let mut changes = Vec::new();
        let differences = differences(&found.configuration()?, self.plan.config().value());
        if !differences.is_empty() {
            changes.push(format!("the configuration has changed: {}", differences.join("; ")));
        }
        let data = self.data.fingerprint();
        if known.data.is_some() && known.data != data {
            changes.push(
                "the data has changed: the order of samples goes on in the new one".to_owned(),
            );
        }
        let (then, now) = (state.world_size, self.plan.world().world_size);
        if then != now {
            changes.push(format!(
                "ranks were {then} and are {now}: sums over ranks and dropout differ, and buffers are those of rank 0"
            ));
        }
        let batch = self.shape.global_batch()? as u64;
        if let Some(before) = known.batch.filter(|before| *before != batch) {
            let samples = state.attempt.saturating_mul(before.abs_diff(batch));
            let fate = if batch < before { "come twice" } else { "are passed over" };
            changes.push(format!(
                "a step had {before} samples and has {batch}: the place in the data is counted in steps, so {samples} \
                 samples {fate}"
            ));
        }
        let (step, total) = (state.step, self.total_steps());
        if step > total {
            changes.push(format!(
                "the checkpoint is of step {step}, beyond total_steps = {total}: nothing is trained"
            ));
        }
        Ok(changes)
    }

    /// Saves the state where it is due, and tells of what has been saved since.
    fn keep(&mut self) -> Result<(), RunError> {
        let step = self.engine.completed_steps();
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        let done = keeping.poll()?;
        let by_time = self.engine.agree_to_save(keeping.time_is_due());
        let due = by_time || keeping.step_is_due(step);
        self.checkpointed(done)?;
        if due { self.save_state() } else { Ok(()) }
    }

    fn save_state(&mut self) -> Result<(), RunError> {
        let step = self.engine.completed_steps();
        let mut known = self.record.as_ref().map(Record::known).unwrap_or_default();
        (known.evaluated, known.data) = (self.evaluated.map(|(of, _)| of), self.data.fingerprint());
        known.batch = Some(self.shape.global_batch()? as u64);
        let run = serde_json::to_value(known).map_err(|error| RunError::Outside(error.into()))?;
        let validation = self.evaluated.filter(|(of, _)| *of == step).and_then(|(_, loss)| loss);
        let log = self.record.as_ref().map(Record::log_file).transpose()?.flatten();
        let Run { engine, keeping: Some(keeping), plan, .. } = self else { return Ok(()) };
        let done = keeping.save(engine, validation.is_some(), || Extra {
            validation_loss: validation,
            run,
            configuration: plan.config().value().clone(),
            files: log.into_iter().collect(),
            ..Extra::default()
        })?;
        self.checkpointed(done)
    }

    fn checkpointed(&mut self, done: impl IntoIterator<Item = PathBuf>) -> Result<(), RunError> {
        done.into_iter().try_for_each(|path| self.tell(&Event::Checkpointed { path: &path }))
    }

    /// Saves the state that a run ends with, and waits until it is saved.
    fn keep_last(&mut self) -> Result<(), RunError> {
        if self.keeping.is_none() {
            return Ok(());
        }
        self.save_state()?;
        let done = self.keeping.as_mut().map(Keeping::finish).transpose()?.flatten();
        self.checkpointed(done)
    }

    /// Whether the run is to stop: the same answer on all ranks.
    fn stops(&self) -> bool {
        self.engine.agree_to_stop(self.stop.asked())
    }

    fn finish(&mut self, ending: Ending<'static>) -> Result<(), RunError> {
        let steps = self.engine.completed_steps();
        if ending == Ending::Stopped {
            let (total_steps, by) = (self.total_steps(), self.stop.by());
            self.tell(&Event::Stopping { step: steps, total_steps, by })?;
        }
        // First: whatever becomes of the other files, the run can go on.
        self.keep_last()?;
        let Run { plan, engine, record: Some(record), save, observers, .. } = self else {
            return Ok(());
        };
        if let Some(save) = save {
            engine.check_finite()?;
            save(engine.model(), record.folder()).map_err(told)?;
        }
        for (file, written) in record.folder().written() {
            tell(observers, &Event::Saved { file, bytes: written.bytes })?;
        }
        let device = engine.parameters().next().map_or(Device::Cpu, |(_, tensor)| tensor.device());
        record.complete(plan, device, ending, steps)
    }

    /// Tells the record and the observers.
    fn tell(&mut self, event: &Event<'_>) -> Result<(), RunError> {
        if let Some(record) = &mut self.record {
            record.observe(event)?;
        }
        tell(&mut self.observers, event)
    }
}

/// A plan that knows how many steps one pass over the data has, which a length in epochs needs, and the data's
/// fingerprint, by which ranks are told that they have other data.
///
/// # Errors
/// The configuration has no batch size, or the data has less than one batch.
pub fn with_data(plan: Plan, data: &impl Data) -> Result<Plan, RunError> {
    let steps = batch_shape(&plan)?.steps_per_epoch(data.training_samples())?;
    let plan = plan.with_steps_per_epoch(steps);
    Ok(match data.fingerprint() {
        Some(fingerprint) => plan.with_fingerprint("data", fingerprint, Mismatch::Refuse),
        None => plan,
    })
}

/// The micro-batches of the next step.
///
/// # Errors
/// If they could not be prepared.
pub fn next<B>(batches: &mut Batches<Vec<B>>) -> Result<Vec<B>, RunError> {
    let ended = || RunError::Other("the batches ended before the training".to_owned());
    batches.next().ok_or_else(ended)?.map_err(told)
}

fn tell(observers: &mut [Box<dyn Observer>], event: &Event<'_>) -> Result<(), RunError> {
    observers.iter_mut().try_for_each(|observer| observer.observe(event)).map_err(told)
}

/// What came through somebody else's hands may be one of ours.
fn told(error: BoxError) -> RunError {
    error.downcast::<RunError>().map_or_else(RunError::Outside, |error| *error)
}

/// What an evaluation failed on, told as it is in training.
fn of_evaluation(error: trainyard::Error) -> RunError {
    match error {
        trainyard::Error::Batches(error) => told(error),
        trainyard::Error::Peer { who, operation } => RunError::peer(who, operation),
        error => error.into(),
    }
}

#[cfg(test)]
mod evaluations;
#[cfg(test)]
mod tests;
