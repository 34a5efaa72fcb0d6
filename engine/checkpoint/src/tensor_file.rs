//! A file of safetensors that is read one tensor at a time.
use crate::error::{Error, Result};
use crate::tensors;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};
use trainyard::BoxError;

/// Bytes of the length that a file begins with.
const LENGTH_BYTES: u64 = 8;

/// Bytes of a header that are read at most, as the format says.
const MOST_HEADER_BYTES: u64 = 100_000_000;

/// A file of safetensors. Its header is in memory; the tensors are read when they are asked for.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    /// Where the tensors' bytes begin.
    data: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

/// What a file says of one of its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described<'a> {
    /// Its name.
    pub name: &'a str,
    /// As the format names it: `F32`.
    pub dtype: safetensors::Dtype,
    /// Its sizes.
    pub shape: &'a [usize],
    /// Bytes of its elements.
    pub bytes: usize,
}

impl Described<'_> {
    /// The type as libtorch has it, if it has.
    pub fn kind(&self) -> Option<Kind> {
        tensors::kind(self.dtype)
    }

    /// The sizes as libtorch has them.
    pub fn size(&self) -> Vec<i64> {
        self.shape.iter().map(|&size| size as i64).collect()
    }
}

impl TensorFile {
    /// Reads the header and holds it against the file: every tensor has its bytes, and they are no others'.
    ///
    /// # Errors
    /// The file cannot be read, or is none of safetensors.
    pub fn open(path: &Path) -> Result<Self> {
        let read = |error| Error::read(path, error);
        let file = File::open(path).map_err(read)?;
        let about = file.metadata().map_err(read)?;
        if !about.is_file() {
            return Err(Error::file(path, "it is no file"));
        }
        let bytes = about.len();
        let mut start = [0; 64];
        let known = usize::try_from(bytes).unwrap_or(start.len()).min(start.len());
        file.read_exact_at(&mut start[..known], 0).map_err(read)?;
        let length = start.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if bytes < LENGTH_BYTES || length > (bytes - LENGTH_BYTES).min(MOST_HEADER_BYTES) {
            if let Some(what) = other_format(&start) {
                return Err(Error::file(path, what));
            }
            let why = format!(
                "it is no whole file of safetensors: it has {bytes} bytes, and {} for its header, as its \
                 first {LENGTH_BYTES} say",
                if bytes < LENGTH_BYTES { "needs more".to_owned() } else { length.to_string() }
            );
            return Err(Error::file(path, why));
        }
        let mut header = vec![0; length as usize];
        file.read_exact_at(&mut header, LENGTH_BYTES).map_err(read)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| Error::file(path, format!("its header is damaged: {e}")))?;
        let (said, has) = (header.data_len() as u64, bytes - LENGTH_BYTES - length);
        if said != has {
            let why = format!(
                "it is not whole: its tensors take {said} bytes, and {has} follow its header"
            );
            return Err(Error::file(path, why));
        }
        let tensors = header.tensors().into_iter().map(|(name, info)| (name, info.clone()));
        let (path, tensors) = (path.to_owned(), tensors.collect());
        Ok(TensorFile { path, file, data: LENGTH_BYTES + length, tensors })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = Described<'_>> {
        self.tensors.iter().map(|(name, info)| described(name, info))
    }

    /// What it says of the tensor called `name`.
    pub fn get(&self, name: &str) -> Option<Described<'_>> {
        self.tensors.get_key_value(name).map(|(name, info)| described(name, info))
    }

    /// The tensor called `name`, on the CPU.
    ///
    /// # Errors
    /// There is none, it is of a type that libtorch has not, or it cannot be read.
    pub fn read(&self, name: &str) -> Result<Tensor> {
        let Some(info) = self.tensors.get(name) else {
            return Err(Error::file(&self.path, format!("it has no tensor `{name}`")));
        };
        let (begin, end) = info.data_offsets;
        let mut bytes = Vec::new();
        let room = bytes.try_reserve_exact(end - begin).map_err(|_| io::ErrorKind::OutOfMemory);
        room.map_err(|kind| Error::read(&self.path, kind.into()))?;
        bytes.resize(end - begin, 0);
        let read = self.file.read_exact_at(&mut bytes, self.data + begin as u64);
        read.map_err(|error| Error::read(&self.path, error))?;
        let tensor = tensors::from_bytes(name, info.dtype, &info.shape, &bytes);
        tensor.map_err(|error| Error::file(&self.path, error.to_string()))
    }
}

