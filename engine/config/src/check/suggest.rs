//! Which name a misspelt one was probably meant to be.

use crate::text::path::Path;
use crate::text::show::{joined, listed, named};
use serde_json::Value;

/// How alike two names must be, from 0 (nothing in common) to 1, for one to be suggested.
const ALIKE: f64 = 0.6;
/// Up to so many letters, names are alike that differ in one: `comet` is no misspelt `comment`.
const SHORT: usize = 5;
/// How many times longer a name may be than one that it begins with, for the one to be suggested for the
/// other.
const SHORTENED: usize = 3;
/// Words and names, without separators, that are alike and mean something else: following the suggestion
/// would do harm.
const NEVER: [(&str, &str); 3] = [
    ("warmupminlr", "warmupminratio"),
    ("findunusedparameters", "ignoreunusedparameters"),
    ("fp16", "fp16masterweightsandgrads"),
];

/// The name among `names` that `word` was probably meant to be: the most alike in spelling, upper
/// and lower case and separators apart, or one that `word` begins or shortens. `None` when nothing
/// is near.
pub fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| {
        name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase()
    };
    let word = plain(word);
    // Longer words are not misspelt names, and the distance takes time in the square of the length.
    if word.is_empty() || word.len() > 100 {
        return None;
    }
    let alike = |name: &str| {
        let name = plain(name);
        if NEVER.contains(&(&word, &name)) {
            return 0.0;
        }
        let (short, long) = if name.len() < word.len() { (&name, &word) } else { (&word, &name) };
        let shortened = short.len() >= 3 && long.starts_with(short.as_str());
        let shortened = shortened && long.len() <= SHORTENED * short.len();
        let letters = short.chars().count();
        let spelt = match may_be_alike(short, long) {
            true if letters <= SHORT && strsim::damerau_levenshtein(&word, &name) > 1 => 0.0,
            true => strsim::normalized_damerau_levenshtein(&word, &name),
            false => 0.0,
        };
        spelt.max(if shortened { ALIKE } else { 0.0 })
    };
    let mut best = None;
    for name in names {
        // Of two as near, a letter too many is likelier than another one.
        let begun = if word.starts_with(&plain(name)) { name.len() } else { 0 };
        let score = (alike(name), begun);
        if score.0 >= ALIKE && best.is_none_or(|(_, highest)| score > highest) {
            best = Some((name, score));
        }
    }
    best.map(|(name, _)| name)
}

/// Whether the lengths alone leave it open that two names are alike enough.
fn may_be_alike(short: &str, long: &str) -> bool {
    let count = |name: &str| name.chars().count() as f64;
    count(short) >= ALIKE * count(long)
}

/// What another program calls a key.
#[derive(Debug, Clone, Copy)]
pub struct Alias {
    /// The word.
    pub word: &'static str,
    /// The key that it means here, dotted, from the top level; empty if there is none.
    pub key: &'static str,
    /// What else is to be known, as a clause; empty for nothing.
    pub how: &'static str,
}

/// What to say of the key `key` of `outer`, which is not among the `known` ones there. `elsewhere`: the sections that
/// have a key of that very name. `whole`: the configuration, of which no key is suggested that is there already.
pub(crate) fn unknown_key(
    outer: &Path,
    key: &str,
    known: &[&str],
    elsewhere: &[Path],
    aliases: &[Alias],
    whole: &Value,
) -> String {
    let hint = of_another_section(key, elsewhere, whole)
        .or_else(|| aliases.iter().find_map(|alias| of_alias(outer, key, known, alias, whole)))
        .or_else(|| {
            let near = did_you_mean(key, known.iter().copied())?;
            Some(match is_there(&outer.key(near), whole) {
                true => format!("it is like {}, which is there already", named(near)),
                false => format!("did you mean {}?", named(near)),
            })
        });
    let hint = hint.unwrap_or_else(|| match known.len() {
        0 => "no keys are known here".into(),
        // So long a list is no help.
        many if many > 24 => format!("the schema lists the {many} that are known here"),
        _ => format!("known keys: {}", listed(known.iter().copied())),
    });
    format!("unknown key {}; {hint}", named(key))
}

/// Whether `whole` has a value there: `null` is as if it were left out.
fn is_there(path: &Path, whole: &Value) -> bool {
    path.find(whole).is_some_and(|value| !value.is_null())
}

/// Where a key of another section belongs.
fn of_another_section(key: &str, sections: &[Path], whole: &Value) -> Option<String> {
    let place = |section: &Path| match section.is_root() {
        true => "at the top level".to_owned(),
        false => format!("in {section}"),
    };
    let places: Vec<_> = sections.iter().map(place).collect();
    let there = sections.iter().find(|section| is_there(&section.key(key), whole));
    match (&places[..], there) {
        ([], _) => None,
        (_, None) => Some(format!("it belongs {}", joined(&places, "or"))),
        (_, Some(section)) => {
            Some(format!("it belongs {}, where it is already: delete this one", place(section)))
        }
    }
}

