//! The gradients of a step, by parameter name.
use crate::error::Result;
use tch::Tensor;

/// The gradients of a step. A parameter that no layer call touched has none: it is *idle*, which is
/// not the same as a gradient of zero.
#[derive(Debug)]
pub struct Gradients<'a> {
    parameters: &'a [(String, Tensor)],
    values: Vec<Option<Tensor>>,
    norm: Option<Tensor>,
}

impl<'a> Gradients<'a> {
    /// Reads what the backward passes left on the parameters.
    pub(crate) fn collect(parameters: &'a [(String, Tensor)]) -> Self {
        let of = |tensor: &Tensor| Some(tensor.grad()).filter(Tensor::defined);
        let values = parameters.iter().map(|(_, tensor)| of(tensor)).collect();
        Gradients { parameters, values, norm: None }
    }

    /// Every trainable parameter by name, in sorted order, with its gradient.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Tensor>)> {
        self.parameters.iter().zip(&self.values).map(|((name, _), g)| (name.as_str(), g.as_ref()))
    }

    /// The gradients that there are, in the order of their names. They share storage with the
    /// originals: an operation in place changes what the optimizer sees.
    pub fn active(&self) -> Vec<Tensor> {
        self.values.iter().flatten().map(Tensor::shallow_clone).collect()
    }

    /// Number of idle parameters.
    pub fn idle(&self) -> usize {
        self.values.iter().filter(|value| value.is_none()).count()
    }

    /// Gives every idle parameter that is not frozen a gradient of zero, so that the optimizer treats
    /// it like any other.
    ///
    /// # Errors
    /// If libtorch cannot allocate.
    pub fn fill_idle(&mut self) -> Result<()> {
        for ((_, parameter), value) in self.parameters.iter().zip(&mut self.values) {
            if value.is_none() && parameter.requires_grad() {
                *value = Some(parameter.f_zeros_like()?.detach());
            }
        }
        Ok(())
    }

    /// Takes the parameter called `name` out of the step: it becomes idle. True if it was not.
    pub fn take_out(&mut self, name: &str) -> bool {
        self.position(name).is_some_and(|i| self.values[i].take().is_some())
    }

    /// The Euclidean norm over all gradients that are not idle: a float32 scalar on their device, not
    /// yet read by the host, and remembered for the report. Call it before changing them.
    ///
    /// # Errors
    /// If libtorch refuses the tensors.
    pub fn norm(&mut self) -> Result<Tensor> {
        let norm = match &self.norm {
            Some(norm) => norm.shallow_clone(),
            None => match self.active() {
                active if active.is_empty() => Tensor::from(0f32),
                active => trainyard_native::norm_of(&active)?,
            },
        };
        self.norm = Some(norm.shallow_clone());
        Ok(norm)
    }

    /// Multiplies every gradient in place by `factor`, a scalar tensor on their device.
    ///
    /// # Errors
    /// If libtorch refuses the tensors.
    pub fn scale(&mut self, factor: &Tensor) -> Result<()> {
        let active = self.active();
        if !active.is_empty() {
            trainyard_native::scale_all(&active, factor)?;
        }
        Ok(())
    }

    /// The gradient at `index` of the sorted parameters.
    pub(crate) fn at(&self, index: usize) -> Option<&Tensor> {
        self.values[index].as_ref()
    }

    /// The norm, where somebody asked for it.
    pub(crate) fn known_norm(&self) -> Option<&Tensor> {
        self.norm.as_ref()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.parameters.binary_search_by(|(have, _)| have.as_str().cmp(name)).ok()
    }
}
