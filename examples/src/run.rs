//! A BERT with its data and its engine, made from one configuration: what the programs that train it
//! share. Nothing here prints.
use crate::{Bert, BertConfig};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use trainyard::config::{Config, Problem};
use trainyard::{Engine, Evaluation, Layers, Loss, Plan, Registry, Report, World, panic_message};
use trainyard_data::{BatchShape, DataConfig, MlmBatch, MlmData, Share, Tokenizer, TrainBatches};

/// All plugins, and the sections that these programs read themselves: `model` and `data`.
pub fn registry() -> Registry {
    trainyard_plugins::registry().section::<BertConfig>("model").section::<DataConfig>("data")
}

/// A file that comes with the examples: `data/sotu.txt.zst`, `demo.json`.
pub fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Why there is no run, or no more of it. Its text is one sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration, the model or the training.
    #[error(transparent)]
    Engine(#[from] trainyard::Error),
    /// The text, the vocabulary or the cache.
    #[error(transparent)]
    Data(#[from] trainyard_data::Error),
    /// libtorch could not make the parameters.
    #[error("a model of these sizes cannot be made: {0}")]
    Model(String),
    /// Something around the training.
    #[error("{0}")]
    Other(String),
}

impl From<trainyard::config::ConfigError> for RunError {
    fn from(error: trainyard::config::ConfigError) -> Self {
        RunError::Engine(error.into())
    }
}

/// What is said where no batch size is set.
const NO_BATCH: &str = "train_batch_size is not set: how many samples does a step take?";

/// Steps in a row without an update after which there is no use in going on.
const MOST_SKIPPED: u32 = 100;

/// How long a run is and when it is evaluated.
pub struct Cadence {
    total_steps: u64,
    evaluate_every: u64,
    /// Skipped steps since the last update.
    skipped: u32,
}

impl Cadence {
    /// Of a plan that knows its steps.
    ///
    /// # Errors
    /// If the length of the run is not set.
    pub fn new(plan: &Plan) -> Result<Self, RunError> {
        let no_length = || plan.invalid("training.total_steps", "total_steps is not set");
        let total_steps = plan.total_steps()?.ok_or_else(no_length)?;
        let evaluate_every = plan.settings().training.evaluate_every;
        Ok(Cadence { total_steps, evaluate_every, skipped: 0 })
    }

    /// Optimizer steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// Takes note of a step that ended.
    ///
    /// # Errors
    /// A hundred skipped steps in a row.
    pub fn after(&mut self, report: &Report) -> Result<(), RunError> {
        self.skipped = if report.completes() { 0 } else { self.skipped + 1 };
        if self.skipped == MOST_SKIPPED {
            let message =
                format!("the last {MOST_SKIPPED} steps were all skipped; the log says why");
            return Err(RunError::Other(message));
        }
        Ok(())
    }

    /// Whether the configuration wants an evaluation now, after so many completed steps.
    pub fn evaluation_is_due(&self, completed: u64) -> bool {
        let every = self.evaluate_every;
        let now = completed >= self.total_steps
            || (every > 0 && completed > 0 && completed.is_multiple_of(every));
        now && self.skipped == 0
    }
}

/// What [`BertRun::train`] tells its observer.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step ended.
    Step(&'a Report),
    /// The model was evaluated, after so many completed steps.
    Evaluated {
        /// Completed steps.
        step: u64,
        /// At full depth, over the validation sequences.
        evaluation: Evaluation,
    },
}

/// A BERT about to be trained on masked language modelling.
pub struct BertRun {
    engine: Engine<Bert>,
    data: MlmData,
    shape: BatchShape,
    blocks: usize,
    cadence: Cadence,
    device: Device,
}

impl BertRun {
    /// Opens the data and makes the model with its engine on the device.
    ///
    /// # Errors
    /// As [`open_data`](Self::open_data) and [`with_data`](Self::with_data).
    pub fn new(plan: Plan, device: Device) -> Result<Self, RunError> {
        let data = Self::open_data(&plan)?;
        Self::with_data(plan, data, device)
    }

    /// The data of a configuration. Where it gives none, text and vocabulary are those that come with the
    /// examples.
    ///
    /// # Errors
    /// If the text, the vocabulary or the cache is not as it should be, the sequences are longer than the
    /// model allows, or the configuration has no batch size or no length of the run.
    pub fn open_data(plan: &Plan) -> Result<MlmData, RunError> {
        // Quick to tell, so told before the text is read.
        plan.config().require_none(missing(plan.config()))?;
        let training = &plan.settings().training;
        check_length(plan)?;
        let mut config: DataConfig = plan.section("data")?.unwrap_or_default();
        config.text.get_or_insert_with(|| shipped("data/sotu.txt.zst"));
        let vocabulary = || shipped("data/bert-base-uncased-vocab.txt");
        let vocabulary = config.vocabulary.get_or_insert_with(vocabulary);
        check_vocabulary(plan, Tokenizer::from_vocabulary(vocabulary)?.vocabulary_size())?;
        Ok(MlmData::open(&config, training.seed)?)
    }

    /// Makes the model on the device, with weights that follow from the seed, and its engine.
    ///
    /// # Errors
    /// If the sizes do not fit one another, the batch size, the length of the run or the optimizer is
    /// missing, the data has less than one batch, or memory does not suffice.
    pub fn with_data(plan: Plan, data: MlmData, device: Device) -> Result<Self, RunError> {
        let shape = batch_shape(&plan)?;
        let config = model_config(&plan)?;
        check_vocabulary(&plan, data.vocabulary_size())?;
        let plan = plan.with_steps_per_epoch(shape.steps_per_epoch(data.training_sequences())?);
        let cadence = Cadence::new(&plan)?;
        tch::manual_seed(plan.settings().training.seed as i64);
        let (variables, layers) = (VarStore::new(device), Layers::new());
        let model = attempt(|| Bert::new(variables.root(), &config, &layers))?;
        let engine = plan.engine(model, &variables, &layers)?;
        Ok(BertRun { engine, data, shape, blocks: layers.blocks().len(), cadence, device })
    }

    /// Optimizer steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.cadence.total_steps
    }

    /// Blocks of the model.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// The data.
    pub fn data(&self) -> &MlmData {
        &self.data
    }

    /// The engine, with the model in it.
    pub fn engine(&self) -> &Engine<Bert> {
        &self.engine
    }

    /// The batches of every step from the next one on, without end.
    ///
    /// # Errors
    /// If the system gives no thread to prepare them.
    pub fn batches(&self) -> Result<TrainBatches, RunError> {
        Ok(self.data.train_batches(self.shape, self.engine.attempts())?)
    }

    /// One optimizer step on the micro-batches of [`batches`](Self::batches).
    ///
    /// # Errors
    /// As [`Engine::step`]; a hundred skipped steps in a row.
    pub fn step(&mut self, micro_batches: &[MlmBatch]) -> Result<Report, RunError> {
        let device = self.device;
        let train = |model: &Bert, batch: &MlmBatch| loss(model, &batch.to_device(device), true);
        let report = self.engine.step(micro_batches, train)?;
        self.cadence.after(&report)?;
        Ok(report)
    }

    /// The loss at full depth over the validation sequences, as many at a time as in training.
    ///
    /// # Errors
    /// As [`Engine::evaluate`].
    pub fn evaluate(&mut self) -> Result<Evaluation, RunError> {
        let batches = self.data.validation_batches(self.shape.micro_batch, self.shape.share)?;
        let device = self.device;
        let held_out =
            |model: &Bert, batch: &MlmBatch| loss(model, &batch.to_device(device), false);
        Ok(self.engine.evaluate(batches, held_out)?)
    }

    /// Whether the configuration wants an evaluation now, after the steps completed so far.
    pub fn evaluation_is_due(&self) -> bool {
        self.cadence.evaluation_is_due(self.engine.completed_steps())
    }

    /// Trains to the end of the run, evaluating when it is due and at the end.
    ///
    /// # Errors
    /// The first of a step, an evaluation, the data or the observer.
    pub fn train<E: From<RunError>>(
        &mut self,
        mut observe: impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut batches = self.batches()?;
        while self.engine.completed_steps() < self.total_steps() {
            let micro_batches = next(&mut batches)?;
            observe(Event::Step(&self.step(&micro_batches)?))?;
            if self.evaluation_is_due() {
                let (step, evaluation) = (self.engine.completed_steps(), self.evaluate()?);
                observe(Event::Evaluated { step, evaluation })?;
            }
        }
        Ok(())
    }
}

