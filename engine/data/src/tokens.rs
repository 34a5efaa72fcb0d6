//! WordPiece (<https://arxiv.org/abs/1609.08144>, section 4.1) as the lower-case BERT uses it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use xxhash_rust::xxh3::xxh3_128;

use crate::borders::{Borders, LONGEST_WORD, normalizer};
use crate::{Error, Result, file};

const WHAT: &str = "vocabulary";

/// No vocabulary is this large, in bytes.
const MAX_VOCABULARY_BYTES: u64 = 64 << 20;

/// Text goes through the tokenizer in pieces of at most so many bytes: it keeps about a hundred
/// bytes for each byte of a piece, and pieces are what its threads share out.
pub(crate) const PIECE_BYTES: usize = 16 << 10;

/// ... and in groups of about so many bytes.
pub(crate) const GROUP_BYTES: usize = 1 << 20;

/// BERT's special tokens, in the order of their ids in a vocabulary that is trained.
pub(crate) const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// What a token begins with that goes on with a word.
pub(crate) const CONTINUATION: &str = "##";

/// The ids of BERT's special tokens in a vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `[PAD]`, which packed sequences never contain.
    pub pad: u32,
    /// `[UNK]`, a word the vocabulary cannot spell.
    pub unknown: u32,
    /// `[CLS]`, first of every sequence.
    pub classify: u32,
    /// `[SEP]`, last of every sequence and between documents.
    pub separator: u32,
    /// `[MASK]`, in place of a token to be guessed.
    pub mask: u32,
}

impl SpecialTokens {
    /// The five ids in rising order.
    pub fn sorted(&self) -> [u32; 5] {
        let mut ids = [self.pad, self.unknown, self.classify, self.separator, self.mask];
        ids.sort_unstable();
        ids
    }

    /// Whether `id` is one of the five.
    pub fn contains(&self, id: u32) -> bool {
        [self.pad, self.unknown, self.classify, self.separator, self.mask].contains(&id)
    }
}

/// Text to ids with a BERT vocabulary: lower case, accents stripped, split at spaces and
/// punctuation, then the longest pieces the vocabulary has. Special tokens never come out of text,
/// `[UNK]` excepted.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialTokens,
    vocabulary_size: usize,
    /// Of the vocabulary file.
    fingerprint: u128,
}

impl Tokenizer {
    /// Reads a vocabulary file: UTF-8, one token a line, whose number from 0 is the id.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, has a blank or repeated line, lacks a special token
    /// or has no other.
    pub fn from_vocabulary(path: &Path) -> Result<Self> {
        Self::from_text(&read(path)?, path)
    }

    /// The text of a vocabulary file; errors name it by `path`.
    pub(crate) fn from_text(text: &str, path: &Path) -> Result<Self> {
        let mut ids = HashMap::new();
        // Space at a line's end is no part of the token: the tokenizers' own reading, which builds
        // the model.
        for (id, line) in text.lines().map(str::trim_end).enumerate() {
            let bad = |problem| Error::Vocabulary { path: path.into(), line: id + 1, problem };
            if line.is_empty() {
                return Err(bad("is blank".to_owned()));
            }
            if let Some(first) = ids.insert(line, id as u32) {
                return Err(bad(format!("repeats {line:?} of line {}", first + 1)));
            }
        }
        let vocabulary_size = ids.len();
        let lacking =
            |lacks| Error::VocabularyLacks { path: path.into(), tokens: vocabulary_size, lacks };
        let id = |token| ids.get(token).copied().ok_or_else(|| lacking(token));
        let [pad, unknown, classify, separator, mask] = SPECIAL;
        let special = SpecialTokens {
            pad: id(pad)?,
            unknown: id(unknown)?,
            classify: id(classify)?,
            separator: id(separator)?,
            mask: id(mask)?,
        };
        if vocabulary_size == special.sorted().len() {
            return Err(lacking("ordinary tokens"));
        }
        let failed = |reason| Error::Read {
            what: WHAT,
            path: path.into(),
            source: std::io::Error::other(reason),
        };
        let vocabulary = WordPiece::read_bytes(text.as_bytes()).map_err(failed)?;
        let model = WordPiece::builder().vocab(vocabulary).max_input_chars_per_word(LONGEST_WORD);
        let model = model.build().map_err(failed)?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_normalizer(Some(normalizer())).map_err(failed)?;
        inner.with_pre_tokenizer(Some(BertPreTokenizer));
        Ok(Self { inner, special, vocabulary_size, fingerprint: xxh3_128(text.as_bytes()) })
    }

