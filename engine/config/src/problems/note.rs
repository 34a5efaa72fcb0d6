//! What a user should know of a value that is accepted.

use std::fmt;

use crate::layers::config::{Config, prefix};
use crate::problems::problem::{Origin, Problem, ProblemKind};
use crate::text::path::Path;
use crate::text::show::shown;

/// What a user should know of a value that is accepted: as a rule that it does nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Path of the value.
    pub path: String,
    /// One sentence that begins with the path.
    pub message: String,
    /// Where the value came from.
    pub origin: Option<Origin>,
}

impl Note {
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
        Note { path: path.to_string(), message: format!("{value}{message}{from}"), origin }
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
