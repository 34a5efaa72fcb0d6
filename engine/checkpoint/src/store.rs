//! The checkpoints of a folder.
use crate::checkpoint::Checkpoint;
use crate::commit::{LATEST, PREFIX, REPLACED, UNFINISHED, commit, remove};
use crate::disk::{Disk, SystemDisk};
use crate::error::{Error, Result};
use crate::lock::{Lock, NoLock};
use crate::parts::{self, PART};
use crate::record::RECORD;
use crate::snapshot::Snapshot;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Which checkpoints stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest ones, at least 1.
    pub last: usize,
    /// Those of every so many steps; 0: none.
    pub every_steps: u64,
    /// The one with the least validation loss.
    pub best: bool,
}

impl Default for Keep {
    fn default() -> Self {
        Keep { last: 2, every_steps: 0, best: false }
    }
}

/// A folder of checkpoints that one run writes to.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: Keep,
    disk: Arc<dyn Disk>,
    sequence: u64,
    /// How long other ranks' parts are waited for.
    patience: Duration,
    _lock: Option<Lock>,
}

/// How long other ranks' parts are waited for where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(300);

impl Checkpoints {
    /// Makes the folder if it is not there, and locks it; what killed runs did not finish is removed. For the first
    /// rank, before the others write; they call [`join`](Self::join).
    ///
    /// # Errors
    /// It cannot be written, or another process has it.
    pub fn claim(folder: &Path, keep: Keep) -> Result<Self> {
        let failed = |error| Error::write(folder, error);
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = Lock::take(folder).map_err(|why| match why {
            NoLock::Failed(error) => failed(error),
            NoLock::Held(holder) => Error::Locked { folder: folder.to_owned(), holder },
        })?;
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            // Killed between the two names of a checkpoint that took the place of one.
            let replaced = name.strip_prefix(REPLACED).map(|name| folder.join(name));
            if let Some(before) = replaced.filter(|before| before.symlink_metadata().is_err()) {
                SystemDisk.rename(&path, &before).map_err(|error| Error::write(&path, error))?;
            } else if [UNFINISHED, PART].iter().any(|start| name.starts_with(start)) {
                SystemDisk.remove(&path).map_err(|error| Error::write(&path, error))?;
            }
        }
        if let Some(outer) = folder.parent().filter(|outer| !outer.as_os_str().is_empty()) {
            SystemDisk.sync_folder(outer).ok();
        }
        Ok(Checkpoints {
            _lock: Some(lock),
            ..Checkpoints::over(folder, keep, Arc::new(SystemDisk))?
        })
    }

    /// The folder that the first rank claims, for a rank that writes its part; made where the first one has not come
    /// to it yet.
    ///
    /// # Errors
    /// It can be neither made nor read.
    pub fn join(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| Error::write(folder, error))?;
        Checkpoints::over(folder, Keep::default(), Arc::new(SystemDisk))
    }

    /// A folder that is there, on a disk of one's own.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn over(folder: &Path, keep: Keep, disk: Arc<dyn Disk>) -> Result<Self> {
        let whole = list(folder)?.into_iter().filter_map(|found| found.outcome.ok());
        let sequence = whole.map(|checkpoint| checkpoint.state().sequence).max().unwrap_or(0);
        let folder = folder.to_owned();
        Ok(Checkpoints { folder, keep, disk, sequence, patience: PATIENCE, _lock: None })
    }

    /// Waits so long for other ranks' parts.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Checkpoints { patience, ..self }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a checkpoint, `step-<N>`, or `step-<N>-2` and so on where a whole one of that step is there, and then
    /// removes those that are not to be kept. On a rank above 0: its part of one; none is returned then.
    ///
    /// # Errors
    /// Something cannot be written, or another rank's part does not come. All that was there stays then.
    pub fn save(&mut self, snapshot: &Snapshot) -> Result<Option<PathBuf>> {
        self.save_until(snapshot, &AtomicBool::new(false))
    }

    pub(crate) fn save_until(
        &mut self,
        snapshot: &Snapshot,
        cancelled: &AtomicBool,
    ) -> Result<Option<PathBuf>> {
        let tag = self.free_name(snapshot.step);
        let path = self.save_as(&tag, snapshot, cancelled)?;
        if path.is_some() {
            self.drop_others(&tag)?;
        }
        Ok(path)
    }

    /// As [`save`](Self::save), under a name of one's own, which stays.
    ///
    /// # Errors
    /// As there; the name is none.
    pub fn save_tagged(&mut self, tag: &str, snapshot: &Snapshot) -> Result<Option<PathBuf>> {
        let taken = tag == LATEST || step_of(tag).is_some();
        if taken || tag.is_empty() || tag.starts_with('.') || tag.contains(['/', '\0']) {
            let why = format!(
                "`{tag}` is no name for a checkpoint: it is a folder's, without dot or slash, and neither `{LATEST}` \
                 nor that of a step"
            );
            return Err(Error::write(&self.folder, why));
        }
        self.save_as(tag, snapshot, &AtomicBool::new(false))
    }

    /// A name for a checkpoint of `step` that takes the place of no whole one: it might be the last that is good.
    fn free_name(&self, step: u64) -> String {
        let first = format!("{PREFIX}{step}");
        let others = (2..).map(|number: u64| format!("{first}-{number}"));
        let whole = |name: &String| Checkpoint::open(&self.folder.join(name)).is_ok();
        std::iter::once(first.clone()).chain(others).find(|name| !whole(name)).unwrap_or(first)
    }

    fn save_as(
        &mut self,
        tag: &str,
        snapshot: &Snapshot,
        cancelled: &AtomicBool,
    ) -> Result<Option<PathBuf>> {
        if snapshot.rank > 0 {
            return parts::write(&*self.disk, &self.folder, snapshot).map(|()| None);
        }
        let of = (snapshot.step, snapshot.world_size);
        let parts = || parts::wait(&self.folder, of, self.patience, cancelled);
        let named = (tag, self.sequence + 1);
        let path = commit(&*self.disk, &self.folder, named, snapshot, parts)?;
        self.sequence += 1;
        Ok(Some(path))
    }

    /// Removes every checkpoint, for a run that takes the place of another.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn clear(&mut self) -> Result<()> {
        for found in list(&self.folder)? {
            remove(&*self.disk, &self.folder, found.name())?;
        }
        let latest = self.folder.join(LATEST);
        match self.disk.remove(&latest) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::write(&latest, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes checkpoints that are not to be kept; `newest` is.
    fn drop_others(&self, newest: &str) -> Result<()> {
        let found = list(&self.folder)?;
        let of_steps = found.iter().filter(|found| step_of(found.name()).is_some());
        // What is damaged stays where it is: it counts for nothing, and somebody may want to look at it.
        let mut whole: Vec<_> = of_steps
            .filter_map(|found| Some((found.name(), found.outcome.as_ref().ok()?.state())))
            .collect();
        whole.sort_by_key(|(_, state)| std::cmp::Reverse(state.sequence));
        let losses = whole.iter().filter_map(|(name, state)| Some((*name, state.validation_loss?)));
        let losses = losses.filter(|(_, loss)| !loss.is_nan());
        let best = losses.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|_| self.keep.best);
        for (name, state) in whole.iter().skip(self.keep.last.max(1)) {
            let every = self.keep.every_steps;
            let kept = (every > 0 && state.step.is_multiple_of(every))
                || best.is_some_and(|(best, _)| best == *name)
                || *name == newest;
            if !kept {
                remove(&*self.disk, &self.folder, name)?;
            }
        }
        Ok(())
    }
}

