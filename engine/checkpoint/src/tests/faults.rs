//! A save that fails, or whose process dies, at each of its calls.
use super::*;
use crate::{Disk, Sink, SystemDisk};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The call fails, and later ones work.
    Fails,
    /// The call is done in part, and nothing after it.
    Kills,
}

#[derive(Debug)]
struct FaultyDisk {
    fault: Fault,
    /// The call it happens in, counted from 0.
    at: u64,
    calls: Arc<AtomicU64>,
}

/// What becomes of one call.
#[derive(PartialEq)]
enum Turn {
    Works,
    Fails,
    Half,
}

fn turn(fault: Fault, at: u64, calls: &AtomicU64) -> Turn {
    let call = calls.fetch_add(1, Ordering::SeqCst);
    match fault {
        _ if call < at => Turn::Works,
        Fault::Kills if call == at => Turn::Half,
        Fault::Fails if call > at => Turn::Works,
        _ => Turn::Fails,
    }
}

fn full<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::StorageFull))
}

impl FaultyDisk {
    fn call(&self, works: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if turn(self.fault, self.at, &self.calls) == Turn::Works { works() } else { full() }
    }
}

impl Disk for FaultyDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.call(|| SystemDisk.create_folder(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        let mut file = None;
        self.call(|| {
            file = Some(SystemDisk.create(path)?);
            Ok(())
        })?;
        let (fault, at, calls) = (self.fault, self.at, self.calls.clone());
        let sink = FaultySink { file: file.expect("it was made"), fault, at, calls };
        Ok(Box::new(sink))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call(|| SystemDisk.sync_folder(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|| SystemDisk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if turn(self.fault, self.at, &self.calls) == Turn::Half {
            // The first of its files are gone.
            for name in names(path).iter().take(2) {
                std::fs::remove_file(path.join(name))?;
            }
            return full();
        }
        match self.fault == Fault::Kills && self.calls.load(Ordering::SeqCst) > self.at {
            true => full(),
            false => SystemDisk.remove(path),
        }
    }
}

struct FaultySink {
    file: Box<dyn Sink>,
    fault: Fault,
    at: u64,
    calls: Arc<AtomicU64>,
}

impl Write for FaultySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match turn(self.fault, self.at, &self.calls) {
            Turn::Works => self.file.write(bytes),
            Turn::Fails => full(),
            Turn::Half => {
                self.file.write_all(&bytes[..bytes.len() / 2])?;
                full()
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for FaultySink {
    fn sync(&mut self) -> io::Result<()> {
        if turn(self.fault, self.at, &self.calls) == Turn::Works {
            self.file.sync()
        } else {
            full()
        }
    }
}

/// The third of three saves, of which one stays, of another step or of the second one's again: every call of writing,
/// naming and removing is in it.
fn each_call(fault: Fault, of_step: u64) {
    let (first, third) = (tempfile::tempdir().unwrap(), snapshot(of_step));
    drop(saved(first.path(), &[1, 2], 1));
    let mut worked = 0;
    for at in 0.. {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(first.path(), folder.path());
        let calls = Arc::new(AtomicU64::new(0));
        let disk = Arc::new(FaultyDisk { fault, at, calls: calls.clone() });
        let keep = Keep { last: 1, ..Keep::default() };
        let mut checkpoints = Checkpoints::over(folder.path(), keep, disk).unwrap();
        let outcome = checkpoints.save(&third);
        if calls.load(Ordering::SeqCst) <= at {
            assert!(outcome.is_ok(), "{outcome:?}");
            assert!(at > 25, "only {at} calls");
            assert!(worked > 0, "no call behind the commit was tried");
            return;
        }
        let step = newest_step(folder.path());
        assert!(step == Some(2) || step == Some(of_step), "{fault:?} in call {at}: {step:?}");
        match &outcome {
            // Taking away what is no longer needed may fail: what was asked for is there.
            Ok(_) => assert_eq!(step, Some(of_step), "{fault:?} in call {at}"),
            Err(error) => {
                let error = error.to_string();
                let said = format!("cannot write {}", folder.path().display());
                assert!(error.starts_with(&said), "{error}");
                worked += u64::from(step == Some(of_step));
            }
        }
        if fault == Fault::Fails && step == Some(2) && of_step == 3 {
            let left = names(folder.path());
            assert_eq!(left, ["latest", "step-2"], "a failed save leaves nothing, call {at}");
        }
        // Whoever comes next cleans up, and saves.
        let keep = Keep { last: 1, ..Keep::default() };
        let mut next = Checkpoints::claim(folder.path(), keep).unwrap();
        next.save(&snapshot(4)).unwrap();
        drop(next);
        assert_eq!(newest_step(folder.path()), Some(4));
        assert_eq!(names(folder.path()), ["latest", "step-4"], "{fault:?} in call {at}");
    }
}

#[test]
fn a_save_that_fails_at_any_call_leaves_the_one_before() {
    [3, 2].into_iter().for_each(|step| each_call(Fault::Fails, step));
}

#[test]
fn a_save_that_is_killed_at_any_call_leaves_the_one_before() {
    [3, 2].into_iter().for_each(|step| each_call(Fault::Kills, step));
}
