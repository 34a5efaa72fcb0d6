//! Documents cut and joined into sequences of one length, with no padding.
//!
//! ```text
//! [CLS] a a a a a a [SEP]            a long document is cut into consecutive pieces,
//! [CLS] a a [SEP] b b b [SEP]        the next one starts where it ends, after a separator
//! ```
//! Where a document ends one place early, the separator takes that place. What is left at the end
//! and does not fill a sequence is dropped.

use std::ops::Range;

/// `[CLS]` and the last `[SEP]`.
const ENDS: usize = 2;

/// Where a sequence starts: a document and a token of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Index into the list of documents.
    pub document: usize,
    /// Index into the document's tokens.
    pub token: usize,
}

/// One part of a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Tokens of a document.
    Tokens {
        /// Index into the list of documents.
        document: usize,
        /// Which of its tokens; never empty.
        range: Range<usize>,
    },
    /// `[SEP]` after a document's end.
    Separator,
}

/// Fills one sequence from `start` on, giving `put` its pieces in order, `[CLS]` and the last
/// `[SEP]` apart.
///
/// `lengths` are the documents' lengths in tokens, none of them 0. Returns where the next
/// sequence starts, or `None` if the documents ended before this one was full.
pub fn fill(
    lengths: &[usize],
    start: Start,
    sequence_length: usize,
    mut put: impl FnMut(Piece),
) -> Option<Start> {
    let Start { mut document, mut token } = start;
    let mut room = sequence_length.saturating_sub(ENDS);
    while room > 0 {
        let end = (*lengths.get(document)?).min(token + room);
        if token < end {
            put(Piece::Tokens { document, range: token..end });
            room -= end - token;
            token = end;
        }
        if token == lengths[document] {
            document += 1;
            token = 0;
            if room > 0 {
                put(Piece::Separator);
                room -= 1;
            }
        }
    }
    Some(Start { document, token })
}

/// Where each full sequence of `sequence_length` tokens starts.
pub fn pack(lengths: &[usize], sequence_length: usize) -> Vec<Start> {
    let mut starts = Vec::new();
    if sequence_length <= ENDS {
        return starts;
    }
    let mut start = Start { document: 0, token: 0 };
    while let Some(next) = fill(lengths, start, sequence_length, |_| {}) {
        starts.push(start);
        start = next;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequences written out: the first document's tokens are a0 a1 ..., `|` is `[SEP]` inside.
    fn packed(lengths: &[usize], sequence_length: usize) -> Vec<String> {
        let text = |start| {
            let mut words = Vec::new();
            fill(lengths, start, sequence_length, |piece| match piece {
                Piece::Separator => words.push("|".to_owned()),
                Piece::Tokens { document, range } => {
                    assert!(!range.is_empty());
                    let name = (b'a' + document as u8) as char;
                    words.extend(range.map(|token| format!("{name}{token}")));
                }
            })
            .expect("pack returns full sequences");
            assert_eq!(words.len(), sequence_length - 2);
            words.join(" ")
        };
        pack(lengths, sequence_length).into_iter().map(text).collect()
    }

    #[test]
    fn by_hand() {
        // A long document is cut, the rest dropped.
        assert_eq!(packed(&[7], 5), ["a0 a1 a2", "a3 a4 a5"]);
        // Short ones are joined; a cut one goes on in the next sequence.
        assert_eq!(packed(&[2, 1, 5], 7), ["a0 a1 | b0 |", "c0 c1 c2 c3 c4"]);
        assert_eq!(packed(&[2, 9], 7), ["a0 a1 | b0 b1", "b2 b3 b4 b5 b6"]);
        // A document that ends with its sequence needs no separator.
        assert_eq!(packed(&[3, 3], 5), ["a0 a1 a2", "b0 b1 b2"]);
        // The last document may end before the sequence is full; a separator alone does not fill
        // it.
        assert_eq!(packed(&[3, 2], 5), ["a0 a1 a2", "b0 b1 |"]);
        assert_eq!(packed(&[3, 1], 5), ["a0 a1 a2"]);
    }

    #[test]
    fn every_token_is_used_once_in_order() {
        let lengths = [5, 1, 40, 2, 2, 3, 17, 1, 1, 1, 9];
        for sequence_length in 3..50 {
            let mut seen = Vec::new();
            for start in pack(&lengths, sequence_length) {
                fill(&lengths, start, sequence_length, |piece| {
                    if let Piece::Tokens { document, range } = piece {
                        seen.extend(range.map(|token| (document, token)));
                    }
                });
            }
            let all = lengths.iter().enumerate().flat_map(|(d, &n)| (0..n).map(move |t| (d, t)));
            let dropped = all.clone().count() - seen.len();
            assert!(dropped < sequence_length - 2);
            assert!(all.take(seen.len()).eq(seen));
        }
    }

    #[test]
    fn degenerate_input_gives_nothing() {
        assert!(pack(&[], 8).is_empty());
        assert!(pack(&[0, 0], 8).is_empty());
        assert!(pack(&[100], 2).is_empty());
        assert!(pack(&[100], 0).is_empty());
    }
}
