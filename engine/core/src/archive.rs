//! Zip archives as PyTorch writes them, read without trust in what they claim.
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

/// How large all that is packed may be once it is unpacked, in bytes.
const MOST_PACKED: u64 = 256 << 20;

/// How large a description of weights may be, in bytes.
const MOST_DESCRIPTION: u64 = 64 << 20;

/// Where offsets count from. Left to find it, the crate takes a directory for one that begins 76 bytes later, as long as
/// the records are that PyTorch writes behind it, where its first entry is of that size.
pub(crate) const FROM_THE_START: Config = Config { archive_offset: ArchiveOffset::Known(0) };

/// What a file is to be, in words.
pub(crate) struct Wanted {
    /// `TorchScript file`.
    pub what: &'static str,
    /// Which function writes it.
    pub writer: &'static str,
    /// What to do instead with a file of another kind.
    pub remedy: &'static str,
    /// Whether the record of this name may be compressed.
    pub packed: fn(&str) -> bool,
}

/// An archive whose directory was checked.
#[derive(Debug)]
pub(crate) struct Archive {
    zip: ZipArchive<File>,
    records: Vec<String>,
    /// By the name in lower case, as libtorch finds them.
    sizes: HashMap<String, u64>,
}

impl Archive {
    /// The file at `path`, which is to be a zip archive of one directory: no two records of one name, none that names
    /// a place outside of it, stored as they are but for those that may be packed, all of them together no larger than
    /// the file.
    ///
    /// # Errors
    /// What it is instead, with the record's name where it is about one.
    pub fn open(path: &Path, wanted: &Wanted) -> Result<Self, String> {
        let Wanted { what, remedy, .. } = wanted;
        let said = |error: std::io::Error| error.to_string();
        // Before it is opened, which a pipe without a writer would never be.
        let metadata = std::fs::metadata(path).map_err(said)?;
        if metadata.is_dir() {
            return Err(format!("this is a folder, not a {what}"));
        }
        if !metadata.is_file() {
            return Err(format!("this is no regular file, and a {what} is"));
        }
        let mut file = File::open(path).map_err(said)?;
        let mut head = Vec::new();
        (&mut file).take(512).read_to_end(&mut head).map_err(said)?;
        if let Some(instead) = instead(&head) {
            return Err(format!("this is {instead}, not a {what}; {remedy}"));
        }
        let directory = directory(&mut file, metadata.len())?;
        file.seek(SeekFrom::Start(0)).map_err(said)?;
        let mut zip = ZipArchive::with_config(FROM_THE_START, file)
            .map_err(|error| format!("this is a damaged or truncated zip archive: {error}"))?;
        if (zip.len() as u64, zip.central_directory_start()) != directory || zip.offset() != 0 {
            return Err(
                "its directory and the end of the file tell of different records".to_owned()
            );
        }
        let (mut sizes, mut records) = (HashMap::new(), Vec::new());
        let (mut total, mut packed) = (0u64, 0u64);
        for index in 0..zip.len() {
            let record = zip
                .by_index_raw(index)
                .map_err(|error| format!("record {index} of the archive is damaged: {error}"))?;
            let named = record.name().map(std::borrow::Cow::into_owned);
            let name = named.map_err(|error| format!("record {index} of the archive: {error}"))?;
            check_record(&name, &record, wanted)?;
            total = total.saturating_add(record.compressed_size());
            if record.compression() != CompressionMethod::Stored {
                packed = packed.saturating_add(record.size());
            }
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
        if packed > MOST_PACKED {
            return Err(format!(
                "its code claims {packed} bytes once it is unpacked, more than the {MOST_PACKED} that are read"
            ));
        }
        Ok(Archive { zip, records, sizes })
    }

    /// Names, in the order of the directory.
    pub fn records(&self) -> &[String] {
        &self.records
    }

    /// Bytes of a record once it is unpacked.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.sizes.get(&name.to_lowercase()).copied()
    }

    /// The whole of a record that describes.
    ///
    /// # Errors
    /// There is none, it is too large for that, or damaged.
    pub fn read(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let record = self.zip.by_name(name).map_err(|error| format!("record {name:?}: {error}"))?;
        let size = record.size();
        if record.compression() == CompressionMethod::Stored && size > MOST_DESCRIPTION {
            return Err(format!(
                "record {name:?} has {size} bytes, more than the {MOST_DESCRIPTION} that a description takes"
            ));
        }
        whole(name, record, size)
    }

    /// The whole of a record that is stored, of any size: its bytes are a part of the file, so that no more is
    /// allocated than the file has.
    ///
    /// # Errors
    /// There is none, it is compressed, or damaged.
    pub fn read_stored(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let record = self.zip.by_name(name).map_err(|error| format!("record {name:?}: {error}"))?;
        match (record.compression(), record.size()) {
            (CompressionMethod::Stored, size) => whole(name, record, size),
            _ => Err(format!("record {name:?} is compressed, and weights are stored as they are")),
        }
    }

