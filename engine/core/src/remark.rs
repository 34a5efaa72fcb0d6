//! What is to be said of values that are accepted and that a user may have meant otherwise.
use crate::config::{Config, Note, Path};
use serde_json::Value;

/// A note on the value at a path, where there is reason for one.
#[derive(Debug, Clone, Copy)]
pub struct Remark {
    /// Dotted path of the value.
    pub path: &'static str,
    /// Whether there is something to be said of it.
    pub when: fn(&Value) -> bool,
    /// Follows the path and the value in a sentence.
    pub says: &'static str,
}

impl Remark {
    /// The note, if `config` gives reason for it.
    pub(crate) fn note(&self, config: &Config) -> Option<Note> {
        let path = Path::parse(self.path).expect("a table has plain paths");
        let value = path.find(config.value())?;
        (self.when)(value).then(|| config.note(&path, self.says))
    }
}
