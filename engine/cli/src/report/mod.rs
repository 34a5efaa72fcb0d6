//! `trainyard report`.
mod cards;
mod curves;
mod html;
mod markdown;
mod read;
mod tables;

use crate::output::print;
use curves::{Panel, panels, points};
use read::Run;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tables::Table;
use trainyard::BoxError;
use trainyard_run::replace;

/// Show what one or several runs came to, as a page to look at or to send
#[derive(clap::Args)]
#[command(
    after_help = "The page is one file that loads nothing. Runs that were killed or are under way are shown as far \
    as they came.\n\n\
    Examples:\n  trainyard report runs/one\n  \
    trainyard report runs/one runs/two --output both.html\n  \
    trainyard report runs/one --format md"
)]
pub struct Args {
    /// Folders of runs, as `trainyard train` writes them
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The file [default: report.html; for md and json the standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What it is written as
    #[arg(long, value_name = "FORMAT", default_value = "html")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A page with curves
    Html,
    /// Tables in Markdown, for a pull request
    Md,
    /// Everything, for programs
    Json,
}

/// Points of a curve in JSON.
const ALL: usize = usize::MAX;

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    let report = Report::read(&args.runs)?;
    let text = match args.format {
        Format::Html => html::page(&report),
        Format::Md => markdown::text(&report),
        Format::Json => serde_json::to_string_pretty(&report.json())? + "\n",
    };
    let default = (args.format == Format::Html).then(|| PathBuf::from("report.html"));
    match args.output.or(default) {
        Some(path) => {
            replace(&path, &mut |to| Ok(to.write_all(text.as_bytes())?))?;
            print(&format!("{}\n", path.display()))?;
        }
        None => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is shown.
struct Report {
    runs: Vec<Run>,
    panels: Vec<Panel>,
    tables: Vec<Table>,
}

impl Report {
    fn read(folders: &[PathBuf]) -> Result<Self, BoxError> {
        let mut runs =
            folders.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>, _>>()?;
        name_apart(&mut runs, folders);
        let (panels, tables) = (panels(&runs), tables::tables(&runs));
        Ok(Report { runs, panels, tables })
    }

    /// In one line.
    fn lead(&self) -> String {
        match &self.runs[..] {
            [run] => format!("Training run, {}", run.state()),
            runs => format!("{} training runs", runs.len()),
        }
    }

    /// The curves, of at most so many points each.
    fn data(&self, most: usize) -> Value {
        let keys: BTreeSet<_> =
            self.panels.iter().flat_map(|panel| &panel.series).map(|s| s.key.as_str()).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let runs = self.runs.iter().map(|run| {
            let tokens = tokens_of_a_sample(run);
            let marks = run.marks.iter().take(most.min(1000)).map(|mark| {
                json!({
                    "step": mark.step,
                    "seconds": curves::short(mark.elapsed),
                    "samples": curves::short(mark.samples),
                    "tokens": tokens.map(|tokens| curves::short(mark.samples * tokens)),
                    "text": mark.text.chars().take(200).collect::<String>(),
                })
            });
            json!({
                "name": run.name,
                "steps": points(&run.steps, &keys, tokens, most),
                "evaluations": points(&run.evaluations, &keys, tokens, most),
                "marks": marks.collect::<Vec<_>>(),
            })
        });
        let panels = self.panels.iter().map(|panel| {
            let series = panel.series.iter().map(|series| {
                json!({
                    "key": series.key,
                    "label": series.label,
                    "evaluated": series.evaluated,
                    "noisy": series.noisy,
                })
            });
            json!({ "title": panel.title, "series": series.collect::<Vec<_>>() })
        });
        json!({ "runs": runs.collect::<Vec<_>>(), "panels": panels.collect::<Vec<_>>() })
    }

    /// Everything.
    fn json(&self) -> Value {
        let mut data = self.data(ALL);
        for (run, of) in self.runs.iter().zip(data["runs"].as_array_mut().into_iter().flatten()) {
            of["ended"] = run.state().into();
            of["summary"] = run.summary.clone();
            of["seconds"] = json!({
                "steps": run.time.steps,
                "evaluations": run.time.evaluations,
                "total": run.time.total,
            });
        }
        data
    }
}

/// Runs whose folders have one name are told apart by their paths.
fn name_apart(runs: &mut [Run], folders: &[PathBuf]) {
    let names: Vec<_> = runs.iter().map(|run| run.name.clone()).collect();
    for (run, folder) in runs.iter_mut().zip(folders) {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            run.name = Path::display(folder).to_string();
        }
        run.name = run.name.chars().take(200).collect();
    }
}

/// Tokens of a sample, where it is a text of a length that the configuration says.
fn tokens_of_a_sample(run: &Run) -> Option<f64> {
    let data = run.configuration()?.get("data")?;
    data.get("sequence_length")?.as_f64().filter(|length| *length > 0.0)
}