    /// The special ids.
    pub fn special(&self) -> SpecialTokens {
        self.special
    }

    /// Number of ids there are.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    /// The id of a token, if the vocabulary has it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token with this id, if there is one.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The vocabulary as a file: one token a line, whose number from 0 is the id.
    pub fn lines(&self) -> String {
        let ids = 0..self.vocabulary_size as u32;
        ids.filter_map(|id| self.token(id)).map(|token| token + "\n").collect()
    }

    /// Hash of the vocabulary file's bytes, as they were read.
    pub(crate) fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// The ids of each document, without `[CLS]` and `[SEP]`, on all cores.
    ///
    /// # Errors
    /// The tokenizer's own, which a vocabulary that was accepted should not produce.
    pub fn encode(&self, documents: &[String]) -> Result<Vec<Vec<u32>>, tokenizers::Error> {
        let mut ids = vec![Vec::new(); documents.len()];
        let (mut group, mut borders) = (Vec::new(), Borders::default());
        let mut bytes = 0;
        for (document, text) in documents.iter().enumerate() {
            for piece in borders.pieces(text, PIECE_BYTES)? {
                bytes += piece.len();
                group.push((document, piece));
                if bytes >= GROUP_BYTES {
                    self.encode_group(&mut group, &mut ids)?;
                    bytes = 0;
                }
            }
        }
        self.encode_group(&mut group, &mut ids)?;
        Ok(ids)
    }

