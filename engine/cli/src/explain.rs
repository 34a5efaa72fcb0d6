//! `trainyard explain`.
use crate::chart::{chart, samples};
use crate::input::{Overrides, Ranks, Sizes};
use crate::notes;
use crate::outline::{self, ASSUMED_LAYERS, Outlined, STEPS_PER_EPOCH, registry};
use crate::output::{Format, print, width, wrapped};
use crate::problems;
use crate::validate::{Answer, Verdict};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use trainyard::config::{Layers, Note, Path as Place};
use trainyard::{BatchSizes, BoxError, Error, Explanation, Registry};
use trainyard_models::pretraining::model_config;
use trainyard_run::failure::{failure, tell};

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
    let mut overrides = args.overrides.clone();
    args.sizes.lay_over(&mut overrides);
    let file = args.file.display().to_string();
    // To a program, what is wrong is told as `validate` does, too.
    let answered = |verdict: &Verdict| match args.format {
        Format::Human => Ok(()),
        Format::Json => print(&(serde_json::to_string_pretty(verdict)? + "\n")),
    };
    let layers = match overrides.read(&args.file) {
        Ok(layers) => layers,
        Err(error) => {
            answered(&Verdict::unreadable(file, error.clone()))?;
            return Err(error.into());
        }
    };
    let config = layers.clone().merge();
    let mut ranks = Vec::new();
    let registry = args.ranks.fit(registry().assume(), &config, &mut ranks);
    match shown(&registry, layers.clone(), ranks.clone()) {
        Ok(shown) => print(&match args.format {
            Format::Human => shown.text(&file, width()),
            Format::Json => serde_json::to_string_pretty(&shown.json(&file))? + "\n",
        })?,
        Err(error) => {
            let error = problems::of(&config, error);
            // Notes are noted whatever else is wrong; what that is, is told already.
            let _ = problems::check(&registry, layers.clone(), &mut ranks);
            let verdict = Verdict::on(file, layers, &registry, ranks, Some(error.clone()));
            answered(&verdict)?;
            failure(&error);
            tell(&verdict.notes(true));
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What there is to show of a configuration, with `notes` on the ranks.
fn shown(registry: &Registry, layers: Layers, mut notes: Vec<Note>) -> Result<Shown, Error> {
    let config = layers.clone().merge();
    let complete = |error| problems::complete(error, registry, layers.clone());
    let outlined = Outlined::new(registry, layers.clone()).map_err(complete)?;
    let assumed = outlined.assumed(&config)?;
    let Outlined { plan, explained, .. } = outlined;
    let explained = explained.map_err(complete)?;
    let training = &plan.settings().training;
    notes.extend(plan.notes().iter().cloned());
    notes.extend(assumed);
    let mut note = |text: &str| notes.push(config.note(&Place::default(), text));
    if outline::is_script(&plan) {
        note(&format!(
            "the script is not read: each pattern is taken to name {ASSUMED_LAYERS} layers, and patterns \
             on parameter names are not checked; `trainyard inspect` shows what it has"
        ));
    } else if outline::patterns_elsewhere(&plan)?.is_some() {
        note(&format!(
            "the file has no `model` section: each pattern is taken to name {ASSUMED_LAYERS} layers, and \
             patterns on parameter names are not checked"
        ));
    } else if plan.config().value().get("model").is_none() {
        let layers = model_config(&plan)?.layers;
        note(&format!(
            "the file has no `model` section: the model is taken to be the example BERT of {layers} \
             layers, and patterns on parameter names are not checked"
        ));
    }
    match (training.total_steps, training.epochs) {
        (None, Some(epochs)) => note(&format!(
            "the data is not read: each of the {epochs} epochs is taken to have {STEPS_PER_EPOCH} \
             steps; --steps sets the run's length"
        )),
        (None, None) => note(&format!(
            "the file does not set the run's length: the curves show the first {SHOWN_STEPS} steps; \
             --steps sets it"
        )),
        _ => {}
    }
    Ok(Shown {
        explained,
        sizes: plan.batch_sizes(plan.ranks())?,
        ranks: plan.ranks(),
        notes,
        left_out: plan.left_out(),
    })
}

/// A plan to be shown.
struct Shown {
    explained: Explanation,
    sizes: Option<BatchSizes>,
    ranks: u64,
    notes: Vec<Note>,
    /// On keys that are not there.
    left_out: Vec<Note>,
}

impl Shown {
    /// The last step that curves show.
    fn last(&self) -> u64 {
        self.explained.total_steps.unwrap_or(SHOWN_STEPS).saturating_sub(1)
    }

    fn text(&self, file: &str, width: usize) -> String {
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
        let answers: Vec<_> = self.notes.iter().map(Answer::note).collect();
        let lines = notes::lines(&answers).into_iter();
        rows.extend(lines.map(|line| (line.name().to_owned(), line.text)));
        let left_out = self.left_out.iter();
        rows.extend(left_out.map(|note| ("left out".to_owned(), note.message.clone())));
        let indent = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
        let mut text = format!("{file}\n\n");
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

    fn json(&self, file: &str) -> Value {
        let lines = self.explained.lines.iter();
        let lines = lines.map(|(section, text)| json!({ "section": section, "text": text }));
        let curves = self.explained.curves.iter().map(|curve| {
            let mut points: Vec<_> =
                samples(|step| curve.value.at(step), self.last(), POINTS).collect();
            points.dedup_by_key(|(step, _)| *step);
            json!({ "name": curve.name, "points": points })
        });
        let answers = |notes: &[Note]| notes.iter().map(Answer::note).collect::<Vec<_>>();
        let batch = self.sizes.map(|BatchSizes { train, micro_batch, accumulation }| {
            json!({
                "train": train,
                "micro_batch": micro_batch,
                "accumulation": accumulation,
                "world_size": self.ranks,
            })
        });
        json!({
            "file": file,
            "ok": true,
            "lines": lines.collect::<Vec<_>>(),
            "batch": batch,
            "total_steps": self.explained.total_steps,
            "curves": curves.collect::<Vec<_>>(),
            "notes": answers(&self.notes),
            "left_out": answers(&self.left_out),
        })
    }
}
