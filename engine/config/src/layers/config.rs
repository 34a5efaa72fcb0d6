//! The configuration that holds once all layers are merged, and where each value came from.

use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use crate::layers::layering::{Assignment, Said};
use crate::problems::problem::{ConfigError, Origin, Problem, ProblemKind};
use crate::text::document::Document;
use crate::text::path::{Path, Segment};
use crate::text::show::{clipped, kind_of, shown};

/// A merged configuration. Made by [`Layers::merge`](crate::Layers::merge).
#[derive(Clone, Debug)]
pub struct Config {
    document: Document,
    assignments: Vec<Assignment>,
    value: Value,
    problems: Vec<Problem>,
}

impl Config {
    pub(crate) fn new(
        document: Document,
        assignments: Vec<Assignment>,
        mut value: Value,
        mut problems: Vec<Problem>,
    ) -> Config {
        // Tells an editor which schema to use; it is no setting.
        let editors = value.as_object_mut().expect("the top level is an object").remove("$schema");
        if let Some(other) = editors.filter(|value| !value.is_string()) {
            let path = Path::default().key("$schema");
            let label = format!("is {}; a string is expected", kind_of(&other));
            let message = format!("$schema = {} {label}", shown(&other));
            let problem = Problem::new(ProblemKind::Invalid, path.to_string(), message);
            problems.push(match document.value_span(&path) {
                Some(span) => problem.at(Origin::file(document.source(), span), label),
                None => problem,
            });
        }
        Config { document, assignments, value, problems }
    }

    /// All values; an object. A `$schema` at the top level is left out.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The keys at the top level, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.value.as_object().into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// What is wrong although it could be read: keys given twice, numbers that do not fit, layers
    /// that cannot be laid over the file. [`Checker::check`](crate::Checker::check) tells them too.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What is to be known of the text itself: that it is HJSON rather than JSON.
    pub(crate) fn notes(&self) -> Vec<crate::problems::note::Note> {
        self.document.not_json().into_iter().collect()
    }

    /// The layer that the value at `path` came from; `None` if there is no such value.
    ///
    /// An object that several layers made comes from the file if the file has it.
    pub fn origin(&self, path: &Path) -> Option<Origin> {
        let value = path.find(&self.value)?;
        let in_file = path.find(self.document.value());
        let file = || Some(Origin::file(self.document.source(), self.document.value_span(path)?));
        if value.is_object() && in_file.is_some_and(Value::is_object) {
            return file();
        }
        let mut latest = self.assignments.iter().rev();
        match latest.find(|assignment| !matches!(assignment.says(path), Said::Nothing)) {
            Some(assignment) => Some(assignment.origin.clone()),
            None => file(),
        }
    }

