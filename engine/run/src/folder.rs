//! The folder that a run writes to.
use crate::RunError;
use crate::files::{Content, Files, UNFINISHED, Written, replace};
use rustix::fs::statvfs;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use trainyard_checkpoint::{Lock, NoLock};

/// What becomes of a run that is found in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existing {
    /// It stays, and there is no new one.
    Refuse,
    /// It is removed when the new one begins.
    Overwrite,
    /// It goes on.
    Continue,
    /// It stays if it is complete, and there is no new one then; else it is removed when the new one begins.
    ReplaceUnfinished,
}

/// A folder that is this process's own until it is dropped. What it holds is one run's.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Files that a run writes here, the one that says that it is complete first.
    names: &'static [&'static str],
    /// Folders made for it, outer ones first; while nothing is written they go again.
    made: Vec<PathBuf>,
    written: Vec<(&'static str, Written)>,
    lock: Option<Lock>,
}

impl Folder {
    /// Makes the folder if it is not there, and locks it. `names`: the files that runs write here; the first one is
    /// written last and says that a run is complete.
    ///
    /// # Errors
    /// It cannot be written, another process has it, or a run is found that is to stay.
    pub fn claim(
        path: &Path,
        names: &'static [&'static str],
        existing: Existing,
    ) -> Result<Self, RunError> {
        let (path, mut made) = (path.to_owned(), Vec::new());
        let cannot = |error: io::Error| RunError::cannot_write(&path, error.into());
        make(&path, &mut made).map_err(cannot)?;
        let mut folder =
            Folder { path: path.clone(), names, made, written: Vec::new(), lock: None };
        folder.lock = Some(Lock::take(&path).map_err(|why| match why {
            NoLock::Failed(error) => cannot(error),
            NoLock::Held(holder) => RunError::Locked { folder: path.clone(), holder },
        })?);
        let found: Vec<_> = folder.found().collect();
        let refused = match existing {
            Existing::Refuse => !found.is_empty(),
            Existing::ReplaceUnfinished => found.first() == names.first() && !names.is_empty(),
            Existing::Overwrite | Existing::Continue => false,
        };
        if refused {
            return Err(RunError::Occupied { folder: path.clone(), files: found.join(", ") });
        }
        Ok(folder)
    }

    /// That none of the files that a run reads is one that a run in the folder at `path` writes, so that replacing an
    /// earlier run takes nothing away. Files that are not there are left out.
    ///
    /// # Errors
    /// One is.
    pub fn check_inputs<'a>(
        path: &Path,
        names: &[&str],
        inputs: impl IntoIterator<Item = &'a Path>,
    ) -> Result<(), RunError> {
        let real = |path: &Path| fs::canonicalize(path).ok();
        let outputs: Vec<_> = names.iter().filter_map(|name| real(&path.join(name))).collect();
        for input in inputs {
            if real(input).is_some_and(|input| outputs.contains(&input)) {
                return Err(RunError::Input { file: input.to_owned() });
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Files of a run that are here.
    fn found(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().copied().filter(|name| self.path.join(name).symlink_metadata().is_ok())
    }

    /// That `bytes` find room beside what stays here, as far as the system tells.
    ///
    /// # Errors
    /// They do not.
    pub fn check_room(&self, bytes: u64) -> Result<(), RunError> {
        let Ok(system) = statvfs(&self.path) else { return Ok(()) };
        let sizes = self.found().filter_map(|name| fs::metadata(self.path.join(name)).ok());
        let goes = sizes.map(|file| file.len()).sum::<u64>();
        let room = system.f_bavail.saturating_mul(system.f_frsize).saturating_add(goes);
        match room >= bytes {
            true => Ok(()),
            false => Err(RunError::Room { folder: self.path.clone(), room, needed: bytes }),
        }
    }

    /// Removes what earlier runs left, but for the file `but`: the file that says that one is complete first.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn clear(&mut self, but: Option<&str>) -> Result<(), RunError> {
        self.made.clear();
        let remove = |path: PathBuf| match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RunError::cannot_write(&path, error.into()))
            }
            _ => Ok(()),
        };
        for name in self.names.iter().filter(|name| Some(**name) != but) {
            remove(self.path.join(name))?;
        }
        // What a killed run did not finish; nobody else writes here.
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                remove(entry.path())?;
            }
        }
        Ok(())
    }

    /// What was written so far, in order.
    pub fn written(&self) -> &[(&'static str, Written)] {
        &self.written
    }
}

