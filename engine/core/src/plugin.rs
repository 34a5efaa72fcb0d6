//! Plugins: what a section of the JSON switches on.
use crate::error::BoxError;
use crate::gradients::Gradients;
use crate::layers::LayerWrap;
use crate::parts::{BuildContext, Parts};
use crate::report::Report;
use serde_json::Value;
use std::sync::Arc;
use trainyard_config::{Moment, Section};

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

/// A plugin: a [`Section`] of the JSON, and how it becomes a running part.
pub trait PluginSpec: Section {
    /// Adds what the configuration asks for to `parts`; adds nothing when it is switched off. Called
    /// where the section's [outline](Section::outline) was, and after all outlines.
    ///
    /// # Errors
    /// An [`Invalid`](crate::Invalid) for a value that this machine or model cannot do.
    fn build(
        config: &Self::Config,
        context: &BuildContext,
        parts: &mut Parts,
    ) -> Result<(), BoxError>;
}
