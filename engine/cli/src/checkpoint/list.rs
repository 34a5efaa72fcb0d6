//! `trainyard checkpoint ls`.
use super::{folder, none, table, tell};
use crate::output::{Format, grouped};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use trainyard::BoxError;
use trainyard_checkpoint::{Checkpoint, Found, State};

/// List the checkpoints of a folder, the newest last
///
/// Names and sizes of their files are looked at. Whether every byte is what was written is for `verify`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard checkpoint ls runs/one\n  \
    trainyard checkpoint ls runs/one/checkpoints --format json")]
pub struct Args {
    /// Folder of checkpoints, or the output folder of a run
    folder: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    let folder = folder(&args.folder)?;
    let found = trainyard_checkpoint::list(&folder)?;
    let marks = Marks::of(&found);
    let rows: Vec<_> = found.iter().map(|found| as_json(found, &marks)).collect();
    let text = || {
        let shown = folder.display();
        match found.is_empty() {
            true => none(&args.folder) + "\n",
            false => format!("{shown}\n\n{}", text(&found, &marks)),
        }
    };
    tell(args.format, text, &Value::Array(rows))?;
    Ok(ExitCode::SUCCESS)
}

/// Names of the checkpoint that a run goes on from, and of the one with the least validation loss.
struct Marks<'a> {
    newest: Option<&'a str>,
    best: Option<&'a str>,
}

impl<'a> Marks<'a> {
    fn of(found: &'a [Found]) -> Self {
        let whole: Vec<(&str, &State)> = found
            .iter()
            .filter_map(|found| Some((found.name(), found.outcome.as_ref().ok()?.state())))
            .collect();
        let losses = whole.iter().filter_map(|(name, state)| Some((*name, state.validation_loss?)));
        let losses = losses.filter(|(_, loss)| !loss.is_nan());
        Marks {
            newest: whole.last().map(|(name, _)| *name),
            best: losses.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name),
        }
    }

    fn is(&self, name: &str) -> (bool, bool) {
        (self.newest == Some(name), self.best == Some(name))
    }
}

const HEADING: [&str; 7] = ["name", "step", "attempt", "written", "validation loss", "bytes", ""];

fn text(found: &[Found], marks: &Marks<'_>) -> String {
    let mut rows = vec![HEADING.map(str::to_owned).to_vec()];
    let mut broken = String::new();
    for found in found {
        match &found.outcome {
            Ok(checkpoint) => {
                let state = checkpoint.state();
                let loss =
                    state.validation_loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
                let (newest, best) = marks.is(found.name());
                let of = [(newest, "newest"), (best, "best")].into_iter();
                let marked: Vec<_> = of.filter(|(is, _)| *is).map(|(_, word)| word).collect();
                rows.push(vec![
                    found.name().to_owned(),
                    state.step.to_string(),
                    state.attempt.to_string(),
                    state.written.get(..19).unwrap_or(&state.written).replace('T', " "),
                    loss,
                    grouped(bytes(checkpoint)),
                    marked.join(", "),
                ]);
            }
            Err(error) => broken += &format!("{error}\n"),
        }
    }
    let whole = if rows.len() > 1 { table(&rows, &[1, 2, 4, 5]) } else { String::new() };
    let between = if whole.is_empty() || broken.is_empty() { "" } else { "\n" };
    format!("{whole}{between}{broken}")
}

fn as_json(found: &Found, marks: &Marks<'_>) -> Value {
    let name = found.name();
    match &found.outcome {
        Ok(checkpoint) => {
            let state = checkpoint.state();
            let (newest, best) = marks.is(name);
            json!({
                "name": name, "path": found.path.display().to_string(), "whole": true,
                "step": state.step, "attempt": state.attempt, "world_size": state.world_size,
                "written": state.written, "validation_loss": state.validation_loss,
                "bytes": bytes(checkpoint), "newest": newest, "best": best,
            })
        }
        Err(error) => json!({
            "name": name, "path": found.path.display().to_string(), "whole": false, "why": error.to_string(),
        }),
    }
}

fn bytes(checkpoint: &Checkpoint) -> u64 {
    checkpoint.files().map(|(_, bytes)| bytes).fold(0, u64::saturating_add)
}