    /// Writes the whole of a record to `to`, in pieces.
    ///
    /// # Errors
    /// There is none, or it is damaged; `to` does not take it.
    pub fn copy(&mut self, name: &str, to: &mut dyn Write) -> Result<(), String> {
        let mut record =
            self.zip.by_name(name).map_err(|error| format!("record {name:?}: {error}"))?;
        let mut piece = vec![0; 1 << 16];
        loop {
            let read = record.read(&mut piece);
            let read = read.map_err(|error| format!("record {name:?} is damaged: {error}"))?;
            if read == 0 {
                return Ok(());
            }
            to.write_all(&piece[..read]).map_err(|error| error.to_string())?;
        }
    }

    /// The first `most` bytes of a record, a text.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn begin(&mut self, name: &str, most: u64) -> Result<String, String> {
        let record = self.zip.by_name(name).map_err(|error| format!("record {name:?}: {error}"))?;
        let mut text = String::new();
        record
            .take(most)
            .read_to_string(&mut text)
            .map_err(|error| format!("record {name:?} is damaged: {error}"))?;
        Ok(text)
    }

    /// Of a record of any size, read in pieces.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn hash(&mut self, name: &str) -> Result<u64, String> {
        let at = |error: &dyn std::fmt::Display| format!("record {name:?} is damaged: {error}");
        let mut record = self.zip.by_name(name).map_err(|error| at(&error))?;
        let (mut hasher, mut piece) = (Xxh3::new(), vec![0; 1 << 16]);
        loop {
            match record.read(&mut piece).map_err(|error| at(&error))? {
                0 => return Ok(hasher.digest()),
                read => hasher.update(&piece[..read]),
            }
        }
    }
}

/// That all records lie in `folder`.
///
/// # Errors
/// One does not.
pub(crate) fn in_folder(records: &[String], folder: &str) -> Result<(), String> {
    match records.iter().find(|name| !name.starts_with(&format!("{folder}/"))) {
        Some(other) => {
            Err(format!("record {other:?} lies outside of the archive's folder {folder:?}"))
        }
        None => Ok(()),
    }
}

fn whole(name: &str, record: impl Read, size: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    record
        .take(size.saturating_add(1))
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

fn check_record(
    name: &str,
    record: &zip::read::ZipFile<'_, File>,
    wanted: &Wanted,
) -> Result<(), String> {
    let parts = || name.split(['/', '\\']);
    let drive = name.as_bytes().get(1) == Some(&b':');
    if name.starts_with(['/', '\\']) || drive || parts().any(|part| part == "..") {
        return Err(format!("record {name:?} of the archive names a place outside of it"));
    }
    let packed = record.compression() != CompressionMethod::Stored;
    if packed && !((wanted.packed)(name) && record.compression() == CompressionMethod::DEFLATE)
        || !packed && record.size() != record.compressed_size()
    {
        return Err(format!(
            "record {name:?} is compressed ({} bytes in the file, {} claimed), and {} stores weights as they \
             are",
            record.compressed_size(),
            record.size(),
            wanted.writer
        ));
    }
    match record.encrypted() {
        true => Err(format!("record {name:?} is encrypted")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stored archive of empty records as PyTorch ends it: with the end of the directory in long words too.
    fn archive(names: &[String]) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for name in names {
            let length = (name.len() as u16).to_le_bytes();
            let offset = (out.len() as u32).to_le_bytes();
            out.extend(
                [b"PK\x03\x04".as_slice(), &[0; 22], &length, &[0; 2], name.as_bytes()].concat(),
            );
            let entry = [b"PK\x01\x02".as_slice(), &[0; 24], &length, &[0; 12], &offset];
            directory.extend([entry.concat().as_slice(), name.as_bytes()].concat());
        }
        let (count, size, at) = (names.len() as u64, directory.len() as u64, out.len() as u64);
        out.extend(&directory);
        let end = out.len() as u64;
        let longs =
            |numbers: &[u64]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
        out.extend(
            [b"PK\x06\x06".as_slice(), &longs(&[44]), &[0; 12], &longs(&[count, count, size, at])]
                .concat(),
        );
        out.extend([b"PK\x06\x07".as_slice(), &[0; 4], &longs(&[end]), &[1, 0, 0, 0]].concat());
        let counts = [(count as u16).to_le_bytes(), (count as u16).to_le_bytes()].concat();
        let places = [(size as u32).to_le_bytes(), (at as u32).to_le_bytes()].concat();
        out.extend([b"PK\x05\x06".as_slice(), &[0; 4], &counts, &places, &[0; 2]].concat());
        out
    }

    #[test]
    fn directories_are_found_whatever_the_length_of_names() {
        let wanted = Wanted { what: "file", writer: "nobody", remedy: "", packed: |_| false };
        for length in 20..44 {
            let names = ["a", "b", "c"].map(|name| format!("x/{name:_<length$}"));
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(&archive(&names)).expect("it is written");
            let found = Archive::open(file.path(), &wanted);
            let found = found.unwrap_or_else(|error| panic!("names of {length}: {error}"));
            assert_eq!(found.records(), names);
        }
    }
}
