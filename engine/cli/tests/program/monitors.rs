//! What the monitors write in a run of the program.
use crate::{checkout, configuration, folder, program, python, trainyard, write};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
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
    let [losses, evaluations] = logged(&path.join("out"));
    assert_eq!((losses.len(), evaluations.len()), (6, 2));
    let losses = losses.iter().map(|(step, loss)| format!("{step},{loss}\r\n"));
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

/// The run's log: the places of its steps and of its evaluations among the completed ones, with their losses.
fn logged(out: &Path) -> [Vec<(u64, f64)>; 2] {
    let log = fs::read_to_string(out.join("steps.jsonl")).expect("a log");
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    ["loss", "validation_loss"].map(|key| {
        let of =
            lines.iter().filter_map(|line| Some((line["step"].as_u64()?, line[key].as_f64()?)));
        of.map(|(step, loss)| (step + u64::from(key == "loss"), loss)).collect()
    })
}

/// Starts a run without an end, and waits until it has an evaluation behind `step`.
fn run_beyond(folder: &Path, step: u64) -> Child {
    let arguments = ["train", "--config", "run.json", "--output", "out", "--steps", "1000000"];
    let files = || event_files(&folder.join("out/tensorboard/steps")).len();
    let before = files();
    let mut command = program(folder, &arguments);
    let run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let run = run.expect("the program starts");
    let began = Instant::now();
    let log = || fs::read_to_string(folder.join("out/steps.jsonl")).unwrap_or_default();
    // Until it has a file of its own, the log is that of before. A figure is handed to the system with the
    // evaluation behind it.
    while files() == before
        || !log().lines().any(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            line.get("validation_loss").is_some() && line["step"].as_u64() > Some(step)
        })
    {
        assert!(began.elapsed() < Duration::from_secs(120), "{}", log());
        sleep(Duration::from_millis(20));
    }
    run
}

/// A run that is killed and goes on from a checkpoint far behind, is stopped, goes on and ends: TensorBoard and the
/// CSV files have each step once, and the value that the log has.
#[test]
fn a_run_that_goes_on_shows_each_step_once() {
    let folder = folder();
    let (path, out) = (folder.path(), folder.path().join("out"));
    let mut config = configuration();
    config["tensorboard"] = json!({ "enabled": true });
    config["csv_monitor"] = json!({ "enabled": true });
    config["progressive_layer_drop"]["gamma"] = json!(0.01);
    config["checkpoint"] = json!({ "every_steps": 10, "keep_every": 10 });
    write(path, "run.json", &config.to_string());
    let signal = |run: &Child, signal| {
        kill_process(Pid::from_child(run), signal).expect("it runs");
    };

    let mut run = run_beyond(path, 24);
    signal(&run, Signal::KILL);
    run.wait().expect("it ended");
    for entry in fs::read_dir(out.join("checkpoints")).expect("checkpoints").flatten() {
        let name = entry.file_name().into_string().expect("a name");
        if name.strip_prefix("step-").is_some_and(|step| step != "10") {
            fs::remove_dir_all(entry.path()).expect("removed");
        }
    }
    let mut run = run_beyond(path, 40);
    signal(&run, Signal::TERM);
    assert_eq!(run.wait().expect("it ended").code(), Some(143));
    let steps = logged(&out)[0].len() as u64 + 5;
    let arguments = ["train", "--config", "run.json", "--output", "out", "--steps"];
    let ran = trainyard(path, &[&arguments[..], &[&steps.to_string()]].concat());
    assert_eq!(ran.status, Some(0), "{ran:#?}");

    let [losses, evaluations] = logged(&out);
    assert!(losses.iter().map(|(step, _)| *step).eq(1..=steps), "{losses:?}");
    let mut python = python(&checkout("tests/python/events.py"));
    let folders = ["out/tensorboard/steps", "out/tensorboard"].map(|name| path.join(name));
    let read = python.arg("read").args(&folders).output().expect("Python starts");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let read: [Value; 2] = serde_json::from_slice(&read.stdout).expect("two objects");
    for of in &read {
        assert_eq!(of["files"].as_array().map(Vec::len), Some(3), "one for each part of the run");
        for (tag, points) in of["scalars"].as_object().expect("curves") {
            let at = points.as_array().expect("points").iter().map(|point| point[0].as_u64());
            assert!(at.is_sorted_by(|a, b| a < b), "{tag}: {points}");
        }
    }
    let curve = |losses: &[(u64, f64)], samples: u64| -> Value {
        losses.iter().map(|(at, loss)| json!([at * samples, f64::from(*loss as f32)])).collect()
    };
    assert_eq!(read[0]["scalars"]["train/loss"], curve(&losses, 1));
    assert_eq!(read[0]["scalars"]["validation/loss"], curve(&evaluations, 1));
    assert_eq!(read[1]["scalars"]["Train/Samples/train_loss"], curve(&losses, 4));

    let csv = |name: &str, losses: &[(u64, f64)], samples: u64| {
        let rows = losses.iter().map(|(at, loss)| format!("{},{loss}\r\n", at * samples));
        let rows = rows.collect::<String>();
        let text = fs::read_to_string(out.join("csv_monitor").join(name)).expect("a curve");
        assert_eq!(text.split_once("\r\n").expect("a header").1, rows, "{name}");
    };
    csv("train_loss.csv", &losses, 1);
    csv("validation_loss.csv", &evaluations, 1);
    csv("Train_Samples_train_loss.csv", &losses, 4);
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
