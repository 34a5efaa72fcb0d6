//! Random permutations: listed where they are short, computed item by item where they are long.

use crate::random::Draws;

/// Up to so many items a permutation is a list (128 MiB at most); above, it takes no memory for an item.
pub(crate) const MOST_LISTED: usize = 1 << 24;

/// The numbers 0..n in random order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permutation(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Listed(Vec<usize>),
    Keyed(Keyed),
}

impl Permutation {
    pub(crate) fn new(mut draws: Draws, items: usize) -> Self {
        Self(match items <= MOST_LISTED {
            true => Kind::Listed(draws.permutation(items)),
            false => Kind::Keyed(Keyed::new(&mut draws, items)),
        })
    }

    /// The number at the given place.
    ///
    /// # Panics
    /// There is no such place.
    pub fn at(&self, place: usize) -> usize {
        match &self.0 {
            Kind::Listed(items) => items[place],
            Kind::Keyed(keyed) => keyed.at(place),
        }
    }
}

/// Number of Feistel rounds; four are enough against a reader who knows no key
/// (<https://doi.org/10.1137/0217022>), and these rounds are no ciphers.
const ROUNDS: usize = 8;

/// A permutation of 0..items as a function: a Feistel network over the next power of four, applied
/// until it lands below `items` (cycle walking, <https://doi.org/10.1007/3-540-45760-7_9>). That is
/// less than four times on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keyed {
    items: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Keyed {
    pub(crate) fn new(draws: &mut Draws, items: usize) -> Self {
        let items = items as u64;
        let bits = u64::BITS - items.saturating_sub(1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        Self { items, half_bits, keys: std::array::from_fn(|_| draws.word()) }
    }

    pub(crate) fn at(&self, place: usize) -> usize {
        let mut at = place as u64;
        // From outside, the walk might never come in.
        assert!(at < self.items, "place {at} of {} items", self.items);
        loop {
            at = self.network(at);
            if at < self.items {
                return at as usize;
            }
        }
    }

    fn network(&self, at: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (at >> self.half_bits, at & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mixed(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// The finaliser of SplitMix64: every bit of the result depends on every bit.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    fn keyed(key: u64, items: usize) -> Keyed {
        Keyed::new(&mut Draws::new(Purpose::Order, [key, 0, 0]), items)
    }

    #[test]
    fn a_keyed_one_has_every_item_once() {
        for items in (1..70).chain([255, 256, 257, 1000, 4095, 4096, 4097]) {
            let keyed = keyed(items as u64, items);
            let mut all: Vec<_> = (0..items).map(|place| keyed.at(place)).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..items), "{items}");
        }
    }

    #[test]
    fn keyed_ones_are_even() {
        let mut counts = std::collections::BTreeMap::new();
        for key in 0..24_000 {
            let keyed = keyed(key, 4);
            *counts.entry([0, 1, 2, 3].map(|place| keyed.at(place))).or_insert(0) += 1;
        }
        // 1000 expected of each, standard deviation 31.
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|n: &i32| (n - 1000).abs() < 160), "{counts:?}");
    }

    /// Neighbours in the order are no neighbours in the data, and keys give unrelated orders.
    #[test]
    fn a_long_one_looks_random() {
        let items = 3_000_000_000;
        let (first, other) = (keyed(1, items), keyed(2, items));
        let (mut below, mut rising, mut same) = (0, 0, 0);
        for place in (0..items).step_by(items / 10_000).take(10_000) {
            let (at, next) = (first.at(place), first.at(place + 1));
            below += usize::from(at < items / 2);
            rising += usize::from(at < next);
            same += usize::from(at.abs_diff(other.at(place)) < items / 1000);
            assert!(at < items && next < items && at != next);
        }
        // Standard deviation 50.
        assert!(below.abs_diff(5000) < 250 && rising.abs_diff(5000) < 250, "{below}, {rising}");
        assert!(same < 60, "{same} of 10000 close by; 20 are expected");
    }

    #[test]
    fn only_long_ones_are_keyed() {
        let new = |items| Permutation::new(Draws::new(Purpose::Order, [5, 0, 0]), items);
        assert!(matches!(new(MOST_LISTED + 1).0, Kind::Keyed(_)));
        assert!(matches!(new(100_000).0, Kind::Listed(_)));
    }

    /// A run that is resumed by a later version goes on in the same order. The numbers are from this
    /// network written out in Python.
    #[test]
    fn a_keyed_order_never_changes_between_versions() {
        let keyed = keyed(42, 3_000_000_000);
        assert_eq!(
            [0, 1, 2].map(|place| keyed.at(place)),
            [2_902_757_679, 825_773_694, 1_564_400_539]
        );
    }
}
