//! Which files of a folder are trained on, and which are validated on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// What the stream of files is called that are named after their part alone, as nanoGPT's and llm.c's
/// are.
pub(super) const STREAM: &str = "input_ids";

/// Files that hold the samples of a side.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub folder: PathBuf,
    /// Sorted by name.
    pub paths: Vec<PathBuf>,
    /// Whether they are all parts of one stream of tokens, [`STREAM`].
    pub one_stream: bool,
}

/// The files to train on, and those to validate on where they are files of their own.
///
/// # Errors
/// A folder cannot be read.
pub(super) fn sides(folder: &Path) -> Result<(Files, Option<Files>)> {
    let inner = |name| Some(folder.join(name)).filter(|path: &PathBuf| path.is_dir());
    let (train, validation) = (inner("train"), inner("validation").or_else(|| inner("val")));
    let mut trained = files(train.as_deref().unwrap_or(folder))?;
    let mut validated = validation.as_deref().map(files).transpose()?;
    if train.is_none() && validated.is_none() {
        let (first, second): (Vec<_>, Vec<_>) =
            trained.iter().cloned().partition(|path| part(path) == Some(Part::Train));
        if !first.is_empty() && all(&second, Part::Validation) {
            (trained, validated) = (first, Some(second));
        }
    }
    let one_stream = all(&trained, Part::Train)
        && match &validated {
            Some(validated) => all(validated, Part::Validation),
            None => trained.len() > 1,
        };
    if one_stream {
        tracing::info!(
            training_files = trained.len(),
            validation_files = validated.as_ref().map_or(0, Vec::len),
            "{} has the names of nanoGPT and llm.c: one stream of tokens, `{STREAM}`",
            folder.display()
        );
    }
    let side = |inner: Option<PathBuf>, paths| Files {
        folder: inner.unwrap_or_else(|| folder.into()),
        paths,
        one_stream,
    };
    Ok((side(train, trained), validated.map(|paths| side(validation, paths))))
}

/// Whether there are files, and all are for that part by their names.
fn all(paths: &[PathBuf], of: Part) -> bool {
    !paths.is_empty() && paths.iter().all(|path| part(path) == Some(of))
}

/// The files that hold arrays, sorted by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = |source| Error::Read { what: "data folder", path: folder.into(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension {
            Some("npy" | "bin" | "safetensors") => files.push(path),
            _ if path.is_dir() => {}
            _ => tracing::info!("{} holds no data by its name and is not read", path.display()),
        }
    }
    files.sort();
    Ok(files)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Validation,
}

/// What a `.bin` file is for by its name: `train.bin` (nanoGPT), `tiny_shakespeare_val.bin`,
/// `fineweb_train_000001.bin` (llm.c).
fn part(path: &Path) -> Option<Part> {
    path.extension().filter(|extension| *extension == "bin")?;
    let stem = path.file_stem()?.to_str()?;
    let numbered = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    match stem.rsplit(['_', '-', '.']).find(|word| !numbered(word))? {
        "train" => Some(Part::Train),
        "val" | "valid" | "validation" => Some(Part::Validation),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the files on both sides, and whether they are one stream.
    fn found(names: &[&str]) -> [Option<(Vec<String>, bool)>; 2] {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let (train, validation) = sides(folder.path()).unwrap();
        [Some(train), validation].map(|side| {
            let Files { paths, one_stream, .. } = side?;
            let shown =
                |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
            Some((paths.iter().map(shown).collect(), one_stream))
        })
    }

    fn side(names: &[&str], one_stream: bool) -> Option<(Vec<String>, bool)> {
        Some((names.iter().map(|name| (*name).to_owned()).collect(), one_stream))
    }

    #[test]
    fn known_names_tell_the_sides() {
        for (names, train, validation) in [
            (&["train.bin", "val.bin", "meta.pkl"][..], &["train.bin"][..], &["val.bin"][..]),
            (
                &["tiny_shakespeare_train.bin", "tiny_shakespeare_val.bin"],
                &["tiny_shakespeare_train.bin"],
                &["tiny_shakespeare_val.bin"],
            ),
            (
                &["f_val_000000.bin", "f_train_000002.bin", "f_train_000001.bin"],
                &["f_train_000001.bin", "f_train_000002.bin"],
                &["f_val_000000.bin"],
            ),
        ] {
            assert_eq!(found(names), [side(train, true), side(validation, true)], "{names:?}");
        }
        let shards = ["train/f_train_1.bin", "train/f_train_2.bin", "val/f_val_0.bin"];
        assert_eq!(found(&shards), [side(&shards[..2], true), side(&shards[2..], true)]);
    }

    #[test]
    fn other_names_are_inputs() {
        for names in [
            &["input_ids.bin", "labels.bin"][..],
            &["train.bin"],
            &["train.bin", "val.npy"],
            &["labels.npy", "train.bin", "val.bin"],
        ] {
            assert_eq!(found(names), [side(names, false), None], "{names:?}");
        }
        for folders in
            [["train/ids.bin", "validation/ids.bin"], ["train/train.bin", "validation/train.bin"]]
        {
            assert_eq!(found(&folders), [side(&folders[..1], false), side(&folders[1..], false)]);
        }
        let several = ["f_train_1.bin", "f_train_2.bin"];
        assert_eq!(found(&several), [side(&several, true), None]);
    }
}
