//! `checkpoint.json`: what makes a folder of files a checkpoint.
use crate::FORMAT;
use crate::digest::Digest;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path};

/// Its name.
pub const RECORD: &str = "checkpoint.json";

/// Bytes of it that are read at most: a hundred for each of some thousands of ranks.
const MOST_BYTES: u64 = 1 << 24;

/// What every other file of a checkpoint holds. It says nothing that these digests do not guard, so a change in it is
/// found as surely as one in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of the layout.
    pub format: u64,
    /// By name.
    pub files: BTreeMap<String, Digest>,
}

impl Default for Record {
    fn default() -> Self {
        Record { format: FORMAT, files: BTreeMap::new() }
    }
}

impl Record {
    /// Of the checkpoint at `path`, whose files have the sizes that it says.
    ///
    /// # Errors
    /// There is none, it says something else, or a later version wrote it.
    pub fn read(path: &Path) -> Result<Self> {
        let not_whole = |why: String| Error::not_whole(path, why);
        let at = path.join(RECORD);
        let text = match fs::symlink_metadata(&at) {
            Ok(there) if !there.is_file() => {
                return Err(not_whole(format!("{RECORD} is no file")));
            }
            Ok(file) if file.len() > MOST_BYTES => {
                return Err(not_whole(format!("{RECORD} has {} bytes", file.len())));
            }
            Ok(_) => {
                let mut text = Vec::new();
                let file = fs::File::open(&at);
                let read = file.and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
                read.map_err(|e| Error::read(&at, e))?;
                text
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(not_whole(format!("it has no {RECORD}")));
            }
            Err(error) => return Err(Error::read(&at, error)),
        };
        let versioned: Format = serde_json::from_slice(&text)
            .map_err(|error| not_whole(format!("{RECORD} is damaged: {error}")))?;
        if versioned.format > FORMAT {
            return Err(Error::Newer { path: path.to_owned(), format: versioned.format });
        }
        let record: Record = serde_json::from_slice(&text)
            .map_err(|error| not_whole(format!("{RECORD} is damaged: {error}")))?;
        for (name, digest) in &record.files {
            if !is_plain(name) {
                return Err(not_whole(format!("{RECORD} names `{name}`, which is no file in it")));
            }
            let there = fs::symlink_metadata(path.join(name));
            let there = there.map_err(|_| not_whole(format!("{name} is missing")))?;
            if !there.is_file() || there.len() != digest.bytes {
                let (has, said) = (there.len(), digest.bytes);
                return Err(not_whole(format!("{name} has {has} bytes, and had {said}")));
            }
        }
        Ok(record)
    }
}

/// What every version's record has.
#[derive(Deserialize)]
struct Format {
    format: u64,
}

/// Whether a name leads to nowhere else.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == name)
}
