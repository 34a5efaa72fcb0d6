//! Masking of a column of tokens.

use tch::Tensor;

use super::column::Column;
use super::config::Masking;
use crate::mask::mask_with;
use crate::{Error, Result, SampleKey};

/// What stands in the labels where nothing is to be guessed; losses leave it out.
const NOTHING: i64 = -100;

/// Masks `tokens`, the given rows of a column, [samples, time], int64. Returns what the model is shown and the labels,
/// both of that shape.
///
/// # Errors
/// An id that the vocabulary does not have.
pub(super) fn masked(
    masking: &Masking,
    tokens: &Tensor,
    column: &Column,
    samples: &[usize],
    key: SampleKey,
) -> Result<(Tensor, Tensor)> {
    let special = masking.special();
    let ids = Vec::<i64>::try_from(tokens.f_flatten(0, -1)?)?;
    let time = ids.len() / samples.len().max(1);
    let (mut shown, mut labels) = (Vec::with_capacity(ids.len()), vec![NOTHING; ids.len()]);
    for (row, (ids, &sample)) in ids.chunks_exact(time.max(1)).zip(samples).enumerate() {
        let known = |&id: &i64| {
            let below = u32::try_from(id).ok().filter(|&id| id < masking.vocabulary);
            below.ok_or_else(|| {
                let place = column.place(sample);
                Error::Token {
                    name: masking.input.clone(),
                    sample: place.row,
                    path: place.part.path.clone(),
                    id,
                    vocabulary: masking.vocabulary,
                }
            })
        };
        let tokens = ids.iter().map(known).collect::<Result<Vec<_>>>()?;
        let key = SampleKey { sample: sample as u64, ..key };
        let size = masking.vocabulary as usize;
        let masked =
            mask_with(&tokens, key, masking.probability, size, &special, masking.mask_token);
        shown.extend(masked.input.into_iter().map(i64::from));
        for (at, label) in masked.positions.into_iter().zip(masked.labels) {
            labels[row * time + at] = i64::from(label);
        }
    }
    let shape = tokens.size();
    let tensor = |values: &[i64]| Tensor::from_slice(values).f_view(shape.as_slice());
    Ok((tensor(&shown)?, tensor(&labels)?))
}
