//! What is seen of the data without reading all of it.

use std::hash::Hasher as _;
use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use super::column::{Column, Part};

/// Bytes of an array that are looked at.
const SEEN: usize = 4 << 20;

/// ... in pieces of so many.
const PIECE: usize = 16 << 10;

/// Which of `length` bytes are looked at: all if they are at most 4 MiB, else pieces of 16 KiB, spread
/// evenly, the first and the last among them. They begin at multiples of 16.
pub(super) fn ranges(length: usize) -> impl Iterator<Item = Range<usize>> {
    within(length, SEEN)
}

fn within(length: usize, seen: usize) -> impl Iterator<Item = Range<usize>> {
    let (pieces, bytes) = match length <= seen {
        true => (1, length),
        false => ((seen / PIECE).max(2), PIECE.min(length)),
    };
    let last = (length - bytes).next_multiple_of(16).min(length);
    let steps = (pieces - 1).max(1) as u128;
    (0..pieces).map(move |piece| {
        let start = (piece as u128 * last as u128 / steps) as usize & !15;
        start..(start + bytes).min(length)
    })
}

/// The parts of a column with the bytes of each that are looked at, about 4 MiB in all, or some 32 KiB of
/// each part where there are many.
fn seen(column: &Column) -> impl Iterator<Item = (&Part, Range<usize>)> {
    let bytes = |part: &Part| column.bytes(part).len();
    let all = column.parts.iter().map(bytes).sum::<usize>().max(1);
    column.parts.iter().filter(|part| part.rows > 0).flat_map(move |part| {
        let share = (bytes(part) as u128 * SEEN as u128 / all as u128) as usize;
        let share = if all <= SEEN { SEEN } else { share };
        within(bytes(part), share).map(move |range| (part, range))
    })
}

/// The first number of those looked at for which `wrong` holds, given the part and the bytes: the part,
/// and the row within it.
fn first<'c, I: Iterator<Item = bool>>(
    column: &'c Column,
    wrong: impl Fn(&'c Part, &'c [u8]) -> I,
) -> Option<(&'c Part, usize)> {
    seen(column).find_map(|(part, range)| {
        let at = wrong(part, &column.bytes(part)[range.clone()]).position(|wrong| wrong)?;
        Some((part, (range.start + at * part.element.bytes()) / column.row_bytes(part)))
    })
}

/// Where a number that is NaN or infinite is seen.
pub(super) fn not_finite(column: &Column) -> Option<(&Part, usize)> {
    let float = column.element.is_float();
    float.then(|| first(column, |part, bytes| part.element.not_finite(bytes))).flatten()
}

/// Where an integer for which `wrong` holds is seen.
pub(super) fn integer<'c>(
    column: &'c Column,
    wrong: impl Fn(i64) -> bool + Copy + 'c,
) -> Option<(&'c Part, usize)> {
    let integer = column.element.is_integer();
    integer.then(|| first(column, |part, bytes| part.element.integers(bytes).map(wrong))).flatten()
}

/// Adds to a digest the name, type and sizes of a column, and those of its bytes that are looked at.
pub(super) fn digest(column: &Column, hasher: &mut Xxh3) {
    let about =
        format!("{} {:?} {:?} {}", column.name, column.element.kind(), column.item, column.rows());
    hasher.write(about.as_bytes());
    for (part, range) in seen(column) {
        hasher.write(&part.rows.to_le_bytes());
        hasher.write(&column.bytes(part)[range]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_looked_at_and_no_more_than_is_meant() {
        for length in [0, 1, 15, 16, 17, PIECE, SEEN - 1, SEEN] {
            assert!(ranges(length).eq(std::iter::once(0..length)), "{length}");
        }
        for length in
            [SEEN + 1, SEEN + 2, SEEN + 15, SEEN + 16, 3 * SEEN + 8, 1 << 40, usize::MAX >> 1]
        {
            let all: Vec<_> = ranges(length).collect();
            assert_eq!((all[0].start, all[all.len() - 1].end), (0, length), "{length}");
            assert!(all.iter().all(|range| range.start % 16 == 0 && range.end <= length));
            assert!(all.iter().map(ExactSizeIterator::len).sum::<usize>() <= SEEN);
            assert!(all.windows(2).all(|pair| pair[0].start < pair[1].start));
        }
    }
}
