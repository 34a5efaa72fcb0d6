//! The file that holds every document's token ids, read through a memory map.
//!
//! All numbers little-endian:
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | `TYTOKENS` |
//! | 4 | version of the format |
//! | 4 | bytes of an id: 2, or 4 if the vocabulary has more than 65,536 |
//! | 8 | vocabulary size |
//! | 8 | documents |
//! | 8 | ids |
//! | 16 | fingerprint of what it was made from |
//! | 8 | XXH3 of all that follows, then of the 56 bytes before |
//! | ids | the documents' ids, one document after the other |
//! | 8 for each document and one | where each document starts, in ids; the last is their number |

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::ops::Range;

use memmap2::Mmap;
use xxhash_rust::xxh3::Xxh3;

use crate::Defect;

const MAGIC: [u8; 8] = *b"TYTOKENS";
const VERSION: u32 = 1;
const HEADER: usize = 64;
const CHECKSUM: usize = HEADER - 8;

/// What the ids in a file must belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Hash of the text, the vocabulary and the version of the tokenizer.
    pub fingerprint: u128,
    pub vocabulary_size: usize,
}

impl Origin {
    fn id_bytes(&self) -> usize {
        if self.vocabulary_size <= 1 << 16 { 2 } else { 4 }
    }
}

/// Writes a token file front to back; the header, written last, makes it one.
pub(crate) struct TokenWriter<'f> {
    file: BufWriter<&'f mut File>,
    origin: Origin,
    offsets: Vec<u64>,
    hasher: Xxh3,
}

impl<'f> TokenWriter<'f> {
    /// `file` must be empty.
    pub(crate) fn new(file: &'f mut File, origin: Origin) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&[0; HEADER])?;
        Ok(Self { file, origin, offsets: vec![0], hasher: Xxh3::new() })
    }

    pub(crate) fn documents(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(crate) fn ids(&self) -> u64 {
        *self.offsets.last().expect("it starts with one offset")
    }

    /// Appends one document; `ids` are below the vocabulary's size.
    pub(crate) fn push(&mut self, ids: &[u32]) -> io::Result<()> {
        let bytes: Vec<u8> = match self.origin.id_bytes() {
            2 => ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect(),
            _ => ids.iter().flat_map(|&id| id.to_le_bytes()).collect(),
        };
        self.offsets.push(self.ids() + ids.len() as u64);
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        let (documents, ids) = (self.documents() as u64, self.ids());
        for offset in std::mem::take(&mut self.offsets) {
            self.write(&offset.to_le_bytes())?;
        }
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((self.origin.id_bytes() as u32).to_le_bytes());
        header.extend((self.origin.vocabulary_size as u64).to_le_bytes());
        header.extend(documents.to_le_bytes());
        header.extend(ids.to_le_bytes());
        header.extend(self.origin.fingerprint.to_le_bytes());
        self.hasher.update(&header);
        header.extend(self.hasher.digest().to_le_bytes());
        self.file.rewind()?;
        self.file.write_all(&header)?;
        self.file.flush()
    }
}

/// A token file that was found to be whole.
pub(crate) struct TokenFile {
    map: Mmap,
    fingerprint: u128,
    id_bytes: usize,
    documents: usize,
    ids: usize,
}

impl TokenFile {
    /// Maps the file and checks all of it: header, length, checksum, offsets, ids.
    pub(crate) fn open(file: &File, origin: Origin) -> Result<Self, Defect> {
        // SAFETY: what this crate puts under a cache's name is complete and never written again,
        // only replaced by renaming, which leaves the mapped file as it is. The bytes are read as
        // plain numbers.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(file) }.map_err(Defect::Map)?;
        if !map.starts_with(&MAGIC) {
            return Err(Defect::Magic);
        }
        let length = Defect::Length { bytes: map.len() as u64 };
        if map.len() < HEADER {
            return Err(length);
        }
        let version = u32::from_le_bytes(array(&map, 8));
        if version != VERSION {
            return Err(Defect::Version { found: version, expected: VERSION });
        }
        let number = |at| u64::from_le_bytes(array(&map, at));
        let found = u128::from_le_bytes(array(&map, 40));
        if found != origin.fingerprint || number(16) != origin.vocabulary_size as u64 {
            return Err(Defect::Stale);
        }
        let id_bytes = u32::from_le_bytes(array(&map, 12)) as usize;
        let (documents, ids) = (number(24), number(32));
        let expected = ids.checked_mul(id_bytes as u64).and_then(|ids| {
            documents.checked_add(1)?.checked_mul(8)?.checked_add(ids)?.checked_add(HEADER as u64)
        });
        if id_bytes != origin.id_bytes() || expected != Some(map.len() as u64) {
            return Err(length);
        }
        let mut hasher = Xxh3::new();
        hasher.update(&map[HEADER..]);
        hasher.update(&map[..CHECKSUM]);
        if hasher.digest() != number(CHECKSUM) {
            return Err(Defect::Checksum);
        }
        let (fingerprint, documents, ids) = (origin.fingerprint, documents as usize, ids as usize);
        let file = Self { map, fingerprint, id_bytes, documents, ids };
        file.check(origin.vocabulary_size)?;
        Ok(file)
    }

