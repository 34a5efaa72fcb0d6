//! What is wrong with a configuration, and where.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, SourceCode};

use crate::text::source::Source;

/// Most problems that are printed of one configuration.
pub(crate) const PRINTED_PROBLEMS: usize = 200;
/// Longest text, in bytes, that is printed to underline one place in it.
const UNDERLINED_BYTES: usize = 4096;
/// Most places that are underlined in one go.
const UNDERLINED_PLACES: usize = 50;

/// What sort of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The file could not be read at all.
    Unreadable,
    /// The text is not JSON (with comments and trailing commas).
    Syntax,
    /// One object has the same key twice.
    Duplicate,
    /// A key that nobody reads.
    Unknown,
    /// A key that must be there is not.
    Missing,
    /// A value of the wrong type, out of its range or against its meaning.
    Invalid,
    /// What is known and not supported.
    Refused,
    /// Only to be noted, in a configuration that wants no notes.
    Noted,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration file.
    File {
        /// Name of the file, as given.
        name: Arc<str>,
        /// Bytes of the text that the value takes.
        span: Range<usize>,
        /// Line of its first character, from 1.
        line: usize,
        /// Column of its first character, from 1, in characters.
        column: usize,
    },
    /// An environment variable.
    Environment {
        /// Name of the variable.
        variable: String,
    },
    /// An override on the command line.
    Override {
        /// The argument as given, `section.key=value`.
        argument: String,
    },
}

impl Origin {
    pub(crate) fn file(source: &Source, span: Range<usize>) -> Origin {
        let (line, column) = source.line_column(span.start);
        Origin::File { name: source.name().clone(), span, line, column }
    }

    /// What set the value, in words, where that is not the file.
    pub(crate) fn outside(&self) -> Option<String> {
        match self {
            Origin::File { .. } => None,
            Origin::Environment { variable } => Some(variable.clone()),
            Origin::Override { argument } => {
                Some(format!("--set {}", crate::text::show::clipped(argument.clone())))
            }
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What sort of thing is wrong.
    pub kind: ProblemKind,
    /// Path of the value or key, such as `progressive_layer_drop.theta`; empty for the whole text.
    pub path: String,
    /// One sentence that names the path, what was found and what would be right.
    pub message: String,
    /// Where the value came from; `None` when there is no text to point at.
    pub origin: Option<Origin>,
    /// Bytes of the file to underline, most important first, and what to write below each.
    pub(crate) labels: Vec<(Range<usize>, String)>,
}

impl Problem {
    /// A problem with no place in a text.
    pub(crate) fn new(kind: ProblemKind, path: String, message: String) -> Problem {
        Problem { kind, path, message, origin: None, labels: Vec::new() }
    }

    /// The same problem, found at `origin`; `label` is written below the underlined text. Where
    /// there is none to underline, the message tells where the value came from.
    pub(crate) fn at(mut self, origin: Origin, label: impl Into<String>) -> Problem {
        if let Origin::File { span, .. } = &origin {
            self.labels = vec![(span.clone(), label.into())];
        }
        if let Some(from) = origin.outside() {
            self.message += &format!(" (from {from})");
        }
        self.origin = Some(origin);
        self
    }

    /// Adds `words` to what is said of it.
    pub(crate) fn add(&mut self, words: &str) {
        self.message += words;
        self.labels.iter_mut().for_each(|(_, label)| *label += words);
    }

    /// Line and column, from 1, when the problem is in a file.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        match self.origin {
            Some(Origin::File { line, column, .. }) => Some((line, column)),
            _ => None,
        }
    }

    /// What problems are sorted by: place in the file, then path; those outside the file last.
    pub(crate) fn order(&self) -> (usize, &str) {
        match &self.origin {
            Some(Origin::File { span, .. }) => (span.start, &self.path),
            _ => (usize::MAX, &self.path),
        }
    }
}

/// `run.json:3:17: progressive_layer_drop.theta = 1.5 is not in (0, 1]`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Origin::File { name, line, column, .. }) = &self.origin {
            write!(f, "{name}:{line}:{column}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with one configuration; never empty.
///
/// [`Display`](fmt::Display) prints one line a problem. As a [`miette::Diagnostic`] it also
/// underlines the places in the text.
#[derive(Clone, Debug)]
pub struct ConfigError {
    source: Option<Source>,
    problems: Vec<Problem>,
}

impl ConfigError {
    /// The error made of `problems` about the text of `source`; `None` when there are none.
    pub(crate) fn new(source: &Source, problems: Vec<Problem>) -> Option<ConfigError> {
        (!problems.is_empty()).then(|| ConfigError { source: Some(source.clone()), problems })
    }

    /// The problems, in the order in which they stand in the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The problems, by value.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

/// A problem with no text to underline.
impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> ConfigError {
        ConfigError { source: None, problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().take(PRINTED_PROBLEMS).enumerate() {
            write!(f, "{}{problem}", if place == 0 { "" } else { "\n" })?;
        }
        match self.problems.len().saturating_sub(PRINTED_PROBLEMS) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more problems"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Diagnostic for ConfigError {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let source = self.source.as_ref()?;
        // A file may be one line of megabytes; the message has the column all the same.
        let places = self.problems.iter().flat_map(|problem| &problem.labels);
        let places = places.filter(|(span, _)| source.line_bytes(span) <= UNDERLINED_BYTES);
        let labels: Vec<_> = places
            .take(UNDERLINED_PLACES)
            .map(|(span, text)| LabeledSpan::new_with_span(Some(text.clone()), span.clone()))
            .collect();
        (!labels.is_empty()).then(|| Box::new(labels.into_iter()) as _)
    }
}
