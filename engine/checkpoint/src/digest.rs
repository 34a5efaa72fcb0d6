//! Sizes and digests of files.
use crate::disk::Sink;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use xxhash_rust::xxh3::Xxh3;

/// Bytes that are hashed while they are still in the processor's cache.
pub const CHUNK: usize = 1 << 18;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Its size.
    pub bytes: u64,
    /// XXH3 of its content, 64 bits, as `xxhsum -H3` prints it.
    pub xxh3: String,
}

/// Adds up a digest.
pub struct Digester {
    bytes: u64,
    hasher: Box<Xxh3>,
}

impl Digester {
    pub fn new() -> Self {
        Digester { bytes: 0, hasher: Box::default() }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hasher.update(bytes);
    }

    pub fn digest(&self) -> Digest {
        Digest { bytes: self.bytes, xxh3: format!("{:016x}", self.hasher.digest()) }
    }
}

/// Writes parts one behind the other, and has them put on the disk.
pub fn write_parts(to: &mut dyn Sink, parts: &[&[u8]]) -> io::Result<Digest> {
    let mut digester = Digester::new();
    for chunk in parts.iter().flat_map(|part| part.chunks(CHUNK)) {
        digester.add(chunk);
        to.write_all(chunk)?;
    }
    to.flush()?;
    to.sync()?;
    Ok(digester.digest())
}

/// Reads a file of `bytes` bytes into memory, or the first of its bytes where it has more.
///
/// # Errors
/// The system's; memory does not suffice.
pub fn read_whole(from: &mut impl Read, bytes: u64) -> io::Result<(Vec<u8>, Digest)> {
    let size = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut content = Vec::new();
    content.try_reserve_exact(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut digester = Digester::new();
    while content.len() <= size {
        let before = content.len();
        if from.by_ref().take(CHUNK as u64).read_to_end(&mut content)? == 0 {
            break;
        }
        digester.add(&content[before..]);
    }
    Ok((content, digester.digest()))
}

/// The digest of a file, of which a chunk at a time is in memory.
///
/// # Errors
/// The system's.
pub fn of_reader(from: &mut impl Read) -> io::Result<Digest> {
    let (mut digester, mut chunk) = (Digester::new(), vec![0; CHUNK]);
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(digester.digest()),
            Ok(read) => digester.add(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
