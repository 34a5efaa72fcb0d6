//! A pass over the text before it is parsed, for what the parser would let through: nesting and
//! size that only a hostile file has, and characters that JSON does not allow.

use std::ops::Range;

/// Deepest nesting of objects and lists; also how deep an override may reach.
pub(crate) const MAX_DEPTH: usize = 128;
/// Most values in a configuration; bounds the memory that reading one takes.
const MAX_VALUES: usize = 100_000;

/// A place in the text and what is wrong there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub span: Range<usize>,
    pub message: String,
}

impl Fault {
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Fault {
        Fault { span, message: message.into() }
    }

    /// Of a text with `shift` bytes more before it, where this stands in `text`: within it, with an end behind its
    /// beginning.
    pub fn shifted(self, shift: usize, text: &str) -> Fault {
        let at = |offset: usize| offset.saturating_sub(shift).min(text.len());
        let start = at(self.span.start);
        Fault { span: start..at(self.span.end).max(start), ..self }
    }
}

/// The first fault of the text, if it has one that this pass looks for. `relaxed`: strings may stand in
/// single quotes.
///
/// # Errors
/// The text has so many values that it should not be parsed at all.
pub(crate) fn scan(text: &str, relaxed: bool) -> Result<Option<Fault>, Fault> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut values) = (0, 0usize, 0);
    let mut first: Option<Fault> = None;
    while let Some(&byte) = bytes.get(at) {
        let mut next = at + 1;
        let mut fault = None;
        match byte {
            b'"' => (next, fault) = string(text, at),
            b'\'' if relaxed => (next, fault) = string(text, at),
            b'/' if bytes.get(next) == Some(&b'/') => {
                let line = text[at..].find(['\n', '\r']);
                next = line.map_or(text.len(), |length| at + length);
            }
            b'/' if bytes.get(next) == Some(&b'*') => {
                let end = text[at + 2..].find("*/");
                next = end.map_or(text.len(), |length| at + 2 + length + 2);
            }
            b'{' | b'[' => {
                (depth, values) = (depth + 1, values + 1);
                if depth > MAX_DEPTH {
                    let message = format!("nested deeper than {MAX_DEPTH} levels");
                    fault = Some(Fault::new(at..next, message));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            0x0b | 0x0c | 0x80.. => {
                let c = text[at..].chars().next().expect("a character starts here");
                next = at + c.len_utf8();
                if c.is_whitespace() {
                    let message =
                        format!("U+{:04X} is not JSON white space; use a space", c as u32);
                    fault = Some(Fault::new(at..next, message));
                }
            }
            _ => {}
        }
        if values > MAX_VALUES {
            let message = format!("more than {MAX_VALUES} values");
            return Err(first.unwrap_or_else(|| Fault::new(at..next, message)));
        }
        first = first.or(fault);
        at = next;
    }
    Ok(first)
}

/// Where the string that opens at `start` ends, and the first character in it that JSON forbids.
fn string(text: &str, start: usize) -> (usize, Option<Fault>) {
    let quote = text.as_bytes()[start];
    let mut fault = text[start..].starts_with("'''").then(|| {
        let message = "a text in ''' is not read; write it on one line, in double quotes";
        Fault::new(start..start + 3, message)
    });
    let mut escaped = false;
    for (at, &byte) in text.as_bytes().iter().enumerate().skip(start + 1) {
        match byte {
            byte if byte == quote && !escaped => return (at + 1, fault),
            b'\n' | b'\r' if fault.is_none() => {
                let message = "this string is not closed before the end of its line";
                fault = Some(Fault::new(start..at, message));
            }
            0..0x20 if fault.is_none() => {
                let message =
                    format!("control character in a string; write it as {}", escape(byte));
                fault = Some(Fault::new(at..at + 1, message));
            }
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    (text.len(), fault)
}

fn escape(byte: u8) -> String {
    if byte == b'\t' { r"\t".into() } else { format!(r"\u{byte:04x}") }
}