    fn check(&self, vocabulary_size: usize) -> Result<(), Defect> {
        if self.offset(0) != 0 {
            return Err(Defect::Offsets { document: 0 });
        }
        for document in 0..self.documents {
            let end = self.offset(document + 1);
            let last = document + 1 == self.documents;
            if end < self.offset(document) || end > self.ids || (last && end != self.ids) {
                return Err(Defect::Offsets { document: document + 1 });
            }
        }
        match self.iter(0..self.ids).find(|&id| id as usize >= vocabulary_size) {
            Some(id) => Err(Defect::Token { id, vocabulary_size }),
            None => Ok(()),
        }
    }

    /// Of what it was made from.
    pub(crate) fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// Number of documents.
    pub(crate) fn documents(&self) -> usize {
        self.documents
    }

    /// Number of ids of all documents.
    pub(crate) fn ids(&self) -> usize {
        self.ids
    }

    /// Number of ids of one document.
    pub(crate) fn length(&self, document: usize) -> usize {
        self.offset(document + 1) - self.offset(document)
    }

    /// The ids in a range of one document.
    pub(crate) fn tokens(
        &self,
        document: usize,
        range: Range<usize>,
    ) -> impl Iterator<Item = u32> + '_ {
        let start = self.offset(document);
        self.iter(start + range.start..start + range.end)
    }

