//! The order of the training sequences in an epoch.

use crate::random::{Draws, Purpose};

/// The samples 0..`samples` in the order of the given epoch: a function of its arguments alone.
pub fn order(seed: u64, epoch: u64, samples: usize) -> Vec<usize> {
    Draws::new(Purpose::Order, [seed, epoch, 0]).permutation(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_sample_once_in_its_own_order() {
        let first = order(1, 0, 1000);
        assert_eq!(first, order(1, 0, 1000));
        for other in [order(1, 1, 1000), order(2, 0, 1000)] {
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < 10, "{same} of 1000 in the same place");
            let mut sorted = other;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..1000));
        }
        assert!(order(1, 0, 0).is_empty());
    }

    /// A run that is resumed by a later version goes on in the same order. The numbers are from
    /// ChaCha8 written out in Python.
    #[test]
    fn the_order_never_changes_between_versions() {
        assert_eq!(order(42, 3, 8), [4, 0, 1, 2, 6, 5, 3, 7]);
    }
}
