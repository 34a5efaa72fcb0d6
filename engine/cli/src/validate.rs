//! `trainyard validate`.
use crate::input::{Overrides, Ranks, Sizes};
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
    Config, ConfigError, Layers, Note, Origin, Path as Place, Problem, ProblemKind,
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
            Format::Human => print(&verdict.text())?,
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
    /// In the order of the file; what is not in it comes last.
    pub answers: Vec<Answer>,
    #[serde(skip)]
    error: Option<ConfigError>,
}

/// What is to say of one key.
#[derive(Serialize)]
pub struct Answer {
    pub kind: Kind,
    path: String,
    /// From 1; none for what does not stand in the file.
    line: Option<usize>,
    /// From 1, in characters.
    column: Option<usize>,
    pub message: String,
    /// Whether it asks for nothing: a note that nobody needs to be told, and that is never an error.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
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
        Verdict { file, ok: false, answers, error: Some(error) }
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
            let told = |note: &Note| {
                notes.contains(note) || problems.iter().any(|problem| problem.path == note.path)
            };
            let known = registry.notes(layers).into_iter().filter(|note| !told(note));
            let known: Vec<_> = known.collect();
            notes.extend(known);
        }
        let idle = registry.idle(&config).iter().map(Place::to_string).collect();
        let mut answers = used(&config, problems, &notes, &idle);
        answers.extend(problems.iter().map(Answer::problem));
        answers.extend(notes.iter().map(Answer::note));
        answers.sort_by_key(|answer| {
            (answer.line.unwrap_or(usize::MAX), answer.column, answer.kind != Kind::Used)
        });
        Verdict { file, ok: error.is_none(), answers, error }
    }

    /// What is wrong, with the places underlined, and the notes.
    fn text(&self) -> String {
        let verdict = match &self.error {
            Some(error) => underlined(error, colours(&io::stdout())),
            None => format!("{}: ok\n", self.file),
        };
        verdict + &self.notes()
    }

    /// A line for each note that is worth one.
    pub fn notes(&self) -> String {
        let mut text = String::new();
        for Answer { kind, line, column, message, .. } in self.answers.iter().filter(|a| !a.idle) {
            // A note that is an error is among those.
            let error = self.error.iter().flat_map(ConfigError::problems);
            match (kind, line.zip(*column)) {
                (Kind::Noted, _) if error.into_iter().any(|error| error.message == *message) => {}
                (Kind::Noted, Some((line, column))) => {
                    text += &format!("  note {line}:{column}: {message}\n");
                }
                (Kind::Noted, None) => text += &format!("  note: {message}\n"),
                _ => {}
            }
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
            let message = format!("{text}: what it may hold is for {by} to say, which is wrong");
            answers.push(Answer::at(Kind::Noted, &text, config.origin(&path).as_ref(), message));
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
                    true => (Kind::Noted, " asks for nothing"),
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
        Answer { kind, path: path.to_owned(), line, column, message, idle: false }
    }

    /// A note, as an answer.
    pub fn note(note: &Note) -> Answer {
        Answer::at(Kind::Noted, &note.path, note.origin.as_ref(), note.message.clone())
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
