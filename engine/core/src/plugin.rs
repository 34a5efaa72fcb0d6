//! Plugins: what a section of the JSON switches on.
use crate::error::BoxError;
use crate::gradients::Gradients;
use crate::layers::LayerWrap;
use crate::moment::Moment;
use crate::parts::{BuildContext, Parts};
use crate::report::Report;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// A part of the training step. Every method defaults to doing nothing.
pub trait Plugin: Send {
    /// Decides, before any tensor flows, what the forward of one micro-batch does. The decision, where
    /// there is one, wraps the model's layer calls until the next forward.
    ///
    /// # Errors
    /// Any; the step then fails with it, and so for the other methods.
    fn begin_forward(&mut self, now: Moment) -> Result<Option<Arc<dyn LayerWrap>>, BoxError> {
        let _ = now;
        Ok(None)
    }

    /// Edits the gradients, averaged and unscaled, before the update.
    ///
    /// # Errors
    /// Any.
    fn gradients(&mut self, now: Moment, gradients: &mut Gradients<'_>) -> Result<(), BoxError> {
        let _ = (now, gradients);
        Ok(())
    }

    /// Reads the report of a step that ended, and may add figures to its `metrics`.
    ///
    /// # Errors
    /// Any.
    fn end_step(&mut self, report: &mut Report) -> Result<(), BoxError> {
        let _ = report;
        Ok(())
    }

    /// What a resumed run needs and cannot compute from (configuration, seed, step); null for most.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Takes back what [`Plugin::state`] gave.
    ///
    /// # Errors
    /// If it is not what this plugin saves.
    fn load_state(&mut self, state: Value) -> Result<(), BoxError> {
        match state {
            Value::Null => Ok(()),
            other => Err(format!("this plugin keeps no state, the saved one is {other}").into()),
        }
    }
}

/// The static side of a plugin: which keys of the JSON it owns, and how they become a running part.
pub trait PluginSpec: 'static {
    /// The top-level keys this plugin owns.
    const KEYS: &'static [&'static str];

    /// Whether it is built even where none of its keys is present, with what its `Config` reads from
    /// nothing then: for a plugin with several keys.
    const ALWAYS: bool = false;

    /// What the keys hold. One key: its value. Several: a struct with one optional field for each.
    /// Its doc comments are the manual, its schema is the check: state ranges as schemars attributes
    /// and refuse unknown fields.
    type Config: DeserializeOwned + JsonSchema;

    /// Patterns on the names of the modules that this configuration wants as layers, for models that are
    /// loaded and so offer no layer calls of their own; see [`script`](crate::script).
    fn layer_patterns(config: &Self::Config) -> Vec<String> {
        let _ = config;
        Vec::new()
    }

    /// Adds what the configuration asks for to `parts`; adds nothing when it is switched off. Called
    /// only if one of the keys is present, or [always](Self::ALWAYS).
    ///
    /// # Errors
    /// An [`Invalid`](crate::Invalid) for a value that is wrong for a reason the schema cannot say.
    fn build(
        config: Self::Config,
        context: &BuildContext,
        parts: &mut Parts,
    ) -> Result<(), BoxError>;
}
