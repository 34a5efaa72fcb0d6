//! CSV in DeepSpeed's layout: a file for each tag, whose name has `_` for `/` and blanks.
use super::Sink;
use super::figures::{OVER_STEPS, Point};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A folder of CSV files.
pub struct Csv {
    folder: PathBuf,
    /// Rows that are there from this run's first one on are its own, of before it went on from an earlier step.
    replaces: bool,
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
    fn begin(folder: &Path, completed: u64, own: bool) -> io::Result<Self> {
        let replaces = own || completed > 0;
        // A curve that the run does not come to write any more ends there, too.
        for entry in fs::read_dir(folder).into_iter().flatten().filter(|_| replaces) {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let over_steps = OVER_STEPS.iter().any(|prefix| name.starts_with(&file_name(prefix)));
            if over_steps && name.ends_with(SUFFIX) {
                let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
                cut_from(&mut file, completed + 1)?;
            }
        }
        Ok(Csv { folder: folder.to_owned(), replaces, curves: BTreeMap::new() })
    }

    fn points(&mut self, points: Vec<Point>) -> io::Result<()> {
        for Point { tag, at, value, .. } in points {
            if !self.curves.contains_key(&tag) {
                let curve = Curve::open(&self.folder, &tag, self.replaces.then_some(at))?;
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
    /// Behind what is there; an unfinished row, as a kill leaves one, is taken away, and so are rows of `from` on.
    fn open(folder: &Path, tag: &str, from: Option<u64>) -> io::Result<Self> {
        let path = folder.join(file_name(tag) + SUFFIX);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        if let Some(from) = from {
            cut_from(&mut file, from)?;
        }
        let end = last_line_end(&mut file)?;
        file.set_len(end)?;
        let header = format!("step,{}\r\n", tag.rsplit('/').next().unwrap_or(tag));
        Ok(Curve { file, rows: if end == 0 { header } else { String::new() } })
    }
}

/// What the files' names end with.
const SUFFIX: &str = ".csv";

/// A tag as the name of a file.
fn file_name(tag: &str) -> String {
    tag.replace(['/', ' '], "_")
}

/// Takes away the last rows, as far as all of them stand at `from` or behind it. Rows of another run are above one
/// that does not.
fn cut_from(file: &mut File, from: u64) -> io::Result<()> {
    file.rewind()?;
    let (mut reader, mut line) = (BufReader::new(&*file), Vec::new());
    let (mut end, mut cut) = (0, None);
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        // Of an unfinished row the step may be cut short.
        if !line.ends_with(b"\n") {
            break;
        }
        let at = line.split(|byte| *byte == b',').next().and_then(|at| str::from_utf8(at).ok());
        cut = match at.and_then(|at| at.parse::<u64>().ok()) {
            Some(at) if at >= from => cut.or(Some(end)),
            _ => None,
        };
        end += line.len() as u64;
    }
    cut.map_or(Ok(()), |end| file.set_len(end))
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

    fn write(folder: &Path, rows: &[(&str, u64, f64)]) {
        write_from(folder, 0, false, rows);
    }

    fn write_from(folder: &Path, completed: u64, own: bool, rows: &[(&str, u64, f64)]) {
        let mut csv = Csv::begin(folder, completed, own).unwrap();
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
    #[test]
    fn a_run_that_goes_on_takes_the_place_of_what_it_repeats() {
        let folder = tempfile::tempdir().unwrap();
        let samples = "Train/Samples/lr";
        let of = |name: &str| {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            text.replace("\r\n", " ")
        };
        let first = [1, 2, 3].map(|step| ("train/loss", step, 9.0));
        let rates = [4, 8, 12].map(|at| (samples, at, 9.0));
        write(folder.path(), &first);
        write(folder.path(), &rates);
        write(folder.path(), &[("validation/loss", 2, 9.0), ("validation/loss", 3, 9.0)]);
        fs::write(folder.path().join("train_notes.csv"), "mine, 3\n").unwrap();
        write_from(folder.path(), 2, false, &[("train/loss", 3, 1.0), (samples, 12, 1.0)]);
        assert_eq!(of("train_loss.csv"), "step,loss 1,9 2,9 3,1 ");
        assert_eq!(of("Train_Samples_lr.csv"), "step,lr 4,9 8,9 12,1 ");
        assert_eq!(of("validation_loss.csv"), "step,loss 2,9 ", "it is not evaluated again");
        assert_eq!(of("train_notes.csv"), "mine, 3\n");
        // Anew: another's folder keeps what it has, the run's own does not.
        write_from(folder.path(), 0, false, &[("train/loss", 1, 2.0)]);
        assert_eq!(of("train_loss.csv"), "step,loss 1,9 2,9 3,1 1,2 ");
        let torn = "step,loss\r\n7,9\r\n1,9\r\n2,9\r\n13,9\r\n1";
        fs::write(folder.path().join("train_loss.csv"), torn).unwrap();
        write_from(folder.path(), 2, false, &[]);
        assert_eq!(of("train_loss.csv"), "step,loss 7,9 1,9 2,9 ", "another run's 7 stays");
        fs::write(folder.path().join("train_loss.csv"), "step,loss\r\n1,9\r\n5,9\r\n").unwrap();
        write_from(folder.path(), 0, true, &[("train/loss", 1, 3.0), (samples, 4, 3.0)]);
        assert_eq!(of("train_loss.csv"), "step,loss 1,3 ");
        assert_eq!(of("Train_Samples_lr.csv"), "step,lr 4,3 ");
        assert_eq!(of("validation_loss.csv"), "step,loss ");
    }
}
