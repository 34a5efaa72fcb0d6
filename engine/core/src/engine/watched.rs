//! Tensors that turn into what they must not be: parameters by an update that overflows, buffers as the statistics of a
//! normalisation over one value do.
use super::Named;
use crate::error::Result;
use tch::Tensor;
use trainyard_native::{Blemish, blemished};

/// Elements of a buffer that is looked at in every step: running statistics have fewer, tables more.
const MOST_ELEMENTS: usize = 1 << 16;

/// What parameters and buffers were when the training began, and have to stay: what was finite and trains, finite, and
/// else what was a number, a number. A mask may be infinite, and may become so.
pub(super) struct Watched {
    /// By index.
    parameters: Vec<Began>,
    buffers: Vec<Began>,
    /// The buffers that are looked at in every step.
    small: Vec<Tensor>,
    /// One of them was found.
    told: bool,
}

/// What a tensor of real numbers was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Began {
    Finite,
    Numbers,
    /// Of another kind of number, or with what is no number from the start.
    Anything,
}

impl Watched {
    pub fn new(parameters: &Named, buffers: &Named) -> Result<Self> {
        let began = |named: &Named| -> Result<Vec<_>> {
            named.iter().map(|(_, tensor)| Began::of(tensor)).collect()
        };
        let (parameters, began) = (began(parameters)?, began(buffers)?);
        let watched = buffers.iter().zip(&began).filter(|(_, began)| **began != Began::Anything);
        let small = watched.map(|((_, tensor), _)| tensor.shallow_clone());
        let small = small.filter(|tensor| tensor.numel() <= MOST_ELEMENTS).collect();
        Ok(Watched { parameters, buffers: began, small, told: false })
    }

    /// Whether one that is looked at in every step is no number: a scalar, 1 or 0, not yet read by the host. None once
    /// it was told.
    pub fn look(&self) -> Result<Option<Tensor>> {
        if self.told { Ok(None) } else { Ok(blemished(&self.small, Blemish::Nan)?) }
    }

    /// Whether parameter `index` has to be finite.
    pub fn is_finite(&self, index: usize, parameter: &Tensor) -> bool {
        self.parameters[index] == Began::Finite && parameter.requires_grad()
    }

    /// The first buffer by name that is no number.
    pub fn first_buffer<'a>(&self, buffers: &'a Named) -> Result<Option<&'a str>> {
        first_nan(&self.buffers, buffers)
    }

    /// The first parameter by name that is no number.
    pub fn first_parameter<'a>(&self, parameters: &'a Named) -> Result<Option<&'a str>> {
        first_nan(&self.parameters, parameters)
    }

    /// Whether one was found before.
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// From here on it is known.
    pub fn tell(&mut self) {
        self.told = true;
    }
}

impl Began {
    fn of(tensor: &Tensor) -> Result<Self> {
        Ok(match tensor.is_floating_point() {
            true if !has(tensor, Blemish::NonFinite)? => Began::Finite,
            true if !has(tensor, Blemish::Nan)? => Began::Numbers,
            _ => Began::Anything,
        })
    }
}

fn first_nan<'a>(began: &[Began], named: &'a Named) -> Result<Option<&'a str>> {
    for ((name, tensor), began) in named.iter().zip(began) {
        if *began != Began::Anything && has(tensor, Blemish::Nan)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn has(tensor: &Tensor, blemish: Blemish) -> Result<bool> {
    let found = blemished(&[tensor.detach()], blemish)?;
    Ok(found.map_or(Ok(0.0), |found| found.f_double_value(&[]))? != 0.0)
}
