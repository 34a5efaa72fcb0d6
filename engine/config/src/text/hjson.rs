//! What DeepSpeed reads and JSON is not: it parses its files as HJSON.
//!
//! Comments with `#`, keys without quotes, single quotes, line ends for commas and no brackets around the
//! whole mean one thing only and are read. Text without quotes is not: it runs to the end of its line, comma
//! and comment included, so that `True,` is a text, which nobody meant.

use std::collections::BTreeMap;
use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use serde_json::Value;

use crate::text::scan::Fault;
use crate::text::syntax;

/// Most words without quotes that are told at once.
const MAX_WORDS: usize = 1000;

/// A text with what only HJSON has put into JSON's place, byte for byte.
pub(crate) struct Relaxed {
    pub text: String,
    /// How many bytes stand before those of the original.
    pub shift: usize,
}

/// A word without quotes where a value should be, such as Python's `True`.
pub(crate) struct Word {
    pub fault: Fault,
    /// What it is taken for, to go on with.
    pub meant: Value,
}

impl Relaxed {
    /// Blanks `#` comments, and puts brackets around a text that begins with a key.
    pub fn new(text: &str) -> Relaxed {
        let mut bytes = text.as_bytes().to_vec();
        for comment in comments(text).filter(|comment| text[comment.clone()].starts_with('#')) {
            bytes[comment].fill(b' ');
        }
        let text = String::from_utf8(bytes).expect("whole comments were blanked");
        match bare(&text) {
            true => Relaxed { text: format!("{{{text}\n}}"), shift: 1 },
            false => Relaxed { text, shift: 0 },
        }
    }

    /// The text with a 0 in the place of each word without quotes: none that is right, but one that can be
    /// read on, so that all such words are told at once; and these, by where they begin in `original`, of
    /// which this was made.
    pub fn without_words(&self, original: &str) -> (String, BTreeMap<usize, Word>) {
        let (mut bytes, mut found) = (self.text.as_bytes().to_vec(), BTreeMap::new());
        for place in words(&self.text) {
            bytes[place.clone()].fill(b' ');
            bytes[place.start] = b'0';
            let place = place.start - self.shift..place.end - self.shift;
            let (message, meant) = syntax::word(original, place.clone());
            found.insert(place.start, Word { fault: Fault::new(place, message), meant });
        }
        (String::from_utf8(bytes).expect("words are ASCII"), found)
    }
}

/// Where words stand that are neither keys nor in strings or comments nor JSON's own, as one item of a
/// list or the value of a key.
fn words(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let of_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let mut comments = comments(text).peekable();
    let mut found = Vec::new();
    // Whether the last of them is what was read last; then a colon makes it a key.
    let mut just_found = false;
    // What was read last, where a line's end stands for a comma.
    let (mut at, mut before) = (0, b'{');
    while let (Some(&byte), true) = (bytes.get(at), found.len() <= MAX_WORDS) {
        if let Some(comment) = comments.next_if(|comment| comment.start == at) {
            at = comment.end;
        } else if byte.is_ascii_whitespace() {
            let ends = byte == b'\n' && !matches!(before, b':' | b'[' | b'{');
            before = if ends { b',' } else { before };
            at += 1;
        } else if matches!(byte, b'"' | b'\'') {
            (at, before, just_found) = (string_end(bytes, at, byte), byte, false);
        } else if of_word(&byte) {
            let sign = usize::from(byte == b'-');
            let length = bytes[at + sign..].iter().take_while(|byte| of_word(byte)).count();
            let place = at..at + sign + length;
            let first = bytes.get(at + sign);
            let begins = first.is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
            let json = matches!(&text[place.clone()], "true" | "false" | "null");
            just_found = begins && !json && matches!(before, b':' | b',' | b'[');
            found.extend(just_found.then(|| place.clone()));
            (at, before) = (place.end, b'a');
        } else {
            if byte == b':' && just_found {
                found.pop();
            }
            (at, before, just_found) = (at + 1, byte, false);
        }
    }
    found.truncate(MAX_WORDS);
    found
}

/// Where the comments of a text stand, without the ends of their lines.
pub(crate) fn comments(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            let end = match (bytes[at], bytes.get(at + 1)) {
                (quote @ (b'"' | b'\''), _) => {
                    at = string_end(bytes, at, quote);
                    continue;
                }
                (b'#', _) | (b'/', Some(b'/')) => line_end(bytes, at),
                (b'/', Some(b'*')) => {
                    text[at..].find("*/").map_or(bytes.len(), |length| at + length + 2)
                }
                _ => {
                    at += 1;
                    continue;
                }
            };
            at = end;
            return Some(start..end);
        }
        None
    })
}

/// Whether the text begins with a key rather than a bracket.
fn bare(text: &str) -> bool {
    let mut begin = 0;
    for comment in comments(text) {
        if !text[begin..comment.start].trim().is_empty() {
            break;
        }
        begin = comment.end;
    }
    let first = text[begin..].trim_start().lines().next();
    first.is_some_and(|line| !line.starts_with(['{', '[']) && line.contains(':'))
}

/// Behind the string that opens at `start`, or at the end of its line.
fn string_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'\n' => return at,
            byte if byte == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn line_end(bytes: &[u8], start: usize) -> usize {
    let length = bytes[start..].iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    length.map_or(bytes.len(), |length| start + length)
}

/// The first place where a comma is missing and no line ends: HJSON takes the rest of the line for text.
///
/// Recursion is as deep as the text is nested, which is bounded.
pub(crate) fn missing_comma(text: &str, value: &ast::Value<'_>) -> Option<Fault> {
    let between = |before: Range<usize>, after: Range<usize>| {
        let missing = !text[before.end..after.start].contains([',', '\n']);
        missing.then(|| Fault::new(before.end..after.start, "a comma is missing here"))
    };
    let places = |ranges: Vec<Range<usize>>| {
        ranges.windows(2).find_map(|pair| between(pair[0].clone(), pair[1].clone()))
    };
    let place = |range: jsonc_parser::common::Range| range.start..range.end;
    match value {
        ast::Value::Object(object) => {
            let inside = &object.properties;
            places(inside.iter().map(|property| place(property.range())).collect())
                .or_else(|| inside.iter().find_map(|p| missing_comma(text, &p.value)))
        }
        ast::Value::Array(list) => {
            let inside = &list.elements;
            places(inside.iter().map(|element| place(element.range())).collect())
                .or_else(|| inside.iter().find_map(|element| missing_comma(text, element)))
        }
        _ => None,
    }
}
