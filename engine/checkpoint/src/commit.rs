//! How a checkpoint comes to be: whole under its name, or not there.
//!
//! ```text
//! .unfinished-step-120/             made
//!   model.safetensors, ...          each written and put on the disk
//!   checkpoint.json                 what the others are to hold: last
//! .unfinished-step-120/             its names put on the disk
//! step-120                          is its name from here on
//! ./                                that name put on the disk
//! latest                            replaced in the same way
//! ```
use crate::digest::{Digest, write_parts};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::parts::PartFile;
use crate::record::{RECORD, Record};
use crate::snapshot::{STATE, Snapshot};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What the names of files and folders begin with that are not whole yet, or no longer.
pub const UNFINISHED: &str = ".unfinished-";

/// What the name begins with of a checkpoint that another takes the place of; its own follows.
pub const REPLACED: &str = ".unfinished-old-";

/// What the names of checkpoints begin with; the step follows.
pub const PREFIX: &str = "step-";

/// Names the newest checkpoint, for programs that look for it there.
pub const LATEST: &str = "latest";

/// Writes `snapshot` as the `sequence`-th checkpoint of `folder`, called `name`. `parts` waits for the files of other
/// ranks, which are in `folder` then. Returns its path.
///
/// # Errors
/// Something cannot be written; nothing of it is left then, and no other checkpoint is touched.
pub fn commit(
    disk: &dyn Disk,
    folder: &Path,
    (name, sequence): (&str, u64),
    snapshot: &Snapshot,
    parts: impl FnOnce() -> Result<Vec<PartFile>>,
) -> Result<PathBuf> {
    let making = folder.join(format!("{UNFINISHED}{name}"));
    let written = write(disk, &making, sequence, snapshot, parts)
        .and_then(|()| put_in_place(disk, folder, &making, name));
    if written.is_err() {
        disk.remove(&making).ok();
    }
    let path = written?;
    point(disk, folder, name)?;
    Ok(path)
}

fn write(
    disk: &dyn Disk,
    making: &Path,
    sequence: u64,
    snapshot: &Snapshot,
    parts: impl FnOnce() -> Result<Vec<PartFile>>,
) -> Result<()> {
    if making.symlink_metadata().is_ok() {
        disk.remove(making).map_err(|e| Error::write(making, e))?;
    }
    for file in &snapshot.files {
        file.sync_all().map_err(|e| Error::write(making, e))?;
    }
    disk.create_folder(making).map_err(|e| Error::write(making, e))?;
    let mut record = Record::default();
    for file in &snapshot.tensors {
        let at = making.join(&file.name);
        let digest = write_file(disk, &at, &[&file.header.bytes, &file.bytes])?;
        record.files.insert(file.name.clone(), digest);
    }
    for (name, value) in &snapshot.texts {
        let mut value = value.clone();
        if name == STATE {
            value["sequence"] = json!(sequence);
        }
        record.files.insert(name.clone(), write_json(disk, &making.join(name), &value)?);
    }
    for PartFile { path, name, digest } in parts()? {
        let to = making.join(&name);
        disk.rename(&path, &to).map_err(|e| Error::write(&to, e))?;
        record.files.insert(name, digest);
    }
    let last = making.join(RECORD);
    write_json(disk, &last, &serde_json::to_value(&record).map_err(|e| Error::write(&last, e))?)?;
    disk.sync_folder(making).map_err(|e| Error::write(making, e))
}

fn put_in_place(disk: &dyn Disk, folder: &Path, making: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let failed = |error| Error::write(&path, error);
    // One that is damaged, or of the same tag.
    let old = path.symlink_metadata().is_ok().then(|| folder.join(format!("{REPLACED}{name}")));
    if let Some(old) = &old {
        disk.rename(&path, old).map_err(failed)?;
    }
    if let Err(error) = disk.rename(making, &path) {
        if let Some(old) = &old {
            disk.rename(old, &path).ok();
        }
        return Err(failed(error));
    }
    disk.sync_folder(folder).map_err(failed)?;
    if let Some(old) = &old {
        disk.remove(old).ok();
    }
    Ok(path)
}

/// Has `latest` name the newest checkpoint.
fn point(disk: &dyn Disk, folder: &Path, name: &str) -> Result<()> {
    let (path, new) = (folder.join(LATEST), folder.join(format!("{UNFINISHED}{LATEST}")));
    if new.symlink_metadata().is_ok() {
        disk.remove(&new).map_err(|e| Error::write(&new, e))?;
    }
    write_file(disk, &new, &[name.as_bytes()])?;
    disk.rename(&new, &path).map_err(|e| Error::write(&path, e))?;
    disk.sync_folder(folder).map_err(|e| Error::write(&path, e))
}

/// Takes a checkpoint away: at once, as far as anybody can see.
///
/// # Errors
/// The system's.
pub fn remove(disk: &dyn Disk, folder: &Path, name: &str) -> Result<()> {
    let (path, gone) = (folder.join(name), folder.join(format!("{UNFINISHED}gone-{name}")));
    let failed = |error| Error::write(&path, error);
    disk.rename(&path, &gone).map_err(failed)?;
    disk.sync_folder(folder).map_err(failed)?;
    disk.remove(&gone).map_err(failed)
}

pub fn write_json(disk: &dyn Disk, path: &Path, value: &Value) -> Result<Digest> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::write(path, e))?;
    text.push(b'\n');
    write_file(disk, path, &[&text])
}

pub fn write_file(disk: &dyn Disk, path: &Path, parts: &[&[u8]]) -> Result<Digest> {
    let written = disk.create(path).and_then(|mut file| write_parts(&mut *file, parts));
    written.map_err(|error| Error::write(path, error))
}
