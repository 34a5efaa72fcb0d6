//! Opening the user's files: a regular file or a clear error, never a hang.

use std::fs::{self, File, FileType};
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use crate::{Error, Result};

/// Opens the file `path` for reading; `what` names it in errors.
///
/// The kind is looked at before opening, since opening a pipe waits for its writer.
pub(crate) fn open(path: &Path, what: &'static str) -> Result<File> {
    let read = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing { what, path: path.into() },
        _ => Error::Read { what, path: path.into(), source },
    };
    let metadata = fs::metadata(path).map_err(read)?;
    if !metadata.is_file() {
        return Err(Error::NotAFile { what, path: path.into(), kind: kind(metadata.file_type()) });
    }
    File::open(path).map_err(read)
}

fn kind(file_type: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if file_type.is_fifo() {
            return "a pipe";
        }
    }
    if file_type.is_dir() { "a folder" } else { "a device" }
}

/// Hash of all bytes of a file opened from `path`, read in small pieces. Not cryptographic. Afterwards the
/// file is at its beginning again.
pub(crate) fn hash(file: &mut File, path: &Path, what: &'static str) -> Result<u128> {
    let failed = |source| Error::Read { what, path: path.into(), source };
    let mut hashed = Hashed::new(&mut *file);
    io::copy(&mut hashed, &mut io::sink()).map_err(failed)?;
    let hash = hashed.hash().digest();
    file.rewind().map_err(failed)?;
    Ok(hash)
}

/// What is read through it, hashed as it is read.
pub(crate) struct Hashed<R> {
    inner: R,
    hash: Hash,
}

/// The hash of what a [`Hashed`] has read so far.
#[derive(Clone)]
pub(crate) struct Hash(Arc<Mutex<Xxh3>>);

impl Hash {
    pub(crate) fn digest(&self) -> u128 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).digest128()
    }
}

impl<R> Hashed<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hash: Hash(Arc::new(Mutex::new(Xxh3::new()))) }
    }

    pub(crate) fn hash(&self) -> Hash {
        self.hash.clone()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        let mut hasher = self.hash.0.lock().unwrap_or_else(PoisonError::into_inner);
        hasher.update(&buffer[..bytes]);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = open(&folder.path().join("no.txt"), "text file").unwrap_err().to_string();
        assert!(missing.starts_with("text file ") && missing.ends_with("no.txt\" does not exist"));
        let directory = open(folder.path(), "vocabulary").unwrap_err().to_string();
        assert!(directory.ends_with(" is a folder, not a file"), "{directory}");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_or_device_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = open(&pipe, "text file").unwrap_err().to_string();
        assert!(error.ends_with(" is a pipe, not a file"), "{error}");
        let error = open(Path::new("/dev/zero"), "text file").unwrap_err().to_string();
        assert!(error.ends_with(" is a device, not a file"), "{error}");
    }

    #[test]
    fn the_hash_sees_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut bytes = vec![7u8; (1 << 20) + 3];
        fs::write(&path, &bytes).unwrap();
        let hash = || hash(&mut File::open(&path).unwrap(), &path, "text file").unwrap();
        let before = hash();
        assert_eq!(before, xxhash_rust::xxh3::xxh3_128(&bytes));
        *bytes.last_mut().unwrap() = 8;
        fs::write(&path, &bytes).unwrap();
        assert_ne!(before, hash());
    }
}
