//! How values and names are shown in a sentence.

use serde_json::{Number, Value};

/// Longest text of a value in a message, in characters.
const SHOWN_CHARS: usize = 60;
/// Most names a message lists.
const LISTED_NAMES: usize = 16;
/// `value` as one short line of JSON.
pub(crate) fn shown(value: &Value) -> String {
    clipped(match value {
        Value::Array(items) if items.is_empty() => "[]".into(),
        Value::Array(_) => "[...]".into(),
        Value::Object(keys) if keys.is_empty() => "{}".into(),
        Value::Object(_) => "{...}".into(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    })
}

/// `text` as a JSON string with no character in it that a terminal would obey.
pub(crate) fn quoted(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 2);
    for c in Value::from(text).to_string().chars() {
        // JSON escapes the controls below a space only; a terminal also obeys those above 0x7e and
        // the marks that turn the direction of writing.
        if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            safe.push_str(&format!("\\u{:04x}", c as u32));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// A key in quotes, cut to a length that suits a message.
pub(crate) fn named(key: &str) -> String {
    clipped(quoted(key))
}

/// `text` cut to a length that suits a message.
pub(crate) fn clipped(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARS) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// A limit of a schema, without the `.0` of a whole number.
pub(crate) fn limit(number: &Number) -> String {
    match number.as_f64() {
        Some(x) if x.fract() == 0.0 && x.abs() < 1e15 => format!("{x:.0}"),
        _ => number.to_string(),
    }
}

/// What kind of value this is: "a string", "a list".
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `a, b or c`.
pub(crate) fn joined(parts: &[String], word: &str) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} {word} {last}", first.join(", ")),
    }
}

/// `"a", "b", "c"`, shortened when there are many.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(named).collect();
    match names.len().saturating_sub(LISTED_NAMES) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..LISTED_NAMES].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_values_are_short_and_tame() {
        assert_eq!(shown(&Value::from("é".repeat(100))), format!("\"{}...", "é".repeat(59)));
        assert_eq!(quoted("a\u{1b}[0m\u{9b}\u{202e}"), r#""a\u001b[0m\u009b\u202e""#);
        assert_eq!(limit(&Number::from_f64(1.0).unwrap()), "1");
        assert_eq!(limit(&Number::from_f64(1e300).unwrap()), "1e+300");
    }
}
