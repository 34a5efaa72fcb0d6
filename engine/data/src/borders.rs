//! Where a text may be cut without a change to its tokens.

use std::borrow::Cow;
use std::collections::HashMap;

use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

/// Characters of a word above which WordPiece gives it up as `[UNK]`.
pub(crate) const LONGEST_WORD: usize = 100;

/// What normaliser and pre-tokenizer make of a character between letters. It does not depend on which
/// letters: they work on each character alone, but for the order of marks on one letter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Words end before and after it: space, punctuation, an ideograph.
    Border,
    /// It is dropped: a control character, an accent.
    Nothing,
    /// It is a part of a word.
    Letter,
}

/// Cuts texts where the tokenizer sees borders between words.
#[derive(Default)]
pub(crate) struct Borders(HashMap<char, Seen>);

impl Borders {
    /// Cuts a text into pieces of at most `limit` bytes whose tokens are, one piece after the other,
    /// those of the text. Of a word that is longer, the piece is what decides on its tokens:
    /// at most [`LONGEST_WORD`] characters and one, and nothing that is dropped.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub(crate) fn pieces<'t>(
        &mut self,
        mut text: &'t str,
        limit: usize,
    ) -> Result<Vec<Cow<'t, str>>, tokenizers::Error> {
        let mut pieces = Vec::new();
        while text.len() > limit {
            let window = (0..=limit).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            let (piece, rest) = match self.last_border(&text[..window])? {
                Some(end) => (Cow::Borrowed(&text[..end]), &text[end..]),
                None => self.word(text)?,
            };
            pieces.push(piece);
            text = rest;
        }
        pieces.push(Cow::Borrowed(text));
        Ok(pieces)
    }

    /// Where the last border in the text ends.
    fn last_border(&mut self, text: &str) -> Result<Option<usize>, tokenizers::Error> {
        for (at, character) in text.char_indices().rev() {
            if self.seen(character)? == Seen::Border {
                return Ok(Some(at + character.len_utf8()));
            }
        }
        Ok(None)
    }

    /// What decides on the tokens of the word that the text begins with, and what is behind the word.
    fn word<'t>(&mut self, text: &'t str) -> Result<(Cow<'t, str>, &'t str), tokenizers::Error> {
        let (mut word, mut letters) = (String::new(), 0);
        for (at, character) in text.char_indices() {
            match self.seen(character)? {
                Seen::Border => return Ok((Cow::Owned(word), &text[at..])),
                Seen::Letter if letters <= LONGEST_WORD => {
                    word.push(character);
                    letters += 1;
                }
                Seen::Letter | Seen::Nothing => {}
            }
        }
        Ok((Cow::Owned(word), ""))
    }

    fn seen(&mut self, character: char) -> Result<Seen, tokenizers::Error> {
        if let Some(&seen) = self.0.get(&character) {
            return Ok(seen);
        }
        let seen = match &words(&format!("a{character}a"))?[..] {
            [_, _, ..] => Seen::Border,
            [word] if word == "aa" => Seen::Nothing,
            _ => Seen::Letter,
        };
        self.0.insert(character, seen);
        Ok(seen)
    }
}

/// The words of a text, normalised.
pub(crate) fn words(text: &str) -> Result<Vec<String>, tokenizers::Error> {
    let mut text = NormalizedString::from(text);
    normalizer().normalize(&mut text)?;
    let mut words = PreTokenizedString::from(text);
    BertPreTokenizer.pre_tokenize(&mut words)?;
    let words = words.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(words
        .into_iter()
        .map(|word| word.0)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Lower case, without accents, and each ideograph a word.
pub(crate) fn normalizer() -> BertNormalizer {
    BertNormalizer::default()
}
