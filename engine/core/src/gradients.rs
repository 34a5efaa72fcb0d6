//! The gradients of a step, by parameter name.
use crate::error::Result;
use crate::strides::copy_like;
use tch::{Kind, Tensor};
use trainyard_native::{Blemish, blemished};

/// The gradients of a step. A parameter that no layer call touched has none: it is *idle*, which is
/// not the same as a gradient of zero.
///
/// Factors on all of them (loss scale, clipping) are gathered in one, which is multiplied in when the
/// tensors are looked at, or by the optimizer as it reads them.
#[derive(Debug)]
pub struct Gradients<'a> {
    parameters: &'a [(String, Tensor)],
    values: Vec<Option<Tensor>>,
    /// What the tensors still have to be multiplied by.
    factor: Option<Tensor>,
    /// The norm as long as nothing changed since it was asked for.
    norm: Option<Tensor>,
    /// The norm when it was first asked for: what the report has.
    first_norm: Option<Tensor>,
    /// What is not finite in the tensors shows in `first_norm`.
    in_norm: bool,
}

impl<'a> Gradients<'a> {
    /// Reads what the backward passes left on the parameters. A sparse gradient is made dense; those of the
    /// parameters `with_gaps`, by index, are laid out as their states are.
    pub(crate) fn collect(parameters: &'a [(String, Tensor)], with_gaps: &[usize]) -> Result<Self> {
        let of = |(_, tensor): &(String, Tensor)| gradient(tensor);
        let mut values = parameters.iter().map(of).collect::<Result<Vec<_>>>()?;
        for &index in with_gaps {
            if let Some(value) = &mut values[index] {
                *value = copy_like(value, &parameters[index].1)?;
            }
        }
        Ok(Gradients {
            parameters,
            values,
            factor: None,
            norm: None,
            first_norm: None,
            in_norm: false,
        })
    }

    /// Every trainable parameter by name, in sorted order, with its gradient.
    ///
    /// # Errors
    /// If libtorch refuses the tensors.
    pub fn iter(&mut self) -> Result<impl Iterator<Item = (&str, Option<&Tensor>)>> {
        self.settle()?;
        let names = self.parameters.iter().map(|(name, _)| name.as_str());
        Ok(names.zip(self.values.iter().map(Option::as_ref)))
    }

    /// The gradients that there are, in the order of their names. They share storage with the
    /// originals: an operation in place changes what the optimizer sees.
    ///
    /// # Errors
    /// If libtorch refuses the tensors.
    pub fn active(&mut self) -> Result<Vec<Tensor>> {
        self.settle()?;
        (self.norm, self.in_norm) = (None, false);
        Ok(self.unsettled())
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
        self.norm = None;
        self.position(name).is_some_and(|i| self.values[i].take().is_some())
    }

    /// The Euclidean norm over all gradients that are not idle: a scalar on their device, not yet read by the host,
    /// in float64 if one of them is, else in float32. The report has what it was when it was first asked for in a step.
    ///
    /// # Errors
    /// If libtorch refuses the tensors.
    pub fn norm(&mut self) -> Result<Tensor> {
        if let Some(norm) = &self.norm {
            return Ok(norm.shallow_clone());
        }
        let norm = match (self.unsettled(), &self.factor) {
            (active, _) if active.is_empty() => Tensor::from(0f32),
            (active, None) => trainyard_native::norm_of(&active)?,
            (active, Some(factor)) => {
                trainyard_native::norm_of(&active)?.f_mul(&factor.f_abs()?)?
            }
        };
        self.norm = Some(norm.shallow_clone());
        if self.first_norm.is_none() {
            (self.first_norm, self.in_norm) = (Some(norm.shallow_clone()), true);
        }
        Ok(norm)
    }

    /// Multiplies every gradient by `factor`, a real scalar on their device. No pass over memory:
    /// the optimizer may do it as it reads them.
    ///
    /// # Errors
    /// If libtorch refuses the tensor.
    pub fn scale(&mut self, factor: &Tensor) -> Result<()> {
        self.factor = Some(match &self.factor {
            None => factor.shallow_clone(),
            Some(earlier) => earlier.f_mul(factor)?,
        });
        self.norm = None;
        Ok(())
    }

    /// As [`scale`](Gradients::scale), by a number that the host knows.
    ///
    /// # Errors
    /// If libtorch cannot allocate.
    pub fn scale_by(&mut self, factor: f64) -> Result<()> {
        let mut all = self.values.iter().flatten();
        let Some(device) = all.clone().next().map(Tensor::device) else { return Ok(()) };
        let kind = match all.any(|value| value.kind() == Kind::Double) {
            true => Kind::Double,
            false => Kind::Float,
        };
        // Made where it is used: a copy to a GPU would wait for it.
        self.scale(&Tensor::f_full([], factor, (kind, device))?)
    }

    /// Multiplies the factor in, in place.
    pub(crate) fn settle(&mut self) -> Result<()> {
        match (self.factor.take(), self.unsettled()) {
            (Some(factor), active) if !active.is_empty() => {
                Ok(trainyard_native::scale_all(&active, &factor)?)
            }
            _ => Ok(()),
        }
    }

    /// The gradients but for the factor.
    fn unsettled(&self) -> Vec<Tensor> {
        self.values.iter().flatten().map(Tensor::shallow_clone).collect()
    }

    /// What the tensors still have to be multiplied by.
    pub(crate) fn factor(&self) -> Option<&Tensor> {
        self.factor.as_ref()
    }

    /// The gradient at `index` of the sorted parameters.
    pub(crate) fn at(&self, index: usize) -> Option<&Tensor> {
        self.values[index].as_ref()
    }

    /// Whether a number in the tensors is not finite: a scalar, 1 or 0, not yet read by the host. None where the norm
    /// that somebody asked for shows it.
    pub(crate) fn blemished(&self) -> Result<Option<Tensor>> {
        if self.in_norm { Ok(None) } else { Ok(blemished(&self.unsettled(), Blemish::NonFinite)?) }
    }

    /// The norm, where somebody asked for it.
    pub(crate) fn known_norm(&self) -> Option<&Tensor> {
        self.first_norm.as_ref()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.parameters.binary_search_by(|(have, _)| have.as_str().cmp(name)).ok()
    }
}

/// The gradient of a parameter, dense, if it has one.
pub(crate) fn gradient(parameter: &Tensor) -> Result<Option<Tensor>> {
    let gradient = parameter.grad();
    match gradient.defined() {
        false => Ok(None),
        true if gradient.is_sparse() => {
            Ok(Some(copy_like(&gradient.f_to_dense(None::<Kind>, false)?, parameter)?))
        }
        true => Ok(Some(gradient)),
    }
}
