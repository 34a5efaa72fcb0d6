//! Weights that travel: parameters and buffers alone, from a file or a folder into a model, by name.
//!
//! ```text
//! Offers::open      what a file, a folder or a checkpoint has: names, types, shapes
//! names             the model's names in place of the file's
//! fit               what goes where, what is missing, unexpected or of another shape
//! load              one tensor after the other, once all is known to fit
//! ```
mod config;
mod fit;
mod names;
mod offers;

pub use config::{InitFrom, InitOptions, Strictness};
pub use offers::{Offer, Offers};

use crate::error::{Error, Result};
use fit::{Fit, fit};
use names::Names;
use tch::Tensor;
use tracing::{info, warn};

/// A tensor of the model that weights are looked for.
#[derive(Debug)]
pub struct Wanted {
    /// Its names: the first is the one that is told.
    pub names: Vec<String>,
    /// Shares the model's memory.
    pub tensor: Tensor,
    /// Whether it counts as missing where it is not offered.
    pub required: bool,
}

impl Wanted {
    /// One that is required, by its only name.
    pub fn new(name: impl Into<String>, tensor: &Tensor) -> Self {
        Wanted { names: vec![name.into()], tensor: tensor.shallow_clone(), required: true }
    }
}

/// Puts the tensors that are offered into those of the model, converted to the model's types, and logs what was
/// loaded, missing and unexpected. Nothing is changed before all is known to fit.
///
/// # Errors
/// A shape or type does not fit, something is missing or unexpected that may not be, no name is in both, two
/// tensors have the same name, or one cannot be read.
pub fn load(options: &InitOptions, offers: Offers, model: &[Wanted]) -> Result<()> {
    let from = offers.path().to_owned();
    let refused = |why: String| Error::Weights { path: from.clone(), why };
    let names = Names::new(&options.names).map_err(refused)?;
    let offers = offers.renamed(&names).map_err(refused)?;
    let Fit { loaded, missing, unexpected } =
        fit(options, offers.offers(), model).map_err(refused)?;
    let mut numbers = 0;
    for (offer, wanted) in &loaded {
        let (offer, wanted) = (&offers.offers()[*offer], &model[*wanted]);
        let mut to = wanted.tensor.detach();
        let read = offer.read()?;
        let copied = tch::no_grad(|| to.f_copy_(&read).map(drop));
        copied.map_err(|error| refused(format!("`{}`: {error}", offer.name)))?;
        numbers += to.numel();
    }
    let from = from.display();
    info!("weights of {from}: {} tensors, {numbers} numbers, are loaded", loaded.len());
    if !missing.is_empty() {
        warn!("weights of {from}: {}", fit::told_missing(&missing));
    }
    if !unexpected.is_empty() {
        warn!("weights of {from}: {}", fit::told_unexpected(&unexpected));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
