//! The ranks' output: whole lines, each behind its rank, and what a rank said last.
use std::io::{self, ErrorKind, Read};
use std::mem;

/// Bytes of a line that are held until it is whole; a longer one goes on in pieces of this length, each
/// a line of its own.
const LONGEST: usize = 64 << 10;

/// Bytes that are kept of an error line.
const TOLD: usize = 1000;

/// Passes what comes from `from` on to `to`, in whole lines with `prefix` before each, until it ends or
/// `to` fails; `see` sees each line, without prefix and end. A last line without an end gets one. The
/// bytes need not be UTF-8.
///
/// # Errors
/// Of reading and of writing.
pub fn pass_on(
    mut from: impl Read,
    prefix: &str,
    mut see: impl FnMut(&[u8]),
    mut to: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut chunk = vec![0; LONGEST];
    let (mut lines, mut out) = (Lines::default(), Vec::new());
    loop {
        let read = match from.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        let mut line = |line: &[u8]| {
            see(line);
            out.extend_from_slice(prefix.as_bytes());
            out.extend_from_slice(line);
            out.push(b'\n');
        };
        match read {
            0 => lines.end(&mut line),
            _ => lines.push(&chunk[..read], &mut line),
        }
        if !out.is_empty() {
            to(&out)?;
            out.clear();
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Cuts bytes into lines.
#[derive(Default)]
struct Lines {
    /// The beginning of a line, at most [`LONGEST`] bytes.
    begun: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], line: &mut impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = piece.strip_suffix(b"\n");
            let mut text = whole.unwrap_or(piece);
            while self.begun.len() + text.len() > LONGEST {
                let (now, later) = text.split_at(LONGEST - self.begun.len());
                self.begun.extend_from_slice(now);
                self.give(line);
                text = later;
            }
            self.begun.extend_from_slice(text);
            if whole.is_some() {
                self.give(line);
            }
        }
    }

    fn end(&mut self, line: &mut impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            self.give(line);
        }
    }

    fn give(&mut self, line: &mut impl FnMut(&[u8])) {
        line(&self.begun);
        self.begun.clear();
    }
}

/// Finds, among the lines of a rank's standard error, the one that says what went wrong.
#[derive(Debug, Default)]
pub struct LastError {
    /// The last line that begins with `error` or a cross.
    error: Vec<u8>,
    /// The last line that is not empty.
    line: Vec<u8>,
}

impl LastError {
    pub fn see(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        // What follows the message of a Rust panic and of an exception from libtorch.
        let trailer = line.starts_with(b"note: ") || line.starts_with(b"frame #");
        if line.is_empty() || trailer {
            return;
        }
        // Errors with places in a text are drawn, the sentence behind a cross.
        let drawn = line.strip_prefix("× ".as_bytes());
        let error = drawn.is_some()
            || line.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case(b"error"));
        let line = drawn.unwrap_or(line);
        let place = if error { &mut self.error } else { &mut self.line };
        place.clear();
        place.extend_from_slice(&line[..line.len().min(TOLD)]);
    }

    /// The last line that begins with `error`, in any case, or a cross, else the last that is not empty.
    pub fn take(&mut self) -> Option<String> {
        let (error, line) = (mem::take(&mut self.error), mem::take(&mut self.line));
        let told = if error.is_empty() { line } else { error };
        (!told.is_empty()).then(|| String::from_utf8_lossy(&told).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its pieces one by one.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            self.0.remove(0).as_slice().read(buffer)
        }
    }

    /// All that is written; each time, whole lines.
    fn passed(pieces: &[&[u8]]) -> Vec<u8> {
        let pieces = Pieces(pieces.iter().map(|piece| piece.to_vec()).collect());
        let mut written = Vec::new();
        let to = |bytes: &[u8]| {
            assert_eq!(bytes.last(), Some(&b'\n'));
            written.extend_from_slice(bytes);
            Ok(())
        };
        pass_on(pieces, "[0] ", |_| {}, to).expect("nothing fails");
        written
    }

    #[test]
    fn lines_are_whole() {
        assert_eq!(passed(&[b"a\nb", b"c", b"\n\nd"]), b"[0] a\n[0] bc\n[0] \n[0] d\n");
        assert_eq!(passed(&[b"\xff\x00\r\n"]), b"[0] \xff\x00\r\n", "bytes stay as they are");
        assert!(passed(&[]).is_empty());
    }

    #[test]
    fn long_lines_go_on_in_pieces() {
        let x = vec![b'x'; LONGEST];
        let exact = [&b"[0] "[..], &x, b"\n"].concat();
        assert_eq!(passed(&[&x, b"\n"]), exact, "one of just that length stays whole");
        assert_eq!(passed(&[&x, b"y\n"]), [&exact[..], b"[0] y\n"].concat());
        let mut lines = Lines::default();
        let mut given = Vec::new();
        lines.push(&vec![b'x'; 3 * LONGEST + 5], &mut |line: &[u8]| given.push(line.len()));
        assert_eq!((given, lines.begun.len()), (vec![LONGEST; 3], 5));
    }

    #[test]
    fn a_writer_that_fails_ends_it() {
        let fails = |_: &[u8]| Err(io::Error::from(ErrorKind::BrokenPipe));
        let ended = pass_on(io::repeat(b'\n'), "", |_| {}, fails);
        assert_eq!(ended.expect_err("it fails").kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_line_that_says_what_went_wrong() {
        let last = |text: &str| {
            let mut last = LastError::default();
            text.lines().for_each(|line| last.see(line.as_bytes()));
            last.take()
        };
        assert_eq!(last(""), None);
        assert_eq!(last("one\n two \n\n").as_deref(), Some("two"));
        assert_eq!(last("error: a\nError: b\nat line 3\n").as_deref(), Some("Error: b"));
        let drawn =
            "  × run.json:1:2: lr = -1 is not >= 0\n   ╭─[run.json:1:2]\n 1 │ {}\n   ╰────\n";
        assert_eq!(last(drawn).as_deref(), Some("run.json:1:2: lr = -1 is not >= 0"));
        let panic =
            "thread 'main' panicked at a.rs:1:2:\nno such\nnote: run with `RUST_BACKTRACE=1`";
        assert_eq!(last(panic).as_deref(), Some("no such"));
        assert_eq!(last(&"x".repeat(5000)).map(|line| line.len()), Some(TOLD));
    }
}
