//! What a TorchScript file has to look like, checked before libtorch reads it.
#[cfg(test)]
mod checkers;
mod code;
mod pickle;

use crate::archive::{Archive, Wanted, in_folder};
use std::path::Path;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The newest version of the format that libtorch 2.11 reads.
const NEWEST: u64 = 10;

const EXPORT: &str = "export the model itself with torch.jit.trace(model, inputs) or torch.jit.script(model) \
    and its `save`";

const TORCHSCRIPT: Wanted = Wanted {
    what: "TorchScript file",
    writer: "torch.jit.save",
    remedy: EXPORT,
    // It packs code, and nothing else.
    packed: |name| name.split('/').nth(1) == Some("code"),
};

/// That the file at `path` is a zip archive as torch.jit.save writes it: code and constants in one folder,
/// weights stored as they are, all of them together no larger than the file, and code that unpacks to no more
/// than 256 MiB. That its pickles make nothing but what a script has, each tensor within its own record, and its
/// code calls nothing but what computes. Returns a fingerprint of what the model does, whatever its weights are:
/// of its code, its attributes and its constants.
///
/// # Errors
/// What it is instead, with the record's name where it is about one.
pub(super) fn check(path: &Path) -> Result<String, String> {
    let mut archive = Archive::open(path, &TORCHSCRIPT)?;
    let records = archive.records().to_vec();
    let folder = check_contents(&records)?;
    check_version(&mut archive, &records)?;
    let mut behaviour = Vec::new();
    for name in &records {
        let inner = &name[folder.len() + 1..];
        let at = |detail: String| format!("record {name:?}: {detail}");
        if let Some(archive_name) = pickled(inner) {
            let pickle = archive.read(name)?;
            let size_of = |key: &str| archive.size(&format!("{folder}/{archive_name}/{key}"));
            pickle::check(&pickle, &size_of).map_err(at)?;
            // Lines of the source name the folder in which it was exported.
            if archive_name != inner {
                behaviour.push((inner, xxh3_64(&pickle)));
            }
        } else if inner.starts_with("code/") {
            let source = String::from_utf8(archive.read(name)?);
            let source = source.map_err(|_| at("code that is no text in UTF-8".to_owned()))?;
            code::check(&source).map_err(at)?;
            behaviour.push((inner, xxh3_64(source.as_bytes())));
        } else if inner.starts_with("constants/") {
            behaviour.push((inner, archive.hash(name)?));
        }
    }
    Ok(fingerprint(behaviour))
}

/// One of records by name, in whatever order they lie.
fn fingerprint(mut records: Vec<(&str, u64)>) -> String {
    records.sort_unstable();
    let mut hasher = Xxh3::new();
    for (name, hash) in records {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&hash.to_le_bytes());
    }
    format!("{:016x}", hasher.digest())
}

/// The extra file in which an export lists the keys of the model's `state_dict`.
pub(super) const STATE_DICT: &str = "state_dict.json";

/// What the file at `path`, which was checked, says of the model's `state_dict`; none if it says nothing.
///
/// # Errors
/// What it says is no list of names.
pub(super) fn state_dict(path: &Path) -> Result<Option<Vec<String>>, String> {
    let mut archive = Archive::open(path, &TORCHSCRIPT)?;
    let suffix = format!("/extra/{STATE_DICT}");
    let found = archive.records().iter().find(|name| name.ends_with(&suffix));
    let Some(name) = found.cloned() else { return Ok(None) };
    let names = serde_json::from_slice(&archive.read(&name)?);
    names.map(Some).map_err(|error| format!("record {name:?} is no list of names: {error}"))
}

/// The folder of the tensors of a record that libtorch reads as a pickle; none for another record.
fn pickled(inner: &str) -> Option<&str> {
    let lower = inner.to_lowercase();
    match &*lower {
        "data.pkl" | "constants.pkl" => Some(&inner[..inner.len() - ".pkl".len()]),
        // Lines of the source, without tensors.
        _ if lower.ends_with(".debug_pkl") => Some(inner),
        _ => None,
    }
}

/// That the records are those of a TorchScript module; the folder they lie in.
fn check_contents(records: &[String]) -> Result<&str, String> {
    let Some((folder, _)) = records.first().and_then(|name| name.split_once('/')) else {
        return Err(match records.iter().any(|name| name.ends_with(".npy")) {
            true => format!("this is NumPy's archive of arrays, not a TorchScript file; {EXPORT}"),
            false => format!("this is a zip archive, and not one of TorchScript; {EXPORT}"),
        });
    };
    in_folder(records, folder)?;
    let has = |name: &str| records.iter().any(|r| r[folder.len() + 1..] == *name);
    let code = records.iter().any(|r| r[folder.len() + 1..].starts_with("code/"));
    let all = code && has("constants.pkl") && has("data.pkl");
    match () {
        () if has("model.json") => Err(format!(
            "this is a model of PyTorch before 1.2, in a format that is not read any more: load it in PyTorch and {EXPORT}"
        )),
        () if all => Ok(folder),
        () if has("models/model.json") || has("serialized_exported_program.json") => Err(format!(
            "this is a program of torch.export, which has no TorchScript in it; {EXPORT}"
        )),
        () if has("data.pkl") && !code => Err(format!(
            "this is a state dict or a pickled model, as torch.save writes it: it has weights and no code; \
             load it in PyTorch and {EXPORT}"
        )),
        () if code => Err(format!(
            "this archive has code and no {}",
            if has("data.pkl") { "constants.pkl" } else { "data.pkl" }
        )),
        () => Err(format!("this is a zip archive, and not one of TorchScript; {EXPORT}")),
    }
}

fn check_version(archive: &mut Archive, records: &[String]) -> Result<(), String> {
    let is_version = |name: &&String| {
        let inner = name.split_once('/').map(|(_, inner)| inner);
        inner == Some("version") || inner == Some(".data/version")
    };
    let Some(name) = records.iter().find(is_version) else {
        return Err("the archive has no record of its format's version".to_owned());
    };
    let text = archive.begin(name, 32)?;
    match text.trim().parse::<u64>().ok() {
        Some(version) if version <= NEWEST => Ok(()),
        Some(version) => Err(format!(
            "the file is of version {version} of the format, and this libtorch reads up to {NEWEST}: \
             export it with PyTorch 2.11 or older"
        )),
        None => Err(format!("record {name:?} is {text:?}, not the number of a version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_of_names_and_bytes_in_any_order() {
        let first = fingerprint(vec![("a", 1), ("b", 2)]);
        assert_eq!(first, fingerprint(vec![("b", 2), ("a", 1)]));
        for other in [vec![("a", 1)], vec![("a", 2), ("b", 1)], vec![("ab", 1), ("", 2)]] {
            assert_ne!(first, fingerprint(other));
        }
    }
}
