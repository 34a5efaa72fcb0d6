//! A configuration text, where it came from, and what stands on which line.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use crate::problems::problem::{ConfigError, Problem, ProblemKind};

/// The largest file that is read, in bytes (16 MiB).
const MAX_BYTES: u64 = 16 << 20;
/// Distance of the marks from which columns are counted, in bytes.
const MARK_BYTES: usize = 1024;

/// The text of a configuration and the name that messages give it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
    /// The text as a terminal may have it: as long, with other characters for those that command one.
    shown: Arc<str>,
    /// Byte offset of the first character of each line.
    line_starts: Arc<[usize]>,
    /// Characters before every `MARK_BYTES`-th byte: a hostile file is one line of megabytes with
    /// thousands of mistakes, and counting from its start for each would take minutes.
    marks: Arc<[usize]>,
}

impl Source {
    /// Reads a file: a regular one of at most 16 MiB of UTF-8; its name in messages is `path`.
    ///
    /// # Errors
    /// One sentence when the file is missing, may not be read, is a directory, pipe, socket or
    /// device (those could block), is too large or is not UTF-8.
    pub fn read(path: impl AsRef<Path>) -> Result<Source, ConfigError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let text = read_text(path, &name).map_err(|message| {
            ConfigError::from(Problem::new(ProblemKind::Unreadable, String::new(), message))
        })?;
        Ok(Source::text(name, text))
    }

    /// A text that is already at hand. A byte order mark at its start is dropped.
    pub fn text(name: impl Into<Arc<str>>, text: impl AsRef<str>) -> Source {
        let text = text.as_ref();
        let text: Arc<str> = text.strip_prefix('\u{feff}').unwrap_or(text).into();
        let line_starts = std::iter::once(0).chain(line_ends(text.as_bytes())).collect();
        let marks = text.as_bytes().chunks(MARK_BYTES).scan(0, |before, chunk| {
            *before += characters(chunk);
            Some(*before)
        });
        let marks = std::iter::once(0).chain(marks).collect();
        let shown = match text.contains(commands) {
            true => text.chars().map(harmless).collect::<String>().into(),
            false => text.clone(),
        };
        Source { name: name.into(), text, shown, line_starts, marks }
    }

    /// The name that messages give this text, as a rule the path of a file.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Line and column of the byte at `offset`, both counted from 1, columns in characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        (line, self.characters_before(offset) - self.characters_before(start) + 1)
    }

    fn characters_before(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        let mark = offset / MARK_BYTES;
        self.marks[mark] + characters(&self.text.as_bytes()[mark * MARK_BYTES..offset])
    }

    /// Length in bytes of the lines that `span` touches: what underlining it would print.
    pub(crate) fn line_bytes(&self, span: &Range<usize>) -> usize {
        let first = self.line_starts.partition_point(|start| *start <= span.start) - 1;
        let after = self.line_starts.partition_point(|start| *start <= span.end);
        let end = self.line_starts.get(after).copied().unwrap_or(self.text.len());
        end - self.line_starts[first]
    }
}

/// Whether a character does something to a terminal, or to the order of the others in it.
fn commands(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

/// The character, or one of as many bytes in the place of one that commands.
fn harmless(c: char) -> char {
    match (commands(c), c.len_utf8()) {
        (false, _) => c,
        (true, 1) => '?',
        (true, 2) => '\u{b7}',
        (true, _) => '\u{fffd}',
    }
}

/// Behind each line end: a line feed, or a carriage return, with a line feed or alone, as in what is
/// underlined.
fn line_ends(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let ends = |at: &usize| match bytes[*at] {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    (0..bytes.len()).filter(ends).map(|at| at + 1)
}

/// Whether these are plain characters of two bytes each, as Windows saves them: every second byte is 0.
fn is_utf16(bytes: &[u8]) -> bool {
    let begin = &bytes[..bytes.len().min(64)];
    let zeros = |first: usize| begin.iter().skip(first).step_by(2).all(|byte| *byte == 0);
    begin.len() >= 4 && begin.iter().any(|byte| *byte != 0) && (zeros(0) || zeros(1))
}

/// How many characters begin in these bytes of UTF-8.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// The text at `path`, or why it cannot be had.
fn read_text(path: &Path, name: &str) -> Result<String, String> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{name}: there is no such file"),
        io::ErrorKind::PermissionDenied => format!("{name}: no permission to read this file"),
        _ => format!("{name}: this file cannot be read: {error}"),
    };
    let large = |bytes: u64| {
        let limit = MAX_BYTES >> 20;
        format!("{name}: this file has {bytes} bytes; a configuration has at most {limit} MiB")
    };
    // Asked before opening: opening a pipe that nobody writes to would wait for ever.
    let metadata = path.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(format!("{name}: this is a directory; a configuration file is expected"));
    }
    if !metadata.is_file() {
        return Err(format!(
            "{name}: this is a pipe, socket or device; a configuration file is expected"
        ));
    }
    if metadata.len() > MAX_BYTES {
        return Err(large(metadata.len()));
    }
    // The length above is only what the file claims; this is what is really read.
    let mut bytes = Vec::new();
    let limit = MAX_BYTES + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{name}: this file has more than {} MiB", MAX_BYTES >> 20));
    }
    if is_utf16(&bytes) {
        return Err(format!(
            "{name}: this file has a zero in every second byte; it looks like UTF-16, save it as UTF-8"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = line_ends(&bytes[..at]).count() + 1;
        let hint = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "; it looks like UTF-16, save it as UTF-8",
            _ => "",
        };
        format!("{name}:{line}: byte {:#04x} at {at} is not UTF-8{hint}", bytes[at])
    })
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let text = self.shown.read_span(span, lines_before, lines_after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.chars().map(harmless).collect(),
            text.data(),
            *text.span(),
            text.line(),
            text.column(),
            text.line_count(),
        )))
    }
}
