//! A WordPiece vocabulary from counted words, by merging pairs (Sennrich et al. 2016,
//! <https://arxiv.org/abs/1508.07909>): the rule of Hugging Face's `WordPieceTrainer`, whose vocabulary
//! depends on the order of a randomly seeded hash map. Here equal counts give equal vocabularies.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use crate::tokens::{CONTINUATION, SPECIAL};

/// A pair that occurs less often is not worth a token.
const MIN_COUNT: u64 = 2;

type Pair = (u32, u32);

/// At most `size` tokens, the line number is the id: the special ones, the characters, and then the
/// merged pairs, the most frequent one first.
///
/// `counts`: how often each word occurs. Of the characters the rarest are left out where they would take
/// more than half of the vocabulary; a word with one of those becomes `[UNK]`.
pub(crate) fn vocabulary(counts: &BTreeMap<String, u64>, size: usize) -> Vec<String> {
    let mut tokens = Tokens::default();
    tokens.extend(SPECIAL.map(str::to_owned));
    tokens.extend(alphabet(counts, size / 2 - SPECIAL.len()).iter().flat_map(Character::forms));
    let mut corpus = Corpus::new(counts, &tokens);
    while tokens.texts.len() < size
        && let Some(pair) = corpus.most_frequent()
    {
        let merged = tokens.id(tokens.joined(pair));
        corpus.merge(pair, merged);
    }
    tokens.texts
}

/// Ids of tokens, in the order in which they were made.
#[derive(Default)]
struct Tokens {
    texts: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Tokens {
    fn extend(&mut self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            self.id(text);
        }
    }

    /// The id of a token, which is a new one if there is none. Two pairs may give the same token.
    fn id(&mut self, text: String) -> u32 {
        let next = self.texts.len() as u32;
        *self.ids.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            next
        })
    }

    fn joined(&self, (left, right): Pair) -> String {
        let [left, right] = [left, right].map(|id| &*self.texts[id as usize]);
        [left, right.strip_prefix(CONTINUATION).unwrap_or(right)].concat()
    }
}

/// A character of the text.
struct Character {
    character: char,
    /// It occurs behind the first place of a word.
    continues: bool,
}

impl Character {
    fn forms(&self) -> impl Iterator<Item = String> + use<> {
        let continuing = self.continues.then(|| format!("{CONTINUATION}{}", self.character));
        [self.character.to_string()].into_iter().chain(continuing)
    }
}

/// The most frequent characters whose forms are no more than `most`, in their own order.
fn alphabet(counts: &BTreeMap<String, u64>, most: usize) -> Vec<Character> {
    let mut seen: HashMap<char, (u64, bool)> = HashMap::new();
    for (word, count) in counts {
        for (place, character) in word.chars().enumerate() {
            let (occurs, continues) = seen.entry(character).or_default();
            *occurs += count;
            *continues |= place > 0;
        }
    }
    let mut seen: Vec<_> = seen.into_iter().collect();
    seen.sort_unstable_by_key(|(character, (occurs, _))| (Reverse(*occurs), *character));
    let fits = seen.iter().scan(0, |forms, (_, (_, continues))| {
        *forms += 1 + usize::from(*continues);
        Some(*forms)
    });
    seen.truncate(fits.take_while(|forms| *forms <= most).count());
    seen.sort_unstable_by_key(|(character, _)| *character);
    let character = |(character, (_, continues))| Character { character, continues };
    seen.into_iter().map(character).collect()
}

/// The different words, as what has been merged so far.
struct Corpus {
    words: Vec<Word>,
    pairs: HashMap<Pair, Occurrences>,
    /// Each pair with its count, or with one that it had; the smaller ids first among equals.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

struct Word {
    ids: Vec<u32>,
    count: u64,
}

#[derive(Default)]
struct Occurrences {
    count: u64,
    /// The words in which it is or was, rising.
    words: Vec<u32>,
}

impl Corpus {
    fn new(counts: &BTreeMap<String, u64>, tokens: &Tokens) -> Self {
        let spelt = |(word, &count): (&String, &u64)| {
            let characters = word.char_indices().map(|(at, character)| {
                let prefix = if at == 0 { "" } else { CONTINUATION };
                tokens.ids.get(&format!("{prefix}{character}")).copied()
            });
            Some(Word { ids: characters.collect::<Option<_>>()?, count })
        };
        let words: Vec<Word> = counts.iter().filter_map(spelt).collect();
        let (pairs, queue) = (HashMap::new(), BinaryHeap::new());
        let mut corpus = Corpus { words, pairs, queue };
        (0..corpus.words.len() as u32).for_each(|word| corpus.enter(word));
        let counts = corpus.pairs.iter().map(|(pair, found)| (found.count, Reverse(*pair)));
        corpus.queue = counts.collect();
        corpus
    }

