//! Which name a misspelt one was probably meant to be.

use crate::text::show::{joined, listed, named};

/// How alike two names must be, from 0 (nothing in common) to 1, for one to be suggested.
const ALIKE: f64 = 0.6;
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
        let spelt = match may_be_alike(short, long) {
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

/// What to say of a key that is not among `known`. `elsewhere`: the sections that have a key of that very
/// name, `None` for the top level. `also`: words that mean one of the keys and are not spelt like it.
pub(crate) fn unknown_key(
    key: &str,
    known: &[&str],
    elsewhere: &[Option<String>],
    also: &[(&str, &str)],
) -> String {
    let place = |section: &Option<String>| match section {
        Some(section) => format!("in {section}"),
        None => "at the top level".to_owned(),
    };
    let places: Vec<_> = elsewhere.iter().map(place).collect();
    let meant = also.iter().find(|(word, name)| *word == key && known.contains(name));
    let near = || did_you_mean(key, known.iter().copied());
    let hint = match meant.map(|(_, name)| *name).or_else(near) {
        _ if !places.is_empty() => format!("it belongs {}", joined(&places, "or")),
        Some(near) => format!("did you mean {}?", named(near)),
        None if known.is_empty() => "no keys are known here".into(),
        // So long a list is no help.
        None if known.len() > 24 => {
            format!("the schema lists the {} that are known here", known.len())
        }
        None => format!("known keys: {}", listed(known.iter().copied())),
    };
    format!("unknown key {}; {hint}", named(key))
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
    fn a_key_of_another_section_is_told_where_it_belongs() {
        let other = [Some("fp16".to_owned())];
        assert_eq!(
            unknown_key("loss_scale", &["loss_scales"], &other, &[]),
            "unknown key \"loss_scale\"; it belongs in fp16"
        );
        assert_eq!(
            unknown_key("stage", &[], &[None, Some("a.b".to_owned())], &[]),
            "unknown key \"stage\"; it belongs at the top level or in a.b"
        );
    }

    #[test]
    fn a_word_of_other_programs_is_told_what_it_is_called_here() {
        let also = [("size", "width"), ("size", "train_batch_size")];
        let told = |known: &[&str]| unknown_key("size", known, &[], &also);
        let expected = "unknown key \"size\"; did you mean \"train_batch_size\"?";
        assert_eq!(told(&["sizes", "train_batch_size"]), expected);
        assert_eq!(told(&["sizes"]), "unknown key \"size\"; did you mean \"sizes\"?");
    }
}
