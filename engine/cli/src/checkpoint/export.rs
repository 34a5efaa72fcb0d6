//! `trainyard checkpoint export`.
use super::one;
use crate::output::print;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard_checkpoint::{Checkpoint, MODEL, RECORD};
use trainyard_run::replace;

/// Take the weights out of a checkpoint, for others to read
///
/// `plain` writes model.safetensors, with the names that the model has here, and configuration.json, with
/// which it was trained. Every file of the checkpoint is compared with what was written first.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard checkpoint export runs/one --output weights\n  \
    trainyard checkpoint export runs/one/checkpoints/step-120 --output weights --overwrite")]
pub struct Args {
    /// Checkpoint, or a folder of them, whose newest is taken
    checkpoint: PathBuf,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    overwrite: bool,
}

/// Files of the plain layout.
const CONFIGURATION: &str = "configuration.json";

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    let checkpoint = one(&args.checkpoint)?;
    checkpoint.verify()?;
    let names = [CONFIGURATION, MODEL];
    check_output(&args, &names)?;
    fs::create_dir_all(&args.output)
        .map_err(|error| format!("cannot write {}: {error}", args.output.display()))?;
    plain(&checkpoint, &args.output)?;
    let (step, output) = (checkpoint.state().step, args.output.display());
    print(&format!("the weights of step {step} are in {output}: {}\n", names.join(", ")))?;
    Ok(ExitCode::SUCCESS)
}

/// That nothing is lost by writing to the folder.
fn check_output(args: &Args, names: &[&str]) -> Result<(), BoxError> {
    let (folder, output) = (&args.output, args.output.display());
    if folder.join(RECORD).symlink_metadata().is_ok() {
        return Err(format!("{output} is a checkpoint: name another folder with --output").into());
    }
    let there = names.iter().copied().filter(|name| folder.join(name).symlink_metadata().is_ok());
    let there: Vec<_> = there.collect();
    if !there.is_empty() && !args.overwrite {
        let there = there.join(", ");
        return Err(format!(
            "{output} has {there}: name another folder with --output, or replace them with --overwrite"
        )
        .into());
    }
    Ok(())
}

fn plain(checkpoint: &Checkpoint, output: &Path) -> Result<(), BoxError> {
    let configuration = checkpoint.configuration()?;
    replace(&output.join(CONFIGURATION), &mut |to| Ok(writeln!(to, "{configuration:#}")?))?;
    // Last, for it is what others look for.
    let from = checkpoint.path().join(MODEL);
    replace(&output.join(MODEL), &mut |to| {
        let mut file = File::open(&from)?;
        io::copy(&mut file, to)?;
        Ok(())
    })?;
    Ok(())
}
