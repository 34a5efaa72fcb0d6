//! Independent gates given how many of them are open.
use rand_chacha::rand_core::Rng;
use trainyard::draw::uniform;

/// Draws which `count` of the gates are open: gate j is open with probability `keep[j]` independently of
/// the others, given that `count` are open in all. Exact, by dynamic programming.
///
/// `count` must be possible: at most `keep.len()`, at least the number of gates that are always open.
pub fn choose(keep: &[f64], count: usize, generator: &mut impl Rng) -> Vec<bool> {
    let law = counts(keep, count);
    let mut left = count;
    let mut open = |(j, &p): (usize, &f64)| {
        // Of the ways to have `left` open gates from j on, the share in which j is one of them.
        let share = match left {
            0 => 0.0,
            _ => p * law[j + 1][left - 1] / law[j][left],
        };
        let open = uniform(generator) < share;
        left -= usize::from(open);
        open
    };
    keep.iter().enumerate().map(&mut open).collect()
}

/// `[j][k]`: probability that just k of the gates from j on are open, for k up to `count`.
fn counts(keep: &[f64], count: usize) -> Vec<Vec<f64>> {
    let mut law = vec![vec![0.0; count + 1]; keep.len() + 1];
    law[keep.len()][0] = 1.0;
    for (j, p) in keep.iter().enumerate().rev() {
        for k in 0..=count {
            let open = if k == 0 { 0.0 } else { p * law[j + 1][k - 1] };
            law[j][k] = open + (1.0 - p) * law[j + 1][k];
        }
    }
    law
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainyard::draw::{Purpose, generator};

    const KEEP: [f64; 5] = [0.95, 0.8, 0.5, 0.3, 1.0];

    /// Every set of gates with its probability, as bits.
    fn sets() -> impl Iterator<Item = (usize, f64)> {
        let p = |set: usize, j: usize| if set >> j & 1 == 1 { KEEP[j] } else { 1.0 - KEEP[j] };
        (0..1 << KEEP.len()).map(move |set| (set, (0..KEEP.len()).map(|j| p(set, j)).product()))
    }

    fn with_count(count: usize) -> impl Iterator<Item = (usize, f64)> {
        sets().filter(move |(set, _)| set.count_ones() as usize == count)
    }

    #[test]
    fn the_law_of_the_count_by_enumeration() {
        let law = counts(&KEEP, KEEP.len());
        for (count, found) in law[0].iter().enumerate() {
            let expected: f64 = with_count(count).map(|(_, p)| p).sum();
            assert!((found - expected).abs() < 1e-15, "{count}: {found} is not {expected}");
        }
    }

    #[test]
    fn the_conditional_law_by_enumeration() {
        let draws = 20_000;
        let mut generator = generator(3, Purpose::GATES, 0, [0, 0]);
        for count in 1..=KEEP.len() {
            let mut seen = [0; 1 << KEEP.len()];
            for _ in 0..draws {
                let open = choose(&KEEP, count, &mut generator);
                let bits = open.iter().enumerate().map(|(j, &open)| usize::from(open) << j);
                seen[bits.sum::<usize>()] += 1;
            }
            let total: f64 = with_count(count).map(|(_, p)| p).sum();
            for (set, p) in with_count(count) {
                let p = p / total;
                let frequency = seen[set] as f64 / draws as f64;
                let bound = 5.0 * (p * (1.0 - p) / draws as f64).sqrt();
                assert!((frequency - p).abs() <= bound, "{set:05b}: {frequency}, not {p}");
                seen[set] = 0;
            }
            assert_eq!(seen.iter().sum::<i32>(), 0, "a set that does not have {count} gates");
        }
    }

    #[test]
    fn the_count_is_kept_for_many_gates() {
        let keep: Vec<_> = (0..300).map(|j| 1.0 - f64::from(j) / 600.0).collect();
        let mut generator = generator(4, Purpose::GATES, 0, [0, 0]);
        for count in [150, 225, 260] {
            let open = choose(&keep, count, &mut generator);
            assert_eq!(open.iter().filter(|&&open| open).count(), count);
        }
        assert_eq!(choose(&[], 0, &mut generator), Vec::<bool>::new());
    }
}
