//! Which numbers of a batch may have made a forward fail.

use std::fmt;
use std::path::PathBuf;

use tch::{Kind, Tensor};

use super::data::{ArrayBatch, ArrayData};

/// A number of a batch that stands out, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// The input.
    pub input: String,
    /// The number.
    pub value: f64,
    /// Index of the sample in its file, from 0.
    pub sample: usize,
    /// The file.
    pub path: PathBuf,
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, value, sample, path } = self;
        write!(f, "`{input}` has {value} in sample {sample} of {path:?}")
    }
}

impl ArrayData {
    /// The largest number of an integer input of the batch, and the smallest if it is negative.
    pub fn furthest(&self, batch: &ArrayBatch, input: &str) -> Vec<Suspect> {
        let Some(tensor) = batch.get(input).filter(|tensor| is_integer(tensor)) else {
            return Vec::new();
        };
        let places = [tensor.f_argmax(None, false), tensor.f_argmin(None, false)];
        let places = places.into_iter().flatten().filter_map(|at| at.f_int64_value(&[]).ok());
        let mut found: Vec<_> =
            places.filter_map(|at| self.suspect(batch, input, tensor, at)).collect();
        if found.last().is_some_and(|smallest| smallest.value >= 0.0) {
            found.truncate(1);
        }
        found
    }

    /// The first number of each floating-point input of the batch that is NaN or infinite.
    pub fn not_finite(&self, batch: &ArrayBatch) -> Vec<Suspect> {
        let floats = batch.inputs.iter().filter(|(_, tensor)| tensor.is_floating_point());
        let found = floats.filter_map(|(input, tensor)| {
            let wrong = tensor.f_isfinite().ok()?.f_logical_not().ok()?;
            let at = wrong.f_to_kind(Kind::Uint8).ok()?.f_argmax(None, false).ok()?;
            let suspect = self.suspect(batch, input, tensor, at.f_int64_value(&[]).ok()?)?;
            (!suspect.value.is_finite()).then_some(suspect)
        });
        found.collect()
    }

    /// The number at a place of an input seen flat.
    fn suspect(
        &self,
        batch: &ArrayBatch,
        input: &str,
        tensor: &Tensor,
        at: i64,
    ) -> Option<Suspect> {
        let numbers = tensor.numel() / batch.samples.max(1);
        let place = self.place(batch, input, (at as usize).checked_div(numbers)?)?;
        let value = tensor.f_reshape([-1]).ok()?.f_double_value(&[at]).ok()?;
        let path = place.part.path.clone();
        Some(Suspect { input: input.to_owned(), value, sample: place.row, path })
    }
}

fn is_integer(tensor: &Tensor) -> bool {
    !tensor.is_floating_point() && tensor.kind() != Kind::Bool && tensor.numel() > 0
}
