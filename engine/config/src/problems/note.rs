//! What a user should know of a value that is accepted.

use std::fmt;

use crate::layers::config::{Config, prefix};
use crate::problems::problem::{Origin, Problem, ProblemKind};
use crate::text::path::Path;
use crate::text::show::shown;

/// How much a note matters; the most important first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Training needs what is not there.
    Missing,
    /// What is learned may be other than was meant.
    Result,
    /// Memory, speed, what is logged or how a value is written.
    #[default]
    Little,
}

/// What a user should know of a value that is accepted: as a rule that it does nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Path of the value.
    pub path: String,
    /// One sentence that begins with the path.
    pub message: String,
    /// The end of the message, behind path and value, which is the same for values that are alike.
    pub says: String,
    /// How much it matters.
    pub weight: Weight,
    /// Where the value came from.
    pub origin: Option<Origin>,
}

impl Note {
    /// The same, of that weight.
    #[must_use]
    pub fn weighing(self, weight: Weight) -> Note {
        Note { weight, ..self }
    }

    /// Puts `words` before what is said of the value.
    pub(crate) fn say_first(&mut self, words: &str) {
        self.message.insert_str(self.message.len() - self.says.len(), words);
        self.says.insert_str(0, words);
    }

    /// What notes are sorted by: place in the file; those outside the file last.
    pub(crate) fn place(&self) -> usize {
        match &self.origin {
            Some(Origin::File { span, .. }) => span.start,
            _ => usize::MAX,
        }
    }
}

/// `run.json:3:17: zero_optimization.stage = 2: would have ...`.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Origin::File { name, line, column, .. }) = &self.origin {
            write!(f, "{name}:{line}:{column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Config {
    /// A note on the value at `path`.
    pub fn note(&self, path: &Path, message: &str) -> Note {
        let value = match path.find(self.value()) {
            Some(value) if !value.is_object() && !value.is_array() => {
                let written = self.number_text(path, value).map(str::to_owned);
                format!("{path} = {}: ", written.unwrap_or_else(|| shown(value)))
            }
            _ => prefix(path),
        };
        // A note on the whole, or on what is not there, has no place.
        let there = !path.is_root() && path.find(self.value()).is_some();
        let origin = there.then(|| self.origin(path)).flatten();
        let from = origin.as_ref().and_then(Origin::outside);
        let from = from.map_or(String::new(), |from| format!(" (from {from})"));
        let says = format!("{message}{from}");
        let message = format!("{value}{says}");
        Note { path: path.to_string(), message, says, weight: Weight::default(), origin }
    }

    /// The problem that a note is to those who want none.
    pub fn note_as_problem(&self, note: &Note) -> Problem {
        let path = Path::parse(&note.path).unwrap_or_default();
        let message = format!("{} (an error, since `strict` is on)", note.message);
        let problem = Problem::new(ProblemKind::Noted, note.path.clone(), String::new());
        let label = note.message.strip_prefix(&note.path).unwrap_or(&note.message);
        let label = label.trim_start_matches([' ', '=', ':']);
        // Where the value came from is in the note.
        Problem { message, ..problem.at(self.place(&path), label) }
    }
}
