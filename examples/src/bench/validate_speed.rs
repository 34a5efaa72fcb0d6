//! What `trainyard validate` takes, start of the program and loading of libtorch included.
use super::setting::Setting;
use super::{Benchmark, Figure, Target};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use tracing::info;
use trainyard::BoxError;
use trainyard_figures::statistics::{bootstrap, median};
use trainyard_models::pretraining::shipped;

pub(super) const VALIDATE_ONE_MS: Benchmark = Benchmark {
    name: "validate_one_ms",
    about: "time of `trainyard validate` on one file",
    unit: "ms",
    target: Target::AtMost(300.0),
    run: one,
};

pub(super) const VALIDATE_MANY_MS_PER_FILE: Benchmark = Benchmark {
    name: "validate_many_ms_per_file",
    about: "time that `trainyard validate` takes for each further file",
    unit: "ms",
    target: Target::AtMost(5.0),
    run: many,
};

/// Files of a call with many.
const FILES: usize = 400;

fn one(setting: &Setting) -> Result<Figure, BoxError> {
    info!("trainyard validate, one file");
    let (program, files) = (program()?, files()?);
    let (mut times, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..setting.effort.repetitions {
        times.push(milliseconds(&program, "validate", &files[..1])?);
        bare.push(milliseconds(&program, "--help", &[])?);
    }
    let bare = median(bare.iter().copied());
    let detail = format!(
        "one start each; in turns with {bare:.0} ms for --help, which loads libtorch alone"
    );
    Ok(figure(&times, detail))
}

fn many(setting: &Setting) -> Result<Figure, BoxError> {
    info!("trainyard validate, {FILES} files");
    let (program, files) = (program()?, files()?);
    let all: Vec<_> = files.iter().cycle().take(FILES).cloned().collect();
    let further = || -> Result<f64, BoxError> {
        let more = milliseconds(&program, "validate", &all)?
            - milliseconds(&program, "validate", &all[..1])?;
        Ok(more / (FILES - 1) as f64)
    };
    let times: Result<Vec<f64>, _> =
        (0..setting.effort.repetitions.div_ceil(3)).map(|_| further()).collect();
    Ok(figure(&times?, format!("{FILES} files in one call less one file in another")))
}

fn figure(times: &[f64], detail: String) -> Figure {
    let value = median(times.iter().copied());
    let interval = bootstrap(times, |times| median(times.iter().copied()));
    Figure {
        value,
        interval,
        settled: true,
        detail: format!("median of {}; {detail}", times.len()),
    }
}

/// The configurations of the program's tests, good ones and bad ones.
fn files() -> Result<Vec<PathBuf>, BoxError> {
    let folder = shipped("../engine/cli/tests/deepspeed");
    let entries: Result<Vec<_>, _> = fs::read_dir(folder)?.collect();
    let paths = entries?.into_iter().map(|entry| entry.path());
    let json = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let mut paths: Vec<_> = paths.filter(json).collect();
    paths.sort();
    Ok(paths)
}

/// How long the program takes, whatever it finds.
fn milliseconds(program: &Path, task: &str, files: &[PathBuf]) -> Result<f64, BoxError> {
    let mut command = Command::new(program);
    command.arg(task).args(files).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status()?;
    let taken = began.elapsed().as_secs_f64() * 1e3;
    match status.code() {
        Some(0 | 1) => Ok(taken),
        _ => Err(format!("{} {task} ended with {status}", program.display()).into()),
    }
}

/// The program that was built beside this one.
fn program() -> Result<PathBuf, BoxError> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).map(|folder| folder.join("trainyard"));
    let found = folders.into_iter().find(|program| program.is_file());
    let built = "`cargo build --bin trainyard` makes it";
    Ok(found.ok_or_else(|| format!("there is no trainyard beside {}; {built}", own.display()))?)
}
