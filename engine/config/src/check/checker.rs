//! A configuration against a JSON Schema: every problem at once, one sentence for each cause.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use jsonschema::error::{ValidationError, ValidationErrorKind};
use serde_json::Value;

use crate::check::branch::{Meant, meant};
use crate::check::expectation::{Choice, Kind, choices, known_keys, phrase};
use crate::check::places::places;
use crate::check::suggest::{Alias, did_you_mean, unknown_key};
use crate::layers::config::{Config, prefix};
use crate::problems::problem::{ConfigError, PRINTED_PROBLEMS, Problem, ProblemKind};
use crate::text::path::Path;
use crate::text::show::{clipped, kind_of, named, shown};

/// For how many misspelt words what they were meant to be is tried out.
const MEANT_WORDS: usize = 4;

/// A JSON Schema (draft 2020-12), compiled once to check any number of configurations.
#[derive(Debug)]
pub struct Checker {
    schema: Value,
    validator: jsonschema::Validator,
    /// Words that mean a key and are not spelt like it.
    also: Vec<Alias>,
    /// Where keys belong; made when the first unknown one is met.
    places: OnceLock<BTreeMap<String, BTreeSet<Path>>>,
}

/// The schema itself is at fault, not the configuration.
#[derive(Debug, thiserror::Error)]
#[error("the schema is not a JSON Schema of draft 2020-12: {0}")]
pub struct SchemaError(String);

/// [`Checker::new`] and [`Checker::check`] in one go.
///
/// # Errors
/// The schema is not a JSON Schema.
pub fn check(config: &Config, schema: &Value) -> Result<Vec<Problem>, SchemaError> {
    Ok(Checker::new(schema)?.check(config))
}

impl Checker {
    /// Compiles a schema.
    ///
    /// # Errors
    /// It is not a JSON Schema, or refers to one outside itself.
    pub fn new(schema: &Value) -> Result<Checker, SchemaError> {
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012);
        let validator = options.build(schema).map_err(|error| SchemaError(error.to_string()))?;
        Ok(Checker { schema: schema.clone(), validator, also: Vec::new(), places: OnceLock::new() })
    }

    /// The same, with words of other programs, each with the key that it means: that key is suggested where the
    /// word stands in its place.
    #[must_use]
    pub fn also(mut self, words: &[Alias]) -> Checker {
        self.also.extend_from_slice(words);
        self
    }

    /// The schema.
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// All that is wrong with a configuration, what was wrong with its text included, in the order
    /// of the text; what came from the environment or the command line is last.
    pub fn check(&self, config: &Config) -> Vec<Problem> {
        let problems = config.problems().to_vec();
        // What is known to be unreadable needs no second complaint about its value.
        let told: BTreeSet<_> =
            problems.iter().filter_map(|problem| Path::parse(&problem.path).ok()).collect();
        let mut findings = Findings {
            checker: self,
            root: &self.schema,
            config,
            problems,
            in_text: told.clone(),
            told,
            unknown: 0,
            meant: Vec::new(),
        };
        for error in self.validator.iter_errors(config.value()) {
            findings.add(&error);
        }
        findings.as_meant();
        let mut problems = findings.problems;
        problems.sort_by(|a, b| a.order().cmp(&b.order()));
        problems
    }

    /// As [`check`](Checker::check), with the problems as an error.
    ///
    /// # Errors
    /// All problems, if there are any.
    pub fn verify(&self, config: &Config) -> Result<(), ConfigError> {
        config.require_none(self.check(config))
    }
}

struct Findings<'a> {
    checker: &'a Checker,
    root: &'a Value,
    config: &'a Config,
    problems: Vec<Problem>,
    /// Values that have been complained about: several keywords may fail for one cause.
    told: BTreeSet<Path>,
    /// Those with which the text itself was wrong: their keys may be unknown, too.
    in_text: BTreeSet<Path>,
    /// How many unknown keys were met.
    unknown: usize,
    /// Pointers of misspelt words, and what was meant.
    meant: Vec<(String, String)>,
}