/// The step in a name that [`Checkpoints::save`] gave.
fn step_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix(PREFIX)?;
    let (step, again) = number.split_once('-').unwrap_or((number, "2"));
    again.parse::<u64>().ok()?;
    step.parse().ok()
}

/// A folder that looks like a checkpoint.
#[derive(Debug)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// The checkpoint, or why it is none.
    pub outcome: Result<Checkpoint>,
}

impl Found {
    /// Its name in the folder.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// What is in a folder of checkpoints, the newest last; those that are damaged come first. Contents are not compared
/// with their digests: see [`Checkpoint::verify`].
///
/// # Errors
/// The folder is there and cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Found>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::read(folder, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::read(folder, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let looks = name.starts_with(PREFIX) || path.join(RECORD).symlink_metadata().is_ok();
        if looks && !name.starts_with('.') && path.is_dir() {
            let outcome = Checkpoint::open(&path);
            found.push(Found { path, outcome });
        }
    }
    found.sort_by_key(|found| found.outcome.as_ref().map_or(0, |whole| whole.state().sequence));
    Ok(found)
}

/// The newest checkpoint of a folder that is whole to the last byte, and a sentence for each later one that is not.
///
/// # Errors
/// The folder cannot be read, or a later version has written to it.
pub fn newest(folder: &Path) -> Result<(Option<Checkpoint>, Vec<Error>)> {
    let mut broken = Vec::new();
    let mut whole = Vec::new();
    for found in list(folder)? {
        let step = step_of(found.name());
        match found.outcome {
            Ok(checkpoint) => whole.push(checkpoint),
            Err(error @ Error::Newer { .. }) => return Err(error),
            Err(error) => broken.push((step, error)),
        }
    }
    while let Some(checkpoint) = whole.pop() {
        let step = checkpoint.state().step;
        match checkpoint.verify() {
            Ok(()) => {
                broken.retain(|(of, _)| of.is_none_or(|of| of > step));
                return Ok((
                    Some(checkpoint),
                    broken.into_iter().map(|(_, error)| error).collect(),
                ));
            }
            Err(error) => broken.push((None, error)),
        }
    }
    Ok((None, broken.into_iter().map(|(_, error)| error).collect()))
}

/// The checkpoint at `path`, or the newest whole one of the folder at `path`, with a sentence for each newer one that
/// is not whole.
///
/// # Errors
/// There is none.
pub fn find(path: &Path) -> Result<(Checkpoint, Vec<Error>)> {
    if path.join(RECORD).symlink_metadata().is_ok() {
        let checkpoint = Checkpoint::open(path)?;
        checkpoint.verify()?;
        return Ok((checkpoint, Vec::new()));
    }
    match newest(path)? {
        (Some(checkpoint), broken) => Ok((checkpoint, broken)),
        (None, broken) => Err(Error::None {
            folder: path.to_owned(),
            broken: broken.iter().map(Error::to_string).collect(),
        }),
    }
}
