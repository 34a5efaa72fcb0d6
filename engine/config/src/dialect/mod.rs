//! Another program's configuration: keys that it has and we do not, and forms that it takes.
//!
//! A [`Dialect`] is a handful of tables. From them come the part of the JSON Schema that accepts or
//! refuses those keys, and the notes on what is accepted.
pub(crate) mod auto;
pub(crate) mod clash;
pub(crate) mod convert;
pub(crate) mod known;
pub(crate) mod remark;

pub use auto::{Auto, Otherwise};
pub use clash::Clash;
pub use known::{Answer, Holds, Known, truth};
pub use remark::{Absent, Remark};

use crate::check::Checker;
use crate::layers::Config;
use crate::problems::Note;
use serde_json::Value;

/// What another program's files may hold beyond the sections that are here. Every table may be empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dialect {
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
    pub remarks: &'static [Remark],
    /// Words of other programs, with the keys that they mean and are not spelt like.
    pub synonyms: &'static [(&'static str, &'static str)],
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

    /// Coerces values, and tells what is known of those that are there; whether one was coerced.
    pub(crate) fn notes(
        &self,
        checker: &Checker,
        config: &mut Config,
        notes: &mut Vec<Note>,
    ) -> bool {
        let before = notes.len();
        convert::convert(checker.schema(), self.coerced, config, notes);
        let coerced = notes.len() > before;
        notes.extend(self.remarks.iter().filter_map(|remark| remark.note(config)));
        self.every_known().for_each(|known| known.notes(config, notes));
        coerced
    }

    /// Notes on keys that `config` leaves out.
    pub(crate) fn left_out(&self, config: &Config) -> impl Iterator<Item = Note> {
        self.absent.iter().filter_map(|absent| absent.note(config))
    }

    /// Keys of `config` that no section owns, that do nothing here and ask for nothing.
    pub(crate) fn idle(&self, config: &Config) -> impl Iterator<Item = crate::Path> {
        self.known.iter().copied().flatten().flat_map(|known| known.idle(config))
    }
}
