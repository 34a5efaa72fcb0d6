//! The sequences of one side of the split.

use std::path::Path;

use crate::pack::{Piece, Start, fill, pack};
use crate::token_file::TokenFile;
use crate::{Error, Result, SpecialTokens};

/// Where to find each sequence; the tokens stay in the token file.
#[derive(Debug)]
pub(crate) struct Sequences {
    sequence_length: usize,
    special: SpecialTokens,
    /// Documents of this side, and their lengths in tokens.
    documents: Vec<usize>,
    lengths: Vec<usize>,
    starts: Vec<Start>,
}

impl Sequences {
    /// Packs the given documents. Sequences of nothing but `[UNK]` have nothing to guess and are
    /// left out.
    ///
    /// `text` and `part` (" to train on") are for messages, `remedy` says what helps if nothing is
    /// packed.
    pub(crate) fn new(
        tokens: &TokenFile,
        documents: Vec<usize>,
        sequence_length: usize,
        special: SpecialTokens,
        (text, part, remedy): (&Path, &'static str, &'static str),
    ) -> Result<Self> {
        let lengths: Vec<usize> =
            documents.iter().map(|&document| tokens.length(document)).collect();
        let starts = pack(&lengths, sequence_length);
        let mut this = Self { sequence_length, special, documents, lengths, starts };
        let path = || text.to_path_buf();
        if this.len() == 0 {
            let tokens = this.lengths.iter().sum();
            return Err(Error::TooSmall { path: path(), tokens, part, sequence_length, remedy });
        }
        let packed = this.len();
        let starts = std::mem::take(&mut this.starts);
        let (mut known, mut unknown) = (0, 0);
        for start in starts {
            let (k, u) = this.count(tokens, start);
            if k > 0 {
                this.starts.push(start);
            }
            (known, unknown) = (known + k, unknown + u);
        }
        if this.len() == 0 {
            return Err(Error::AllUnknown { path: path(), part });
        }
        let share = unknown as f64 / (known + unknown) as f64;
        if share > 0.1 {
            let percent = (share * 100.0).round();
            tracing::warn!(text = %text.display(), percent, "much of the text{part} is [UNK]: is the vocabulary made for it?");
        }
        if this.len() < packed {
            tracing::warn!(left_out = packed - this.len(), "sequences{part} are nothing but [UNK]");
        }
        Ok(this)
    }

    /// How many ordinary tokens, and how many `[UNK]`, a sequence has.
    fn count(&self, tokens: &TokenFile, start: Start) -> (usize, usize) {
        let sequence = self.collect(tokens, start);
        let unknown = sequence.iter().filter(|&&id| id == self.special.unknown).count();
        let special = sequence.iter().filter(|&&id| self.special.contains(id)).count();
        (sequence.len() - special, unknown)
    }

    /// Keeps at most so many sequences, spread evenly. Returns their indices among all.
    pub(crate) fn spread(&self, most: Option<usize>) -> Vec<usize> {
        spread(self.len(), most).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// One sequence: `[CLS]`, tokens and separators, `[SEP]`.
    pub(crate) fn get(&self, tokens: &TokenFile, index: usize) -> Vec<u32> {
        self.collect(tokens, self.starts[index])
    }

    fn collect(&self, tokens: &TokenFile, start: Start) -> Vec<u32> {
        let mut sequence = Vec::with_capacity(self.sequence_length);
        sequence.push(self.special.classify);
        fill(&self.lengths, start, self.sequence_length, |piece| match piece {
            Piece::Separator => sequence.push(self.special.separator),
            Piece::Tokens { document, range } => {
                sequence.extend(tokens.tokens(self.documents[document], range));
            }
        });
        sequence.push(self.special.separator);
        sequence
    }
}

/// At most `most` of the numbers below `length`, spread evenly, rising.
pub(crate) fn spread(
    length: usize,
    most: Option<usize>,
) -> impl ExactSizeIterator<Item = usize> + use<> {
    let count = most.unwrap_or(usize::MAX).min(length);
    (0..count).map(move |i| (i as u128 * length as u128 / count as u128) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_file::{Origin, tests::written};

    const SPECIAL: SpecialTokens =
        SpecialTokens { pad: 0, unknown: 1, classify: 2, separator: 3, mask: 4 };

    fn sequences(documents: &[&[u32]], chosen: &[usize]) -> Result<Vec<Vec<u32>>> {
        let origin = Origin { fingerprint: 0, vocabulary_size: 100 };
        let tokens = TokenFile::open(&written(documents, origin), origin).unwrap();
        let about = (Path::new("t"), " to train on", "give more text");
        let sequences = Sequences::new(&tokens, chosen.to_vec(), 8, SPECIAL, about)?;
        Ok((0..sequences.len()).map(|i| sequences.get(&tokens, i)).collect())
    }

    #[test]
    fn tokens_of_the_chosen_documents_between_their_ends() {
        let documents: [&[u32]; 3] = [&[10, 11, 12], &[99; 50], &[20, 21, 22, 23, 24, 25, 26, 27]];
        assert_eq!(
            sequences(&documents, &[0, 2]).unwrap(),
            [[2, 10, 11, 12, 3, 20, 21, 3], [2, 22, 23, 24, 25, 26, 27, 3]]
        );
    }

    #[test]
    fn unknown_words_alone_make_no_sequence() {
        let documents: [&[u32]; 2] = [&[1; 12], &[9, 1, 1, 1, 1, 1]];
        assert_eq!(sequences(&documents, &[0, 1]).unwrap(), [[2, 9, 1, 1, 1, 1, 1, 3]]);
        let error = sequences(&documents, &[0]).unwrap_err().to_string();
        assert!(error.starts_with("text file \"t\" has nothing but [UNK] to train on"), "{error}");
    }

    #[test]
    fn too_little_is_said_with_numbers() {
        assert_eq!(
            sequences(&[&[9; 4]], &[0]).unwrap_err().to_string(),
            "text file \"t\" has 4 tokens to train on, fewer than the 6 of one sequence of 8: give more text"
        );
    }

    #[test]
    fn a_limit_takes_them_from_everywhere() {
        let origin = Origin { fingerprint: 0, vocabulary_size: 100 };
        let tokens = TokenFile::open(&written(&[&[9; 60]], origin), origin).unwrap();
        let about = (Path::new("t"), "", "");
        let sequences = Sequences::new(&tokens, vec![0], 8, SPECIAL, about).unwrap();
        assert_eq!(sequences.spread(None), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(sequences.spread(Some(4)), [0, 2, 5, 7]);
        assert_eq!(sequences.spread(Some(99)).len(), 10);
    }
}
