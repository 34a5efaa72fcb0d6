//! Another program's configuration: keys that it has and we do not, and forms that it takes.
//!
//! A [`Dialect`] is a handful of tables. From them come the part of the JSON Schema that accepts or
//! refuses those keys, and the notes on what is accepted.
pub(crate) mod auto;
pub(crate) mod clash;
pub(crate) mod comment;
pub(crate) mod convert;
pub(crate) mod known;
pub(crate) mod remark;

pub use auto::{Auto, Otherwise};
pub use clash::Clash;
pub use known::{Answer, Holds, Known, truth};
pub use remark::{Absent, Remark, Says};

use crate::check::Alias;
use crate::layers::Config;
use crate::problems::Note;
use crate::text::Path;
use serde_json::Value;

/// What another program's files may hold beyond the sections that are here. Every table may be empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dialect {
    /// What that program is called.
    pub name: &'static str,
    /// Keys that no section owns, to be noted or refused.
    pub known: &'static [&'static [Known]],
    /// Keys that sections own, to be noted: what they may hold is the sections' to say.
    pub noted: &'static [&'static [Known]],
    /// Keys that may be `"auto"`.
    pub autos: &'static [Auto],
    /// What is to be known of keys that a file leaves out.
    pub absent: &'static [Absent],
    /// Pairs of keys that may not both be there.
    pub clashes: &'static [Clash],
    /// Notes on values that are accepted.
    pub remarks: &'static [&'static [Remark]],
    /// What other programs call a key.
    pub aliases: &'static [Alias],
    /// Sections, by their dotted paths, in which `"true"` and 1 are read for true and `"128"` for 128.
    pub coerced: &'static [&'static str],
}

impl Dialect {
    fn every_known(&self) -> impl Iterator<Item = &'static Known> {
        self.known.iter().chain(self.noted).copied().flatten()
    }

    /// Extends the schema of what sections own.
    pub(crate) fn extend(&self, schema: &mut Value) {
        self.known.iter().for_each(|table| known::extend(schema, table));
        self.autos.iter().for_each(|auto| auto::allow(schema, auto.path));
        convert::allow(schema, self.coerced);
        clash::forbid(schema, self.clashes);
    }

    /// Tells what is known of values that are there.
    pub(crate) fn notes(&self, config: &Config, notes: &mut Vec<Note>) {
        let remarks = self.remarks.iter().copied().flatten();
        notes.extend(remarks.filter_map(|remark| remark.note(config)));
        self.every_known().for_each(|known| known.notes(config, notes));
    }

    /// The program's name, if it fails on keys in `section` that it does not know.
    pub(crate) fn fails_in(&self, section: &Path) -> Option<&'static str> {
        let section = section.to_string();
        let fails = section.ends_with(".params") || self.coerced.contains(&section.as_str());
        fails.then_some(self.name).filter(|name| !name.is_empty())
    }

    /// Whether a configuration has keys that only this dialect knows.
    pub(crate) fn is_in(&self, config: &Config) -> bool {
        let mut paths = self.known.iter().copied().flatten().flat_map(Known::paths);
        paths.any(|path| {
            let path = Path::parse(&path).expect("a table has plain paths");
            path.find(config.value()).is_some()
        })
    }

    /// Notes on keys that `config` leaves out.
    pub(crate) fn left_out(&self, config: &Config) -> impl Iterator<Item = Note> {
        self.absent.iter().filter_map(|absent| absent.note(config))
    }

    /// Keys of `config` that no section owns, that do nothing here and ask for nothing.
    pub(crate) fn idle(&self, config: &Config) -> impl Iterator<Item = Path> {
        self.known.iter().copied().flatten().flat_map(|known| known.idle(config))
    }
}
