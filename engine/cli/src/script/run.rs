//! A script with its data and its engine, made from one configuration.
use super::config::{LossConfig, ScriptConfig};
use super::inputs::{Inputs, output};
use super::loss::loss;
use super::repeats;
use std::path::{Path, PathBuf};
use tch::nn::VarStore;
use tch::{Device, Tensor};
use trainyard::script::{Script, safetensors_has};
use trainyard::{BoxError, Engine, Evaluation, Layers, Loss, Plan, Report};
use trainyard_data::{ArrayBatch, ArrayData, BatchShape, Error as DataError, TrainBatches};
use trainyard_examples::run::{Cadence, batch_shape, missing};

/// A TorchScript model about to be trained.
pub struct ScriptRun {
    engine: Engine<Script>,
    variables: VarStore,
    data: ArrayData,
    shape: BatchShape,
    inputs: Inputs,
    loss: LossConfig,
    cadence: Cadence,
    batches: TrainBatches<ArrayBatch>,
}

impl ScriptRun {
    /// Opens the data and loads the model with its engine on the device.
    ///
    /// # Errors
    /// The configuration, the data or the model is not as it should be, or they do not go together.
    pub fn new(plan: Plan, device: Device) -> Result<Self, BoxError> {
        let mut config: ScriptConfig = plan.section("script")?.unwrap_or_default();
        let at = |key: &str, message: String| plan.invalid(&format!("script.{key}"), message);
        config.loss.check().map_err(|(key, message)| at(&format!("loss.{key}"), message))?;
        plan.config().require_none(missing(plan.config()))?;
        let shape = batch_shape(&plan)?;
        let training = &plan.settings().training;
        let path: PathBuf = config.model.take().ok_or_else(|| {
            at("model", "model is not set: --model gives the TorchScript file".to_owned())
        })?;
        let arrays = config.data.take().filter(|data| data.folder.is_some()).ok_or_else(|| {
            at("data", "data.folder is not set: --data gives the folder of samples".to_owned())
        })?;
        let data = ArrayData::open(&arrays, training.seed).map_err(|error| match error {
            DataError::ArrayOption { key, .. } => {
                BoxError::from(at(&format!("data.{key}"), error.to_string()))
            }
            error => error.into(),
        })?;
        let plan = plan.with_steps_per_epoch(shape.steps_per_epoch(data.training_samples())?);
        let cadence = Cadence::new(&plan)?;
        tch::manual_seed(plan.settings().training.seed as i64);
        let (variables, layers) = (VarStore::new(device), Layers::new());
        let script = Script::load(
            &path,
            &variables,
            &layers,
            &plan.layer_patterns()?,
            repeats(config.repeated_layers),
        )?;
        say_what_is_left_out(&variables);
        let inputs = Inputs::new(script.inputs(), &config, &data.inputs())
            .map_err(|(key, message)| plan.invalid(&format!("script.{key}"), message))?;
        let engine = plan.engine(script, &variables, &layers)?;
        let batches = data.train_batches(shape, engine.attempts())?;
        let loss = config.loss;
        Ok(ScriptRun { engine, variables, data, shape, inputs, loss, cadence, batches })
    }
}

impl crate::train::Run for ScriptRun {
    fn total_steps(&self) -> u64 {
        self.cadence.total_steps()
    }

    fn completed_steps(&self) -> u64 {
        self.engine.completed_steps()
    }

    fn step(&mut self) -> Result<Report, BoxError> {
        let ended = "the batches ended before the training";
        let micro_batches = self.batches.next().ok_or(ended)??;
        let (inputs, loss, device) = (&self.inputs, &self.loss, self.variables.device());
        let report = self.engine.step(&micro_batches, |script, batch| {
            forward(script, batch, inputs, loss, (device, true))
        })?;
        self.cadence.after(&report)?;
        Ok(report)
    }

    fn evaluation_is_due(&self) -> bool {
        self.cadence.evaluation_is_due(self.engine.completed_steps())
    }

    fn evaluate(&mut self) -> Result<Evaluation, BoxError> {
        let batches = self.data.validation_batches(self.shape.micro_batch, self.shape.share)?;
        let (inputs, loss, device) = (&self.inputs, &self.loss, self.variables.device());
        let evaluation = self.engine.evaluate(batches, |script, batch| match batch {
            Ok(batch) => forward(script, batch, inputs, loss, (device, false)),
            Err(error) => Err(error.to_string().into()),
        })?;
        Ok(evaluation)
    }

    fn save(&self, folder: &Path) -> Result<Vec<&'static str>, BoxError> {
        // No file of numbers that are none takes the place of a better one.
        self.engine.check_finite()?;
        self.engine.model().save(&folder.join("model.pt"))?;
        let (new, path) = (folder.join("new.safetensors"), folder.join("model.safetensors"));
        let mut named: Vec<_> = self.variables.variables().into_iter().collect();
        named.retain(|(_, tensor)| safetensors_has(tensor.kind()));
        named.sort_by(|a, b| a.0.cmp(&b.0));
        // The format has no strides.
        named.iter_mut().for_each(|(_, tensor)| *tensor = tensor.detach().contiguous());
        let saved = Tensor::write_safetensors(&named, &new).map_err(BoxError::from);
        let saved = saved.and_then(|()| Ok(std::fs::rename(&new, &path)?));
        if let Err(error) = saved {
            std::fs::remove_file(&new).ok();
            return Err(format!("cannot write {}: {error}", path.display()).into());
        }
        Ok(vec!["model.pt", "model.safetensors"])
    }
}

/// Says which tensors model.safetensors will not have, before anything is trained.
fn say_what_is_left_out(variables: &VarStore) {
    let mut named: Vec<_> = variables.variables().into_iter().collect();
    named.retain(|(_, tensor)| !safetensors_has(tensor.kind()));
    named.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, tensor) in named {
        tracing::warn!(
            "`{name}` is {:?}, which safetensors has no type for: model.safetensors is written without it, and model.pt \
             with it",
            tensor.kind()
        );
    }
}

/// The loss of one micro-batch.
fn forward(
    script: &Script,
    batch: &ArrayBatch,
    inputs: &Inputs,
    config: &LossConfig,
    (device, train): (Device, bool),
) -> Result<Loss, BoxError> {
    let outputs = script.forward(&inputs.of(batch, device)?, train)?;
    let output = output(&outputs, &config.output)?;
    let labels = config.labels.as_deref().and_then(|name| batch.get(name));
    loss(config, output, labels, batch.samples)
}
