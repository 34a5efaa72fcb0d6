//! The parser's syntax errors in our words.

use std::ops::Range;

use jsonc_parser::ParseStringErrorKind;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use serde_json::Value;

use crate::text::scan::Fault;
use crate::text::show::clipped;

/// What is wrong where the parser stopped, and how to mend it.
pub(crate) fn explain(text: &str, error: &ParseError) -> Fault {
    use ParseErrorKind::*;
    let range = error.range();
    let span = range.start.min(text.len())..range.end.min(text.len());
    let found = &text[span.clone()];
    let first = found.chars().next();
    let before = text[..span.start].trim_end().chars().next_back();
    let opening = span.start..(span.start + 1).min(text.len());
    let fault = |message: &str| Fault::new(span.clone(), message);
    match error.kind() {
        UnterminatedObject => Fault::new(opening, "this { is never closed"),
        UnterminatedArray => Fault::new(opening, "this [ is never closed"),
        UnterminatedCommentBlock => {
            Fault::new(span.start..(span.start + 2).min(text.len()), "this /* is never closed")
        }
        ExpectedComma if leading_zero(text, span.start) => {
            fault("a number may not start with a 0 before other digits")
        }
        ExpectedComma => fault("a comma is missing here"),
        ExpectedColonAfterObjectKey => fault("a colon is missing after this key"),
        ExpectedObjectValue => fault("a value is missing after the colon"),
        UnexpectedComma | UnexpectedCloseBrace | UnexpectedCloseBracket | UnexpectedColon
            if before == Some(':') =>
        {
            fault("a value is missing after the colon")
        }
        UnexpectedComma => fault("a value is missing before this comma"),
        UnexpectedCloseBrace => fault("this } closes nothing"),
        UnexpectedCloseBracket => fault("this ] closes nothing"),
        UnexpectedColon => fault("a colon does not belong here"),
        UnexpectedTokenInObject => match first {
            Some(',') => fault("a key is missing before this comma"),
            Some(']') => fault("this ] closes nothing; } is expected"),
            Some(':') => fault("a colon does not belong here"),
            _ => fault("a key in double quotes is expected"),
        },
        ExpectedStringObjectProperty => {
            Fault::new(span.clone(), format!("this key needs double quotes: \"{}\"", short(found)))
        }
        UnexpectedWord => Fault::new(span.clone(), word(text, span.clone()).0),
        // The parser gives up on a word only at the character behind it.
        UnexpectedToken if first.is_some_and(char::is_alphanumeric) => {
            Fault::new(span.clone(), word(text, span.clone()).0)
        }
        SingleQuotedStringsNotAllowed => fault("a string needs double quotes, not single ones"),
        HexadecimalNumbersNotAllowed => fault("a hexadecimal number is not JSON"),
        UnaryPlusNumbersNotAllowed => fault("a number may not start with +"),
        BareDecimalPointNumbersNotAllowed => {
            fault("a number needs digits on both sides of its point")
        }
        NonFiniteNumbersNotAllowed => fault("infinity and NaN are not JSON numbers"),
        ExpectedDigit
        | ExpectedDigitFollowingNegativeSign
        | ExpectedPlusMinusOrDigitInNumberLiteral => fault("a digit is missing in this number"),
        UnexpectedToken if first == Some('(') && matches!(before, Some(':' | '[')) => {
            fault("a list stands in [ ], not in ( )")
        }
        UnexpectedToken => unexpected(span.clone(), first),
        MultipleRootJsonValues if first == Some(':') => {
            fault("a key outside of { ... }; the whole configuration stands in these brackets")
        }
        MultipleRootJsonValues => fault("the configuration ended before this"),
        String(kind) => string(text, span.start, kind),
        NestingDepthExceeded => fault("nested too deeply"),
        // Switched on in the parser's options; with no position of ours to add.
        CommentsNotAllowed | TrailingCommasNotAllowed => fault("this is not allowed here"),
    }
}

/// Whether what ends at `at` is a `0` with more digits behind it.
fn leading_zero(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    at > 0 && bytes[at - 1] == b'0' && bytes.get(at).is_some_and(u8::is_ascii_digit)
}

/// What is wrong with the text without quotes at `place`, where a value should be, and what it stands for.
pub(crate) fn word(text: &str, place: Range<usize>) -> (String, Value) {
    let found = short(&text[place.clone()]);
    let write = |right: Value, or: &str| {
        // Without quotes, HJSON takes what is no value of JSON up to the end of the line for a text.
        // A line may be megabytes long.
        let line = text[place.start..].chars().take(100).collect::<String>();
        let line = crate::text::show::named(line.lines().next().unwrap_or_default().trim_end());
        (format!("{found} is not JSON; write {right}{or} (HJSON reads the text {line})"), right)
    };
    match found.to_lowercase().trim_start_matches('-') {
        "true" | "yes" | "on" => write(true.into(), ""),
        "false" | "no" | "off" => write(false.into(), ""),
        "null" | "none" | "nil" | "undefined" => write(Value::Null, ", or leave the key out"),
        "nan" | "infinity" | "inf" => ("infinity and NaN are not JSON numbers".into(), Value::Null),
        _ => {
            let found = &text[place];
            (format!("text needs double quotes: {}", crate::text::show::named(found)), found.into())
        }
    }
}

/// A character that begins nothing in JSON.
fn unexpected(span: Range<usize>, first: Option<char>) -> Fault {
    let message = match first {
        Some('#') => "a comment starts with // or /*, not with #".into(),
        Some('/') => "a comment starts with // or /*".into(),
        Some('“' | '”' | '„' | '‘' | '’') => {
            "a string needs straight double quotes (\")".into()
        }
        Some(c) => format!("{c:?} does not belong here"),
        None => "the text ends too early".into(),
    };
    Fault::new(span, message)
}

/// A string with a bad escape, or one without an end.
fn string(text: &str, start: usize, kind: &ParseStringErrorKind) -> Fault {
    use ParseStringErrorKind::*;
    // The parser points at the backslash, in a string that never ends at its opening quote.
    let end =
        |chars| text[start..].char_indices().nth(chars).map_or(text.len(), |(at, _)| start + at);
    match kind {
        UnterminatedStringLiteral => Fault::new(start..end(1), "this string is never closed"),
        ExpectedFourHexDigits => {
            Fault::new(start..end(2), r"\u needs four hexadecimal digits, as in \u00e9")
        }
        InvalidUnicodeEscapeSequence(_) => Fault::new(
            start..end(6),
            "half a surrogate pair; a character beyond U+FFFF takes two such escapes, or is written as it is",
        ),
        _ => {
            let escape = &text[start..end(2)];
            let message = format!(r#"{escape} is not a JSON escape; a backslash is written \\"#);
            Fault::new(start..end(2), message)
        }
    }
}

fn short(found: &str) -> String {
    clipped(found.to_owned())
}
