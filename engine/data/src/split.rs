//! Which documents are trained on and which are validated on.

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
    let count = (documents as f64 * validation_share).round() as usize;
    let mut validation = Draws::new(Purpose::Split, [0; 3]).permutation(documents);
    let mut train = validation.split_off(count.clamp(1, documents - 1));
    train.sort_unstable();
    validation.sort_unstable();
    Some(Split { train, validation })
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
    fn validation_is_spread_over_the_file() {
        let validation = split(1000, 0.1).unwrap().validation;
        let mean = validation.iter().sum::<usize>() as f64 / validation.len() as f64;
        assert!((mean - 500.0).abs() < 100.0, "{mean}"); // standard deviation 29
    }
}
