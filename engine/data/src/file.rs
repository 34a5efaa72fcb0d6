//! Opening the user's files: a regular file or a clear error, never a hang.

use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::path::Path;

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

/// Hash of a whole file's bytes, read in small pieces. Not cryptographic.
pub(crate) fn hash(path: &Path, what: &'static str) -> Result<u128> {
    let mut file = open(path, what)?;
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.digest128()),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Read { what, path: path.into(), source }),
        }
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
        let error = hash(Path::new("/dev/zero"), "text file").unwrap_err().to_string();
        assert!(error.ends_with(" is a device, not a file"), "{error}");
    }

    #[test]
    fn the_hash_sees_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut bytes = vec![7u8; (1 << 20) + 3];
        fs::write(&path, &bytes).unwrap();
        let before = hash(&path, "text file").unwrap();
        assert_eq!(before, xxhash_rust::xxh3::xxh3_128(&bytes));
        *bytes.last_mut().unwrap() = 8;
        fs::write(&path, &bytes).unwrap();
        assert_ne!(before, hash(&path, "text file").unwrap());
    }
}
