//! What a save does to a disk, call by call, so that tests can put one in its place that fails or dies at any of them.
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// A disk. Names outlive a loss of power once their folder is synchronised, and contents once their file is.
pub trait Disk: Debug + Send + Sync {
    /// Makes a folder that is not there.
    ///
    /// # Errors
    /// The system's, as for all others.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes an empty file that is not there.
    ///
    /// # Errors
    /// See above.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>>;

    /// Puts the names in a folder on the disk.
    ///
    /// # Errors
    /// See above.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a file or folder another name; a file takes the place of one that is there.
    ///
    /// # Errors
    /// See above.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file, or a folder with all that is in it.
    ///
    /// # Errors
    /// See above.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait Sink: Write + Send {
    /// Puts what was written on the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync(&mut self) -> io::Result<()>;
}

/// The system's file systems.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(File::create_new(path)?))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        match File::open(path)?.sync_all() {
            // Some network file systems cannot, and put names on their disk at once.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match path.symlink_metadata()?.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        }
    }
}

impl Sink for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