/// What a word of another program is called here, or what to do without.
fn of_alias(
    outer: &Path,
    key: &str,
    known: &[&str],
    alias: &Alias,
    whole: &Value,
) -> Option<String> {
    if alias.word != key {
        return None;
    }
    let Ok(path) = Path::parse(alias.key) else { return Some(alias.how.to_owned()) };
    let last = alias.key.rsplit('.').next().unwrap_or_default();
    let section = path.parent().unwrap_or_default();
    let hint = if known.contains(&last) {
        match is_there(&outer.key(last), whole) {
            true => {
                return Some(format!("it is {last} here, which is there already: delete this one"));
            }
            false => format!("did you mean {}?", named(last)),
        }
    } else if section.segments().starts_with(outer.segments()) {
        match is_there(&path, whole) {
            true => {
                return Some(format!("it is {path} here, which is there already: delete this one"));
            }
            false => format!("it is {path} here"),
        }
    } else {
        return None;
    };
    Some(match (alias.how, hint.ends_with('?')) {
        ("", _) => hint,
        (how, true) => format!("{hint} {how}"),
        (how, false) => format!("{hint}: {how}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let keys = ["total_steps", "theta", "gamma", "warmup_num_steps", "fp16", "bf16"];
        for (word, expected) in [
            ("thta", Some("theta")),
            ("Theta", Some("theta")),
            ("warmup_steps", Some("warmup_num_steps")),
            ("warmupNumSteps", Some("warmup_num_steps")),
            ("total", Some("total_steps")),
            ("fp61", Some("fp16")),
            ("fp32", None),
            ("learning_rate", None),
            ("", None),
            ("----", None),
        ] {
            assert_eq!(did_you_mean(word, keys), expected, "{word}");
        }
        assert_eq!(did_you_mean(&"theta".repeat(1000), keys), None);
        assert_eq!(did_you_mean("adamm", ["AdamW", "Adam"]), Some("Adam"));
        assert_eq!(did_you_mean("adamw8bit", ["Adam", "AdamW"]), Some("AdamW"));
        assert_eq!(did_you_mean("expo", ["constant", "exponential"]), Some("exponential"));
    }

    #[test]
    fn what_would_do_harm_is_not_suggested() {
        for (word, name) in [
            ("fp16", "fp16_master_weights_and_grads"),
            ("warmup_min_lr", "warmup_min_ratio"),
            ("find_unused_parameters", "ignore_unused_parameters"),
            ("amp", "amplification_of_gradients"),
        ] {
            assert_eq!(did_you_mean(word, [name]), None, "{word}");
        }
    }

    /// The lengths rule out only what the spelling would.
    #[test]
    fn lengths_are_a_lower_bound_of_the_distance() {
        for long in 1..40 {
            for short in 1..=long {
                let (short, long) = ("a".repeat(short), "a".repeat(long));
                let score = strsim::normalized_damerau_levenshtein(&short, &long);
                assert_eq!(may_be_alike(&short, &long), score >= ALIKE, "{short} {long}");
            }
        }
    }

    #[test]
    fn short_names_are_alike_that_differ_in_one_letter() {
        for (word, name, alike) in [
            ("comment", "comet", false),
            ("msamp", "amp", false),
            ("amq", "amp", true),
            ("comte", "comet", true),
            ("stge", "stage", true),
        ] {
            assert_eq!(did_you_mean(word, [name]).is_some(), alike, "{word} {name}");
        }
    }

    fn told(outer: &str, key: &str, known: &[&str], elsewhere: &[&str], whole: Value) -> String {
        let path = |path: &str| Path::parse(path).unwrap_or_default();
        let elsewhere: Vec<_> = elsewhere.iter().map(|section| path(section)).collect();
        const ALIASES: [Alias; 3] = [
            Alias { word: "size", key: "batch.width", how: "" },
            Alias { word: "ratio", key: "batch.steps", how: "in steps" },
            Alias { word: "smoothing", key: "", how: "the loss is the program's" },
        ];
        let told = unknown_key(&path(outer), key, known, &elsewhere, &ALIASES, &whole);
        told.strip_prefix(&format!("unknown key {key:?}; ")).expect("the key").to_owned()
    }

    #[test]
    fn a_key_of_another_section_is_told_where_it_belongs() {
        let none = || Value::Object(Default::default());
        let told =
            |key: &str, elsewhere: &[&str], whole| told("", key, &["scales"], elsewhere, whole);
        assert_eq!(told("scale", &["fp16"], none()), "it belongs in fp16");
        assert_eq!(told("stage", &["", "a.b"], none()), "it belongs at the top level or in a.b");
        assert_eq!(
            told("scale", &["fp16"], serde_json::json!({ "fp16": { "scale": 1 } })),
            "it belongs in fp16, where it is already: delete this one"
        );
    }

    #[test]
    fn a_word_of_other_programs_is_told_what_it_is_called_here() {
        let none = || Value::Object(Default::default());
        let there = || serde_json::json!({ "batch": { "width": 1, "steps": 2 } });
        for (outer, key, whole, expected) in [
            ("batch", "size", none(), "did you mean \"width\"?"),
            ("batch", "size", there(), "it is width here, which is there already: delete this one"),
            ("", "size", none(), "it is batch.width here"),
            (
                "",
                "size",
                there(),
                "it is batch.width here, which is there already: delete this one",
            ),
            ("", "ratio", none(), "it is batch.steps here: in steps"),
            ("batch", "ratio", none(), "did you mean \"steps\"? in steps"),
            ("", "smoothing", none(), "the loss is the program's"),
        ] {
            let known: &[&str] = if outer.is_empty() { &["batch"] } else { &["width", "steps"] };
            assert_eq!(told(outer, key, known, &[], whole), expected, "{key} in {outer:?}");
        }
        // In a section that has nothing to do with it, the word means nothing.
        assert_eq!(told("other", "size", &["sizes"], &[], none()), "did you mean \"sizes\"?");
        // What is there already is not suggested.
        let there = serde_json::json!({ "other": { "sizes": 1 } });
        let twin = "it is like \"sizes\", which is there already";
        assert_eq!(told("other", "size", &["sizes"], &[], there), twin);
    }
}
