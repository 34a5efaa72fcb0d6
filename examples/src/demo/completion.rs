//! Sentences with a word left out, and what a model puts there.
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};
use trainyard_data::{MlmData, Tokenizer};
use trainyard_models::Bert;
use trainyard_run::RunError;

/// Stands for the word that is left out.
const MASK: &str = "[MASK]";

/// What a token begins with that goes on with a word.
const CONTINUATION: &str = "##";

/// Words shown for a sentence.
const WORDS: usize = 3;

/// What the demo completes if no sentence is given: the addresses know how these go on.
pub const SENTENCES: [&str; 5] = [
    "the [MASK] of the united states",
    "the united [MASK] of america",
    "the secretary of the [MASK]",
    "we are at [MASK] with all nations",
    "i ask the [MASK] to pass this bill",
];

/// A sentence, and what each of the two models puts in place of `[MASK]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Completion {
    /// As it was given.
    pub sentence: String,
    /// Of the model trained without layer dropping, the likeliest word first.
    pub off: Vec<Word>,
    /// Of the model trained with it.
    pub on: Vec<Word>,
}

/// A word with its probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Word {
    /// In lower case.
    pub word: String,
    /// Among all tokens, those that are no words included.
    pub probability: f64,
}

/// A sentence as a model sees it.
#[derive(Debug, PartialEq)]
pub(super) struct Sentence {
    text: String,
    /// Between `[CLS]` and `[SEP]`.
    ids: Vec<i64>,
    /// Where `[MASK]` is.
    place: i64,
}

impl Sentence {
    /// # Errors
    /// There is not one `[MASK]`, or the sentence is longer than those that the model trains on.
    pub fn new(text: &str, data: &MlmData) -> Result<Self, RunError> {
        let wrong = |what: String| RunError::Other(format!("the sentence {text:?} {what}"));
        let parts: Vec<String> = text.split(MASK).map(str::to_owned).collect();
        let [_, _] = &parts[..] else {
            return Err(wrong(format!("has {MASK} {} times, not once", parts.len() - 1)));
        };
        let tokenizer = data.tokenizer();
        let parts = tokenizer.encode(&parts).map_err(|e| wrong(format!("has no tokens: {e}")))?;
        let special = tokenizer.special();
        let ids =
            [&[special.classify][..], &parts[0], &[special.mask], &parts[1], &[special.separator]];
        let ids: Vec<i64> = ids.concat().into_iter().map(i64::from).collect();
        let most = data.sequence_length();
        if ids.len() > most {
            return Err(wrong(format!(
                "has {} tokens, more than the {most} of a sequence",
                ids.len()
            )));
        }
        Ok(Sentence { text: text.to_owned(), ids, place: 1 + parts[0].len() as i64 })
    }

    /// What both models put in.
    ///
    /// # Errors
    /// libtorch refuses.
    pub fn complete(
        &self,
        tokenizer: &Tokenizer,
        off: &Bert,
        on: &Bert,
    ) -> Result<Completion, RunError> {
        let words = |model| Ok::<_, RunError>(likeliest(tokenizer, self.probabilities(model)?));
        Ok(Completion { sentence: self.text.clone(), off: words(off)?, on: words(on)? })
    }

    /// Of each token, in place of `[MASK]`.
    fn probabilities(&self, model: &Bert) -> Result<Vec<f64>, RunError> {
        let (ids, place) = (Tensor::from_slice(&self.ids), Tensor::from_slice(&[self.place]));
        let scores = no_grad(|| model.forward(&ids.unsqueeze(0), None, &place, false));
        let probabilities = scores.softmax(-1, Kind::Double).flatten(0, -1);
        Ok(Vec::try_from(probabilities).map_err(trainyard::Error::Torch)?)
    }
}

/// The likeliest whole words; the smaller id first among equals.
fn likeliest(tokenizer: &Tokenizer, probabilities: Vec<f64>) -> Vec<Word> {
    let mut words: Vec<_> = (0..)
        .zip(probabilities)
        .filter_map(|(id, probability)| Some(Word { word: word(tokenizer, id)?, probability }))
        .collect();
    words.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    words.truncate(WORDS);
    words
}

/// The token, if it is a word by itself.
fn word(tokenizer: &Tokenizer, id: u32) -> Option<String> {
    let token = tokenizer.token(id).filter(|_| !tokenizer.special().contains(id))?;
    let whole = !token.starts_with(CONTINUATION) && token.contains(char::is_alphabetic);
    whole.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nwar\n##s\n,\nand\npeace\n";

    fn in_folder<T>(of: impl FnOnce(&Path) -> T) -> T {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("v"), VOCABULARY).expect("the folder is ours");
        std::fs::write(folder.path().join("t"), "the war and peace and wars\n".repeat(20))
            .expect("the folder is ours");
        of(folder.path())
    }

    fn sentence(text: &str) -> Result<Sentence, String> {
        in_folder(|folder| {
            let config = trainyard_data::DataConfig {
                vocabulary: Some(folder.join("v")),
                sequence_length: 8,
                ..trainyard_data::DataConfig::new(folder.join("t"))
            };
            let data = MlmData::open(&config, 0).expect("a text and its vocabulary");
            Sentence::new(text, &data).map_err(|e| e.to_string())
        })
    }

    #[test]
    fn the_mask_has_its_place() {
        let text = "The wars, [MASK] peace";
        let expected =
            Sentence { text: text.to_owned(), ids: vec![2, 5, 6, 7, 8, 4, 10, 3], place: 5 };
        assert_eq!(sentence(text), Ok(expected));
        assert_eq!(sentence("[MASK]").map(|s| (s.ids, s.place)), Ok((vec![2, 4, 3], 1)));
    }

    #[test]
    fn a_sentence_that_cannot_be_completed_is_named() {
        for (text, expected) in [
            ("the war", "the sentence \"the war\" has [MASK] 0 times, not once"),
            ("[MASK] and [MASK]", "has [MASK] 2 times, not once"),
            ("the war and the [MASK] of war", "has 9 tokens, more than the 8 of a sequence"),
        ] {
            let error = sentence(text).expect_err("it cannot be completed");
            assert!(error.ends_with(expected), "{error}");
        }
    }

    #[test]
    fn whole_words_are_shown_the_likeliest_first() {
        let tokenizer = in_folder(|folder| Tokenizer::from_vocabulary(&folder.join("v")));
        let tokenizer = tokenizer.expect("it is a vocabulary");
        let probabilities = vec![0.0, 0.2, 0.0, 0.1, 0.1, 0.05, 0.1, 0.2, 0.1, 0.05, 0.1];
        let words = likeliest(&tokenizer, probabilities);
        let words: Vec<_> = words.iter().map(|w| (&*w.word, w.probability)).collect();
        assert_eq!(words, [("war", 0.1), ("peace", 0.1), ("the", 0.05)]);
    }
}
