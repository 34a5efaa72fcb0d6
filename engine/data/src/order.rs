//! The order of the training samples in an epoch.

use crate::Permutation;
use crate::random::{Draws, Purpose};

/// The samples 0..`samples` in the order of the given epoch: a function of its arguments alone.
pub fn order(seed: u64, epoch: u64, samples: usize) -> Permutation {
    Permutation::new(Draws::new(Purpose::Order, [seed, epoch, 0]), samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(seed: u64, epoch: u64, samples: usize) -> Vec<usize> {
        let order = order(seed, epoch, samples);
        (0..samples).map(|place| order.at(place)).collect()
    }

    #[test]
    fn an_epoch_has_every_sample_once_in_its_own_order() {
        let first = listed(1, 0, 1000);
        assert_eq!(first, listed(1, 0, 1000));
        for other in [listed(1, 1, 1000), listed(2, 0, 1000)] {
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < 10, "{same} of 1000 in the same place");
            let mut sorted = other;
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..1000));
        }
        assert!(listed(1, 0, 0).is_empty());
    }

    /// A run that is resumed by a later version goes on in the same order. The numbers are from
    /// ChaCha8 written out in Python.
    #[test]
    fn the_order_never_changes_between_versions() {
        assert_eq!(listed(42, 3, 8), [4, 0, 1, 2, 6, 5, 3, 7]);
    }
}
