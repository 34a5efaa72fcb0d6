//! One process at a time in a folder.
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Name of the file that is locked.
const NAME: &str = ".trainyard.lock";

/// A folder's lock. The system gives it up when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

/// Why there is none.
#[derive(Debug)]
pub enum NoLock {
    /// Another process has it: which, if that is known.
    Held(Option<u32>),
    /// The file cannot be made or locked.
    Failed(io::Error),
}

impl Lock {
    /// Takes the lock of `folder`, which is there.
    ///
    /// # Errors
    /// Another process has it, or the folder cannot be written.
    pub fn take(folder: &Path) -> Result<Self, NoLock> {
        let path = folder.join(NAME);
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = options.open(&path).map_err(NoLock::Failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(NoLock::Held(holder(&mut file))),
                Err(error) => return Err(NoLock::Failed(error.into())),
            }
            // Whoever had it before may have removed the file since it was opened.
            let still = fs::metadata(&path).and_then(|there| {
                file.metadata().map(|own| (there.dev(), there.ino()) == (own.dev(), own.ino()))
            });
            if still.unwrap_or(false) {
                let named = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
                named.map_err(NoLock::Failed)?;
                return Ok(Lock { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the lock goes with the file, so that nobody else's is removed.
        fs::remove_file(&self.path).ok();
    }
}

/// The process that the file names.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it_and_the_third_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        // Another open file, as in another process.
        match Lock::take(folder.path()) {
            Err(NoLock::Held(Some(id))) => assert_eq!(id, std::process::id()),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(Lock::take(folder.path()).unwrap());
    }

    #[test]
    fn what_a_killed_process_left_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "1").unwrap();
        drop(Lock::take(folder.path()).unwrap());
        let nowhere = folder.path().join("nowhere");
        assert!(matches!(Lock::take(&nowhere), Err(NoLock::Failed(_))));
    }
}