/// Writes tensors as a file of safetensors, one after the other, with texts by name that other programs may ask for.
///
/// # Errors
/// A tensor is of a type that the format has not; it cannot be written.
pub fn write_tensors(
    tensors: &[(&str, &Tensor)],
    metadata: Option<HashMap<String, String>>,
    to: &mut dyn Write,
) -> std::result::Result<(), BoxError> {
    let header = tensors::header_with(tensors.iter().copied(), metadata)?;
    to.write_all(&header.bytes)?;
    let mut bytes = Vec::new();
    for (_, tensor) in tensors {
        bytes.resize(tensors::bytes_of(tensor), 0);
        tensors::copy_to(tensor, &mut bytes)?;
        to.write_all(&bytes)?;
    }
    Ok(())
}

fn described<'a>(name: &'a str, info: &'a TensorInfo) -> Described<'a> {
    let (begin, end) = info.data_offsets;
    Described { name, dtype: info.dtype, shape: &info.shape, bytes: end - begin }
}

/// What a file is that begins like this, and what to do, where it is one that is often found in the place of
/// safetensors.
fn other_format(start: &[u8]) -> Option<&'static str> {
    if start.starts_with(b"version https://git-lfs") {
        return Some("it is a pointer of Git LFS in place of the file: `git lfs pull` brings that");
    }
    // An archive of torch.save, or its older format.
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"\x80\x02\x8a\x0a") {
        return Some(
            "it holds pickled objects, which are not read: write it with safetensors.torch.save_file",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tch::Device;

    fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    fn of_header(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    #[test]
    fn tensors_are_read_one_by_one() {
        let of = |from: f64| Tensor::arange_start(from, from + 6.0, (Kind::Float, Device::Cpu));
        let tensors = [("b".to_owned(), of(0.0).view([2, 3])), ("a".to_owned(), of(6.0))];
        let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        let mut bytes = Vec::new();
        write_tensors(&named, Some(metadata), &mut bytes).unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains(r#""__metadata__":{"format":"pt"}"#));
        let (_folder, path) = file(&bytes);
        let read = TensorFile::open(&path).unwrap();
        let names: Vec<_> = read.tensors().map(|t| (t.name, t.size(), t.kind(), t.bytes)).collect();
        let float = Some(Kind::Float);
        assert_eq!(names, [("a", vec![6], float, 24), ("b", vec![2, 3], float, 24)]);
        assert_eq!(read.get("b").unwrap().size(), [2, 3]);
        for (name, tensor) in &tensors {
            assert!(read.read(name).unwrap().equal(tensor));
        }
        let error = read.read("c").unwrap_err().to_string();
        assert!(error.ends_with("a.safetensors: it has no tensor `c`"), "{error}");
    }

    /// Whatever a file claims, what is wrong is a sentence, and nothing of the claimed size is allocated.
    #[test]
    fn files_that_are_none() {
        let tensor = |shape: &str, begin: u64, end: u64| {
            let name = format!("t{begin}");
            format!(r#""{name}": {{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
        };
        let object = |tensors: &[String]| format!("{{{}}}", tensors.join(","));
        let huge = object(&[tensor("[1099511627776]", 0, 4_398_046_511_104)]);
        let overlap = object(&[tensor("[2]", 0, 8), tensor("[2]", 4, 12)]);
        let short = object(&[tensor("[2]", 0, 8)]);
        let wrong = object(&[tensor("[3]", 0, 8)]);
        for (content, says) in [
            (vec![], "it has 0 bytes"),
            (b"abc".to_vec(), "it has 3 bytes"),
            (u64::MAX.to_le_bytes().to_vec(), "18446744073709551615 for its header"),
            ((1u64 << 40).to_le_bytes().repeat(3), "it has 24 bytes"),
            (of_header("[1, 2]", 0), "its header is damaged"),
            (of_header(r#"{"a": 3}"#, 0), "its header is damaged"),
            (of_header(&huge, 8), "its tensors take 4398046511104 bytes, and 8 follow"),
            (of_header(&overlap, 12), "its header is damaged"),
            (of_header(&wrong, 8), "its header is damaged"),
            (of_header(&short, 7), "its tensors take 8 bytes, and 7 follow"),
            (of_header(&short, 9), "its tensors take 8 bytes, and 9 follow"),
            (b"version https://git-lfs.github.com/spec/v1\noid".to_vec(), "git lfs pull"),
            (b"PK\x03\x04 and so on".to_vec(), "pickled"),
        ] {
            let (_folder, path) = file(&content);
            let error = TensorFile::open(&path).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("a.safetensors"), "{says}: {error}");
        }
        let (folder, _) = file(b"");
        let error = TensorFile::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("it is no file"), "{error}");
    }

    #[test]
    fn types_that_libtorch_has_not_are_named() {
        let header = r#"{"a": {"dtype":"F8_E5M2","shape":[4],"data_offsets":[0,4]}}"#;
        let (_folder, path) = file(&of_header(header, 4));
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.get("a").unwrap().kind(), None);
        let error = file.read("a").unwrap_err().to_string();
        assert!(error.ends_with("`a` is of type F8_E5M2, which is not read"), "{error}");
    }
}
