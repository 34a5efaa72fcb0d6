//! DeepSpeed's configuration, key by key: what each gets that no plugin here owns.
//!
//! | answer | for | where |
//! | --- | --- | --- |
//! | used | what a plugin or the engine owns, with DeepSpeed's meaning | the plugin's `config.rs` |
//! | noted | memory, speed and logging: the result is the same without it | [`TOP`], [`SECTIONS`], [`ZERO`], [`PARAMS`] |
//! | refused | what changes what is learned and is not there | the same tables, and `optimizer`'s types |
//! | unknown | nobody's keys | an error with the nearest name |
//!
//! `"auto"` is in [`AUTOS`], what DeepSpeed does with keys that a file leaves out in [`MOVED`], what it
//! coerces and what it does not take together in [`COERCED`] and [`CLASHES`], and what a file's author
//! may have meant otherwise in [`REMARKS`] and, of learning rates, [`RATES`]. [`REMOVED`] says what DeepSpeed itself
//! no longer takes, and [`ALIASES`] what other programs call a key.
mod aliases;
mod auto;
mod forms;
mod migrate;
mod moved;
mod rates;
mod remarks;
mod removed;
mod sections;
mod top;
mod zero;

#[cfg(test)]
mod tests;

pub use aliases::ALIASES;
pub use auto::AUTOS;
pub use forms::{CLASHES, COERCED};
pub use migrate::{Change, migrate};
pub use moved::MOVED;
pub use rates::RATES;
pub use remarks::REMARKS;
pub use removed::REMOVED;
pub use sections::SECTIONS;
pub use top::{PARAMS, TOP};
pub use zero::ZERO;

use trainyard::{Answer, Dialect, Holds, Known};

/// What DeepSpeed's files may hold beside the plugins' sections.
pub const DIALECT: Dialect = Dialect {
    name: "DeepSpeed",
    known: &[TOP, SECTIONS, ZERO, PARALLEL],
    noted: &[PARAMS],
    autos: AUTOS,
    absent: MOVED,
    clashes: CLASHES,
    remarks: &[REMARKS, RATES, REMOVED],
    aliases: ALIASES,
    coerced: COERCED,
};

/// A whole number from 0 on, of which each asks for something.
const COUNT: Holds = Holds::Count { off: -1, max: u64::MAX };

/// Keys of data parallelism that its plugin does not own.
pub const PARALLEL: &[Known] = &[noted(
    "zero_optimization",
    &["reduce_bucket_size"],
    COUNT,
    "set how many elements are exchanged at once",
    "distributed.reduce_bucket_size does, whose default lets the exchange begin early",
)];

/// Keys that change memory, speed or what is logged.
const fn noted(
    section: &'static str,
    keys: &'static [&'static str],
    holds: Holds,
    would: &'static str,
    instead: &'static str,
) -> Known {
    Known { section, keys, holds, answer: Answer::Noted { would, instead } }
}

/// Keys that have a note in their own words.
const fn said(
    section: &'static str,
    keys: &'static [&'static str],
    holds: Holds,
    says: &'static str,
) -> Known {
    Known { section, keys, holds, answer: Answer::Says { says } }
}

/// Keys that change what is learned.
const fn refused(
    section: &'static str,
    keys: &'static [&'static str],
    holds: Holds,
    why: &'static str,
) -> Known {
    Known { section, keys, holds, answer: Answer::Refused { why } }
}
