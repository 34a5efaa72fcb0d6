//! Files that are whole or not there.
use crate::RunError;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use trainyard::BoxError;
use xxhash_rust::xxh3::Xxh3;

/// What the names of files begin with that are not whole yet.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// Bytes handed to the system at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// What a file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its size.
    pub bytes: u64,
    /// XXH3 of its content, 64 bits, as `xxhsum -H3` prints it.
    pub xxh3: u64,
}

/// Writes a file's content.
pub type Content<'a> = dyn FnMut(&mut dyn Write) -> Result<(), BoxError> + 'a;

/// Writes a file whole or not at all, in place of an earlier one. Until it is whole it has a name of its own, and
/// whatever goes wrong, that is removed and an earlier file stays.
///
/// # Errors
/// The folder does not let it, the disk is full, or the content could not be made.
pub fn replace(path: &Path, content: &mut Content<'_>) -> Result<Written, RunError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut write = || -> Result<Written, BoxError> {
        // As any new file: for the group and others what the umask leaves of it.
        let open = |path: &Path| File::create_new(path);
        let file = tempfile::Builder::new().prefix(UNFINISHED).make_in(folder, open)?;
        let buffered = BufWriter::with_capacity(BUFFER_BYTES, file.as_file());
        let mut counting = Counting::new(buffered);
        content(&mut counting)?;
        counting.flush()?;
        let written = counting.written();
        drop(counting);
        // Some systems find out only now that there is no room.
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // The name outlives a loss of power too, where the system can promise it.
        File::open(folder).and_then(|folder| folder.sync_all()).ok();
        Ok(written)
    };
    write().map_err(|source| RunError::cannot_write(path, source))
}

/// Where the files of a trained model go.
pub trait Files {
    /// Writes one of them.
    ///
    /// # Errors
    /// It cannot be written, or its content cannot be made.
    fn file(&mut self, name: &'static str, content: &mut Content<'_>) -> Result<(), RunError>;
}

/// Writes nothing and counts: whether a model can be saved, and how much room that takes, is known before it is
/// trained.
#[derive(Debug, Default)]
pub struct Trial {
    /// Bytes of all files.
    pub bytes: u64,
}

impl Files for Trial {
    fn file(&mut self, name: &'static str, content: &mut Content<'_>) -> Result<(), RunError> {
        let mut counting = Counting::new(io::sink());
        let made = content(&mut counting);
        made.map_err(|error| RunError::Other(format!("{name} could not be written: {error}")))?;
        self.bytes += counting.written().bytes;
        Ok(())
    }
}

/// Passes on what is written, and takes note of it.
struct Counting<W> {
    to: W,
    bytes: u64,
    hasher: Box<Xxh3>,
}

impl<W: Write> Counting<W> {
    fn new(to: W) -> Self {
        Counting { to, bytes: 0, hasher: Box::default() }
    }

    fn written(&self) -> Written {
        Written { bytes: self.bytes, xxh3: self.hasher.digest() }
    }
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.bytes += written as u64;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let name = |e: io::Result<fs::DirEntry>| {
            e.expect("an entry").file_name().to_string_lossy().into_owned()
        };
        entries.map(name).collect()
    }

    #[test]
    fn a_file_is_whole_with_its_size_and_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let written = replace(&path, &mut |to| Ok(to.write_all(b"abc")?)).unwrap();
        assert_eq!(written, Written { bytes: 3, xxh3: xxhash_rust::xxh3::xxh3_64(b"abc") });
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();
        assert_eq!(mode(&path), mode(&plain), "as the umask says");
        let mut trial = Trial::default();
        trial.file("a", &mut |to| Ok(to.write_all(b"abc")?)).unwrap();
        assert_eq!(trial.bytes, 3);
    }

    #[test]
    fn what_fails_midway_leaves_the_earlier_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "earlier").unwrap();
        let failing = &mut |to: &mut dyn Write| -> Result<(), BoxError> {
            to.write_all(&vec![7; 3 << 20])?;
            Err("no more".into())
        };
        let error = replace(&path, failing).unwrap_err().to_string();
        assert_eq!(error, format!("cannot write {}: no more", path.display()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "earlier");
        assert_eq!(names(folder.path()), ["a"]);
        let nowhere = folder.path().join("b/c");
        let error = replace(&nowhere, &mut |_| Ok(())).unwrap_err().to_string();
        let expected = "No such file or directory (os error 2)";
        assert_eq!(error, format!("cannot write {}: {expected}", nowhere.display()));
    }
}
