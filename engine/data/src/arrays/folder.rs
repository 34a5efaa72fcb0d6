//! The files of a folder as columns.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::SafeTensors;

use super::column::{Column, Element, Part};
use super::config::{ArrayConfig, TokenType};
use super::npy;
use crate::{Error, Result, file};

const WHAT: &str = "data file";

/// The columns of one folder, by name, all with as many rows.
#[derive(Clone)]
pub(super) struct Table {
    pub columns: BTreeMap<String, Column>,
    pub rows: usize,
}

/// What a file says of an array, before it is held against the file.
struct Found {
    name: String,
    element: Element,
    shape: Vec<usize>,
    offset: usize,
}

impl Table {
    /// Maps the files of `folder`.
    ///
    /// # Errors
    /// A file cannot be read, or is not what its name says; arrays do not have as many rows; there are
    /// none.
    pub fn open(folder: &Path, config: &ArrayConfig) -> Result<Self> {
        let mut columns = BTreeMap::<String, Column>::new();
        for path in files(folder)? {
            for column in read(&path, config)? {
                merge(&mut columns, column)?;
            }
        }
        let bad = |problem| Error::DataFolder { path: folder.into(), problem };
        let Some(first) = columns.values().next() else {
            return Err(bad("has no .npy, .bin or .safetensors file".to_owned()));
        };
        let (name, rows) = (first.name.clone(), first.rows());
        if let Some(other) = columns.values().find(|column| column.rows() != rows) {
            let (other, others) = (&other.name, other.rows());
            return Err(bad(format!(
                "has {rows} samples of `{name}` and {others} of `{other}`; each sample needs both"
            )));
        }
        Ok(Table { columns, rows })
    }
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

/// Adds a column, behind the one of its name that an earlier file had.
fn merge(columns: &mut BTreeMap<String, Column>, column: Column) -> Result<()> {
    let Some(before) = columns.get_mut(&column.name) else {
        columns.insert(column.name.clone(), column);
        return Ok(());
    };
    let (path, earlier) = (&column.parts[0].path, &before.parts[0].path);
    let bad = |problem| Err(Error::DataFile { path: path.clone(), problem });
    let sharded = |path: &Path| path.extension().is_some_and(|e| e == "safetensors");
    let name = &column.name;
    if !sharded(path) || !sharded(earlier) {
        return bad(format!("holds `{name}`, and so does {earlier:?}; keep one"));
    }
    if (column.element, &column.item) != (before.element, &before.item) {
        return bad(format!(
            "holds `{name}` as {:?} of {:?} a sample, and {earlier:?} as {:?} of {:?}",
            column.element, column.item, before.element, before.item
        ));
    }
    before.parts.extend(column.parts);
    Ok(())
}

/// The columns of one file.
fn read(path: &Path, config: &ArrayConfig) -> Result<Vec<Column>> {
    let bad = |problem| Error::DataFile { path: path.into(), problem };
    let opened = file::open(path, WHAT)?;
    // SAFETY: the bytes are only read, as plain numbers, and copied before anything depends on them. That
    // nobody changes the file meanwhile is asked of the user: a file that is cut ends the program.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&opened) }.map_err(|source| Error::Read {
        what: WHAT,
        path: path.into(),
        source,
    })?;
    let map = Arc::new(map);
    let extension = path.extension().and_then(|extension| extension.to_str());
    let found = match extension {
        Some("safetensors") => of_safetensors(&map).map_err(bad)?,
        Some("npy") => {
            let header = npy::header(&map).map_err(bad)?;
            let (element, shape, offset) = (header.element, header.shape, header.data);
            vec![Found { name: stem(path)?, element, shape, offset }]
        }
        _ => {
            let element = match config.token_type {
                TokenType::Uint16 => Element::U16,
                TokenType::Uint32 => Element::U32,
            };
            if config.sequence_length.is_none() {
                let problem = "is a stream of tokens: set sequence_length";
                return Err(bad(problem.to_owned()));
            }
            let (bytes, length) = (element.bytes(), map.len());
            if length % bytes != 0 {
                let problem = format!("is {length} bytes long, which is no multiple of {bytes}");
                return Err(bad(problem));
            }
            vec![Found { name: stem(path)?, element, shape: vec![length / bytes], offset: 0 }]
        }
    };
    found.into_iter().map(|found| column(path, &map, found, config).map_err(bad)).collect()
}

/// The name of an input: the file's, without its extension.
fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let problem = "has a name that is not UTF-8, and it should be the name of an input".to_owned();
    stem.ok_or_else(|| Error::DataFile { path: path.into(), problem })
}

fn of_safetensors(map: &[u8]) -> Result<Vec<Found>, String> {
    let read = SafeTensors::read_metadata(map);
    let (header, metadata) = read.map_err(|e| format!("is not a whole safetensors file: {e}"))?;
    let tensors = metadata.tensors();
    let mut found = Vec::new();
    for (name, info) in tensors {
        let element = Element::of_safetensors(info.dtype);
        let element = element.map_err(|problem| format!("holds `{name}`, which {problem}"))?;
        let offset = 8 + header + info.data_offsets.0;
        found.push(Found { name, element, shape: info.shape.clone(), offset });
    }
    Ok(found)
}

/// Holds what a file says of an array against the file.
fn column(
    path: &Path,
    map: &Arc<Mmap>,
    found: Found,
    config: &ArrayConfig,
) -> Result<Column, String> {
    let Found { name, element, shape, offset } = found;
    let Some((&first, rest)) = shape.split_first() else {
        return Err(format!(
            "holds `{name}` as a single number; the first axis counts the samples"
        ));
    };
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    let end = count.and_then(|n| n.checked_mul(element.bytes())?.checked_add(offset));
    let length = map.len();
    match end {
        Some(end) if end <= length => {}
        _ => {
            return Err(format!(
                "claims {shape:?} numbers of {} bytes for `{name}`, and is {length} bytes long",
                element.bytes()
            ));
        }
    }
    if count == Some(0) {
        return Err(format!("holds `{name}` of {shape:?}, which is nothing"));
    }
    let (rows, item) = match config.sequence_length {
        Some(length) if rest.is_empty() && element.is_integer() => (first / length, vec![length]),
        _ => (first, rest.to_vec()),
    };
    if rows == 0 {
        return Err(format!(
            "has {first} tokens, which is less than one sequence_length = {item:?}"
        ));
    }
    let item = item.into_iter().map(|size| size as i64).collect();
    let part = Part { path: path.into(), map: map.clone(), offset, rows };
    Ok(Column { name, element, item, parts: vec![part] })
}
