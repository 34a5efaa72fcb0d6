//! CSV in DeepSpeed's layout: a file for each tag, whose name has `_` for `/` and blanks.
use super::Sink;
use super::figures::Point;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A folder of CSV files.
pub struct Csv {
    folder: PathBuf,
    /// By tag.
    curves: BTreeMap<String, Curve>,
}

/// One file.
struct Curve {
    file: File,
    /// Rows to be written.
    rows: String,
}

impl Sink for Csv {
    fn begin(folder: &Path, _: u64) -> io::Result<Self> {
        Ok(Csv { folder: folder.to_owned(), curves: BTreeMap::new() })
    }

    fn points(&mut self, points: Vec<Point>) -> io::Result<()> {
        for Point { tag, at, value, .. } in points {
            if !self.curves.contains_key(&tag) {
                let curve = Curve::open(&self.folder, &tag)?;
                self.curves.insert(tag.clone(), curve);
            }
            if let Some(curve) = self.curves.get_mut(&tag) {
                write!(curve.rows, "{at},{value}\r\n").ok();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.curves.values_mut().try_for_each(|curve| {
            curve.file.write_all(curve.rows.as_bytes())?;
            curve.rows.clear();
            Ok(())
        })
    }
}

impl Curve {
    /// Behind what is there; an unfinished row, as a kill leaves one, is taken away.
    fn open(folder: &Path, tag: &str) -> io::Result<Self> {
        let path = folder.join(tag.replace(['/', ' '], "_") + ".csv");
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let end = last_line_end(&mut file)?;
        file.set_len(end)?;
        let header = format!("step,{}\r\n", tag.rsplit('/').next().unwrap_or(tag));
        Ok(Curve { file, rows: if end == 0 { header } else { String::new() } })
    }
}

/// Bytes up to the end of the last whole line.
fn last_line_end(file: &mut File) -> io::Result<u64> {
    const CHUNK: u64 = 256;
    let mut end = file.seek(SeekFrom::End(0))?;
    while end > 0 {
        let begin = end.saturating_sub(CHUNK);
        let mut bytes = vec![0; (end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::figures::Axis;
    use super::*;
    use std::fs;

    fn write(folder: &Path, rows: &[(&str, u64, f64)]) {
        let mut csv = Csv::begin(folder, 0).unwrap();
        let point = |(tag, at, value): &(&str, u64, f64)| Point {
            tag: (*tag).to_owned(),
            axis: Axis::Steps,
            at: *at,
            value: *value,
        };
        csv.points(rows.iter().map(point).collect()).unwrap();
        csv.flush().unwrap();
        csv.flush().unwrap();
    }

    #[test]
    fn a_file_for_each_tag_to_which_a_later_run_adds() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("Train/Samples/lr", 8, 0.5), ("a b", 1, 2.0), ("a b", 2, 1e-7)]);
        let of = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(of("Train_Samples_lr.csv"), "step,lr\r\n8,0.5\r\n");
        assert_eq!(of("a_b.csv"), "step,a b\r\n1,2\r\n2,0.0000001\r\n");
        for torn in ["3,0.00", "3", "3,7\r"] {
            fs::write(folder.path().join("a_b.csv"), format!("step,a b\r\n1,2\r\n{torn}")).unwrap();
            write(folder.path(), &[("a b", 3, f64::NAN)]);
            assert_eq!(of("a_b.csv"), "step,a b\r\n1,2\r\n3,NaN\r\n", "{torn:?}");
        }
        fs::write(folder.path().join("a_b.csv"), "9".repeat(1000)).unwrap();
        write(folder.path(), &[("a b", 3, 1.0)]);
        assert_eq!(of("a_b.csv"), "step,a b\r\n3,1\r\n");
    }
}
