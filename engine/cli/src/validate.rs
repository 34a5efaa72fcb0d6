//! `trainyard validate`.
use crate::input::{Overrides, Ranks, Sizes};
use crate::notes;
use crate::outline::registry;
use crate::output::{Format, print};
use crate::problems;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use trainyard::config::{
    Config, ConfigError, Layers, Note, Origin, Path as Place, Problem, ProblemKind, Weight,
};
use trainyard::{BoxError, Registry};
use trainyard_run::failure::{colours, underlined};

/// Check configuration files; the exit status is 0 if all are fine and 1 if one is not
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  trainyard validate run.json\n  \
    trainyard validate configs/*.json --format json\n  \
    trainyard validate run.json --set progressive_layer_drop.theta=0.7")]
pub struct Args {
    /// Configuration files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to print the answers
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Make an error of every note, but for those on the number of ranks and on a model that is not read
    #[arg(long)]
    strict: bool,
    /// Show all notes, those on memory, speed and logging too
    #[arg(long)]
    all_notes: bool,
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
    if args.strict {
        overrides.push("strict", true);
    }
    let registry = registry().assume();
    let mut verdicts = Vec::new();
    for file in &args.files {
        let name = file.display().to_string();
        let verdict = Verdict::of(name, overrides.read(file), &registry, &args.ranks);
        match args.format {
            Format::Human => print(&verdict.text(args.all_notes))?,
            Format::Json => {}
        }
        verdicts.push(verdict);
    }
    if args.format == Format::Json {
        print(&(serde_json::to_string_pretty(&verdicts)? + "\n"))?;
    }
    match verdicts.iter().all(|verdict| verdict.ok) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

/// What is to say of one file.
#[derive(Serialize)]
pub struct Verdict {
    file: String,
    pub ok: bool,
    /// Whether it has all that training needs.
    complete: bool,
    /// In the order of the file; what is not in it comes last.
    pub answers: Vec<Answer>,
    #[serde(skip)]
    error: Option<ConfigError>,
}

/// What is to say of one key.
#[derive(Serialize)]
pub struct Answer {
    pub kind: Kind,
    pub path: String,
    /// From 1; none for what does not stand in the file.
    line: Option<usize>,
    /// From 1, in characters.
    column: Option<usize>,
    pub message: String,
    /// Whether it asks for nothing: a note that nobody needs to be told, and that is never an error.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// How much a note matters.
    #[serde(skip_serializing_if = "matters_little", serialize_with = "weight_in_words")]
    pub weight: Weight,
    /// The end of a note's message, which is the same for values that are alike.
    #[serde(skip)]
    pub says: String,
}

fn matters_little(weight: &Weight) -> bool {
    *weight == Weight::Little
}

fn weight_in_words<S: serde::Serializer>(weight: &Weight, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match weight {
        Weight::Missing => "missing",
        Weight::Result => "result",
        Weight::Little => "little",
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Read, and it does what it says.
    Used,
    /// To be known: it changes nothing, or something stands for it.
    Noted,
    /// Known and not supported.
    Refused,
    /// No one reads it.
    Unknown,
    /// It cannot be so.
    Invalid,
}

impl Verdict {
    /// On what was read, of a file of that name.
    pub fn of(
        file: String,
        layers: Result<Layers, ConfigError>,
        registry: &Registry,
        ranks: &Ranks,
    ) -> Verdict {
        let layers = match layers {
            Ok(layers) => layers,
            Err(error) => return Verdict::unreadable(file, error),
        };
        let mut notes = Vec::new();
        let registry = ranks.fit(registry.clone(), &layers.clone().merge(), &mut notes);
        let error = match problems::check(&registry, layers.clone(), &mut notes) {
            Ok(()) => None,
            Err(error) => {
                let error = problems::complete(error, &registry, layers.clone());
                Some(problems::of(&layers.clone().merge(), error))
            }
        };
        Verdict::on(file, layers, &registry, notes, error)
    }

    /// That nothing can be said of the file but this.
    pub fn unreadable(file: String, error: ConfigError) -> Verdict {
        let answers = error.problems().iter().map(Answer::problem).collect();
        Verdict { file, ok: false, complete: false, answers, error: Some(error) }
    }

    /// On what was found of a file: notes, and what is wrong with it.
    pub fn on(
        file: String,
        layers: Layers,
        registry: &Registry,
        mut notes: Vec<Note>,
        error: Option<ConfigError>,
    ) -> Verdict {
        let config = layers.clone().merge();
        let problems = error.as_ref().map(ConfigError::problems).unwrap_or_default();
        if error.is_some() {
            // A key's answer is the same whatever is wrong with others.
            let by = |note: &Note, problem: &Problem| {
                problem.path == note.path && problem.kind != ProblemKind::Refused
            };
            let told = |note: &Note| notes.contains(note) || problems.iter().any(|p| by(note, p));
            let known = registry.catalog().notes(layers).into_iter().filter(|note| !told(note));
            let known: Vec<_> = known.collect();
            notes.extend(known);
        }
        // Of what another program's file leaves out, what is not as there.
        if registry.catalog().is_foreign(&config) {
            let left_out = registry.catalog().left_out(&config).into_iter();
            notes.extend(left_out.filter(|note| note.weight == Weight::Result));
        }
        let idle = registry.catalog().idle(&config).iter().map(Place::to_string).collect();
        let mut answers = used(&config, problems, &notes, &idle);
        answers.extend(problems.iter().map(Answer::problem));
        answers.extend(notes.iter().map(Answer::note));
        answers.sort_by_key(|answer| {
            (answer.line.unwrap_or(usize::MAX), answer.column, answer.kind != Kind::Used)
        });
        let missing = |answer: &Answer| answer.weight == Weight::Missing;
        let complete = error.is_none() && !answers.iter().any(missing);
        Verdict { file, ok: error.is_none(), complete, answers, error }
    }

    /// What is wrong, with the places underlined, and the notes: all, or those that matter.
    fn text(&self, all: bool) -> String {
        let verdict = match &self.error {
            Some(error) => underlined(error, colours(&io::stdout())),
            None if self.complete => format!("{}: ok\n", self.file),
            None => format!("{}: incomplete\n", self.file),
        };
        verdict + &self.notes(all)
    }

    /// A line for each note, or for several that say the same, and how many matter little where not all are
    /// wanted.
    pub fn notes(&self, all: bool) -> String {
        let problems = self.error.iter().flat_map(ConfigError::problems);
        let problems: BTreeSet<_> = problems.map(|problem| problem.message.as_str()).collect();
        // A note that is an error is among those.
        let told = |answer: &&Answer| !problems.contains(answer.message.as_str());
        let (mut text, mut folded) = (String::new(), 0);
        for line in notes::lines(self.answers.iter().filter(told)) {
            let place =
                line.place.map_or(String::new(), |(line, column)| format!(" {line}:{column}"));
            match all || line.weight != Weight::Little {
                true => text += &format!("  {}{place}: {}\n", line.name(), line.text),
                false => folded += line.notes,
            }
        }
        let s = if folded == 1 { "" } else { "s" };
        if folded > 0 {
            text += &format!(
                "  {folded} more note{s}, on memory, speed, logging and spelling: --all-notes shows them\n"
            );
        }
        text
    }
}

/// An answer for each value that is not among the problems; those that are `idle` do nothing.
fn used(
    config: &Config,
    problems: &[Problem],
    notes: &[Note],
    idle: &BTreeSet<String>,
) -> Vec<Answer> {
    let mut told: BTreeSet<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    // A list is as good as what is in it.
    told.extend(
        problems
            .iter()
            .flat_map(|problem| problem.path.match_indices('[').map(|(at, _)| &problem.path[..at])),
    );
    let noted: BTreeSet<&str> = notes.iter().map(|note| note.path.as_str()).collect();
    let mut answers = Vec::new();
    let mut open = vec![(Place::default(), config.value())];
    while let Some((path, value)) = open.pop() {
        let text = path.to_string();
        if !path.is_root() && (told.contains(text.as_str()) || noted.contains(text.as_str())) {
            continue;
        }
        // What the params may be, the type decides.
        let decides = text.strip_suffix(".params").map(|section| format!("{section}.type"));
        let decides = decides.and_then(|path| problems.iter().find(|p| p.path == path));
        let wrong = |problem: &&Problem| {
            matches!(problem.kind, ProblemKind::Invalid | ProblemKind::Refused)
        };
        if let Some(Problem { path: by, .. }) = decides.filter(wrong) {
            let message = format!("{text}: not checked, since {by} is wrong");
            let answer = Answer::at(Kind::Noted, &text, config.origin(&path).as_ref(), message);
            answers.push(Answer { weight: Weight::Result, ..answer });
            continue;
        }
        let idle = idle.contains(&text);
        match value {
            Value::Object(keys) if path.is_root() || !keys.is_empty() && !idle => {
                open.extend(keys.iter().map(|(key, value)| (path.key(key), value)));
            }
            value => {
                let origin = config.origin(&path);
                let from = match &origin {
                    Some(Origin::Environment { variable }) => format!(" (from {variable})"),
                    Some(Origin::Override { .. }) => " (from --set)".to_owned(),
                    _ => String::new(),
                };
                let (kind, does) = match idle {
                    true => (Kind::Noted, " changes nothing here"),
                    false => (Kind::Used, ""),
                };
                let message = format!("{text} = {value}{does}{from}");
                let answer = Answer::at(kind, &text, origin.as_ref(), message);
                answers.push(Answer { idle, ..answer });
            }
        }
    }
    answers
}

impl Answer {
    fn at(kind: Kind, path: &str, origin: Option<&Origin>, message: String) -> Answer {
        let (line, column) = match origin {
            Some(Origin::File { line, column, .. }) => (Some(*line), Some(*column)),
            _ => (None, None),
        };
        let (weight, says) = (Weight::Little, message.clone());
        Answer { kind, path: path.to_owned(), line, column, message, idle: false, weight, says }
    }

    /// A note, as an answer.
    pub fn note(note: &Note) -> Answer {
        let message = note.message.clone();
        let answer = Answer::at(Kind::Noted, &note.path, note.origin.as_ref(), message);
        Answer { weight: note.weight, says: note.says.clone(), ..answer }
    }

    /// Line and column of a value of the file.
    pub fn place(&self) -> Option<(usize, usize)> {
        self.line.zip(self.column)
    }

    fn problem(problem: &Problem) -> Answer {
        let kind = match problem.kind {
            ProblemKind::Unknown => Kind::Unknown,
            ProblemKind::Refused => Kind::Refused,
            ProblemKind::Noted => Kind::Noted,
            _ => Kind::Invalid,
        };
        Answer::at(kind, &problem.path, problem.origin.as_ref(), problem.message.clone())
    }
}
