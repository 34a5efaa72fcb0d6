//! Which documents or samples are trained on and which are validated on.

use std::ops::Range;

use crate::permutation::{Keyed, MOST_LISTED};
use crate::random::{Draws, Purpose};

/// Indices of documents, each side in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Documents to train on; at least one.
    pub train: Vec<usize>,
    /// Documents to validate on; at least one.
    pub validation: Vec<usize>,
}

/// Splits `documents` documents at random, `validation_share` of them (rounded, at least one) to
/// validation; `None` if there are fewer than two.
///
/// The choice does not depend on a run's seed: runs with different seeds are compared on the same
/// documents.
pub fn split(documents: usize, validation_share: f64) -> Option<Split> {
    if documents < 2 {
        return None;
    }
    let mut validation = Draws::new(Purpose::Split, [0; 3]).permutation(documents);
    let mut train = validation.split_off(validated(documents, validation_share));
    train.sort_unstable();
    validation.sort_unstable();
    Some(Split { train, validation })
}

/// How many of at least two items go to validation.
fn validated(items: usize, share: f64) -> usize {
    ((items as f64 * share).round() as usize).clamp(1, items - 1)
}

/// The samples of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Side {
    /// 0..n.
    All(usize),
    /// These.
    Listed(Vec<usize>),
    /// Those at some places of a permutation.
    Keyed(Keyed, Range<usize>),
}

impl Side {
    pub(crate) fn len(&self) -> usize {
        match self {
            Side::All(samples) => *samples,
            Side::Listed(samples) => samples.len(),
            Side::Keyed(_, places) => places.len(),
        }
    }

    /// The sample at `place`, below [`Side::len`].
    pub(crate) fn at(&self, place: usize) -> usize {
        match self {
            Side::All(_) => place,
            Side::Listed(samples) => samples[place],
            Side::Keyed(permutation, places) => permutation.at(places.start + place),
        }
    }
}

/// [`split`] of any number of samples, training side first: lists where they are short, and no memory
/// for a sample where they are many.
pub(crate) fn sides(samples: usize, validation_share: f64) -> Option<(Side, Side)> {
    sides_of(samples, validation_share, MOST_LISTED)
}

fn sides_of(samples: usize, validation_share: f64, most_listed: usize) -> Option<(Side, Side)> {
    if samples <= most_listed {
        let Split { train, validation } = split(samples, validation_share)?;
        return Some((Side::Listed(train), Side::Listed(validation)));
    }
    let permutation = Keyed::new(&mut Draws::new(Purpose::Split, [0; 3]), samples);
    let count = validated(samples, validation_share);
    Some((Side::Keyed(permutation, count..samples), Side::Keyed(permutation, 0..count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_is_on_one_side() {
        for documents in [2, 3, 20, 233] {
            for share in [0.001, 0.05, 0.5, 0.999] {
                let Split { train, validation } = split(documents, share).unwrap();
                let expected =
                    (documents as f64 * share).round().clamp(1.0, documents as f64 - 1.0);
                assert_eq!(validation.len(), expected as usize);
                assert!(train.is_sorted() && validation.is_sorted());
                let mut all = [train, validation].concat();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..documents));
            }
        }
        assert_eq!(split(233, 0.05), split(233, 0.05));
    }

    #[test]
    fn one_document_cannot_be_split() {
        assert_eq!(split(0, 0.5), None);
        assert_eq!(split(1, 0.5), None);
        assert!(split(2, f64::NAN).is_some());
    }

    #[test]
    fn many_samples_are_split_without_a_list() {
        for (samples, share, expected) in [(1000, 0.05, 50), (1000, 0.999, 999), (65, 1e-9, 1)] {
            let (train, validation) = sides_of(samples, share, 64).unwrap();
            assert_eq!((train.len(), validation.len()), (samples - expected, expected));
            let rows = |side: &Side| (0..side.len()).map(|at| side.at(at)).collect::<Vec<_>>();
            let mut all = [rows(&train), rows(&validation)].concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..samples));
        }
        let (_, validation) = sides(3_000_000_000, 0.05).unwrap();
        assert!(matches!(validation, Side::Keyed(..)) && validation.len() == 150_000_000);
        let few = split(100, 0.1).unwrap();
        let expected = (Side::Listed(few.train), Side::Listed(few.validation));
        assert_eq!(sides(100, 0.1).unwrap(), expected);
    }

    #[test]
    fn validation_is_spread_over_the_file() {
        let validation = split(1000, 0.1).unwrap().validation;
        let mean = validation.iter().sum::<usize>() as f64 / validation.len() as f64;
        assert!((mean - 500.0).abs() < 100.0, "{mean}"); // standard deviation 29
    }
}
