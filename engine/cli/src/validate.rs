//! `trainyard validate`.
use crate::input::Overrides;
use crate::outline::{self, STEPS_PER_EPOCH, registry};
use crate::output::{Format, print};
use serde::Serialize;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainyard::config::{
    Checker, Config, ConfigError, Layers, Origin, Path as Place, Problem, ProblemKind,
};
use trainyard::{BoxError, Error};
use trainyard_examples::failure::{colours, underlined};

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
    #[command(flatten)]
    overrides: Overrides,
}

pub fn run(args: Args) -> Result<ExitCode, BoxError> {
    let checker = Checker::new(&registry().schema())?;
    let mut verdicts = Vec::new();
    for file in &args.files {
        let verdict = Verdict::of(file, &args.overrides, &checker);
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
struct Verdict {
    file: String,
    ok: bool,
    /// In the order of the file; what is not in it comes last.
    answers: Vec<Answer>,
    #[serde(skip)]
    error: Option<ConfigError>,
}

/// What is to say of one key.
#[derive(Serialize)]
struct Answer {
    kind: Kind,
    path: String,
    /// From 1; none for what does not stand in the file.
    line: Option<usize>,
    /// From 1, in characters.
    column: Option<usize>,
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Read, and it does what it says.
    Used,
    /// To be known.
    Noted,
    /// No one reads it.
    Unknown,
    /// It cannot be so.
    Invalid,
}

impl Verdict {
    fn of(file: &Path, overrides: &Overrides, checker: &Checker) -> Verdict {
        let (mut answers, error) = check(file, overrides, checker);
        answers.sort_by_key(|answer| {
            (answer.line.unwrap_or(usize::MAX), answer.column, answer.kind != Kind::Used)
        });
        Verdict { file: file.display().to_string(), ok: error.is_none(), answers, error }
    }

    fn text(&self) -> String {
        if let Some(error) = &self.error {
            return underlined(error, colours(&io::stdout()));
        }
        let noted = self.answers.iter().filter(|answer| answer.kind == Kind::Noted);
        let notes: String = noted.map(|answer| format!("; {}", answer.message)).collect();
        format!("{}: ok{notes}\n", self.file)
    }
}

/// The answers for one file, and what is wrong with it.
fn check(
    file: &Path,
    overrides: &Overrides,
    checker: &Checker,
) -> (Vec<Answer>, Option<ConfigError>) {
    let layers = match overrides.read(file) {
        Ok(layers) => layers,
        Err(error) => return (error.problems().iter().map(Answer::problem).collect(), Some(error)),
    };
    let config = layers.clone().merge();
    let (note, error) = match plan(layers, &config, checker) {
        Ok(note) => (note, None),
        Err(Error::Config(error)) => (None, Some(error)),
        Err(other) => (None, Some(config.problem("", other.to_string()).into())),
    };
    let problems = error.as_ref().map(ConfigError::problems).unwrap_or_default();
    let mut answers = used(&config, problems);
    answers.extend(problems.iter().map(Answer::problem));
    answers.extend(note.map(|message| Answer::at(Kind::Noted, "model", None, message)));
    (answers, error)
}

/// Checks the text, then what only the plan shows; gives what is to be noted.
fn plan(layers: Layers, config: &Config, checker: &Checker) -> Result<Option<String>, Error> {
    checker.verify(config)?;
    let plan = registry().plan(layers)?.with_steps_per_epoch(STEPS_PER_EPOCH);
    let explained = outline::explain(&plan);
    if config.value().get("model").is_some() {
        return explained.map(|_| None);
    }
    // Patterns are for a model that is not here.
    if let Err(Error::Config(error)) = explained {
        let mut problems = error.into_problems();
        let of_pattern = |path: &str| {
            path.starts_with("optimizer.groups[")
                && (path.ends_with(']') || path.contains(".match"))
                || PATTERNS.iter().any(|pattern| path.starts_with(pattern))
        };
        problems.retain(|problem| !of_pattern(&problem.path));
        config.require_none(problems)?;
    }
    Ok(Some("no model section, so patterns on layers and parameters were not matched".to_owned()))
}

/// Where patterns on the names of layers and of parameters stand.
const PATTERNS: [&str; 2] = ["progressive_layer_drop.layers", "optimizer.no_decay"];

/// An answer for each value that is not among the problems.
fn used(config: &Config, problems: &[Problem]) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut open = vec![(Place::default(), config.value())];
    while let Some((path, value)) = open.pop() {
        let text = path.to_string();
        if problems.iter().any(|problem| problem.path == text && !path.is_root()) {
            continue;
        }
        match value {
            Value::Object(keys) if path.is_root() || !keys.is_empty() => {
                open.extend(keys.iter().map(|(key, value)| (path.key(key), value)));
            }
            value => {
                let origin = config.origin(&path);
                let from = match &origin {
                    Some(Origin::Environment { variable }) => format!(" (from {variable})"),
                    Some(Origin::Override { .. }) => " (from --set)".to_owned(),
                    _ => String::new(),
                };
                let message = format!("{text} = {value}{from}");
                answers.push(Answer::at(Kind::Used, &text, origin.as_ref(), message));
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
        Answer { kind, path: path.to_owned(), line, column, message }
    }

    fn problem(problem: &Problem) -> Answer {
        let kind = match problem.kind {
            ProblemKind::Unknown => Kind::Unknown,
            _ => Kind::Invalid,
        };
        Answer::at(kind, &problem.path, problem.origin.as_ref(), problem.message.clone())
    }
}
