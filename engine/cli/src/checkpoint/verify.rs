//! `trainyard checkpoint verify`.
use super::{folder, is_one, name, none, tell};
use crate::output::{Format, grouped};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard_checkpoint::{Checkpoint, Error, Found, list};

/// Read every byte of checkpoints and compare it with what was written
///
/// The exit status is 1 if one is not whole, or there is none.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard checkpoint verify runs/one\n  \
    trainyard checkpoint verify runs/one/checkpoints/step-120")]
pub struct Args {
    /// Checkpoint, folder of checkpoints, or the output folder of a run
    folder: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    let found = if is_one(&args.folder) {
        vec![Found { path: args.folder.clone(), outcome: Checkpoint::open(&args.folder) }]
    } else {
        list(&folder(&args.folder)?)?
    };
    if found.is_empty() {
        return Err(none(&args.folder).into());
    }
    let verified = found.into_iter().map(|Found { path, outcome }| {
        let verified = outcome.and_then(|checkpoint| checkpoint.verify().map(|()| checkpoint));
        (name(&path), verified)
    });
    let verified: Vec<_> = verified.collect();
    let line = |(name, outcome): &(String, Result<Checkpoint, _>)| match outcome {
        Ok(checkpoint) => {
            let bytes = checkpoint.files().map(|(_, bytes)| bytes).fold(0, u64::saturating_add);
            let files = checkpoint.files().count();
            format!("{name}: whole, {} bytes in {files} files\n", grouped(bytes))
        }
        Err(Error::NotWhole { why, .. }) => format!("{name}: not whole: {why}\n"),
        Err(error) => format!("{name}: {error}\n"),
    };
    let as_json = |(name, outcome): &(String, Result<Checkpoint, Error>)| {
        json!({
            "name": name, "whole": outcome.is_ok(), "why": outcome.as_ref().err().map(ToString::to_string),
        })
    };
    let json = Value::Array(verified.iter().map(as_json).collect());
    tell(args.format, || verified.iter().map(line).collect(), &json)?;
    let whole = verified.iter().all(|(_, outcome)| outcome.is_ok());
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
