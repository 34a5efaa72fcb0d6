//! Buffers that turn into what is not a number, as the statistics of a normalisation over one value do.
use super::Named;
use crate::error::Result;
use tch::Tensor;
use trainyard_native::{Blemish, blemished};

/// Elements of a buffer that is looked at in every step: running statistics have fewer, tables more.
const MOST_ELEMENTS: usize = 1 << 16;

/// Buffers of real numbers. Infinities are none of its business: masks are infinite for good reason.
pub(super) struct Watched {
    /// By index: those that were numbers when the training began.
    all: Vec<usize>,
    /// Those of them that are looked at in every step.
    small: Vec<Tensor>,
    /// One was found.
    told: bool,
}

impl Watched {
    pub fn new(buffers: &Named) -> Result<Self> {
        let mut all = Vec::new();
        for (index, (_, tensor)) in buffers.iter().enumerate() {
            if tensor.is_floating_point() && !has_nan(tensor)? {
                all.push(index);
            }
        }
        let tensors = all.iter().map(|&i| buffers[i].1.shallow_clone());
        let small = tensors.filter(|tensor| tensor.numel() <= MOST_ELEMENTS).collect();
        Ok(Watched { all, small, told: false })
    }

    /// Whether one that is looked at in every step is no number: a scalar, 1 or 0, not yet read by the host. None once
    /// it was told.
    pub fn look(&self) -> Result<Option<Tensor>> {
        if self.told { Ok(None) } else { Ok(blemished(&self.small, Blemish::Nan)?) }
    }

    /// The first of all by name that is no number.
    pub fn first<'a>(&self, buffers: &'a Named) -> Result<Option<&'a str>> {
        for &index in &self.all {
            let (name, tensor) = &buffers[index];
            if has_nan(tensor)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
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

fn has_nan(tensor: &Tensor) -> Result<bool> {
    let found = blemished(std::slice::from_ref(tensor), Blemish::Nan)?;
    Ok(found.map_or(Ok(0.0), |found| found.f_double_value(&[]))? != 0.0)
}