    /// The pair that occurs most often, unless that is too rarely.
    fn most_frequent(&mut self) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let now = self.pairs.get(&pair).map_or(0, |found| found.count);
            match now {
                _ if now == count && count >= MIN_COUNT => return Some(pair),
                // It has fallen. One that has risen is in the queue a second time.
                MIN_COUNT.. if now < count => self.queue.push((now, Reverse(pair))),
                _ => {}
            }
        }
        None
    }

    /// Puts `merged` in the place of the pair.
    fn merge(&mut self, pair: Pair, merged: u32) {
        let words = self.pairs.remove(&pair).unwrap_or_default().words;
        let mut risen = BTreeSet::new();
        for word in words {
            self.leave(word);
            let ids = &mut self.words[word as usize].ids;
            *ids = replaced(ids, pair, merged);
            risen.extend(windows(ids).filter(|(left, right)| [left, right].contains(&&merged)));
            self.enter(word);
        }
        let risen = risen.into_iter();
        self.queue.extend(risen.map(|pair| (self.pairs[&pair].count, Reverse(pair))));
    }

    /// Counts the pairs of a word.
    fn enter(&mut self, word: u32) {
        let Word { ids, count } = &self.words[word as usize];
        for pair in windows(ids) {
            let found = self.pairs.entry(pair).or_default();
            found.count += count;
            if let Err(place) = found.words.binary_search(&word) {
                found.words.insert(place, word);
            }
        }
    }

    /// Takes the pairs of a word back.
    fn leave(&mut self, word: u32) {
        let Word { ids, count } = &self.words[word as usize];
        for pair in windows(ids) {
            // The pair that is being merged is gone already.
            if let Some(found) = self.pairs.get_mut(&pair) {
                found.count -= count;
            }
        }
    }
}

fn windows(ids: &[u32]) -> impl Iterator<Item = Pair> {
    ids.windows(2).map(|pair| (pair[0], pair[1]))
}

/// From left to right, so that of three equal ids the first two are merged.
fn replaced(ids: &[u32], pair: Pair, merged: u32) -> Vec<u32> {
    let mut result = Vec::with_capacity(ids.len());
    let mut rest = ids;
    while let Some((&first, others)) = rest.split_first() {
        let found = others.first().is_some_and(|&second| (first, second) == pair);
        result.push(if found { merged } else { first });
        rest = &others[usize::from(found)..];
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(words: &[(&str, u64)]) -> BTreeMap<String, u64> {
        words.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
    }

    fn learnt(words: &[(&str, u64)], size: usize) -> Vec<String> {
        vocabulary(&counts(words), size).split_off(SPECIAL.len())
    }

    /// Sennrich's example. Pairs with equal counts: `##e ##s` is older than `##s ##t`, and so on.
    #[test]
    fn by_hand() {
        let words = [("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)];
        let tokens = learnt(&words, 100).join(" ");
        let characters = "d ##d e ##e i ##i l n o ##o r ##r s ##s t ##t w ##w";
        // 9, 9, 7, 7, 6, 6 and 6 times; then those of `widest`, 3 times each.
        let merged = "##es ##est lo low ##ew new newest ##dest ##idest widest";
        let twice = "##er lower";
        assert_eq!(tokens, [characters, merged, twice].join(" "));
    }

    #[test]
    fn a_pair_that_occurs_once_is_no_token() {
        assert_eq!(learnt(&[("ab", 1)], 100), ["a", "b", "##b"]);
        assert_eq!(learnt(&[("ab", 2)], 100), ["a", "b", "##b", "ab"]);
    }

    #[test]
    fn pairs_that_overlap_are_merged_from_the_left() {
        assert_eq!(replaced(&[1, 1, 1], (1, 1), 2), [2, 1]);
        assert_eq!(replaced(&[1, 1, 1, 1, 3], (1, 1), 2), [2, 2, 3]);
        assert_eq!(replaced(&[], (1, 1), 2), [0; 0]);
        assert_eq!(learnt(&[("aaaaa", 2)], 100), ["a", "##a", "##aa", "aaa", "aaaaa"]);
    }

    #[test]
    fn rare_characters_make_way() {
        let words: Vec<(String, u64)> =
            ('a'..='z').zip(1..).map(|(c, n)| (c.to_string(), n)).collect();
        let words: Vec<_> = words.iter().map(|(word, count)| (&**word, *count)).collect();
        // Half of 20 are 10, less the five special tokens: the five most frequent.
        assert_eq!(learnt(&words, 20), ["v", "w", "x", "y", "z"]);
    }

    /// Counts that are kept up while pairs are merged are those of the words as they are then.
    #[test]
    fn counts_are_kept_up() {
        let text = "the theory of other thoughts that then bathe the mothers feather of theirs";
        let mut words = BTreeMap::new();
        for (place, word) in text.split(' ').enumerate() {
            *words.entry(word.to_owned()).or_default() += 1 + place as u64 % 4;
        }
        let mut tokens = Tokens::default();
        tokens.extend(alphabet(&words, 99).iter().flat_map(Character::forms));
        let mut corpus = Corpus::new(&words, &tokens);
        let mut merges = 0;
        while let Some(pair) = corpus.most_frequent() {
            let most = corpus.pairs.values().map(|found| found.count).max();
            assert_eq!(Some(corpus.pairs[&pair].count), most);
            let merged = tokens.id(tokens.joined(pair));
            corpus.merge(pair, merged);
            let mut counts: HashMap<Pair, u64> = HashMap::new();
            for Word { ids, count } in &corpus.words {
                windows(ids).for_each(|pair| *counts.entry(pair).or_default() += count);
            }
            corpus.pairs.retain(|_, found| found.count > 0);
            let kept: HashMap<Pair, u64> =
                corpus.pairs.iter().map(|(pair, found)| (*pair, found.count)).collect();
            assert_eq!(kept, counts);
            merges += 1;
        }
        assert!(merges > 20, "{merges}");
    }
}