    fn encode_group(
        &self,
        group: &mut Vec<(usize, Cow<'_, str>)>,
        ids: &mut [Vec<u32>],
    ) -> Result<(), tokenizers::Error> {
        let texts: Vec<&str> = group.iter().map(|(_, text)| &**text).collect();
        let encodings = self.inner.encode_batch_fast(texts, false)?;
        for ((document, _), encoding) in group.drain(..).zip(encodings) {
            ids[document].extend_from_slice(encoding.get_ids());
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<String> {
    let failed = |source| Error::Read { what: WHAT, path: path.into(), source };
    let mut bytes = Vec::new();
    file::open(path, WHAT)?
        .take(MAX_VOCABULARY_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_VOCABULARY_BYTES {
        return Err(failed(std::io::Error::other(format!(
            "it is longer than {} MiB, which no vocabulary is",
            MAX_VOCABULARY_BYTES >> 20
        ))));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line_start = good.iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
        Error::NotUtf8 {
            what: WHAT,
            path: path.into(),
            line: good.iter().filter(|&&b| b == b'\n').count() as u64 + 1,
            byte: good.len() - line_start + 1,
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::PathBuf;

    /// The vocabulary and the text that the examples use.
    pub(crate) fn shipped(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data").join(name)
    }

    fn real() -> Tokenizer {
        Tokenizer::from_vocabulary(&shipped("bert-base-uncased-vocab.txt")).unwrap()
    }

    fn words(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
        let ids = tokenizer.encode(&[text.to_owned()]).unwrap().remove(0);
        ids.iter().map(|&id| tokenizer.inner.id_to_token(id).unwrap()).collect()
    }

    #[test]
    fn known_words() {
        let bert = real();
        assert_eq!(bert.vocabulary_size(), 30_522);
        assert_eq!(bert.special().sorted(), [0, 100, 101, 102, 103]);
        assert_eq!(bert.special().mask, 103);
        assert_eq!(bert.encode(&["hello world".into()]).unwrap(), [[7592, 2088]]);
        assert_eq!(words(&bert, "Unaffable"), ["una", "##ffa", "##ble"]);
        assert_eq!(words(&bert, "UNWANTED,running"), ["unwanted", ",", "running"]);
        assert_eq!(words(&bert, "Caf\u{e9} e\u{301}t\u{e9}"), ["cafe", "et", "##e"]);
        assert_eq!(words(&bert, "\u{4e2d}\u{56fd}"), ["\u{4e2d}", "\u{56fd}"]);
        assert_eq!(words(&bert, &"x".repeat(101)), ["[UNK]"]);
        assert!(words(&bert, "\u{feff}\u{0}\u{fffd}").is_empty());
    }

    #[test]
    fn text_cannot_spell_special_tokens() {
        let bert = real();
        assert_eq!(words(&bert, "[SEP]").len(), words(&bert, "[ sep ]").len());
        let ids = bert.encode(&["[MASK] [CLS] [SEP] [PAD]".into()]).unwrap().remove(0);
        assert!(ids.iter().all(|&id| !bert.special().contains(id)), "{ids:?}");
    }

    /// The ids of a text that is not cut.
    fn whole(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        tokenizer.inner.encode_fast(text, false).unwrap().get_ids().to_vec()
    }

    /// Whatever parts the words, how long they are, and where the limit falls.
    #[test]
    fn cutting_a_document_changes_no_token() {
        let bert = real();
        let mut borders = Borders::default();
        let words =
            ["gro\u{df}e", "caf\u{e9}", "e\u{301}te\u{301}", "unaffable", "\u{d55c}\u{ae00}", "x"];
        let long =
            ["y".repeat(99), "z".repeat(100), "q\u{302}".repeat(101), "\u{300}\u{ad}".repeat(300)];
        let words: Vec<&str> = words.into_iter().chain(long.iter().map(String::as_str)).collect();
        for separator in [
            " ",
            "\t",
            "\r",
            "\n",
            "\u{a0}",
            "\u{3000}",
            "\u{2028}",
            "\u{1680}",
            ".",
            "\u{3002}",
            "\u{bf}",
            "\u{4e2d}",
            "\u{f900}",
            "\u{20000}",
            "\u{85}",
            "\u{b}",
            "\u{0}",
            "\u{200b}",
            "\u{fffd}",
            "\u{300}",
            "\u{903}",
            "",
            " \u{301}",
            ".\u{301}",
            "\u{4e2d}\u{301}",
            "\u{301} ",
        ] {
            for round in 0..3 {
                let pick = |at: usize| words[(at * at * 7 + at / 3 + round) % words.len()];
                let text = (0..40).map(pick).collect::<Vec<_>>().join(separator);
                let expected = whole(&bert, &text);
                for limit in [4, 17, 64, 303, 500, 1000, text.len() - 1, text.len()] {
                    let pieces = borders.pieces(&text, limit).unwrap();
                    let most = pieces.iter().map(|piece| piece.len()).max().unwrap_or(0);
                    assert!(
                        most <= limit.max(4 * (LONGEST_WORD + 1)),
                        "{separator:?}, {limit}: {most}"
                    );
                    let cut: Vec<String> = pieces.into_iter().map(Cow::into_owned).collect();
                    let cut = bert.encode(&cut).unwrap().concat();
                    assert_eq!(cut, expected, "{separator:?}, {limit}");
                }
            }
        }
    }

    /// Documents longer than a piece, as a run tokenises them.
    #[test]
    fn long_documents_are_tokenised_as_a_whole() {
        let bert = real();
        for (word, separator) in [
            ("hello", "\t"),
            ("hello", "\u{a0}"),
            ("hello", "\u{3000}"),
            ("hello", "\n"),
            ("hello", ","),
            ("hello", ""),
            ("\u{200b}", ""),
        ] {
            for bytes in [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES + 7] {
                let text = [word, separator].concat().repeat(bytes / word.len() + 1);
                let ids = bert.encode(std::slice::from_ref(&text)).unwrap().remove(0);
                assert!(ids == whole(&bert, &text), "{separator:?}, {bytes}");
            }
        }
    }

    #[test]
    fn documents_keep_their_place() {
        let bert = real();
        let documents: Vec<String> = (0..300).map(|i| format!("{i} ").repeat(i * 3)).collect();
        let together = bert.encode(&documents).unwrap();
        for (document, ids) in documents.iter().zip(&together) {
            assert_eq!(bert.encode(std::slice::from_ref(document)).unwrap()[0], *ids);
        }
    }

    #[test]
    fn a_malformed_vocabulary_is_refused() {
        let special = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.txt");
        let open = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Tokenizer::from_vocabulary(&path)
                .map(|t| t.vocabulary_size())
                .map_err(|e| e.to_string())
        };
        assert_eq!(open(format!("{special}a\r\nb").as_bytes()), Ok(7));
        for (bytes, expected) in [
            (b"".to_vec(), "(0 tokens) lacks [PAD]"),
            (special.into(), "(5 tokens) lacks ordinary tokens"),
            (special.replace("[MASK]\n", "a\n").into(), "lacks [MASK]"),
            (format!("{special}a\n\nb").into(), "line 7 of vocabulary"),
            (format!("{special}a\nb\na").into(), "repeats \"a\" of line 6"),
            ([special.as_bytes(), b"a\nb\xff"].concat(), "line 7 of vocabulary"),
        ] {
            let error = open(&bytes).unwrap_err();
            assert!(error.contains(expected), "{error} should contain {expected}");
        }
    }
}