/// The micro-batches of the next step.
///
/// # Errors
/// If they could not be prepared.
pub fn next(batches: &mut TrainBatches) -> Result<Vec<MlmBatch>, RunError> {
    let ended = || RunError::Other("the batches ended before the training".to_owned());
    Ok(batches.next().ok_or_else(ended)??)
}

fn loss(model: &Bert, batch: &MlmBatch, train: bool) -> Loss {
    let mean: Tensor = model.loss(&batch.ids, &batch.positions, &batch.labels, train);
    Loss::mean(mean, batch.count as u64)
}

/// What every run needs and `config` leaves out: its length, and the size of a batch.
pub fn missing(config: &Config) -> Vec<Problem> {
    let given = |pointer: &&str| config.value().pointer(pointer).is_some_and(|v| !v.is_null());
    let mut problems = Vec::new();
    if !["/training/total_steps", "/training/epochs"].iter().any(given) {
        let message = "total_steps is not set, and neither is epochs: how long is the run?";
        problems.push(config.problem("training.total_steps", message));
    }
    if !["/train_batch_size", "/train_micro_batch_size_per_gpu"].iter().any(given) {
        problems.push(config.problem("train_batch_size", NO_BATCH));
    }
    problems
}

/// What a step takes of the data, by the batch sizes of the configuration.
///
/// # Errors
/// If there are none.
pub fn batch_shape(plan: &Plan) -> Result<BatchShape, RunError> {
    let World { rank, world_size, .. } = *plan.world();
    let Some(sizes) = plan.batch_sizes(world_size as u64)? else {
        return Err(plan.invalid("train_batch_size", NO_BATCH).into());
    };
    Ok(BatchShape {
        micro_batch: sizes.micro_batch as usize,
        gradient_accumulation_steps: sizes.accumulation as usize,
        share: Share { rank, world_size },
    })
}

