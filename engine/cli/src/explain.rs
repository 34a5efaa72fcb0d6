//! `trainyard explain`.
use crate::chart::{chart, samples};
use crate::input::{Overrides, Ranks, Sizes};
use crate::outline::{self, ASSUMED_LAYERS, Outlined, STEPS_PER_EPOCH, registry};
use crate::output::{Format, print, width, wrapped};
use crate::problems;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use trainyard::config::Note;
use trainyard::{BatchSizes, BoxError, Explanation};

/// Lines of a drawn curve.
const HEIGHT: usize = 8;
/// Steps shown of a run whose length is not known.
const SHOWN_STEPS: u64 = 1000;
/// Points of a curve in JSON.
const POINTS: usize = 101;

/// Show what a configuration does: what is on, in running order, and the curves over the run
///
/// The model is the example BERT of the `model` section's sizes; no data is read and nothing is
/// trained.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard explain run.json\n  \
    trainyard explain run.json --layers 24 --steps 100000\n  \
    trainyard explain run.json --set progressive_layer_drop.gamma=auto")]
pub struct Args {
    /// Configuration file
    file: PathBuf,
    /// How to print the plan
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    sizes: Sizes,
    #[command(flatten)]
    ranks: Ranks,
    #[command(flatten)]
    overrides: Overrides,
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    let mut overrides = args.overrides;
    args.sizes.lay_over(&mut overrides);
    let layers = overrides.read(&args.file)?;
    let mut known = Vec::new();
    let registry = args.ranks.fit(registry().assume(), &layers.clone().merge(), &mut known);
    let Outlined { plan, explained, notes: assumed } = Outlined::new(&registry, layers.clone())
        .map_err(|error| problems::complete(error, &registry, layers))?;
    let explained = explained?;
    let training = &plan.settings().training;
    known.extend(plan.notes().iter().cloned());
    let messages = |notes: Vec<Note>| notes.into_iter().map(|note| note.message).collect();
    let mut notes: Vec<String> = messages(known);
    notes.extend(assumed);
    if outline::is_script(&plan) {
        notes.push(format!(
            "the script is not read: each pattern is taken to name {ASSUMED_LAYERS} layers, and patterns \
             on parameter names are not checked; `trainyard inspect` shows what it has"
        ));
    } else if plan.config().value().get("model").is_none() {
        let layers = outline::model(&plan)?.layers;
        notes.push(format!(
            "the file has no `model` section: the model is taken to be the example BERT of {layers} \
             layers, and patterns on parameter names are not checked"
        ));
    }
    match (training.total_steps, training.epochs) {
        (None, Some(epochs)) => notes.push(format!(
            "the data is not read: each of the {epochs} epochs is taken to have {STEPS_PER_EPOCH} \
             steps; --steps sets the run's length"
        )),
        (None, None) => notes.push(format!(
            "the file does not set the run's length: the curves show the first {SHOWN_STEPS} steps; \
             --steps sets it"
        )),
        _ => {}
    }
    let shown = Shown {
        file: args.file.display().to_string(),
        explained,
        sizes: plan.batch_sizes(plan.ranks())?,
        ranks: plan.ranks(),
        notes,
        left_out: messages(plan.left_out()),
    };
    print(&match args.format {
        Format::Human => shown.text(width()),
        Format::Json => serde_json::to_string_pretty(&shown.json())? + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A plan to be shown.
struct Shown {
    file: String,
    explained: Explanation,
    sizes: Option<BatchSizes>,
    ranks: u64,
    notes: Vec<String>,
    /// On keys that are not there.
    left_out: Vec<String>,
}

impl Shown {
    /// The last step that curves show.
    fn last(&self) -> u64 {
        self.explained.total_steps.unwrap_or(SHOWN_STEPS).saturating_sub(1)
    }

    fn text(&self, width: usize) -> String {
        let length = match self.explained.total_steps {
            Some(1) => "1 step".to_owned(),
            Some(steps) => format!("{steps} steps"),
            None => "not known".to_owned(),
        };
        let batch = self.sizes.map_or(
            "not set".to_owned(),
            |BatchSizes { train, micro_batch, accumulation }| {
                format!(
                    "{train} = micro-batch {micro_batch} x accumulation {accumulation} x {} rank{}",
                    self.ranks,
                    if self.ranks == 1 { "" } else { "s" },
                )
            },
        );
        let mut rows = self.explained.lines.clone();
        rows.push(("batch".to_owned(), batch));
        rows.push(("length".to_owned(), length));
        rows.extend(self.notes.iter().map(|note| ("note".to_owned(), note.clone())));
        rows.extend(self.left_out.iter().map(|note| ("left out".to_owned(), note.clone())));
        let indent = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
        let mut text = format!("{}\n\n", self.file);
        let mut above = "";
        for (name, line) in &rows {
            // A section with several lines is named once.
            let name = if name == above {
                ""
            } else {
                above = name;
                name
            };
            text += &format!("{name:indent$}{}\n", wrapped(line, indent, width));
        }
        for curve in &self.explained.curves {
            let drawn = chart(|step| curve.value.at(step), self.last(), width, HEIGHT);
            text += &format!("\n{}\n{drawn}", curve.name);
        }
        text
    }

    fn json(&self) -> Value {
        let lines = self.explained.lines.iter();
        let lines = lines.map(|(section, text)| json!({ "section": section, "text": text }));
        let curves = self.explained.curves.iter().map(|curve| {
            let mut points: Vec<_> =
                samples(|step| curve.value.at(step), self.last(), POINTS).collect();
            points.dedup_by_key(|(step, _)| *step);
            json!({ "name": curve.name, "points": points })
        });
        let batch = self.sizes.map(|BatchSizes { train, micro_batch, accumulation }| {
            json!({
                "train": train,
                "micro_batch": micro_batch,
                "accumulation": accumulation,
                "world_size": self.ranks,
            })
        });
        json!({
            "file": self.file,
            "lines": lines.collect::<Vec<_>>(),
            "batch": batch,
            "total_steps": self.explained.total_steps,
            "curves": curves.collect::<Vec<_>>(),
            "notes": self.notes,
            "left_out": self.left_out,
        })
    }
}
