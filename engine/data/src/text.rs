//! Documents of a text file, one a line, read as they are asked for.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::file::{Hash, Hashed};
use crate::{Error, Result, file};

/// The longest line a text file may have, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 20;

pub(crate) const WHAT: &str = "text file";

/// The documents of a UTF-8 text file, one a line; blank lines are passed over.
///
/// A file that starts as Zstandard does is decompressed on the way, whatever its name. Memory holds
/// one line at a time. After an error the iterator ends.
pub struct Documents {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    line: u64,
    limit: usize,
    failed: bool,
}

impl Documents {
    /// Opens the file.
    ///
    /// # Errors
    /// There is no such file, it is not a regular file, or the system refuses to open or read it.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::of(file::open(path, WHAT)?, path)?.0)
    }

    /// The documents of a file opened from `path`, and the hash of what is read of it: once there is no
    /// document left, that of all its bytes.
    pub(crate) fn of(file: File, path: &Path) -> Result<(Self, Hash)> {
        let file = Hashed::new(file);
        let hash = file.hash();
        let failed = |source| Error::Read { what: WHAT, path: path.into(), source };
        let (path, reader) = (path.into(), decompressed(file).map_err(failed)?);
        let documents = Self { path, reader, line: 0, limit: MAX_DOCUMENT_BYTES, failed: false };
        Ok((documents, hash))
    }

    /// The next line without its end, or `None` after the last.
    fn next_line(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        self.line += 1;
        (&mut self.reader)
            .take(self.limit as u64 + 2) // the longest line and its "\r\n"
            .read_until(b'\n', &mut bytes)
            .map_err(|source| Error::Read { what: WHAT, path: self.path.clone(), source })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let length = bytes.trim_ascii_end().len();
        if length > self.limit || (bytes.len() == self.limit + 2 && !bytes.ends_with(b"\n")) {
            return Err(Error::LineTooLong { path: self.path.clone(), line: self.line });
        }
        bytes.truncate(length);
        String::from_utf8(bytes).map(Some).map_err(|e| Error::NotUtf8 {
            what: WHAT,
            path: self.path.clone(),
            line: self.line,
            byte: e.utf8_error().valid_up_to() + 1,
        })
    }
}

impl Iterator for Documents {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.next_line() {
                Ok(Some(line)) if line.trim().is_empty() => {}
                Ok(line) => return line.map(Ok),
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// The next documents, of about so many bytes together; none behind the last.
pub(crate) fn group(documents: &mut Documents, bytes: usize) -> Result<Vec<String>> {
    let (mut group, mut taken) = (Vec::new(), 0);
    while taken < bytes
        && let Some(document) = documents.next().transpose()?
    {
        taken += document.len();
        group.push(document);
    }
    Ok(group)
}

fn decompressed(file: Hashed<File>) -> std::io::Result<Box<dyn BufRead + Send>> {
    let mut reader = BufReader::with_capacity(1 << 17, file);
    // A Zstandard frame, or the skippable frame that parallel compressors put first (RFC 8878,
    // 3.1).
    let zstandard = matches!(
        reader.fill_buf()?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]
    );
    if zstandard {
        let decoder = zstd::Decoder::with_buffer(reader)?;
        return Ok(Box::new(BufReader::with_capacity(1 << 17, decoder)));
    }
    Ok(Box::new(reader))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(bytes: &[u8], limit: usize) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, bytes).unwrap();
        let mut documents = Documents::open(&path)?;
        documents.limit = limit;
        documents.collect()
    }

    #[test]
    fn lines_are_documents() {
        assert_eq!(read("a b\n\n \t\r\nç\r\nlast".as_bytes(), 9).unwrap(), ["a b", "ç", "last"]);
        assert_eq!(read(b"", 9).unwrap(), [""; 0]);
    }

    #[test]
    fn zstandard_equals_plain_in_one_frame_or_several() {
        let text = "one document\nanother\n".repeat(20_000);
        let (head, tail) = text.as_bytes().split_at(100_001);
        let plain = read(text.as_bytes(), 99).unwrap();
        assert_eq!(plain.len(), 40_000);
        let mut packed = zstd::encode_all(text.as_bytes(), 3).unwrap();
        assert_eq!(read(&packed, 99).unwrap(), plain);
        let mut frames = b"\x50\x2a\x4d\x18\x02\0\0\0xx".to_vec(); // a skippable frame of two bytes
        frames.extend(zstd::encode_all(head, 3).unwrap());
        frames.extend(zstd::encode_all(tail, 3).unwrap());
        assert_eq!(read(&frames, 99).unwrap(), plain);

        packed.truncate(packed.len() - 5);
        let error = read(&packed, 99).unwrap_err().to_string();
        assert!(error.starts_with("cannot read text file"), "{error}");
    }

    #[test]
    fn a_line_that_is_not_utf8_is_named() {
        let error = read(b"fine\n\nab\xff\n", 99).unwrap_err().to_string();
        assert!(error.starts_with("line 3 of text file") && error.contains("byte 3"), "{error}");
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_does_not() {
        assert_eq!(read(b"12345\r\n12345\n12345", 5).unwrap().len(), 3);
        for bytes in [&b"1\n123456\n"[..], b"1\n123456", b"1\n1234567890"] {
            let error = read(bytes, 5).unwrap_err().to_string();
            assert!(
                error.starts_with("line 2 of text file") && error.contains("longer"),
                "{error}"
            );
        }
    }

    #[test]
    fn nothing_follows_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, b"\xff\nfine\n").unwrap();
        let documents: Vec<_> = Documents::open(&path).unwrap().collect();
        assert_eq!(documents.len(), 1);
    }
}
