//! What the monitors write in a run of the program.
use crate::{configuration, folder, program, trainyard, write};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A folder whose run has both monitors.
fn monitored() -> tempfile::TempDir {
    let folder = folder();
    let mut config = configuration();
    config["tensorboard"] = json!({ "enabled": true });
    config["csv_monitor"] = json!({ "enabled": true, "output_path": "logs", "job_name": "a" });
    write(folder.path(), "run.json", &config.to_string());
    folder
}

/// Event files right in a folder.
fn event_files(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.file_name().to_string_lossy().contains("tfevents"));
    files.map(|entry| fs::read(entry.path()).expect("a file")).collect()
}

/// Whole records of an event file.
fn records(mut bytes: &[u8]) -> usize {
    let mut records = 0;
    while let Some((length, _)) = bytes.split_first_chunk() {
        let length = u64::from_le_bytes(*length) as usize;
        let Some((_, rest)) = bytes.split_at_checked(length + 16) else { break };
        (bytes, records) = (rest, records + 1);
    }
    records
}

#[test]
fn monitors_have_the_figures_of_the_log() {
    let folder = monitored();
    let path = folder.path();
    let ran = trainyard(path, &["train", "--config", "run.json", "--output", "out"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert!(
        ran.stderr.contains("tensorboard: figures as event files in `tensorboard` of"),
        "{ran:#?}"
    );
    let log = fs::read_to_string(path.join("out/steps.jsonl")).expect("a log");
    let losses = log.lines().enumerate().map(|(step, line)| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        format!("{},{}\r\n", step + 1, line["loss"])
    });
    let csv = fs::read_to_string(path.join("logs/a/train_loss.csv")).expect("a curve");
    assert_eq!(csv, "step,loss\r\n".to_owned() + &losses.collect::<String>());
    let [steps] = &event_files(&path.join("out/tensorboard/steps"))[..] else { panic!("no file") };
    assert!(records(steps) > 6 * 5, "{}", records(steps));
    let [samples] = &event_files(&path.join("out/tensorboard"))[..] else { panic!("no file") };
    assert_eq!(records(samples), 2 + 6 * 2, "rate and loss");
}

#[test]
fn the_first_rank_writes() {
    let folder = monitored();
    let ours = env!("CARGO_BIN_EXE_trainyard");
    let launch = ["launch", "--nproc-per-node", "2", "--", ours, "train", "--config", "run.json"];
    let ran = trainyard(folder.path(), &[&launch[..], &["--output", "out"]].concat());
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_eq!(event_files(&folder.path().join("out/tensorboard")).len(), 1);
    let csv = fs::read_to_string(folder.path().join("logs/a/train_loss.csv")).expect("a curve");
    assert_eq!(csv.lines().count(), 7, "{csv}");
}

#[test]
fn a_run_that_is_killed_leaves_what_it_did() {
    let folder = monitored();
    let arguments = ["train", "--config", "run.json", "--output", "out", "--steps", "1000000"];
    let mut run = program(folder.path(), &arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let steps = folder.path().join("out/tensorboard/steps");
    let began = Instant::now();
    let left = loop {
        let left = event_files(&steps).first().map_or(0, |file| records(file));
        if left > 30 {
            break left;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{left} records");
        sleep(Duration::from_millis(20));
    };
    kill_process(Pid::from_child(&run), Signal::KILL).expect("it runs");
    run.wait().expect("it ended");
    assert!(records(&event_files(&steps)[0]) >= left);
}

#[test]
fn a_folder_that_cannot_be_is_told_before_the_first_step() {
    let folder = monitored();
    write(folder.path(), "logs", "a file");
    let ran = trainyard(folder.path(), &["train", "--config", "run.json", "--output", "out"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("csv_monitor cannot write to logs/a: "), "{ran:#?}");
    let log = fs::read_to_string(folder.path().join("out/steps.jsonl")).expect("a log");
    assert_eq!(log, "");
}
