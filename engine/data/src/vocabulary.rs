//! A vocabulary trained on the text, and where it is kept between runs.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::borders::{Borders, LONGEST_WORD, words};
use crate::cache::{cannot_write, temporary};
use crate::tokens::{GROUP_BYTES, PIECE_BYTES};
use crate::{Documents, Error, Result, Tokenizer, file, pair_merging, text};

/// Raised when the same text comes out as another vocabulary than before.
const VERSION: u32 = 1;

/// Different words that are counted at once: a few hundred megabytes.
const MAX_WORDS: usize = 1 << 20;

/// The tokenizer of a WordPiece vocabulary of at most `size` tokens, trained on the text: from the cache
/// in `folder` if it has one, else trained and put there. A text has one vocabulary of a size, the same
/// bytes on any machine.
///
/// # Errors
/// The text cannot be read, changes meanwhile or has no words, or the cache cannot be written.
pub(crate) fn trained(text: &Path, size: usize, folder: Option<&Path>) -> Result<Tokenizer> {
    let mut content = file::open(text, text::WHAT)?;
    let hash = file::hash(&mut content, text, text::WHAT)?;
    let kept = folder.map(|folder| folder.join(format!("{:032x}.vocabulary", name(hash, size))));
    if let Some(lines) = kept.as_deref().and_then(read) {
        return Tokenizer::from_text(&lines, text);
    }
    let start = Instant::now();
    tracing::info!(text = %text.display(), size, "training a vocabulary");
    let counts = count(content, text, hash, MAX_WORDS)?;
    if counts.is_empty() {
        return Err(Error::Empty { path: text.into() });
    }
    let tokens = pair_merging::vocabulary(&counts, size);
    let (tokens, lines) = (tokens.len(), tokens.join("\n") + "\n");
    let seconds = start.elapsed().as_secs_f64();
    tracing::info!(words = counts.len(), tokens, seconds, "vocabulary trained");
    if let (Some(folder), Some(path)) = (folder, kept) {
        write(folder, &path, &lines)?;
    }
    Tokenizer::from_text(&lines, text)
}

fn name(text: u128, size: usize) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&VERSION.to_le_bytes());
    hasher.update(&text.to_le_bytes());
    hasher.update(&(size as u64).to_le_bytes());
    hasher.digest128()
}

/// The vocabulary in a file of the cache: behind a line with its hash. None if it is not there or not whole.
fn read(path: &Path) -> Option<String> {
    let kept = fs::read_to_string(path).ok()?;
    let whole = kept.split_once('\n').filter(|(hash, lines)| *hash == digest(lines));
    match whole {
        Some(_) => tracing::info!(cache = %path.display(), "vocabulary read from the cache"),
        None => tracing::warn!(cache = %path.display(), "vocabulary not usable, training it anew"),
    }
    whole.map(|(_, lines)| lines.to_owned())
}

fn write(folder: &Path, path: &Path, lines: &str) -> Result<()> {
    fs::create_dir_all(folder).map_err(cannot_write(folder))?;
    let mut file = temporary(folder).map_err(cannot_write(folder))?;
    write!(file, "{}\n{lines}", digest(lines)).map_err(cannot_write(folder))?;
    file.persist(path).map_err(|e| cannot_write(folder)(e.error))?;
    Ok(())
}

fn digest(lines: &str) -> String {
    format!("{:032x}", xxh3_128(lines.as_bytes()))
}

/// How often each word occurs in the text, whose hash was this.
///
/// Where more than `most` words are different, the rarest are forgotten, as word2vec does
/// (<https://github.com/tmikolov/word2vec>, `ReduceVocab`): memory is bounded for a text of any length.
fn count(content: File, path: &Path, hash: u128, most: usize) -> Result<BTreeMap<String, u64>> {
    let (mut documents, read) = Documents::of(content, path)?;
    let (mut counts, mut borders) = (HashMap::new(), Borders::default());
    let mut forgotten = 0;
    let failed = |source| Error::Tokenise { path: path.into(), source };
    loop {
        let group = text::group(&mut documents, GROUP_BYTES)?;
        if group.is_empty() {
            break;
        }
        let mut pieces = Vec::new();
        for document in &group {
            pieces.extend(borders.pieces(document, PIECE_BYTES).map_err(failed)?);
        }
        let counted = pieces.into_par_iter().map(count_piece).collect::<Vec<_>>();
        for piece in counted {
            for (word, count) in piece.map_err(failed)? {
                *counts.entry(word).or_default() += count;
            }
        }
        while counts.len() > most {
            forgotten += 1;
            counts.retain(|_, count| *count > forgotten);
        }
    }
    if read.digest() != hash {
        return Err(Error::Changed { path: path.into() });
    }
    Ok(counts.into_iter().collect())
}