impl<'a> Findings<'a> {
    fn add(&mut self, error: &ValidationError<'_>) {
        use ValidationErrorKind::*;
        let path = self.path_of(error);
        match error.kind() {
            AdditionalProperties { unexpected } | UnevaluatedProperties { unexpected } => {
                let known = self.schema_of(error).map(|schema| known_keys(self.root, schema));
                for key in unexpected {
                    self.unknown(&path, key, known.as_deref().unwrap_or_default());
                }
            }
            FalseSchema | Not { .. } => self.value(error, &path, &[]),
            Required { property: Value::String(key) } => self.missing(&path, key),
            AnyOf { context } | OneOfNotValid { context } => match meant(error, context) {
                Some(Meant::Errors(errors)) => errors.into_iter().for_each(|error| self.add(error)),
                Some(Meant::Tag(tag, choices)) => self.value(tag, &self.path_of(tag), &choices),
                None => self.value(error, &path, &self.choices(error)),
            },
            Type { .. }
            | Enum { .. }
            | Constant { .. }
            | Minimum { .. }
            | Maximum { .. }
            | ExclusiveMinimum { .. }
            | ExclusiveMaximum { .. }
            | MultipleOf { .. }
            | MinLength { .. }
            | MaxLength { .. }
            | Pattern { .. }
            | MinItems { .. }
            | MaxItems { .. }
            | AdditionalItems { .. } => {
                self.value(error, &path, &self.choices(error));
            }
            // Rare keywords, in the validator's words.
            _ => self.invalid(&path, "", format!("does not fit: {}", error.masked_with("this"))),
        }
    }

    /// Adds what is wrong beside a misspelt word if it is read as what was meant: the `type` of a section
    /// decides what else is looked at in it.
    fn as_meant(&mut self) {
        for (pointer, word) in std::mem::take(&mut self.meant) {
            let mut value = self.config.value().clone();
            let Some(misspelt) = value.pointer_mut(&pointer) else { continue };
            let path = Path::from_pointer(&pointer, self.config.value());
            let guess = format!(" (if {path} is {})", named(&word));
            let before = self.problems.len();
            *misspelt = word.into();
            let section = &pointer[..pointer.rfind('/').unwrap_or_default()];
            for error in self.checker.validator.iter_errors(&value) {
                let inside = error.instance_path().as_str().strip_prefix(section);
                if inside.is_some_and(|inside| inside.is_empty() || inside.starts_with('/')) {
                    self.add(&error);
                }
            }
            self.problems[before..].iter_mut().for_each(|problem| problem.add(&guess));
        }
        self.meant.clear();
    }

    fn unknown(&mut self, outer: &Path, key: &str, known: &[&str]) {
        let path = outer.key(key);
        if self.told.insert(path.clone()) || self.in_text.remove(&path) {
            self.unknown += 1;
            // Looking for what was meant takes time, and no more than these are printed.
            let what = match self.unknown <= PRINTED_PROBLEMS {
                true => {
                    let (elsewhere, whole) = (self.elsewhere(outer, key), self.config.value());
                    unknown_key(outer, key, known, &elsewhere, &self.checker.also, whole)
                }
                false => format!("unknown key {}", named(key)),
            };
            let message = format!("{}{what}", prefix(outer));
            let problem = Problem::new(ProblemKind::Unknown, path.to_string(), message);
            self.problems.push(problem.at(self.config.key_place(&path), what));
        }
    }

    /// The sections around or inside of `outer` that have a key of this name, if they are so few that it
    /// tells something. In a section beside it, such as `compile`, the name means something else.
    fn elsewhere(&self, outer: &Path, key: &str) -> Vec<Path> {
        let related = |section: &&Path| {
            let (own, other) = (outer.segments(), section.segments());
            own != other && (own.starts_with(other) || other.starts_with(own))
        };
        let places = self.checker.places.get_or_init(|| places(self.root));
        let sections = places.get(key).into_iter().flatten().filter(related);
        let sections: Vec<_> = sections.cloned().collect();
        if sections.len() > 2 { Vec::new() } else { sections }
    }

    fn missing(&mut self, outer: &Path, key: &str) {
        let path = outer.key(key);
        if self.told.insert(path.clone()) {
            let what = format!("missing key {}", named(key));
            let message = format!("{}{what}", prefix(outer));
            let problem = Problem::new(ProblemKind::Missing, path.to_string(), message);
            self.problems.push(problem.at(self.config.place(outer), what));
        }
    }

