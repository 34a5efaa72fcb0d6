//! A section of the configuration: the static half of a plugin.
use crate::error::BoxError;
use crate::layers::Config;
use crate::outline::{Context, Outline};
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
    type Config: DeserializeOwned + JsonSchema + Send + Sync + 'static;

    /// Patterns on the names of the modules that this configuration wants as layers, for models that are
    /// loaded and so offer no layer calls of their own.
    fn layer_patterns(config: &Self::Config) -> Vec<String> {
        let _ = config;
        Vec::new()
    }

    /// Says what the configuration will do with a model of this shape, and claims what only one section may
    /// set; says nothing when it is switched off. Called only if one of the keys is present, or
    /// [always](Self::ALWAYS).
    ///
    /// # Errors
    /// An [`Invalid`](crate::Invalid) for a value that is wrong for a reason the schema cannot say.
    fn outline(
        config: &Self::Config,
        context: &Context,
        outline: &mut Outline,
    ) -> Result<(), BoxError> {
        let _ = (config, context, outline);
        Ok(())
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
