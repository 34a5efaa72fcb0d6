//! What DeepSpeed reads and JSON is not: it parses its files as HJSON.
//!
//! Comments with `#`, keys without quotes, single quotes, line ends for commas and no brackets around the
//! whole mean one thing only and are read. Text without quotes is not: it runs to the end of its line, comma
//! and comment included, so that `True,` is a text, which nobody meant.

use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;

use super::scan::Fault;

/// A text with what only HJSON has put into JSON's place, byte for byte.
pub(super) struct Relaxed {
    pub text: String,
    /// How many bytes stand before those of the original.
    pub shift: usize,
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
}

/// Where the comments of a text stand, without the ends of their lines.
pub(super) fn comments(text: &str) -> impl Iterator<Item = Range<usize>> {
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
pub(super) fn missing_comma(text: &str, value: &ast::Value<'_>) -> Option<Fault> {
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