    fn iter(&self, range: Range<usize>) -> impl Iterator<Item = u32> + '_ {
        let at = |id| HEADER + id * self.id_bytes;
        self.map[at(range.start)..at(range.end)]
            .chunks_exact(self.id_bytes)
            .map(|bytes| bytes.iter().rev().fold(0, |id, &byte| id << 8 | u32::from(byte)))
    }

    fn offset(&self, document: usize) -> usize {
        u64::from_le_bytes(array(&self.map, HEADER + self.ids * self.id_bytes + document * 8))
            as usize
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Read;

    const ORIGIN: Origin = Origin { fingerprint: 0x1234 << 100 | 0x77, vocabulary_size: 300 };

    /// A token file without a name.
    pub(crate) fn written(documents: &[&[u32]], origin: Origin) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = TokenWriter::new(&mut file, origin).unwrap();
        for document in documents {
            writer.push(document).unwrap();
        }
        writer.finish().unwrap();
        file
    }

    fn bytes(mut file: File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn reopened(bytes: &[u8]) -> Result<TokenFile, Defect> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        TokenFile::open(&file, ORIGIN)
    }

    #[test]
    fn documents_come_back_in_both_widths() {
        let documents: [&[u32]; 3] = [&[1, 2, 299], &[], &[7]];
        for vocabulary_size in [300, 1 << 16, (1 << 16) + 1] {
            let origin = Origin { vocabulary_size, ..ORIGIN };
            let file = TokenFile::open(&written(&documents, origin), origin).unwrap();
            assert_eq!((file.documents(), file.ids()), (3, 4));
            for (i, document) in documents.iter().enumerate() {
                assert_eq!(file.length(i), document.len());
                assert_eq!(&file.tokens(i, 0..document.len()).collect::<Vec<_>>(), document);
            }
            assert_eq!(file.tokens(0, 1..3).collect::<Vec<_>>(), [2, 299]);
        }
        let wide = Origin { vocabulary_size: 70_000, ..ORIGIN };
        let file = TokenFile::open(&written(&[&[69_999]], wide), wide).unwrap();
        assert_eq!(file.tokens(0, 0..1).collect::<Vec<_>>(), [69_999]);
    }

    /// Wherever the room ends, the writer says so.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        for documents in [0, 1, 1 << 19] {
            let mut full = File::options().write(true).open("/dev/full").unwrap();
            let written = TokenWriter::new(&mut full, ORIGIN).and_then(|mut writer| {
                (0..documents).try_for_each(|_| writer.push(&[1, 2, 3]))?;
                writer.finish()
            });
            let error = written.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{documents}: {error}");
        }
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_noticed() {
        let good = bytes(written(&[&[1, 2, 3], &[4, 5], &[299; 9]], ORIGIN));
        assert!(reopened(&good).is_ok());
        for at in 0..good.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                assert!(reopened(&bad).is_err(), "byte {at} ^ {flip:#x}");
            }
            assert!(reopened(&good[..at]).is_err(), "cut at {at}");
        }
        assert!(reopened(&[&good[..], &[0]].concat()).is_err());
    }

    #[test]
    fn each_defect_is_named() {
        let good = bytes(written(&[&[1, 2, 3], &[4, 5]], ORIGIN));
        // The checksum made right again: what a writer with a bug, or an ill-wisher, could leave.
        let with = |at: usize, new: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + new.len()].copy_from_slice(new);
            let mut hasher = Xxh3::new();
            hasher.update(&bad[HEADER..]);
            hasher.update(&bad[..CHECKSUM]);
            bad[CHECKSUM..HEADER].copy_from_slice(&hasher.digest().to_le_bytes());
            reopened(&bad).err()
        };
        let offsets = HEADER + 5 * 2;
        assert!(matches!(with(0, b"X"), Some(Defect::Magic)));
        assert!(matches!(with(8, &[2]), Some(Defect::Version { found: 2, .. })));
        assert!(matches!(with(12, &[4]), Some(Defect::Length { .. })));
        assert!(matches!(with(16, &[9]), Some(Defect::Stale)));
        for at in [24, 32] {
            for claim in [0, 1, 3, 1 << 61, u64::MAX - 1, u64::MAX] {
                assert!(matches!(with(at, &u64::to_le_bytes(claim)), Some(Defect::Length { .. })));
            }
        }
        assert!(matches!(with(40, &[0]), Some(Defect::Stale)));
        assert!(matches!(with(HEADER, &[0x2c, 0x01]), Some(Defect::Token { id: 300, .. })));
        assert!(matches!(with(offsets, &[1]), Some(Defect::Offsets { document: 0 })));
        assert!(matches!(with(offsets + 8, &[6]), Some(Defect::Offsets { document: 1 })));
        assert!(matches!(with(offsets + 16, &[4]), Some(Defect::Offsets { document: 2 })));
        assert!(matches!(with(offsets + 16, &[1]), Some(Defect::Offsets { document: 2 })));
        assert!(with(HEADER, &[9]).is_none());
        let mut bad = good.clone();
        bad[HEADER] ^= 1;
        assert!(matches!(reopened(&bad), Err(Defect::Checksum)));
    }
}
