//! What only the code can tell of a value.
use crate::{Config, Path};

/// A value of the configuration that is wrong for a reason the schema cannot say. A plugin's `build`
/// returns it; whoever reads the configuration adds file, line and column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// Path below the plugin's section, dotted; empty for the section itself.
    pub path: String,
    /// What is wrong, with the value and what would be right.
    pub message: String,
}

impl Invalid {
    /// `path`: below the plugin's section, dotted, empty for the section itself.
    pub fn at(path: &str, message: impl Into<String>) -> Self {
        Invalid { path: path.to_owned(), message: message.into() }
    }

    /// Adds where those of `keys` beside the one at fault came from that are not the file's.
    pub(crate) fn with_sources(mut self, config: &Config, keys: &[&str]) -> Self {
        for key in keys.iter().filter(|key| **key != self.path) {
            let origin = config.origin(&Path::default().key(*key));
            if let Some(from) = origin.and_then(|origin| origin.outside()) {
                self.message += &format!("; {key} is from {from}");
            }
        }
        self
    }
}
