//! What a TorchScript file has to look like, checked before libtorch reads it.
#[cfg(test)]
mod checkers;
mod code;
mod pickle;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};
use zip::{CompressionMethod, ZipArchive};

/// The newest version of the format that libtorch 2.11 reads.
const NEWEST: u64 = 10;

/// How large all code may be once it is unpacked, in bytes.
const MOST_CODE: u64 = 256 << 20;

const EXPORT: &str = "export the model itself with torch.jit.trace(model, inputs) or torch.jit.script(model) \
    and its `save`";

/// How large a description of weights may be, in bytes.
const MOST_DESCRIPTION: u64 = 64 << 20;

/// That the file at `path` is a zip archive as torch.jit.save writes it: code and constants in one folder,
/// weights stored as they are, all of them together no larger than the file, and code that unpacks to no more
/// than 256 MiB. That its pickles make nothing but what a script has, each tensor within its own record, and its
/// code calls nothing but what computes. Returns a fingerprint of what the model does, whatever its weights are:
/// of its code, its attributes and its constants.
///
/// # Errors
/// What it is instead, with the record's name where it is about one.
pub(super) fn check(path: &Path) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    // Before it is opened, which a pipe without a writer would never be.
    let metadata = std::fs::metadata(path).map_err(said)?;
    if metadata.is_dir() {
        return Err("this is a folder, not a TorchScript file".to_owned());
    }
    if !metadata.is_file() {
        return Err("this is no regular file, and a TorchScript file is".to_owned());
    }
    let mut file = File::open(path).map_err(said)?;
    let mut head = Vec::new();
    (&mut file).take(512).read_to_end(&mut head).map_err(said)?;
    if let Some(instead) = instead(&head) {
        return Err(format!("this is {instead}, not a TorchScript file; {EXPORT}"));
    }
    let directory = directory(&mut file, metadata.len())?;
    file.seek(SeekFrom::Start(0)).map_err(said)?;
    let mut archive = ZipArchive::new(file)
        .map_err(|error| format!("this is a damaged or truncated zip archive: {error}"))?;
    if (archive.len() as u64, archive.central_directory_start()) != directory
        || archive.offset() != 0
    {
        return Err("its directory and the end of the file tell of different records".to_owned());
    }
    let mut sizes = HashMap::new();
    let mut records = Vec::new();
    let (mut total, mut code) = (0u64, 0u64);
    for index in 0..archive.len() {
        let record = archive
            .by_index_raw(index)
            .map_err(|error| format!("record {index} of the archive is damaged: {error}"))?;
        let named = record.name().map(std::borrow::Cow::into_owned);
        let name = named.map_err(|error| format!("record {index} of the archive: {error}"))?;
        check_record(&name, &record)?;
        total = total.saturating_add(record.compressed_size());
        if record.compression() != CompressionMethod::Stored {
            code = code.saturating_add(record.size());
        }
        // libtorch finds them so.
        if sizes.insert(name.to_lowercase(), record.size()).is_some() {
            return Err(format!("the archive has two records {name:?}"));
        }
        records.push(name);
    }
    if total > metadata.len() {
        return Err(format!(
            "its records claim {total} bytes, and the file has {}: they overlap or the file is cut off",
            metadata.len()
        ));
    }
    if code > MOST_CODE {
        return Err(format!(
            "its code claims {code} bytes once it is unpacked, more than the {MOST_CODE} that are read"
        ));
    }
    let folder = check_contents(&records)?;
    check_version(&mut archive, &records)?;
    let mut behaviour = Vec::new();
    for name in &records {
        let inner = &name[folder.len() + 1..];
        let at = |detail: String| format!("record {name:?}: {detail}");
        if let Some(archive_name) = pickled(inner) {
            let size_of = |key: &str| {
                let path = format!("{folder}/{archive_name}/{key}");
                sizes.get(&path.to_lowercase()).copied()
            };
            let pickle = read(&mut archive, name)?;
            pickle::check(&pickle, &size_of).map_err(at)?;
            // Lines of the source name the folder in which it was exported.
            if archive_name != inner {
                behaviour.push((inner, xxh3_64(&pickle)));
            }
        } else if inner.starts_with("code/") {
            let source = String::from_utf8(read(&mut archive, name)?);
            let source = source.map_err(|_| at("code that is no text in UTF-8".to_owned()))?;
            code::check(&source).map_err(at)?;
            behaviour.push((inner, xxh3_64(source.as_bytes())));
        } else if inner.starts_with("constants/") {
            behaviour.push((inner, hash(&mut archive, name)?));
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

/// Of a record of any size, read in pieces.
fn hash(archive: &mut ZipArchive<File>, name: &str) -> Result<u64, String> {
    let at = |error: &dyn std::fmt::Display| format!("record {name:?} is damaged: {error}");
    let mut record = archive.by_name(name).map_err(|error| at(&error))?;
    let (mut hasher, mut piece) = (Xxh3::new(), vec![0; 1 << 16]);
    loop {
        match record.read(&mut piece).map_err(|error| at(&error))? {
            0 => return Ok(hasher.digest()),
            read => hasher.update(&piece[..read]),
        }
    }
}

/// The extra file in which an export lists the keys of the model's `state_dict`.
pub(super) const STATE_DICT: &str = "state_dict.json";

/// What the file at `path`, which was checked, says of the model's `state_dict`; none if it says nothing.
///
/// # Errors
/// What it says is no list of names.
pub(super) fn state_dict(path: &Path) -> Result<Option<Vec<String>>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut archive = ZipArchive::new(file).map_err(|error| error.to_string())?;
    let suffix = format!("/extra/{STATE_DICT}");
    let found =
        archive.file_names().filter_map(|name| name.ok()).find(|name| name.ends_with(&suffix));
    let Some(name) = found.map(|name| name.into_owned()) else { return Ok(None) };
    let names = serde_json::from_slice(&read(&mut archive, &name)?);
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

fn read(archive: &mut ZipArchive<File>, name: &str) -> Result<Vec<u8>, String> {
    let record = archive.by_name(name).map_err(|error| format!("record {name:?}: {error}"))?;
    let size = record.size();
    if record.compression() == CompressionMethod::Stored && size > MOST_DESCRIPTION {
        return Err(format!(
            "record {name:?} has {size} bytes, more than the {MOST_DESCRIPTION} that a description takes"
        ));
    }
    let mut bytes = Vec::new();
    record
        .take(size + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("record {name:?} is damaged: {error}"))?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(format!("record {name:?} is not of the {size} bytes that it claims")),
    }
}

/// What the end of the file says of the archive's directory: how many records, and where it begins.
///
/// # Errors
/// The file ends otherwise than torch.jit.save ends it: then two readers may find two directories.
fn directory(file: &mut File, size: u64) -> Result<(u64, u64), String> {
    let odd = || {
        "this is a damaged or truncated zip archive: its directory is not where it ends".to_owned()
    };
    let mut read = |back: u64, bytes: &mut [u8]| -> Result<(), String> {
        let start = size.checked_sub(back).ok_or_else(odd)?;
        file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(bytes)).map_err(|_| odd())
    };
    let word = |bytes: &[u8], at: usize, width: usize| {
        bytes[at..at + width].iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte))
    };
    let mut end = [0; 22];
    read(22, &mut end)?;
    if !end.starts_with(b"PK\x05\x06") || word(&end, 20, 2) != 0 {
        return Err(odd());
    }
    let short = (word(&end, 10, 2), word(&end, 16, 4));
    // The same in longer words, right before: a record of 56 bytes and 20 that say where it is.
    let mut locator = [0; 20];
    if size < 98 || read(42, &mut locator).is_err() || !locator.starts_with(b"PK\x06\x07") {
        return Ok(short);
    }
    let mut long = [0; 56];
    read(98, &mut long)?;
    if !long.starts_with(b"PK\x06\x06") || word(&locator, 8, 8) != size - 98 {
        return Err(odd());
    }
    let long = (word(&long, 32, 8), word(&long, 48, 8));
    let same = |short: u64, long: u64, most: u64| short == most || short == long;
    match same(short.0, long.0, 0xffff) && same(short.1, long.1, 0xffff_ffff) {
        true => Ok(long),
        false => Err(odd()),
    }
}