    /// The value of one key at the top level as a `T`; `None` if the key is not there. A float that
    /// is a whole number, such as 5e8, serves where `T` wants an integer.
    ///
    /// # Errors
    /// The value does not fit `T`, with its path and place; or the configuration has
    /// [`problems`](Config::problems).
    pub fn section<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        let path = Path::default().key(key);
        path.find(&self.value).map(|value| self.deserialize(path.clone(), value)).transpose()
    }

    /// Those of `keys` at the top level that are there, as the fields of one `T`.
    ///
    /// # Errors
    /// As [`section`](Config::section).
    pub fn fields<T: DeserializeOwned>(&self, keys: &[&str]) -> Result<T, ConfigError> {
        let present = keys.iter().filter_map(|key| Some((*key, self.value.get(key)?.clone())));
        let fields = present.map(|(key, value)| (key.to_owned(), value)).collect();
        self.deserialize(Path::default(), &Value::Object(fields))
    }

    fn deserialize<T: DeserializeOwned>(&self, at: Path, value: &Value) -> Result<T, ConfigError> {
        self.require_none(self.problems.clone())?;
        serde_path_to_error::deserialize(whole_numbers(value)).map_err(|error| {
            let mut path = self.existing(at, error.path());
            // serde forgets the way to what stands behind a `type`.
            let value = path.find(&self.value);
            if let Some(inner) =
                value.filter(|v| !v.is_number()).and_then(|v| first_beyond(&path, v))
            {
                path = inner;
            }
            let found = path.find(&self.value).filter(|_| !path.is_root());
            let (why, message) = match found {
                Some(value) if beyond(value) => {
                    let why = "does not fit a 64-bit integer".to_owned();
                    let written = self.number_text(&path, value).map(str::to_owned);
                    let written = clipped(written.unwrap_or_else(|| shown(value)));
                    (why.clone(), format!("{path} = {written} {why}"))
                }
                Some(value) => {
                    let why = error.inner().to_string();
                    (why.clone(), format!("{path} = {}: {why}", shown(value)))
                }
                None => (error.inner().to_string(), error.inner().to_string()),
            };
            self.require_none(vec![self.invalid(&path, message, why)]).expect_err("one problem")
        })
    }

    /// A problem with the value at `path`, for what only the code can tell. The path is written as
    /// [`Path::parse`] reads it, or empty for the whole configuration; it is put before `message`,
    /// which may itself begin with the last key: `theta = 1.5 is too much`.
    ///
    /// Where there is no value at the path, the problem stands at what would hold it.
    pub fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        let message = message.into();
        let path = match path {
            "" => Path::default(),
            path => Path::parse(path).unwrap_or_else(|_| Path::default().key(path)),
        };
        let sentence = match (path.parent(), path.segments().last()) {
            (Some(outer), Some(Segment::Key(key))) if starts_with_word(&message, key) => {
                let dot = if outer.is_root() { "" } else { "." };
                format!("{outer}{dot}{message}")
            }
            _ if starts_with_word(&message, &path.to_string()) => message.clone(),
            _ => format!("{}{message}", prefix(&path)),
        };
        self.invalid(&path, sentence, message)
    }

    /// `Ok` if there are no problems.
    ///
    /// # Errors
    /// All `problems` together, ready to be printed with the text of this configuration.
    pub fn require_none(&self, mut problems: Vec<Problem>) -> Result<(), ConfigError> {
        problems.sort_by(|a, b| a.order().cmp(&b.order()));
        ConfigError::new(self.document.source(), problems).map_or(Ok(()), Err)
    }

    /// Puts `value` in the place of what is at `path`, or takes that away.
    pub(crate) fn fill(&mut self, path: &Path, value: Option<Value>) {
        let Some((Segment::Key(key), outer)) = path.segments().split_last() else { return };
        let holder = outer.iter().try_fold(&mut self.value, |inside, segment| match segment {
            Segment::Key(key) => inside.get_mut(key),
            Segment::Index(index) => inside.get_mut(index),
        });
        let Some(Value::Object(keys)) = holder else { return };
        match value {
            Some(value) => drop(keys.insert(key.clone(), value)),
            None => drop(keys.remove(key)),
        }
    }

    pub(crate) fn invalid(&self, path: &Path, message: String, label: String) -> Problem {
        let problem = Problem::new(ProblemKind::Invalid, path.to_string(), message);
        problem.at(self.place(path), label)
    }

    /// Where to point for the value at `path`, or for the nearest thing around it that exists.
    pub(crate) fn place(&self, path: &Path) -> Origin {
        let mut path = path.clone();
        loop {
            match self.origin(&path) {
                Some(Origin::File { span, .. }) => {
                    return Origin::file(self.document.source(), self.underlined(&path, span));
                }
                Some(other) => return other,
                None => path = path.parent().expect("the root has an origin"),
            }
        }
    }

    /// Where to point for the key at the end of `path`.
    pub(crate) fn key_place(&self, path: &Path) -> Origin {
        match (self.place(path), self.document.key_span(path)) {
            (Origin::File { .. }, Some(span)) => Origin::file(self.document.source(), span),
            (origin, _) => origin,
        }
    }

    /// The text of a number as the file writes it, or `None` for what is not a number of the file.
    pub(crate) fn number_text(&self, path: &Path, value: &Value) -> Option<&str> {
        match self.origin(path)? {
            Origin::File { span, .. } if value.is_number() => {
                let text = &self.document.source().as_str()[span];
                // Where "auto" was filled in, the file has no number.
                text.parse::<f64>().is_ok().then_some(text)
            }
            _ => None,
        }
    }

    /// A value is underlined as it is; one that takes several lines by its key or opening bracket.
    fn underlined(&self, path: &Path, span: Range<usize>) -> Range<usize> {
        if self.document.source().as_str()[span.clone()].contains('\n') {
            self.document.key_span(path).unwrap_or(span.start..span.start + 1)
        } else {
            span
        }
    }

    /// `path` with serde's segments added, as far as there are values there.
    fn existing(&self, mut path: Path, further: &serde_path_to_error::Path) -> Path {
        use serde_path_to_error::Segment as Step;
        for step in further {
            let next = match step {
                Step::Seq { index } => path.index(*index),
                Step::Map { key } | Step::Enum { variant: key } => path.key(key),
                Step::Unknown => break,
            };
            // The variant of an enum need not be a key of the text.
            if next.find(&self.value).is_some() {
                path = next;
            }
        }
        path
    }
}

/// `optimizer.params: `, or nothing for the whole configuration.
pub(crate) fn prefix(path: &Path) -> String {
    if path.is_root() { String::new() } else { format!("{path}: ") }
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| rest.starts_with(' '))
}

/// The same value with floats that are whole numbers turned into integers: JSON makes no difference
/// between them and JSON Schema accepts them, serde does not.
fn whole_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole(number)),
        Value::Array(items) => items.iter().map(whole_numbers).collect(),
        Value::Object(keys) => Value::Object(
            keys.iter().map(|(key, value)| (key.clone(), whole_numbers(value))).collect(),
        ),
        other => other.clone(),
    }
}

/// The whole number that a value is, also where it is written as a float.
pub fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => whole(number).as_u64(),
        _ => None,
    }
}

/// Whether this is a whole number that no 64-bit integer holds.
fn beyond(value: &Value) -> bool {
    let Value::Number(number) = value else { return false };
    let is_whole = number.as_f64().is_some_and(|x| x.fract() == 0.0);
    is_whole && whole(number).is_f64()
}

/// The first such number in a value at `path`.
fn first_beyond(path: &Path, value: &Value) -> Option<Path> {
    match value {
        Value::Object(keys) => keys.iter().find_map(|(key, v)| first_beyond(&path.key(key), v)),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, v)| first_beyond(&path.index(index), v))
        }
        value => beyond(value).then(|| path.clone()),
    }
}

fn whole(number: &Number) -> Number {
    let exact = |x: f64| match x {
        _ if x.fract() != 0.0 => None,
        // Minus zero too: as a float again, it has lost a sign that no key makes use of.
        0.0..18446744073709551616.0 => Some(Number::from(x as u64)),
        -9223372036854775808.0..0.0 => Some(Number::from(x as i64)),
        _ => None,
    };
    match number.as_f64() {
        Some(x) if number.is_f64() => exact(x).unwrap_or_else(|| number.clone()),
        _ => number.clone(),
    }
}
