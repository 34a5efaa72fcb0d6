//! A model with its data and its engine, made from one configuration.
use super::config::{LossConfig, ScriptConfig};
use super::culprit;
use super::inputs::{Inputs, output};
use super::loss::loss;
use super::model::{Model, Writer};
use super::repeats;
use std::path::PathBuf;
use tch::Device;
use tch::nn::VarStore;
use trainyard::{BoxError, Layers, Loss, Mismatch, Plan};
use trainyard_checkpoint::{Offers, load};
use trainyard_data::{ArrayBatch, ArrayData, Error as DataError};
use trainyard_models::pretraining::init_from;
use trainyard_run::{Run, check_state, missing, with_data};

/// Opens the data and loads the model with its engine on the device: a run, and what it trains by.
///
/// # Errors
/// The configuration, the data, the model or the weights to begin with are not as they should be, or do not go
/// together.
pub fn run(plan: Plan, device: Device) -> Result<(Run<Model, ArrayData>, Forward), BoxError> {
    let mut config: ScriptConfig = plan.section("script")?.unwrap_or_default();
    let at = |key: &str, message: String| plan.invalid(&format!("script.{key}"), message);
    config.loss.check().map_err(|(key, message)| at(&format!("loss.{key}"), message))?;
    plan.config().require_none(missing(plan.config()))?;
    let path: PathBuf = config
        .model
        .take()
        .ok_or_else(|| at("model", "model is not set: --model gives the file".to_owned()))?;
    let arrays = config.data.take().filter(|data| data.folder.is_some()).ok_or_else(|| {
        at("data", "data.folder is not set: --data gives the folder of samples".to_owned())
    })?;
    let seed = plan.settings().training.seed;
    let data = ArrayData::open(&arrays, seed).map_err(|error| match error {
        DataError::ArrayOption { key, .. } => {
            BoxError::from(at(&format!("data.{key}"), error.to_string()))
        }
        error => error.into(),
    })?;
    let plan = with_data(plan, &data)?;
    tch::manual_seed(seed as i64);
    let (variables, layers) = (VarStore::new(device), Layers::new());
    let model = Model::load(
        &path,
        &variables,
        &layers,
        &plan.layer_patterns(),
        repeats(config.repeated_layers),
    )?;
    let fed = data.inputs();
    let inputs = Inputs::new(model.inputs(), &config, &fed)
        .and_then(|inputs| culprit::check_labels(&config, &data, &fed).map(|()| inputs))
        .map_err(|(key, message)| plan.invalid(&format!("script.{key}"), message))?;
    let writer = Writer::new(&variables, &model)?;
    if let Some(options) = init_from(&plan)? {
        load(&options, Offers::open(&options.file)?, &writer.wanted(&model))?;
    }
    let plan = plan.with_fingerprint("model code", model.fingerprint(), Mismatch::Refuse);
    let engine = plan.engine(model, &variables, &layers)?;
    check_state(&engine, &plan, device)?;
    let forward = Forward { inputs, loss: config.loss, data: data.clone(), device };
    let run = Run::new(plan, engine, data)?.saved(move |model, files| writer.write(model, files));
    Ok((run, forward))
}

/// How the loss of a micro-batch is computed.
pub struct Forward {
    inputs: Inputs,
    loss: LossConfig,
    /// Names the number that a batch failed on.
    data: ArrayData,
    device: Device,
}

impl Forward {
    /// The loss of one micro-batch, in training or evaluation mode.
    ///
    /// # Errors
    /// The model's; the output is no loss.
    pub fn loss(&self, model: &Model, batch: &ArrayBatch, train: bool) -> Result<Loss, BoxError> {
        let Forward { inputs, loss: config, data, device } = self;
        let outputs = model.forward(&inputs.of(batch, *device)?, train);
        let outputs =
            outputs.map_err(|e| culprit::named(e.into(), data, batch, &inputs.sources()))?;
        let output = output(&outputs, &config.output)?;
        let name = config.labels.as_deref();
        let loss = loss(config, output, name.and_then(|name| batch.get(name)), batch.samples);
        loss.map_err(|error| culprit::named(error, data, batch, name.as_slice()))
    }
}
