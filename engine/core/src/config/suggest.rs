//! Which name a misspelt one was probably meant to be.

use super::show::{listed, named};

/// How alike two names must be, from 0 (nothing in common) to 1, for one to be suggested.
const ALIKE: f64 = 0.6;

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
        let (short, long) = if name.len() < word.len() { (&name, &word) } else { (&word, &name) };
        let shortened = short.len() >= 3 && long.starts_with(short.as_str());
        strsim::normalized_damerau_levenshtein(&word, &name).max(if shortened {
            ALIKE
        } else {
            0.0
        })
    };
    let mut best = None;
    for name in names {
        let score = alike(name);
        if score >= ALIKE && best.is_none_or(|(_, highest)| score > highest) {
            best = Some((name, score));
        }
    }
    best.map(|(name, _)| name)
}

/// What to say of a key that is not among `known`.
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    let hint = match did_you_mean(key, known.iter().copied()) {
        Some(near) => format!("did you mean {}?", named(near)),
        None if known.is_empty() => "no keys are known here".into(),
        // So long a list is no help.
        None if known.len() > 24 => format!("none of the {} keys here is like it", known.len()),
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
        assert_eq!(did_you_mean("expo", ["constant", "exponential"]), Some("exponential"));
    }
}
