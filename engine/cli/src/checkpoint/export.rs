//! `trainyard checkpoint export`.
use super::source::Source;
use crate::output::print;
use serde_json::Value;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard_checkpoint::{MODEL, RECORD, TensorFile};
use trainyard_data::DataConfig;
use trainyard_models::pretraining::shipped;
use trainyard_models::{BertConfig, huggingface};
use trainyard_run::{Content, Files, RunError, replace};

/// Take the weights out of a checkpoint, for others to read
///
/// Every file of the checkpoint is compared with what was written first. Of a run without checkpoints the weights that
/// it wrote at its end are taken.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard checkpoint export runs/one --output weights\n  \
    trainyard checkpoint export runs/one/checkpoints/step-120 --output weights --overwrite\n  \
    trainyard checkpoint export runs/one --output my-bert --format huggingface")]
pub struct Args {
    /// Checkpoint, or a folder of them, whose newest is taken, or the output folder of a run
    checkpoint: PathBuf,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Which files are written
    #[arg(long, value_enum, default_value_t)]
    format: Layout,
    /// Vocabulary for `huggingface`, one token a line; if left out, the one with which the run was trained
    #[arg(long, value_name = "FILE")]
    vocabulary: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long)]
    overwrite: bool,
}

/// Which files are written.
#[derive(Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Layout {
    /// model.safetensors with the names that the model has here, and configuration.json
    #[default]
    Plain,
    /// For the example BERT: config.json, model.safetensors, vocab.txt and tokenizer_config.json, as
    /// `transformers` reads them
    Huggingface,
}

/// What `plain` writes.
const CONFIGURATION: &str = "configuration.json";
const PLAIN: &[&str] = &[CONFIGURATION, MODEL];

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    if args.vocabulary.is_some() && args.format != Layout::Huggingface {
        return Err("--vocabulary is for --format huggingface: plain writes none".into());
    }
    let source = Source::find(&args.checkpoint)?;
    let names = match args.format {
        Layout::Plain => PLAIN,
        Layout::Huggingface => huggingface::FILES,
    };
    check_output(&args, names)?;
    // Whatever is wrong with it is told before the folder is made.
    let export = match args.format {
        Layout::Plain => None,
        Layout::Huggingface => Some(hugging_face(&args, &source)?),
    };
    fs::create_dir_all(&args.output)
        .map_err(|error| format!("cannot write {}: {error}", args.output.display()))?;
    let mut files = To(&args.output);
    match export {
        Some(export) => export.write(&mut files)?,
        None => plain(&source, &mut files)?,
    }
    let (step, output) = (source.step, args.output.display());
    print(&format!("the weights of step {step} are in {output}: {}\n", names.join(", ")))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes each file whole or not at all.
struct To<'a>(&'a Path);

impl Files for To<'_> {
    fn file(&mut self, name: &'static str, content: &mut Content<'_>) -> Result<(), RunError> {
        replace(&self.0.join(name), content).map(drop)
    }
}

/// That nothing is lost by writing to the folder.
fn check_output(args: &Args, names: &[&str]) -> Result<(), BoxError> {
    let (folder, output) = (&args.output, args.output.display());
    let has = |name: &str| folder.join(name).symlink_metadata().is_ok();
    for (name, what) in [(RECORD, "a checkpoint"), ("summary.json", "the output folder of a run")] {
        if has(name) {
            return Err(format!("{output} is {what}: name another folder with --output").into());
        }
    }
    let there: Vec<_> = names.iter().copied().filter(|name| has(name)).collect();
    if !there.is_empty() && !args.overwrite {
        let there = there.join(", ");
        return Err(format!(
            "{output} has {there}: name another folder with --output, or replace them with --overwrite"
        )
        .into());
    }
    Ok(())
}

fn plain(source: &Source, files: &mut dyn Files) -> Result<(), BoxError> {
    files.file(CONFIGURATION, &mut |to| Ok(writeln!(to, "{:#}", source.configuration)?))?;
    // Last, for it is what others look for.
    files.file(MODEL, &mut |to| {
        let mut file = File::open(&source.weights)?;
        io::copy(&mut file, to)?;
        Ok(())
    })?;
    Ok(())
}

fn hugging_face(args: &Args, source: &Source) -> Result<huggingface::Export, BoxError> {
    let configuration = &source.configuration;
    if configuration.get("script").is_some_and(|script| !script.is_null()) {
        let message = "the weights are those of a model from PyTorch: --format huggingface is for the example BERT; \
             plain has the names of the model's state_dict";
        return Err(message.into());
    }
    let model: BertConfig = section(configuration, "model")?;
    let weights = TensorFile::open(&source.weights)?;
    let vocabulary = match &args.vocabulary {
        Some(given) => given.clone(),
        None => vocabulary(source)?,
    };
    huggingface::Export::new(&model, &weights, &vocabulary)
}

/// The vocabulary with which a run was trained.
fn vocabulary(source: &Source) -> Result<PathBuf, BoxError> {
    let data: DataConfig = section(&source.configuration, "data")?;
    let Some(trained) = data.tokenizer else {
        return Ok(data.vocabulary.unwrap_or_else(|| shipped("data/bert-base-uncased-vocab.txt")));
    };
    let own = source.run.as_ref().map(|run| run.join("vocab.txt")).filter(|path| path.is_file());
    own.ok_or_else(|| {
        format!(
            "the vocabulary of {} tokens was trained on the text, and the run has not written its vocab.txt, which comes \
             at its end: name the file with --vocabulary",
            trained.vocabulary_size
        )
        .into()
    })
}

/// A section of a configuration; the defaults where it has none.
fn section<T: Default + serde::de::DeserializeOwned>(
    configuration: &Value,
    name: &str,
) -> Result<T, BoxError> {
    match configuration.get(name) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => serde_json::from_value(value.clone()).map_err(|error| {
            format!("its configuration's section `{name}` is not read: {error}").into()
        }),
    }
}