fn count_piece(piece: Cow<'_, str>) -> Result<HashMap<String, u64>, tokenizers::Error> {
    let mut counts = HashMap::new();
    for word in words(&piece)? {
        // A longer one is `[UNK]`, whatever the vocabulary.
        if word.chars().count() <= LONGEST_WORD {
            *counts.entry(word).or_default() += 1;
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tests::shipped;
    use std::path::PathBuf;
    use tempfile::TempDir;
    use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainerBuilder};
    use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

    fn fixture(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn counts(text: &str, most: usize) -> Result<BTreeMap<String, u64>> {
        let (_folder, path) = fixture(text);
        let mut content = file::open(&path, text::WHAT)?;
        let hash = file::hash(&mut content, &path, text::WHAT)?;
        count(content, &path, hash, most)
    }

    /// Some documents of the shipped text.
    fn addresses(documents: usize) -> Vec<String> {
        let all = Documents::open(&shipped("sotu.txt.zst")).unwrap();
        all.take(documents).map(|document| document.unwrap()).collect()
    }

    #[test]
    fn words_are_those_of_the_tokenizer() {
        let counts = counts(&format!("The caf\u{e9}, the Cafe.\n{}\n", "x".repeat(101)), 99);
        let counts: Vec<_> = counts.unwrap().into_iter().collect();
        let expected = [(",", 1), (".", 1), ("cafe", 2), ("the", 2)];
        assert_eq!(counts, expected.map(|(word, count)| (word.to_owned(), count)));
    }

    #[test]
    fn rare_words_are_forgotten_where_there_are_too_many() {
        let text = "a a a b b c d\n";
        assert_eq!(counts(text, 4).unwrap().len(), 4);
        let kept = counts(text, 3).unwrap();
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["a", "b"], "c and d occur as often");
    }

    /// The library's trainer on the same words, whose ties fall as its hash map has them.
    #[test]
    fn as_good_as_the_librarys() {
        let documents = addresses(12);
        let (_folder, path) = fixture(documents.join("\n"));
        let ours = trained(&path, 1500, None).unwrap();
        assert_eq!(ours.vocabulary_size(), 1500);

        let special = crate::tokens::SPECIAL.map(|token| tokenizers::AddedToken::from(token, true));
        let mut trainer = WordPieceTrainerBuilder::new()
            .vocab_size(1500)
            .special_tokens(special.into())
            .show_progress(false)
            .build();
        let mut theirs = tokenizers::TokenizerBuilder::new()
            .with_model(WordPiece::default())
            .with_normalizer(Some(crate::borders::normalizer()))
            .with_pre_tokenizer(Some(BertPreTokenizer))
            .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
            .with_decoder(None::<tokenizers::DecoderWrapper>)
            .build()
            .unwrap();
        theirs.train(&mut trainer, documents.iter()).unwrap();
        let shared = theirs.get_vocab(false).into_keys().filter(|token| ours.id(token).is_some());
        let shared = shared.count();
        assert!(shared >= 1485, "{shared} of 1500 tokens are the same");
    }

    /// Whatever the order in which threads and hash maps come: another process has other seeds.
    #[test]
    fn one_text_has_one_vocabulary() {
        let (folder, path) = fixture(addresses(12).join("\n"));
        let vocabulary = |cache: Option<&Path>| trained(&path, 1500, cache).unwrap().fingerprint();
        let first = vocabulary(None);
        assert_eq!(format!("{first:032x}"), "4d82b6ccaef9e7a676309ba6f0c2b76d");
        let cache = folder.path().join("deep/cache");
        for _ in 0..2 {
            assert_eq!(vocabulary(Some(&cache)), first);
            assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
        }
        assert_ne!(trained(&path, 1499, Some(&cache)).unwrap().fingerprint(), first);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 2, "each size has its own");
    }

    #[test]
    fn a_damaged_vocabulary_is_trained_anew() {
        let (folder, path) = fixture("the war and the peace and the war\n");
        let cache = folder.path().join("cache");
        let vocabulary = || trained(&path, 256, Some(&cache)).unwrap().fingerprint();
        let whole = vocabulary();
        let kept = fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
        let good = fs::read(&kept).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x15;
            for damaged in [&bad[..], &good[..at]] {
                fs::write(&kept, damaged).unwrap();
                assert_eq!(vocabulary(), whole, "byte {at}");
                assert_eq!(fs::read(&kept).unwrap(), good, "byte {at}");
            }
        }
    }

    #[test]
    fn a_text_without_words_is_told() {
        for (text, expected) in [(&b"\n \x01\n"[..], "is empty"), (b"a\n\xff\n", "line 2")] {
            let (_folder, path) = fixture(text);
            let error = trained(&path, 256, None).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