impl Files for Folder {
    fn file(&mut self, name: &'static str, content: &mut Content<'_>) -> Result<(), RunError> {
        self.made.clear();
        let written = replace(&self.path.join(name), content)?;
        self.written.push((name, written));
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.lock = None;
        for folder in self.made.iter().rev() {
            // Stays where somebody else put something into it.
            fs::remove_dir(folder).ok();
        }
    }
}

/// Makes a folder and those it lies in; `made`: those that were not there.
fn make(path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(outer) = path.parent() {
        make(outer, made)?;
    }
    match fs::create_dir(path) {
        Ok(()) => made.push(path.to_owned()),
        Err(_) if path.is_dir() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["summary", "log"];

    fn claim(path: &Path, existing: Existing) -> Result<Folder, String> {
        Folder::claim(path, NAMES, existing).map_err(|error| error.to_string())
    }

    #[test]
    fn a_folder_in_which_nothing_was_written_goes_again() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("a/b");
        drop(claim(&path, Existing::Refuse).unwrap());
        assert!(!outer.path().join("a").exists());
        let mut folder = claim(&path, Existing::Refuse).unwrap();
        folder.clear(None).unwrap();
        drop(folder);
        assert!(path.is_dir() && fs::read_dir(&path).unwrap().count() == 0);
    }

    #[test]
    fn a_run_that_is_found_stays_unless_it_is_to_go() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("out");
        let mut folder = claim(&path, Existing::Refuse).unwrap();
        folder.file("log", &mut |to| Ok(to.write_all(b"1")?)).unwrap();
        let error = claim(&path, Existing::Overwrite).unwrap_err();
        let id = std::process::id();
        let expected = format!("{} is in use by the run of process {id}", path.display());
        assert!(error.starts_with(&expected), "{error}");
        drop(folder);
        let error = claim(&path, Existing::Refuse).unwrap_err();
        assert!(
            error.starts_with(&format!("{} has files of a run (log)", path.display())),
            "{error}"
        );
        assert!(error.contains("--output") && error.contains("--overwrite"), "{error}");
        for left in [".unfinished-x", "summary", "mine"] {
            fs::write(path.join(left), "").unwrap();
        }
        drop(claim(&path, Existing::Continue).unwrap());
        let error = claim(&path, Existing::ReplaceUnfinished).unwrap_err();
        assert!(error.contains("has files of a run (summary, log)"), "{error}");
        fs::remove_file(path.join("summary")).unwrap();
        claim(&path, Existing::ReplaceUnfinished).unwrap().clear(Some("log")).unwrap();
        assert!(path.join("log").exists());
        claim(&path, Existing::Overwrite).unwrap().clear(None).unwrap();
        let names: Vec<_> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["mine"], "what is not a run's is not touched");
    }

    #[test]
    fn what_a_run_reads_is_not_replaced() {
        let outer = tempfile::tempdir().unwrap();
        let path = |name: &str| outer.path().join(name);
        for name in ["log", "mine"] {
            fs::write(path(name), "").unwrap();
        }
        std::os::unix::fs::symlink(path("log"), path("link")).unwrap();
        let check = |input: &str| {
            let inputs = [path("mine"), path(input)];
            Folder::check_inputs(outer.path(), NAMES, inputs.iter().map(PathBuf::as_path))
        };
        check("summary").unwrap();
        for input in ["log", "link"] {
            let error = check(input).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{} is read by", path(input).display())), "{error}");
        }
    }

    #[test]
    fn more_than_the_disk_holds_is_told() {
        let outer = tempfile::tempdir().unwrap();
        let folder = claim(outer.path(), Existing::Refuse).unwrap();
        folder.check_room(1).unwrap();
        let error = folder.check_room(u64::MAX).unwrap_err().to_string();
        assert!(error.contains("has room for ") && error.contains("takes "), "{error}");
    }

    #[test]
    fn a_file_is_no_folder() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("file");
        fs::write(&path, "").unwrap();
        for path in [path.clone(), path.join("below")] {
            let error = claim(&path, Existing::Refuse).unwrap_err();
            assert!(error.starts_with(&format!("cannot write {}: ", path.display())), "{error}");
        }
    }
}
