//! Which tokens of a sequence are to be guessed, and what stands in their place.

use crate::SpecialTokens;
use crate::random::{Draws, Purpose};

/// What identifies a sequence's masking. Equal keys mask equally, on any rank, in any batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleKey {
    /// The run's seed.
    pub seed: u64,
    /// Epoch from 0: every epoch masks other tokens.
    pub epoch: u64,
    /// Index of the sequence.
    pub sample: u64,
}

/// Seed and epoch of all validation, so that its loss can be compared within a run and between
/// runs. `sample` is 0 here.
pub const EVALUATION: SampleKey = SampleKey { seed: 0, epoch: u64::MAX, sample: 0 };

/// How tokens are masked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskRule {
    /// Share of a sequence's ordinary tokens to be guessed, in (0, 1].
    pub probability: f64,
    /// Number of ids there are, above every special id.
    pub vocabulary_size: usize,
    /// Ids that are never masked and never drawn.
    pub special: SpecialTokens,
}

/// A masked sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked {
    /// What the model is shown: `[time]`.
    pub input: Vec<u32>,
    /// Indices into `input` of the tokens to be guessed, rising: `[masked]`.
    pub positions: Vec<usize>,
    /// The tokens that stood there: `[masked]`.
    pub labels: Vec<u32>,
}

/// Masks a sequence as BERT does (<https://arxiv.org/abs/1810.04805>, section 3.1).
///
/// Of the n tokens that are not special, `probability` n (rounded, at least one) are chosen at
/// random, so that their number varies as little as it can. Of these, 80 % become `[MASK]`, 10 %
/// another token drawn from the vocabulary's ordinary ones (by chance the same), and 10 % stay.
/// Only a sequence of nothing but special tokens has no position.
pub fn mask(tokens: &[u32], key: SampleKey, rule: &MaskRule) -> Masked {
    let MaskRule { probability, vocabulary_size, special } = rule;
    mask_with(tokens, key, *probability, *vocabulary_size, &special.sorted(), special.mask)
}

/// The same with any number of ids that are never masked and never drawn: `special`, rising, each once.
pub(crate) fn mask_with(
    tokens: &[u32],
    key: SampleKey,
    probability: f64,
    vocabulary_size: usize,
    special: &[u32],
    mask: u32,
) -> Masked {
    let mut draws = Draws::new(Purpose::Mask, [key.seed, key.epoch, key.sample]);
    let ordinary = |&at: &usize| special.binary_search(&tokens[at]).is_err();
    let mut positions: Vec<usize> = (0..tokens.len()).filter(ordinary).collect();
    let count = (positions.len() as f64 * probability).round() as usize;
    let count = count.max(1).min(positions.len());
    draws.choose(&mut positions, count);
    positions.truncate(count);
    positions.sort_unstable();

    let labels = positions.iter().map(|&at| tokens[at]).collect();
    let mut input = tokens.to_vec();
    for &at in &positions {
        match draws.below(10) {
            0..8 => input[at] = mask,
            8 => input[at] = ordinary_token(&mut draws, vocabulary_size, special),
            _ => {}
        }
    }
    Masked { input, positions, labels }
}

/// A token of the vocabulary that is not special, each equally likely.
fn ordinary_token(draws: &mut Draws, vocabulary_size: usize, special: &[u32]) -> u32 {
    let mut id = draws.below(vocabulary_size.saturating_sub(special.len()) as u64) as u32;
    for &special in special {
        id += u32::from(id >= special);
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: SpecialTokens =
        SpecialTokens { pad: 0, unknown: 3, classify: 4, separator: 5, mask: 9 };
    const RULE: MaskRule = MaskRule { probability: 0.15, vocabulary_size: 30, special: SPECIAL };

    fn key(sample: u64) -> SampleKey {
        SampleKey { seed: 1, epoch: 0, sample }
    }

    /// `[CLS]`, 126 tokens of which two are special, `[SEP]`.
    fn sequence() -> Vec<u32> {
        let mut tokens: Vec<u32> = (0..128).map(|i| 10 + i % 20).collect();
        (tokens[0], tokens[50], tokens[60], tokens[127]) = (4, 5, 3, 5);
        tokens
    }

    /// Within five standard deviations of a binomial count.
    fn near(count: usize, trials: usize, p: f64) -> bool {
        let n = trials as f64;
        (count as f64 - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt()
    }

    #[test]
    fn eighty_ten_ten() {
        let tokens = sequence();
        let (mut masked, mut kept, mut drawn) = (0, 0, [0; 30]);
        let (mut total, mut at_position) = (0, [0; 128]);
        for sample in 0..4000 {
            let Masked { input, positions, labels } = mask(&tokens, key(sample), &RULE);
            assert_eq!(positions.len(), 19); // 0.15 * 124 = 18.6
            assert!(positions.is_sorted_by(|a, b| a < b));
            for (&at, &label) in positions.iter().zip(&labels) {
                assert!(!SPECIAL.contains(tokens[at]) && label == tokens[at]);
                at_position[at] += 1;
                match input[at] {
                    9 => masked += 1,
                    id if id == label => kept += 1,
                    id => drawn[id as usize] += 1,
                }
            }
            for at in (0..128).filter(|at| !positions.contains(at)) {
                assert_eq!(input[at], tokens[at]);
            }
            total += positions.len();
        }
        let replaced: usize = drawn.iter().sum();
        assert!(near(masked, total, 0.8), "{masked} of {total}");
        // One draw in 25 gives the token that stood there.
        assert!(near(kept, total, 0.1 + 0.1 / 25.0), "{kept} of {total}");
        assert!(near(replaced, total, 0.1 * 24.0 / 25.0), "{replaced} of {total}");
        for (id, &count) in drawn.iter().enumerate() {
            let expected = if SPECIAL.contains(id as u32) { 0.0 } else { 0.1 / 25.0 };
            assert!(count == 0 && expected == 0.0 || near(count, total, expected), "{id}: {count}");
        }
        for (at, &count) in at_position.iter().enumerate() {
            let expected = if SPECIAL.contains(tokens[at]) { 0.0 } else { 19.0 / 124.0 };
            assert!(count == 0 && expected == 0.0 || near(count, 4000, expected), "{at}: {count}");
        }
    }

    #[test]
    fn the_key_decides() {
        let tokens = sequence();
        let first = mask(&tokens, key(0), &RULE);
        assert_eq!(first, mask(&tokens, key(0), &RULE));
        for other in
            [key(1), SampleKey { seed: 2, ..key(0) }, SampleKey { epoch: 1, ..key(0) }, EVALUATION]
        {
            assert_ne!(first, mask(&tokens, other, &RULE));
        }
    }

    #[test]
    fn at_least_one_unless_there_is_none() {
        let short = mask(&[4, 20, 5], key(0), &RULE);
        assert_eq!((short.positions, short.labels), (vec![1], vec![20]));
        let all = mask(&[4, 20, 21, 5], key(0), &MaskRule { probability: 1.0, ..RULE });
        assert_eq!(all.positions, [1, 2]);
        let none = mask(&[4, 3, 3, 5], key(0), &RULE);
        assert_eq!((none.positions.len(), none.input), (0, vec![4, 3, 3, 5]));
    }
}