    /// The value at `path` is none of `choices`.
    fn value(&mut self, error: &ValidationError<'_>, path: &Path, choices: &[Choice]) {
        let value = error.instance();
        let own = self.schema_of(error).and_then(|schema| schema.get("errorMessage")?.as_str());
        let what = match (own, error.kind()) {
            // The schema's own words; editors show them too.
            (Some(words), _) => words.to_owned(),
            (None, ValidationErrorKind::MultipleOf { multiple_of }) => {
                format!("is not a multiple of {multiple_of}")
            }
            _ => mismatch(value, choices),
        };
        let is = match &**value {
            Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
            // A number as the file writes it: 1e9 is easier to find than 1000000000.0.
            value => match self.config.number_text(path, value) {
                Some(text) => format!(" = {}", clipped(text.to_owned())),
                None => format!(" = {}", shown(value)),
            },
        };
        if !self.told.contains(path)
            && self.meant.len() < MEANT_WORDS
            && let Some(near) = near(value, choices).filter(|near| *near != "auto")
        {
            let pointer = error.instance_path().as_str().to_owned();
            self.meant.push((pointer, near.to_owned()));
        }
        self.invalid(path, &is, what);
        // What nothing fits, with words that say why, is known and not supported.
        let refused = matches!(error.kind(), ValidationErrorKind::Not { .. });
        if let (Some(_), true, Some(problem)) = (own, refused, self.problems.last_mut())
            && problem.path == path.to_string()
        {
            problem.kind = ProblemKind::Refused;
        }
    }

    fn invalid(&mut self, path: &Path, is: &str, what: String) {
        if self.told.insert(path.clone()) {
            let message = format!("{path}{is} {what}").trim_start().to_owned();
            self.problems.push(self.config.invalid(path, message, what));
        }
    }

    fn path_of(&self, error: &ValidationError<'_>) -> Path {
        Path::from_pointer(error.instance_path().as_str(), self.config.value())
    }

    /// The schema whose keyword failed.
    fn schema_of(&self, error: &ValidationError<'_>) -> Option<&'a Value> {
        let keyword = error.schema_path().as_str();
        self.root.pointer(&keyword[..keyword.rfind('/')?])
    }

    /// What that schema wants.
    fn choices(&self, error: &ValidationError<'_>) -> Vec<Choice> {
        self.schema_of(error).map(|schema| choices(self.root, schema)).unwrap_or_default()
    }
}

/// Why `value` is none of `choices`: what follows the value in a sentence.
fn mismatch(value: &Value, choices: &[Choice]) -> String {
    let expected = phrase(choices);
    if choices.iter().all(|choice| !choice.is_like(value)) {
        return match choices {
            [] => "is not allowed here".into(),
            _ => format!("is {}; {expected} is expected", kind_of(value)),
        };
    }
    // Beside a number, a word such as "auto" is no help.
    let mut alike = choices.iter().filter(|choice| choice.is_like(value));
    if let (true, Some(Choice::Kind(kind)), None) = (value.is_number(), alike.next(), alike.next())
    {
        return unlike(value, kind);
    }
    let hint = near(value, choices)
        .map_or(String::new(), |near| format!("; did you mean {}?", named(near)));
    match choices {
        [Choice::Kind(kind)] => unlike(value, kind),
        [a, b] => format!("is neither {} nor {}{hint}", a.phrase(), b.phrase()),
        _ => format!("is not {expected}{hint}"),
    }
}

/// The word among `choices` that was probably meant.
fn near<'c>(value: &Value, choices: &'c [Choice]) -> Option<&'c str> {
    did_you_mean(value.as_str()?, choices.iter().filter_map(Choice::word))
}

/// Why `value`, which is of the right type, is not of `kind`.
fn unlike(value: &Value, kind: &Kind) -> String {
    let expected = kind.phrase();
    let whole = value.as_f64().is_none_or(|x| x.fract() == 0.0);
    match (kind.json_type.as_str(), value) {
        ("integer", _) if !whole && expected == "a whole number" => "is not a whole number".into(),
        ("integer", _) if !whole => format!("is not a whole number; {expected} is expected"),
        ("integer" | "number", _) if !kind.range.is_empty() => format!("is not {}", kind.range),
        ("array", Value::Array(items)) => {
            let s = if items.len() == 1 { "" } else { "s" };
            format!("has {} value{s}; {expected} is expected", items.len())
        }
        _ => format!("is not {expected}"),
    }
}
