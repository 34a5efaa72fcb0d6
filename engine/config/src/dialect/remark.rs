//! What is to be said of values that are accepted and that a user may have meant otherwise, and of keys that
//! are left out.
use crate::{Config, Note, Path, Weight};
use serde_json::Value;

/// A note on the value at a path, where there is reason for one.
#[derive(Debug, Clone, Copy)]
pub struct Remark {
    /// Dotted path of the value.
    pub path: &'static str,
    /// Whether there is something to be said of it, given the whole configuration, too.
    pub when: fn(&Value, &Value) -> bool,
    /// Follows the path and the value in a sentence.
    pub says: Says,
    /// How much it matters.
    pub weight: Weight,
}

/// A sentence.
#[derive(Debug, Clone, Copy)]
pub enum Says {
    /// The same for each value.
    Plain(&'static str),
    /// With figures, of the value and the whole configuration.
    Of(fn(&Value, &Value) -> String),
}

impl Remark {
    /// The note, if `config` gives reason for it.
    pub(crate) fn note(&self, config: &Config) -> Option<Note> {
        let path = Path::parse(self.path).expect("a table has plain paths");
        let value = path.find(config.value())?;
        let says = || match self.says {
            Says::Plain(text) => text.to_owned(),
            Says::Of(says) => says(value, config.value()),
        };
        let concerned = (self.when)(value, config.value());
        concerned.then(|| config.note(&path, &says()).weighing(self.weight))
    }
}

/// What holds where a key is left out, and why that is to be known.
#[derive(Debug, Clone, Copy)]
pub struct Absent {
    /// Dotted path of the key.
    pub path: &'static str,
    /// Values of `type` in its section, in lower case, for which this holds; empty: the section has no types.
    pub types: &'static [&'static str],
    /// A clause.
    pub says: &'static str,
    /// How much it matters.
    pub weight: Weight,
}

impl Absent {
    /// The note, if `config` leaves the key out and has the section that it belongs to.
    pub(crate) fn note(&self, config: &Config) -> Option<Note> {
        let path = Path::parse(self.path).expect("a table has plain paths");
        let there = |path: &Path| path.find(config.value()).is_some();
        let concerned = match self.path.split_once('.') {
            None => true,
            Some((section, _)) if !self.types.is_empty() => {
                let name = config.value().get(section)?.get("type")?.as_str()?.to_lowercase();
                self.types.contains(&name.as_str())
            }
            Some(_) => path.parent().is_some_and(|outer| there(&outer)),
        };
        let note = || config.note(&path, self.says).weighing(self.weight);
        (concerned && !there(&path)).then(note)
    }
}
