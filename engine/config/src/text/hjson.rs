//! HJSON, as far as it means one thing only: what other programs read for JSON and is not.
//!
//! Comments with `#`, keys without quotes, single quotes, line ends for commas and no brackets around the
//! whole mean one thing only and are read. Text without quotes is not: it runs to the end of its line, comma
//! and comment included, so that `True,` is a text, which nobody meant. It is told, and what follows is read on.

use std::collections::BTreeMap;
use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use serde_json::Value;

use crate::text::scan::Fault;
use crate::text::syntax;

/// Most texts without quotes that are told at once.
const MAX_WORDS: usize = 1000;
/// Most bytes in brackets within such a text.
const MAX_BRACKETED: usize = 100;

/// A text with what only HJSON has put into JSON's place, byte for byte.
pub(crate) struct Relaxed {
    pub text: String,
    /// How many bytes stand before those of the original.
    pub shift: usize,
}

/// A text without quotes where a value should be, such as Python's `True` or a path.
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

    /// The text with a 0 in the place of each text without quotes: none that is right, but one that can be
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
        (String::from_utf8(bytes).expect("whole texts were blanked"), found)
    }
}

/// Where texts without quotes stand, as one item of a list or the value of a key: words such as Python's
/// `True`, paths, whole sentences.
fn words(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut comments = comments(text).peekable();
    let (mut found, mut inside) = (Vec::new(), Vec::new());
    // Whether a value may begin here; else a key may.
    let (mut at, mut value) = (0, false);
    while let (Some(&byte), true) = (bytes.get(at), found.len() <= MAX_WORDS) {
        let in_list = inside.last() == Some(&b'[');
        // What begins within a text is no comment.
        while comments.next_if(|comment| comment.start < at).is_some() {}
        if let Some(comment) = comments.next_if(|comment| comment.start == at) {
            at = comment.end;
            continue;
        }
        (at, value) = match byte {
            // A line's end stands for a comma.
            b'\n' => (at + 1, value || in_list),
            b'"' | b'\'' => (string_end(bytes, at, byte), false),
            b'{' | b'[' => {
                inside.push(byte);
                (at + 1, byte == b'[')
            }
            b'}' | b']' => {
                inside.pop();
                (at + 1, false)
            }
            b',' => (at + 1, in_list),
            b':' => (at + 1, true),
            byte if byte.is_ascii_whitespace() => (at + 1, value),
            _ if value => {
                let place = at..word_end(text, at);
                if is_text(&text[place.clone()]) {
                    found.push(place.clone());
                }
                (place.end, false)
            }
            _ => (at + char_at(text, at).len_utf8(), false),
        };
    }
    found.truncate(MAX_WORDS);
    found
}

/// Where the value without quotes that begins at `start` ends: before what separates it from the next, a
/// comment, a string or the line's end. Behind its first character at least.
fn word_end(text: &str, start: usize) -> usize {
    let begun = |word: &str| {
        word.ends_with(char::is_whitespace)
            || matches!(word, "true" | "false" | "null")
            || word.parse::<f64>().is_ok()
    };
    let mut at = start;
    // Never looks at the rest of the line: a line may have a million values.
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        // `${HOME}/logs`, `range(1, 2)`: brackets are part of a text that closes them.
        let closing = match c {
            '{' => Some(b'}'),
            '[' => Some(b']'),
            '(' => Some(b')'),
            _ => None,
        };
        let of_line = |byte: &u8| !matches!(byte, b'\n' | b'\r');
        let inside = || rest.bytes().take(MAX_BRACKETED).take_while(of_line);
        let closed = closing.and_then(|closing| inside().position(|byte| byte == closing));
        match closed.filter(|length| !rest.as_bytes()[..*length].contains(&b'"')) {
            Some(length) => at += length + 1,
            None if matches!(c, ',' | '}' | ']' | '"' | '{' | '[' | '\n' | '\r') => break,
            None if rest.starts_with("//") || rest.starts_with("/*") => {
                if begun(&text[start..at]) {
                    break;
                }
                at += 1;
            }
            None => at += c.len_utf8(),
        }
    }
    let end = start + text[start..at].trim_end().len();
    end.max(start + char_at(text, start).len_utf8())
}

/// Whether a value without quotes is a text: neither a word of JSON's nor a number, in whatever writing, nor a
/// bracket or a quotation mark that JSON does not have.
fn is_text(word: &str) -> bool {
    let behind_signs = word.trim_start_matches(['-', '+', '.']);
    match behind_signs.chars().next() {
        None => word.starts_with('.'),
        Some(c) if c.is_ascii_digit() => word.contains(['/', '~', '\\']),
        Some('(' | ')' | '“' | '”' | '„' | '‘' | '’') => false,
        Some(c) => !c.is_whitespace() && !matches!(word, "true" | "false" | "null"),
    }
}

/// The character that begins at `at`, which is within the text.
fn char_at(text: &str, at: usize) -> char {
    text[at..].chars().next().expect("a character begins here")
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
