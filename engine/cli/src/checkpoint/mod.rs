//! `trainyard checkpoint`: what is in checkpoints, whether they are whole, and their weights for others.
mod diff;
mod export;
mod list;
mod show;
mod source;
mod verify;

use crate::output::{Format, print};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard_checkpoint::{Checkpoint, RECORD, find, list as list_of};
use trainyard_run::failure::harmless;

/// Look at checkpoints, compare them, and take weights out of them
#[derive(clap::Args)]
#[command(
    after_help = "A folder of checkpoints may be named, or the output folder of a run, which has them in \
    `checkpoints`; where one checkpoint is asked for, that is its newest whole one.\n\n\
    Examples:\n  trainyard checkpoint ls runs/one\n  \
    trainyard checkpoint show runs/one/checkpoints/step-120\n  \
    trainyard checkpoint verify runs/one\n  \
    trainyard checkpoint diff runs/one runs/two\n  \
    trainyard checkpoint export runs/one --output weights"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Ls(list::Args),
    Show(show::Args),
    Verify(verify::Args),
    Diff(diff::Args),
    Export(export::Args),
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    match args.what {
        What::Ls(args) => list::run(args),
        What::Show(args) => show::run(args),
        What::Verify(args) => verify::run(args),
        What::Diff(args) => diff::run(args),
        What::Export(args) => export::run(args),
    }
}

/// Where a run's output folder has its checkpoints.
const FOLDER: &str = "checkpoints";

/// The folder of checkpoints that `path` means: itself, or within a run's output folder.
///
/// # Errors
/// It is no folder, or cannot be read.
fn folder(path: &Path) -> Result<PathBuf, BoxError> {
    let cannot = |error| format!("cannot read {}: {error}", path.display());
    if !std::fs::metadata(path).map_err(cannot)?.is_dir() {
        return Err(format!(
            "{} is no folder: name a checkpoint, which is one, a folder of them, or the output folder of a run",
            path.display()
        )
        .into());
    }
    let within = path.join(FOLDER);
    let in_run = within.is_dir() && list_of(path)?.is_empty();
    Ok(if in_run { within } else { path.to_owned() })
}

/// The checkpoint at `path`, or the newest whole one of the folder that it means. Its files are there; what they hold
/// is compared with what was written where `path` is a folder of several.
///
/// # Errors
/// There is none.
fn one(path: &Path) -> Result<Checkpoint, BoxError> {
    if is_one(path) {
        return Ok(Checkpoint::open(path)?);
    }
    let folder = folder(path)?;
    if list_of(&folder)?.is_empty() {
        return Err(none(path).into());
    }
    let (checkpoint, broken) = find(&folder)?;
    broken.iter().for_each(|error| tracing::warn!("{error}"));
    Ok(checkpoint)
}

/// Whether `path` is to be a checkpoint itself. One that lacks its record has other files of one, and says so.
fn is_one(path: &Path) -> bool {
    [RECORD, "state.json"].iter().any(|name| path.join(name).is_file())
}

/// Runs that are named at most.
const NAMED: usize = 3;

/// What is said of a folder without checkpoints: which folders in it have some, or how they come to be there.
fn none(path: &Path) -> String {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut runs: Vec<_> = entries.map(|entry| entry.path()).collect();
    runs.retain(|run| list_of(&run.join(FOLDER)).is_ok_and(|found| !found.is_empty()));
    runs.sort();
    let named: Vec<_> = runs.iter().take(NAMED).map(|run| run.display().to_string()).collect();
    let remedy = match (named.as_slice(), runs.len().saturating_sub(NAMED)) {
        ([], _) => {
            r#"a run keeps some with "checkpoint": { "every_steps": 100 } in its configuration"#
                .to_owned()
        }
        ([only], _) => format!("{only} has some"),
        (some, 0) => format!("{} have some", some.join(", ")),
        (some, more) => format!("{} and {more} more have some", some.join(", ")),
    };
    format!("{} has no checkpoints; {remedy}", path.display())
}

/// Prints what was found. A text may come from anybody's checkpoint.
fn tell(format: Format, text: impl FnOnce() -> String, json: &Value) -> Result<(), BoxError> {
    Ok(print(&match format {
        Format::Human => harmless(&text()),
        Format::Json => serde_json::to_string_pretty(json)? + "\n",
    })?)
}

/// The folder's own name.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Rows in columns, two spaces apart; the first is the heading, and columns of numbers are to the right.
fn table(rows: &[Vec<String>], numbers: &[usize]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if numbers.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
