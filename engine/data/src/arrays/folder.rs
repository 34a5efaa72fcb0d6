//! The files of a folder as columns.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::SafeTensors;

use super::column::{Column, Element, Part};
use super::config::ArrayConfig;
use super::layout::{Files, STREAM};
use super::npy;
use super::stream::{self, Stream};
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
    /// Maps the files.
    ///
    /// # Errors
    /// A file cannot be read, or is not what its name says; inputs do not have the same samples; there
    /// are none.
    pub fn open(files: &Files, config: &ArrayConfig) -> Result<Self> {
        let mut columns = BTreeMap::<String, Column>::new();
        for path in &files.paths {
            let name = files.one_stream.then(|| STREAM.to_owned());
            let name = name.map_or_else(|| stem(path), Ok)?;
            for column in read(path, name, config)? {
                merge(&mut columns, column, files.one_stream)?;
            }
        }
        let bad = |problem| Error::DataFolder { path: files.folder.clone(), problem };
        if let Some(empty) = columns.values().find(|column| column.rows() == 0) {
            return Err(Error::DataFile {
                path: empty.parts[0].path.clone(),
                problem: nothing(empty, config),
            });
        }
        let Some(first) = columns.values().next() else {
            return Err(bad("has no .npy, .bin or .safetensors file".to_owned()));
        };
        let rows = first.rows();
        if let Some(problem) = unpaired(&columns) {
            return Err(bad(problem));
        }
        Ok(Table { columns, rows })
    }
}

/// What is wrong with a column without a sample, as the end of a sentence on its first file.
fn nothing(column: &Column, config: &ArrayConfig) -> String {
    let Column { name, item, parts, .. } = column;
    let others = match parts.len() {
        1 => String::new(),
        more => format!(", and neither do the {} files behind it", more - 1),
    };
    match config.sequence_length {
        Some(length) if item[..] == [length as i64] => {
            format!("has fewer tokens of `{name}` than one sequence_length = {length}{others}")
        }
        _ => format!("holds no sample of `{name}`{others}"),
    }
}

/// Why the rows of the columns do not belong together, as the end of a sentence on the folder.
fn unpaired(columns: &BTreeMap<String, Column>) -> Option<String> {
    // A file's inputs are those of the same samples.
    let mut files = BTreeMap::<&Path, (&str, &Part)>::new();
    for column in columns.values() {
        for part in &column.parts {
            let Some((name, other)) = files.insert(part.path.as_path(), (&column.name, part))
            else {
                continue;
            };
            if (other.first, other.rows) != (part.first, part.rows) {
                return Some(format!(
                    "has {} of `{name}` and {} of `{}` in {:?}; a file has the same samples of each of its inputs",
                    samples(other),
                    samples(part),
                    column.name,
                    part.path.file_name().unwrap_or_default()
                ));
            }
        }
    }
    // The first of them.
    let longest = columns.values().rev().max_by_key(|column| column.parts.len())?;
    for column in columns.values() {
        let (name, other) = (&longest.name, &column.name);
        let (rows, others) = (longest.rows(), column.rows());
        if rows != others {
            return Some(format!(
                "has {rows} samples of `{name}` and {others} of `{other}`; each sample needs both"
            ));
        }
        let sizes = |column: &Column| -> Vec<usize> {
            column.parts.iter().map(|part| part.rows).filter(|&rows| rows > 0).collect()
        };
        if column.parts.len() > 1 && sizes(column) != sizes(longest) {
            return Some(format!(
                "has files of {:?} samples of `{name}` and of {:?} of `{other}`: which of them belong together? Write both into the same files",
                sizes(longest),
                sizes(column)
            ));
        }
    }
    None
}

/// Which samples a part has.
fn samples(part: &Part) -> String {
    match part.rows {
        0 => "no sample".to_owned(),
        rows => format!("samples {} to {}", part.first, part.first + rows - 1),
    }
}

/// Adds a column, behind the one of its name that an earlier file had.
fn merge(columns: &mut BTreeMap<String, Column>, column: Column, one_stream: bool) -> Result<()> {
    let Some(before) = columns.get_mut(&column.name) else {
        columns.insert(column.name.clone(), column);
        return Ok(());
    };
    let (path, earlier) = (&column.parts[0].path, &before.parts[0].path);
    let bad = |problem| Err(Error::DataFile { path: path.clone(), problem });
    let sharded = |path: &Path| one_stream || path.extension().is_some_and(|e| e == "safetensors");
    let name = &column.name;
    if !sharded(path) || !sharded(earlier) {
        return bad(format!("holds `{name}`, and so does {earlier:?}; keep one"));
    }
    // An empty file's type and sizes say nothing.
    if before.rows() == 0 {
        (before.element, before.item) = (column.element, column.item.clone());
    }
    match before.element.joined(column.element) {
        _ if column.rows() == 0 => {}
        Some(element) if column.item == before.item => before.element = element,
        _ => {
            return bad(format!(
                "holds `{name}` as {:?} of {:?} a sample, and {earlier:?} as {:?} of {:?}",
                column.element, column.item, before.element, before.item
            ));
        }
    }
    let first = before.rows();
    before.parts.extend(column.parts.into_iter().map(|part| Part { first, ..part }));
    Ok(())
}

/// The columns of one file.
fn read(path: &Path, name: String, config: &ArrayConfig) -> Result<Vec<Column>> {
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
            vec![Found { name, element, shape, offset }]
        }
        _ => {
            if config.sequence_length.is_none() {
                let problem = "is a stream of tokens: set sequence_length";
                return Err(bad(problem.to_owned()));
            }
            let Stream { element, offset, count, doubtful } =
                stream::found(&map, config.token_type).map_err(bad)?;
            if doubtful {
                tracing::warn!(
                    "{} looks like ids of uint32, and is read as uint16",
                    path.display()
                );
            }
            vec![Found { name, element, shape: vec![count], offset }]
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
    if rest.contains(&0) {
        return Err(format!("holds `{name}` of {shape:?}, which is nothing"));
    }
    let (rows, item) = match config.sequence_length {
        Some(length) if rest.is_empty() && element.is_integer() => (first / length, vec![length]),
        _ => (first, rest.to_vec()),
    };
    let item = item.into_iter().map(|size| size as i64).collect();
    let part = Part { path: path.into(), map: map.clone(), element, offset, first: 0, rows };
    Ok(Column { name, element, item, parts: vec![part] })
}
