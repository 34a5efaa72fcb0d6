//! Layers over the file: environment variables, then overrides from the command line.

use std::collections::BTreeSet;
use std::ffi::OsString;

use serde_json::Value;

use crate::layers::config::Config;
use crate::layers::overlay::overlay;
use crate::problems::problem::{Origin, Problem, ProblemKind};
use crate::text::document::{Document, value_or_text};
use crate::text::path::{Path, Segment, find};
use crate::text::scan::MAX_DEPTH;

/// What the name of an environment variable begins with to be part of the configuration.
pub const ENVIRONMENT_PREFIX: &str = "TRAINYARD__";

/// A file and what is laid over it; the later of two layers wins, whatever order they are added in:
/// file, environment, command line.
///
/// An object laid over an object is merged into it key by key; anything else replaces what was
/// there. A value is read as JSON where it is JSON and as a string where it is not.
#[derive(Clone, Debug)]
pub struct Layers {
    document: Document,
    environment: Vec<Assignment>,
    overrides: Vec<Assignment>,
    problems: Vec<Problem>,
}

/// One value laid over what is below.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub path: Path,
    pub value: Value,
    pub origin: Origin,
}

impl Assignment {
    /// What this assignment says about `path`.
    pub fn says(&self, path: &Path) -> Said<'_> {
        let (own, asked) = (self.path.segments(), path.segments());
        if let Some(inside) = asked.strip_prefix(own) {
            return find(&self.value, inside).map_or(Said::Nothing, Said::Value);
        }
        if own.starts_with(asked) { Said::Object } else { Said::Nothing }
    }
}

/// What an [`Assignment`] says about a path.
pub(crate) enum Said<'a> {
    Nothing,
    /// It sets something further in, so that there is an object.
    Object,
    Value(&'a Value),
}

impl Layers {
    /// The file alone.
    pub fn new(document: Document) -> Layers {
        let problems = document.problems().to_vec();
        Layers { document, environment: Vec::new(), overrides: Vec::new(), problems }
    }

    /// Lays environment variables over the file, as a rule [`std::env::vars_os`].
    ///
    /// `TRAINYARD__SECTION__KEY=value` sets `section.key`; other variables are passed over. Each
    /// part of the name is lower-cased if it is all capitals and taken as written if it is not.
    pub fn environment<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Layers
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let ours = |name: &OsString| name.to_string_lossy().starts_with(ENVIRONMENT_PREFIX);
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let mut variables: Vec<(OsString, OsString)> =
            variables.filter(|(name, _)| ours(name)).collect();
        // The system gives them in no particular order; of two that touch, the deeper one wins.
        variables.sort();
        for (name, value) in variables {
            let origin = Origin::Environment { variable: name.to_string_lossy().into_owned() };
            match variable(&name, &value) {
                Ok((path, value)) => self.environment.push(Assignment { path, value, origin }),
                Err(message) => self.wrong(message, origin),
            }
        }
        self
    }

    /// Lays overrides over everything before, each of the form `section.key=value`; the path is
    /// written as [`Path::parse`] reads it.
    pub fn overrides<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Layers {
        for argument in arguments {
            let argument = argument.into();
            let origin = Origin::Override { argument: argument.clone() };
            match assignment(&argument) {
                Ok((path, value)) => self.overrides.push(Assignment { path, value, origin }),
                Err(message) => self.wrong(message, origin),
            }
        }
        self
    }

    /// The same without some keys of the top level, in every layer, and without what is wrong with them.
    pub fn without(mut self, keys: &BTreeSet<String>) -> Layers {
        self.document.remove(keys);
        self.problems = self.document.problems().to_vec();
        for assignments in [&mut self.environment, &mut self.overrides] {
            assignments.retain(|assignment| {
                let first = assignment.path.segments().first();
                !matches!(first, Some(Segment::Key(key)) if keys.contains(key))
            });
        }
        self
    }

    /// What holds in the end. What is wrong with the layers is kept with it, to be told by
    /// [`Checker::check`](crate::Checker::check) together with the rest.
    pub fn merge(mut self) -> Config {
        let mut assignments = Vec::new();
        for assignment in std::mem::take(&mut self.environment).into_iter().chain(self.overrides) {
            match blocked(&self.document, &assignments, &assignment) {
                None => assignments.push(assignment),
                Some(message) => {
                    let path = assignment.path.to_string();
                    let problem = Problem::new(ProblemKind::Invalid, path, message);
                    self.problems.push(problem.at(assignment.origin, ""));
                }
            }
        }
        let value = overlay(self.document.value(), &assignments);
        Config::new(self.document, assignments, value, self.problems)
    }

    fn wrong(&mut self, message: String, origin: Origin) {
        let problem = Problem::new(ProblemKind::Invalid, String::new(), message);
        self.problems.push(problem.at(origin, ""));
    }
}

/// What `TRAINYARD__SECTION__KEY=value` sets.
fn variable(name: &OsString, value: &OsString) -> Result<(Path, Value), String> {
    let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
        return Err("this variable is not UTF-8".into());
    };
    let keys = name[ENVIRONMENT_PREFIX.len()..].split("__").map(|key| {
        let shouted = !key.chars().any(char::is_lowercase);
        if shouted { key.to_lowercase() } else { key.to_owned() }
    });
    let path: Path = keys.map(Segment::Key).collect();
    if path.segments().contains(&Segment::Key(String::new())) {
        return Err("a variable of the configuration is named TRAINYARD__SECTION__KEY".into());
    }
    Ok((path.clone(), bounded(&path, value)?))
}

/// What `section.key=value` sets.
fn assignment(argument: &str) -> Result<(Path, Value), String> {
    let (mut quoted, mut escaped) = (false, false);
    let equals = argument.find(|c| {
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        c == '=' && !quoted
    });
    let Some(equals) = equals else {
        return Err("an override has the form section.key=value".into());
    };
    let path = Path::parse(&argument[..equals])?;
    if path.segments().iter().any(|segment| matches!(segment, Segment::Index(_))) {
        return Err(format!("{path} is one place of a list; set the whole list"));
    }
    Ok((path.clone(), bounded(&path, &argument[equals + 1..])?))
}

/// The value of `text`, refused where it would nest too deeply at `path`.
fn bounded(path: &Path, text: &str) -> Result<Value, String> {
    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(keys) => 1 + keys.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    if path.segments().len() > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH} levels"));
    }
    let value =
        value_or_text(text).map_err(|why| format!("the value of {path} is wrong: {why}"))?;
    if path.segments().len() + depth(&value) > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH} levels"));
    }
    Ok(value)
}

/// Why `new` cannot be laid over what is there: its path leads through something that is no object.
fn blocked(document: &Document, earlier: &[Assignment], new: &Assignment) -> Option<String> {
    let mut outer = new.path.parent()?;
    while !outer.is_root() {
        let mut there = document.value();
        let latest = earlier.iter().rev().map(|assignment| assignment.says(&outer));
        match latest.into_iter().find(|said| !matches!(said, Said::Nothing)) {
            Some(Said::Object) => return None,
            Some(Said::Value(value)) => there = value,
            _ => there = outer.find(there).unwrap_or(&Value::Null),
        }
        match there {
            Value::Object(_) => return None,
            // Null, or nothing yet: becomes an object.
            Value::Null => outer = outer.parent()?,
            other => {
                let kind = crate::text::show::kind_of(other);
                return Some(format!("{} cannot be set: {outer} is {kind}", new.path));
            }
        }
    }
    None
}
