//! `trainyard checkpoint show`.
use super::{one, table, tell};
use crate::output::{Format, grouped};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard_checkpoint::{Checkpoint, TensorFile};

/// Show what a checkpoint says of itself: its state, its files, their tensors, and the configuration
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard checkpoint show runs/one\n  \
    trainyard checkpoint show runs/one/checkpoints/step-120 --format json")]
pub struct Args {
    /// Checkpoint, or a folder of them, whose newest is taken
    checkpoint: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    let checkpoint = one(&args.checkpoint)?;
    let files = tensor_files(&checkpoint)?;
    let configuration = checkpoint.configuration()?;
    let json = as_json(&checkpoint, &files, &configuration);
    tell(args.format, || text(&checkpoint, &files, &configuration), &json)?;
    Ok(ExitCode::SUCCESS)
}

/// Files of tensors by name.
type Files = Vec<(String, TensorFile)>;

/// The headers of those of its files that have tensors.
pub fn tensor_files(checkpoint: &Checkpoint) -> Result<Files, BoxError> {
    let names = checkpoint.files().map(|(name, _)| name);
    let names = names.filter(|name| name.ends_with(".safetensors"));
    names
        .map(|name| Ok((name.to_owned(), TensorFile::open(&checkpoint.path().join(name))?)))
        .collect()
}

fn text(checkpoint: &Checkpoint, files: &Files, configuration: &Value) -> String {
    let state = checkpoint.state();
    let row = |name: &str, value: String| format!("{name:19}{value}\n");
    let plugins: Vec<_> = state.plugins.keys().map(String::as_str).collect();
    let mut text = format!("{}\n\n", checkpoint.path().display());
    text += &row("step", grouped(state.step));
    text += &row("attempt", grouped(state.attempt));
    text += &row("ranks", state.world_size.to_string());
    let loss = state.validation_loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
    text += &row("validation loss", loss);
    text += &row("written", format!("{} by Trainyard {}", state.written, state.trainyard));
    let updated = state.optimizer.updates.len();
    text += &row("optimizer", format!("{}, with {updated} parameters", state.optimizer.kind));
    let states = if plugins.is_empty() { "none".to_owned() } else { plugins.join(", ") };
    text += &row("states of plugins", states);
    text.push('\n');
    let sizes = checkpoint.files().map(|(name, bytes)| vec![name.to_owned(), grouped(bytes)]);
    let heading = vec!["file".to_owned(), "bytes".to_owned()];
    text += &table(&[heading].into_iter().chain(sizes).collect::<Vec<_>>(), &[1]);
    for (name, file) in files {
        let heading = vec![name.clone(), "type".to_owned(), "shape".to_owned()];
        let rows = file.tensors().map(|tensor| {
            vec![
                format!("  {}", tensor.name),
                format!("{:?}", tensor.dtype),
                format!("{:?}", tensor.shape),
            ]
        });
        text.push('\n');
        text += &table(&[heading].into_iter().chain(rows).collect::<Vec<_>>(), &[]);
    }
    text + &format!("\nconfiguration\n{configuration:#}\n")
}

fn as_json(checkpoint: &Checkpoint, files: &Files, configuration: &Value) -> Value {
    let state = checkpoint.state();
    let sizes: serde_json::Map<_, _> =
        checkpoint.files().map(|(name, bytes)| (name.to_owned(), json!(bytes))).collect();
    let tensors = |file: &TensorFile| -> serde_json::Map<String, Value> {
        let of = file.tensors().map(|tensor| {
            let about = json!({
                "type": format!("{:?}", tensor.dtype), "shape": tensor.shape, "bytes": tensor.bytes,
            });
            (tensor.name.to_owned(), about)
        });
        of.collect()
    };
    let tensors: serde_json::Map<_, _> =
        files.iter().map(|(name, file)| (name.clone(), Value::Object(tensors(file)))).collect();
    json!({
        "path": checkpoint.path().display().to_string(),
        "step": state.step, "attempt": state.attempt, "world_size": state.world_size,
        "written": state.written, "trainyard": state.trainyard,
        "validation_loss": state.validation_loss,
        "optimizer": { "kind": state.optimizer.kind, "updates": state.optimizer.updates },
        "plugins": state.plugins, "files": sizes, "tensors": tensors, "configuration": configuration,
    })
}