/// The model has a position for each token of a sequence.
///
/// # Errors
/// If not, or the sizes of the model do not go together.
pub fn check_length(plan: &Plan) -> trainyard::Result<()> {
    let config: DataConfig = plan.section("data")?.unwrap_or_default();
    let (length, most) = (config.sequence_length, model_config(plan)?.max_positions);
    if length as u64 <= most as u64 {
        return Ok(());
    }
    let (path, message) = match plan.config().value().pointer("/data/sequence_length") {
        Some(_) => (
            "data.sequence_length",
            format!("sequence_length = {length} is more than model.max_positions = {most}"),
        ),
        None => (
            "model.max_positions",
            format!(
                "max_positions = {most} is less than data.sequence_length, {length} where it is not set"
            ),
        ),
    };
    Err(plan.invalid(path, message))
}

/// The model has a row for each token of the data.
fn check_vocabulary(plan: &Plan, tokens: usize) -> Result<(), RunError> {
    let rows = model_config(plan)?.vocabulary;
    if (rows as u64) >= tokens as u64 {
        return Ok(());
    }
    let message =
        format!("vocabulary = {rows} is less than the {tokens} tokens of the data's vocabulary");
    Err(plan.invalid("model.vocabulary", message).into())
}

/// The sizes in the `model` section; the defaults if there is none.
///
/// # Errors
/// They do not go together, with the position.
pub fn model_config(plan: &Plan) -> trainyard::Result<BertConfig> {
    let config: BertConfig = plan.section("model")?.unwrap_or_default();
    config.check().map_err(|message| plan.invalid("model.hidden", message))?;
    Ok(config)
}

/// Runs what makes tensors: tch panics where libtorch refuses, for want of memory as a rule.
fn attempt<T>(make: impl FnOnce() -> T) -> Result<T, RunError> {
    catch_unwind(AssertUnwindSafe(make)).map_err(|payload| {
        RunError::Model(panic_message(&*payload).lines().next().unwrap_or_default().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libtorch_refuses_is_an_error() {
        let refused = attempt(|| Tensor::from_slice(&[1, 2, 3]).view([2, 2]));
        let message = refused.map(drop).map_err(|e| e.to_string()).expect_err("3 is not 2 x 2");
        assert!(message.starts_with("a model of these sizes cannot be made: "), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn what_is_shipped_is_there() {
        for name in ["data/sotu.txt.zst", "data/bert-base-uncased-vocab.txt", "demo.json"] {
            assert!(shipped(name).is_file(), "{name}");
        }
    }
}
