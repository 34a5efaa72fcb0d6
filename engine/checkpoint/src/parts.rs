//! What ranks above 0 put into a checkpoint: files beside it, which the first rank takes in.
use crate::commit::{UNFINISHED, write_file, write_json};
use crate::digest::Digest;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::snapshot::Snapshot;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What their names begin with.
pub const PART: &str = ".part-";

/// How often it is looked for them.
const PAUSE: Duration = Duration::from_millis(5);

/// A file that another rank wrote.
#[derive(Debug)]
pub struct PartFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name in the checkpoint.
    pub name: String,
    /// What it holds.
    pub digest: Digest,
}

/// Writes what a rank above 0 has of its own; what says so comes last.
///
/// # Errors
/// Something cannot be written.
pub fn write(disk: &dyn Disk, folder: &Path, snapshot: &Snapshot) -> Result<()> {
    let of = |name: &str| folder.join(format!("{PART}{}-{name}", snapshot.step));
    let mut record = Record::default();
    for file in &snapshot.tensors {
        let digest = write_file(disk, &of(&file.name), &[&file.header.bytes, &file.bytes])?;
        record.files.insert(file.name.clone(), digest);
    }
    for (name, value) in &snapshot.texts {
        record.files.insert(name.clone(), write_json(disk, &of(name), value)?);
    }
    let last = record_of(folder, snapshot.step, snapshot.rank);
    let new = folder.join(format!("{UNFINISHED}{}-rank-{}", snapshot.step, snapshot.rank));
    let value = serde_json::to_value(&record).map_err(|e| Error::write(&last, e))?;
    write_json(disk, &new, &value)?;
    disk.rename(&new, &last).map_err(|e| Error::write(&last, e))
}

/// Waits for the parts of ranks 1 to `world_size` - 1, no longer than `limit` and until `cancelled`.
///
/// # Errors
/// One does not come, or is not what it says.
pub fn wait(
    folder: &Path,
    (step, world_size): (u64, usize),
    limit: Duration,
    cancelled: &AtomicBool,
) -> Result<Vec<PartFile>> {
    let began = Instant::now();
    let mut files = Vec::new();
    for rank in 1..world_size {
        let at = record_of(folder, step, rank);
        while fs::symlink_metadata(&at).is_err() {
            if began.elapsed() > limit || cancelled.load(Ordering::SeqCst) {
                let seconds = began.elapsed().as_secs();
                return Err(Error::Part { rank, step, seconds, folder: folder.to_owned() });
            }
            thread::sleep(PAUSE);
        }
        let text = fs::read(&at).map_err(|e| Error::read(&at, e))?;
        let record: Record = serde_json::from_slice(&text)
            .map_err(|e| Error::not_whole(&at, format!("it is damaged: {e}")))?;
        fs::remove_file(&at).map_err(|e| Error::write(&at, e))?;
        files.extend(record.files.into_iter().map(|(name, digest)| PartFile {
            path: folder.join(format!("{PART}{step}-{name}")),
            name,
            digest,
        }));
    }
    Ok(files)
}

fn record_of(folder: &Path, step: u64, rank: usize) -> PathBuf {
    folder.join(format!("{PART}{step}-rank-{rank}"))
}
