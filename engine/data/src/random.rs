//! Random draws that depend on a key alone, never on what was drawn before.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of draws is for. Equal keys for different purposes give unrelated streams.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Split = 1,
    Order = 2,
    Mask = 3,
}

/// A stream of draws, fixed by its purpose and a key of three numbers: the key is ChaCha's.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(purpose: Purpose, key: [u64; 3]) -> Self {
        let mut bytes = [0; 32];
        let words = [purpose as u64, key[0], key[1], key[2]];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(bytes))
    }

    /// 64 random bits.
    pub(crate) fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in 0..n (0 if n is 0). Its bias, n / 2^64, is far below what any test could see.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(n)) >> 64) as u64
    }

    /// Puts a random choice of `count` items, in random order, at the front (Fisher and Yates).
    pub(crate) fn choose<T>(&mut self, items: &mut [T], count: usize) {
        for i in 0..count.min(items.len()) {
            let j = i + self.below((items.len() - i) as u64) as usize;
            items.swap(i, j);
        }
    }

    /// The numbers 0..n in random order.
    pub(crate) fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut items: Vec<usize> = (0..n).collect();
        self.choose(&mut items, n);
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_key_matters() {
        let draw = |purpose, key| Draws::new(purpose, key).below(u64::MAX);
        let mut all = vec![draw(Purpose::Split, [0, 0, 0])];
        assert_eq!(all[0], draw(Purpose::Split, [0, 0, 0]));
        for key in [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]] {
            all.extend([draw(Purpose::Order, key), draw(Purpose::Mask, key)]);
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn permutations_are_even() {
        let mut counts = std::collections::BTreeMap::new();
        for key in 0..6000 {
            let order = Draws::new(Purpose::Order, [key, 0, 0]).permutation(3);
            *counts.entry(order).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // 1000 expected of each, standard deviation 29.
        assert!(counts.values().all(|n: &i32| (n - 1000).abs() < 150), "{counts:?}");
    }
}
