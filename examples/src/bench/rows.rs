//! `target/bench.json`: one row for each benchmark, of its latest run.
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::{fs, io};
use trainyard::BoxError;

/// What a benchmark found, as the file has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the benchmark.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// Unit of `value` and `target`.
    pub unit: String,
    /// What the value is held to: `<= 0.01`.
    pub target: String,
    /// Whether it meets the target.
    pub holds: bool,
    /// What measures it anew.
    pub command: String,
    /// Its 95 % interval and what it is made of, for people.
    pub detail: String,
    /// Half the width of the 95 % interval, for the table; 0 in a row that was read.
    #[serde(skip)]
    pub spread: f64,
}

/// The rows of an earlier run; none if the file is not there. Its folder is, afterwards.
///
/// # Errors
/// If it cannot be read or is not such a file, or the folder cannot be made.
pub fn open(path: &Path) -> Result<Vec<Row>, BoxError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|e| format!("cannot read {}: {e}", path.display()))?,
    };
    let rows = serde_json::from_str(&text);
    let advice = "remove it, or name another file with --out";
    Ok(rows
        .map_err(|e| format!("{} is not a list of benchmarks ({e}); {advice}", path.display()))?)
}

/// Writes `rows`, all of them or nothing, in place of an earlier file.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, rows: &[Row]) -> Result<(), BoxError> {
    let write = || {
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_string_pretty(rows)? + "\n")?;
        fs::rename(&new, path)
    };
    write().map_err(|e| format!("cannot write {}: {e}", path.display()).into())
}

/// `earlier` with `row` in the place of the one of its name, or behind the others.
pub fn put(earlier: &mut Vec<Row>, row: Row) {
    match earlier.iter_mut().find(|other| other.name == row.name) {
        Some(place) => *place = row,
        None => earlier.push(row),
    }
}
