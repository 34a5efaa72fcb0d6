//! The pre-training of a BERT on a text, made from one configuration: what the programs that train it share.
//! Nothing here prints.
use crate::{Bert, BertConfig, huggingface};
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tch::Device;
use tch::nn::VarStore;
use trainyard::{Layers, Loss, Plan, Registry, panic_message};
use trainyard_checkpoint::{InitFrom, InitOptions, Offers, Wanted, load};
use trainyard_data::{DataConfig, MlmBatch, MlmData, Tokenizer};
use trainyard_run::{Run, RunError, Weights, check_fits, check_state, missing, with_data};

/// All plugins, and the sections that these programs read themselves: `model`, `data` and `init_from`.
pub fn registry() -> Registry {
    trainyard_plugins::registry()
        .section::<BertConfig>("model")
        .section::<DataConfig>("data")
        .section::<InitFrom>("init_from")
}

/// A file that comes with the examples: `data/sotu.txt.zst`, `demo.json`.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// A BERT that is trained on masked language modelling.
pub type BertRun = Run<Bert, MlmData>;

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
    let tokens = match config.tokenizer {
        Some(own) => own.vocabulary_size,
        None => {
            let vocabulary = || shipped("data/bert-base-uncased-vocab.txt");
            let vocabulary = config.vocabulary.get_or_insert_with(vocabulary);
            Tokenizer::from_vocabulary(vocabulary)?.vocabulary_size()
        }
    };
    check_vocabulary(plan, tokens)?;
    start_threads()?;
    Ok(MlmData::open(&config, training.seed)?)
}

/// Starts the threads that tokenise, which otherwise start when they are needed, and panic where they cannot.
fn start_threads() -> Result<(), RunError> {
    match rayon::ThreadPoolBuilder::new().build_global() {
        Err(error) => match error.source() {
            Some(why) => {
                Err(RunError::Other(format!("cannot start the threads that tokenise: {why}")))
            }
            // They have started before.
            None => Ok(()),
        },
        Ok(()) => Ok(()),
    }
}

/// Makes the model on the device, with weights that follow from the seed, and its engine: a run that is still to be
/// told who observes it and where it writes.
///
/// # Errors
/// If the sizes do not fit one another, the batch size, the length of the run or the optimizer is
/// missing, the data has less than one batch, memory does not suffice, or the weights to begin with are not the
/// model's.
pub fn run(plan: Plan, data: MlmData, device: Device) -> Result<BertRun, RunError> {
    let config = model_config(&plan)?;
    check_vocabulary(&plan, data.vocabulary_size())?;
    let plan = with_data(plan, &data)?;
    tch::manual_seed(plan.settings().training.seed as i64);
    let (variables, layers) = (VarStore::new(device), Layers::new());
    // The parameters are float32.
    let weights = config.numbers().saturating_mul(4);
    check_fits(&plan, device, "a model of these sizes", weights)?;
    let model = attempt(|| Bert::new(variables.root(), &config, &layers))?;
    let weights = Weights::of(&variables);
    if let Some(options) = init_from(&plan)? {
        let wanted = weights.tensors().iter().map(|(name, tensor)| Wanted::new(name, tensor));
        load(&options, offers(&options, &config, &data)?, &wanted.collect::<Vec<_>>())?;
    }
    let engine = plan.engine(model, &variables, &layers)?;
    check_state(&engine, &plan, device)?;
    let own = data.own_vocabulary();
    Ok(Run::new(plan, engine, data)?.saved(move |_, files| {
        weights.save(files)?;
        if let Some(vocabulary) = &own {
            files.file("vocab.txt", &mut |to| Ok(to.write_all(vocabulary.as_bytes())?))?;
        }
        Ok(())
    }))
}

/// The loss of one micro-batch, in training or evaluation mode, computed on the device.
pub fn forward(device: Device) -> impl Fn(&Bert, &MlmBatch, bool) -> Loss + Copy {
    move |model, batch, train| {
        let MlmBatch { ids, positions, labels, count } = batch.to_device(device);
        Loss::mean(model.loss(&ids, &positions, &labels, train), count as u64)
    }
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

/// The weights that the training is to begin with, if a file has them.
///
/// # Errors
/// The section is not as it should be.
pub fn init_from(plan: &Plan) -> trainyard::Result<Option<InitOptions>> {
    Ok(plan.section::<InitFrom>("init_from")?.map(InitOptions::from))
}

/// What there is for the example BERT, in Hugging Face's layout too.
fn offers(
    options: &InitOptions,
    model: &BertConfig,
    data: &MlmData,
) -> trainyard_checkpoint::Result<Offers> {
    let at = &options.file;
    if !huggingface::is_one(at) {
        return Offers::open(at);
    }
    let offers = huggingface::open(at, model)?;
    // Another vocabulary's rows are those of other tokens.
    if options.names.get("tokens") != Some(&None) {
        huggingface::check_vocabulary(at, data.tokenizer())?;
    }
    Ok(offers)
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
    use tch::{Kind, Tensor};
    use trainyard::config::{self, Document, Source};

    #[test]
    fn what_libtorch_refuses_is_an_error() {
        let refused = attempt(|| Tensor::from_slice(&[1, 2, 3]).view([2, 2]));
        let message = refused.map(drop).map_err(|e| e.to_string()).expect_err("3 is not 2 x 2");
        assert!(message.starts_with("a model of these sizes cannot be made: "), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }

    #[test]
    fn what_training_adds_is_counted_until_it_is_there() {
        for (kind, slots) in [("SGD", 0), ("AdamW", 2)] {
            let text = format!(
                r#"{{ "train_batch_size": 1, "training": {{ "total_steps": 2 }},
                "optimizer": {{ "type": "{kind}", "params": {{ "lr": 0.1 }} }} }}"#
            );
            let document = Document::parse(Source::text("a.json", &text)).expect("it is JSON");
            let plan = registry().plan(config::Layers::new(document)).expect("a plan");
            let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
            let weight = variables.root().ones("w", &[10]);
            let mut engine = plan.engine(weight, &variables, &layers).expect("an engine");
            assert_eq!(engine.bytes_to_come(), 10 * 4 * (1 + slots), "{kind}");
            assert!(check_state(&engine, &plan, Device::Cpu).is_ok());
            engine.step(&[1], |w, _| Loss::mean(w.sum(Kind::Float), 1)).expect("a step");
            assert_eq!(engine.bytes_to_come(), 10 * 4, "{kind}");
        }
    }

    #[test]
    fn what_is_shipped_is_there() {
        for name in
            ["data/sotu.txt.zst", "data/bert-base-uncased-vocab.txt", "demo.json", "bert.json"]
        {
            assert!(shipped(name).is_file(), "{name}");
        }
    }
}
