//! Random draws as pure functions: a counter-based generator, keyed by what the draw is for.
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a draw is for, so that two uses of one seed are independent. Plugins of other crates pick
/// `Purpose(n)` with any n from 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose(pub u32);

impl Purpose {
    /// Seeds of libtorch's own generator (dropout).
    pub const DROPOUT: Purpose = Purpose(0);
    /// Gates of layers.
    pub const GATES: Purpose = Purpose(1);
}

/// A generator that depends on its arguments alone, the same on every machine.
///
/// `counters` tell the draws of one purpose apart, such as the attempt and the micro-batch.
pub fn generator(seed: u64, purpose: Purpose, rank: u32, counters: [u64; 2]) -> ChaCha8Rng {
    let words = [seed, u64::from(purpose.0) << 32 | u64::from(rank), counters[0], counters[1]];
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A uniform draw from [0, 1): the top 53 bits of one 64-bit word.
pub fn uniform(generator: &mut impl Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_matters() {
        let first = |s, p, r, c| uniform(&mut generator(s, p, r, c));
        let base = first(1, Purpose::GATES, 0, [5, 0]);
        assert_eq!(base, first(1, Purpose::GATES, 0, [5, 0]));
        for other in [
            first(2, Purpose::GATES, 0, [5, 0]),
            first(1, Purpose::DROPOUT, 0, [5, 0]),
            first(1, Purpose::GATES, 1, [5, 0]),
            first(1, Purpose::GATES, 0, [6, 0]),
            first(1, Purpose::GATES, 0, [5, 1]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn uniform_has_mean_one_half() {
        let mut g = generator(7, Purpose::GATES, 0, [0, 0]);
        let mean = (0..100_000).map(|_| uniform(&mut g)).sum::<f64>() / 1e5;
        // Standard error 0.00091; five of them.
        assert!((mean - 0.5).abs() < 0.0046, "{mean}");
    }
}
