//! A section of the configuration: the static half of a plugin.
use crate::layers::Config;
use crate::problems::ConfigError;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

/// One section of the JSON, or a few top-level keys that belong together: the static half of a plugin.
pub trait Section: 'static {
    /// The top-level keys that it owns.
    const KEYS: &'static [&'static str];

    /// Whether it is built even where none of its keys is present, with what its `Config` reads from
    /// nothing then: for a section with several keys.
    const ALWAYS: bool = false;

    /// What the keys hold. One key: its value. Several: a struct with one optional field for each.
    /// Its doc comments are the manual, its schema is the check: state ranges as schemars attributes
    /// and refuse unknown fields.
    type Config: DeserializeOwned + JsonSchema;

    /// Patterns on the names of the modules that this configuration wants as layers, for models that are
    /// loaded and so offer no layer calls of their own.
    fn layer_patterns(config: &Self::Config) -> Vec<String> {
        let _ = config;
        Vec::new()
    }

    /// What its keys hold in a merged configuration; none where its one key is absent.
    ///
    /// # Errors
    /// If that is not what its `Config` reads.
    fn read(config: &Config) -> Result<Option<Self::Config>, ConfigError> {
        match Self::KEYS {
            [key] => config.section(key),
            keys => config.fields(keys).map(Some),
        }
    }
}