/// What a file is that begins so; none for a zip archive.
fn instead(head: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| head.starts_with(magic);
    let text: String = head.iter().take(64).map(|&b| (b as char).to_ascii_lowercase()).collect();
    Some(match () {
        () if starts(b"PK\x03\x04") => return None,
        () if head.is_empty() => "an empty file",
        () if starts(b"PK\x05\x06") => "an empty zip archive",
        () if starts(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") => {
            "a state dict or a pickled model in the old format of torch.save"
        }
        () if starts(b"\x80") => "a Python pickle",
        () if starts(b"\x93NUMPY") => "a NumPy array",
        () if head.get(8) == Some(&b'{') && head.get(6..8) == Some(&[0, 0]) => {
            "a safetensors file, which holds weights and no code"
        }
        () if starts(b"\x1f\x8b") => "a gzip archive",
        () if head.get(257..262) == Some(b"ustar") => "a tar archive",
        () if starts(b"\x89HDF") => "an HDF5 file",
        () if starts(b"GGUF") => "a GGUF file, which holds weights and no code",
        () if text.trim_start().starts_with("<!doctype")
            || text.trim_start().starts_with("<html") =>
        {
            "a web page"
        }
        () if starts(b"version https://git-lfs") => {
            "the pointer that Git LFS keeps in a file's place (`git lfs pull` brings the file)"
        }
        () => "a file of another kind",
    })
}

fn check_record(name: &str, record: &zip::read::ZipFile<'_, File>) -> Result<(), String> {
    let parts = || name.split(['/', '\\']);
    let drive = name.as_bytes().get(1) == Some(&b':');
    if name.starts_with(['/', '\\']) || drive || parts().any(|part| part == "..") {
        return Err(format!("record {name:?} of the archive names a place outside of it"));
    }
    // torch.jit.save packs code, and nothing else.
    let is_code = name.split('/').nth(1) == Some("code");
    let packed = record.compression() != CompressionMethod::Stored;
    if packed && !(is_code && record.compression() == CompressionMethod::DEFLATE)
        || !packed && record.size() != record.compressed_size()
    {
        return Err(format!(
            "record {name:?} is compressed ({} bytes in the file, {} claimed), and torch.jit.save stores \
             weights as they are",
            record.compressed_size(),
            record.size()
        ));
    }
    match record.encrypted() {
        true => Err(format!("record {name:?} is encrypted")),
        false => Ok(()),
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
    if let Some(other) = records.iter().find(|name| !name.starts_with(&format!("{folder}/"))) {
        return Err(format!("record {other:?} lies outside of the archive's folder {folder:?}"));
    }
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

fn check_version(archive: &mut ZipArchive<File>, records: &[String]) -> Result<(), String> {
    let is_version = |name: &&String| {
        let inner = name.split_once('/').map(|(_, inner)| inner);
        inner == Some("version") || inner == Some(".data/version")
    };
    let Some(name) = records.iter().find(is_version) else {
        return Err("the archive has no record of its format's version".to_owned());
    };
    let record = archive.by_name(name).map_err(|error| format!("record {name:?}: {error}"))?;
    let mut text = String::new();
    record
        .take(32)
        .read_to_string(&mut text)
        .map_err(|error| format!("record {name:?} is damaged: {error}"))?;
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
