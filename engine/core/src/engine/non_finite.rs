//! Numbers that are not finite: where they came in, looked up only once there are some, and whether what a training
//! leaves is free of them.
use super::Engine;
use crate::error::{Error, Result};
use crate::gradients::Gradients;
use tch::Tensor;
use tracing::warn;
use trainyard_native::first_non_finite;

/// A number that an update needs is not finite.
#[derive(Debug, thiserror::Error)]
#[error("{what}; {reached}")]
pub(super) struct NonFinite {
    what: String,
    reached: String,
}

impl NonFinite {
    /// `norm`: of the gradients, where the loss is finite. `created`: indices of the parameters in the order in
    /// which the model made them, which is as a rule the order of the forward.
    pub fn find(
        loss: f64,
        norm: Option<f64>,
        gradients: &Gradients<'_>,
        parameters: &[(String, Tensor)],
        created: &[usize],
    ) -> Result<Self> {
        let what = match norm {
            Some(norm) if loss.is_finite() => format!("the norm of the gradients is {norm}"),
            _ => format!("the loss is {loss}"),
        };
        let active = created.iter().filter_map(|&i| Some((i, gradients.at(i)?.shallow_clone())));
        let (indices, tensors): (Vec<_>, Vec<_>) = active.unzip();
        let reached = match first_non_finite(&tensors)? {
            Some(at) => {
                format!("the first parameter it reached is `{}`", parameters[indices[at]].0)
            }
            None => "every number in the gradients is finite".to_owned(),
        };
        Ok(NonFinite { what, reached })
    }
}

impl<M> Engine<M> {
    /// Looks at every parameter and buffer, once: for before a model is saved, so that no file of numbers takes the
    /// place of a better one. Updates are not looked at while a training runs, so one that overflows shows here or in
    /// the next step's loss. What was infinite when the engine was made may stay so, and buffers and what is frozen may
    /// become so: masks do.
    ///
    /// # Errors
    /// The first parameter that trains and is no longer finite, or else the first parameter or buffer that is no longer
    /// a number, by name; libtorch's.
    pub fn check_finite(&self) -> Result<()> {
        self.layers.settle()?;
        self.check_finite_parameters()?;
        let what = match self.watched.first_parameter(&self.parameters)? {
            Some(name) => Some(format!("parameter `{name}` is not a number (NaN)")),
            None => self.watched.first_buffer(&self.buffers)?.map(not_a_number),
        };
        what.map_or(Ok(()), |what| Err(Error::Usage(format!("after {} steps {what}", self.step))))
    }

    pub(super) fn check_finite_parameters(&self) -> Result<()> {
        let trains = |&&i: &&usize| self.watched.is_finite(i, &self.parameters[i].1);
        let trained: Vec<_> =
            self.created.iter().filter(trains).map(|&i| &self.parameters[i]).collect();
        let tensors: Vec<_> = trained.iter().map(|(_, tensor)| tensor.detach()).collect();
        let Some(at) = first_non_finite(&tensors)? else { return Ok(()) };
        Err(Error::Usage(format!(
            "parameter `{}` is not finite after {} steps, so no later step can be: an update overflowed",
            trained[at].0, self.step
        )))
    }

    /// A number that is not finite and that keeps no step from going on: a warning, or where the configuration asks
    /// for it the end.
    pub(super) fn tell(&self, what: String) -> Result<()> {
        if self.terminate_on_nan {
            // The section that asks for it.
            let (section, step, source) = ("training", self.step, what.into());
            return Err(Error::Plugin { section, step, source });
        }
        warn!("step {}: {what}", self.step);
        Ok(())
    }

    /// Says so once where a buffer has become what is not a number.
    pub(super) fn tell_of_buffers(&mut self) -> Result<()> {
        if self.watched.is_told() {
            return Ok(());
        }
        let Some(name) = self.watched.first_buffer(&self.buffers)? else { return Ok(()) };
        let what = not_a_number(name);
        self.watched.tell();
        self.tell(what)
    }
}

fn not_a_number(buffer: &str) -> String {
    format!(
        "buffer `{buffer}` is not a number (NaN), as the statistics of a normalisation over a single value are; evaluations \
         use it"
    )
}
