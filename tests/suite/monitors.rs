//! What `tensorboard` and `csv_monitor` write, read by TensorBoard itself.
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use trainyard::{Ending, Evaluation, Event, Report, Skipped};
use trainyard_tests::{engine, plan, registry, run_python};

const CONFIGURATION: &str = r#"{
    "train_batch_size": 8, "training": { "total_steps": 20 },
    "optimizer": { "type": "SGD", "params": { "lr": 0.1 } },
    "tensorboard": { "enabled": true }, "csv_monitor": { "enabled": true }
}"#;

fn report(step: u64) -> Report {
    let mut report = Report {
        step,
        loss: 4.0 / (step as f64 + 1.0),
        count: 8,
        lr: 0.1,
        loss_scale: 1.0,
        grad_norm: Some(2.0),
        seconds: 0.5,
        samples_per_second: Some(16.0),
        ..Report::default()
    };
    report.metrics.insert("theta".to_owned(), 0.75);
    report
}

/// A run of the steps `from` to `to`, evaluated every four and at the end, whose step 2 overflows at first.
fn run(folder: &Path, from: u64, to: u64) {
    let plan = plan(registry(), CONFIGURATION).expect("it is right");
    let (_variables, mut engine) = engine(registry(), CONFIGURATION, 0.0);
    let mut observers = engine.take_observers();
    assert_eq!(observers.len(), 2);
    let mut tell = |event: &Event<'_>| {
        observers.iter_mut().for_each(|observer| observer.observe(event).expect("it is written"));
    };
    let folder = Some(folder);
    tell(&Event::Started { plan: &plan, completed_steps: from, total_steps: 20, folder });
    let attempts = (from..to).flat_map(|step| vec![step; if step == 2 { 2 } else { 1 }]);
    for (before, step) in attempts.enumerate() {
        let attempt = before as u64 + from + u64::from(from > 2);
        let skipped = attempt == 2;
        let skip_reason = skipped.then_some(Skipped::Overflow);
        let report = Report { skipped, skip_reason, ..report(step) };
        let evaluates = !skipped && ((step + 1) % 4 == 0 || step + 1 == to);
        tell(&Event::Step { attempt, report: &report });
        if evaluates {
            let evaluation = Evaluation { loss: 3.0, count: 5 };
            tell(&Event::Evaluated { step: step + 1, evaluation: &evaluation });
        }
    }
    tell(&Event::Ended { ending: Ending::Completed });
}

/// What TensorBoard reads in our folder and in DeepSpeed's.
fn read(folder: &Path) -> [Value; 2] {
    let folder = folder.join("tensorboard");
    let printed = run_python("events.py", [Path::new("read"), &folder.join("steps"), &folder]);
    serde_json::from_str(&printed).expect("two objects")
}

fn curve(points: impl IntoIterator<Item = (u64, f64)>) -> Value {
    points.into_iter().map(|(at, value)| json!([at, f64::from(value as f32)])).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

#[test]
fn tensorboard_reads_steps_samples_and_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), 0, 6);
    let [steps, samples] = read(folder.path());
    let losses = (0..6).map(|step| (step + 1, report(step).loss));
    assert_eq!(steps["scalars"]["train/loss"], curve(losses));
    assert_eq!(steps["scalars"]["train/theta"], curve((1..=6).map(|step| (step, 0.75))));
    assert_eq!(steps["scalars"]["train/grad_norm"], curve((1..=6).map(|step| (step, 2.0))));
    assert_eq!(steps["scalars"]["train/skipped_steps"], curve((3..=6).map(|step| (step, 1.0))));
    assert_eq!(steps["scalars"]["validation/loss"], curve([(4, 3.0), (6, 3.0)]));
    // Seven attempts of eight samples, the third skipped.
    let losses = [0, 1, 2, 2, 3, 4, 5].map(|step| report(step).loss);
    let places = (1..).map(|attempt| attempt * 8);
    assert_eq!(samples["scalars"]["Train/Samples/train_loss"], curve(places.zip(losses)));
    let mut tags: Vec<_> = samples["scalars"].as_object().unwrap().keys().collect();
    tags.sort();
    assert_eq!(tags, ["Train/Samples/lr", "Train/Samples/train_loss"], "there is no loss scale");
    let text = steps["texts"]["configuration"][0].as_str().unwrap();
    assert!(text.lines().all(|line| line.starts_with("    ")), "Markdown's code: {text}");
    let shown: Value = serde_json::from_str(text).unwrap();
    assert_eq!(shown["train_batch_size"], 8);
}

/// A run that was killed at step 14 and goes on from step 8 hides what the first one did from there on; in each file
/// steps rise, and each says first that a run starts.
#[test]
fn a_resumed_run_goes_on_in_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), 0, 14);
    run(folder.path(), 8, 20);
    let read = read(folder.path());
    for (of, starts) in read.iter().zip([[0, 9], [8, 80]]) {
        let files = of["files"].as_array().unwrap();
        let found: Vec<_> = files.iter().map(|file| file["start"].as_u64()).collect();
        assert_eq!(found, starts.map(Some));
        for file in files {
            assert_eq!(file["version"], "brain.Event:2");
            let mut last = std::collections::HashMap::new();
            for step in file["steps"].as_array().unwrap() {
                let (tag, at) = (step[0].as_str().unwrap(), step[1].as_u64().unwrap());
                let before = last.insert(tag, at);
                assert!(before < Some(at), "{tag} at {at} behind {before:?}");
            }
        }
        for (tag, points) in of["scalars"].as_object().unwrap() {
            let at: Vec<_> = points.as_array().unwrap().iter().map(|p| p[0].as_u64()).collect();
            assert!(at.is_sorted_by(|a, b| a < b), "{tag}: {at:?}");
        }
    }
    let [steps, samples] = read;
    let losses = (0..20).map(|step| (step + 1, report(step).loss));
    assert_eq!(steps["scalars"]["train/loss"], curve(losses));
    let evaluated = [4, 8, 12, 16, 20].map(|step| (step, 3.0));
    assert_eq!(steps["scalars"]["validation/loss"], curve(evaluated), "that of step 8 is not lost");
    let rates = samples["scalars"]["Train/Samples/lr"].as_array().unwrap();
    assert_eq!(rates.len(), 21, "20 steps and the one that overflowed");
}

/// As a kill leaves it, or a full disk.
#[test]
fn of_a_file_that_ends_anywhere_all_that_is_whole_is_read() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), 0, 3);
    for folder in ["tensorboard", "tensorboard/steps"].map(|name| folder.path().join(name)) {
        let file = files(&folder).remove(0);
        let bytes = fs::read(&file).unwrap();
        let mut ends = Vec::new();
        let mut end = 0;
        while end < bytes.len() {
            let length = u64::from_le_bytes(bytes[end..end + 8].try_into().unwrap());
            end += 16 + length as usize;
            ends.push(end);
        }
        let whole =
            (0..=bytes.len()).map(|length| ends.iter().filter(|end| **end <= length).count());
        let printed = run_python("events.py", [Path::new("cut"), &file]);
        let found: Vec<usize> = serde_json::from_str(&printed).unwrap();
        assert_eq!(found, whole.collect::<Vec<_>>());
        assert!(found.last() > Some(&6), "{found:?}");
    }
}

#[test]
fn csv_has_a_file_for_each_tag() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), 0, 3);
    let folder = folder.path().join("csv_monitor");
    let names: Vec<_> = files(&folder)
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let expected = [
        "Train_Samples_lr.csv",
        "Train_Samples_train_loss.csv",
        "train_grad_norm.csv",
        "train_loss.csv",
        "train_lr.csv",
        "train_samples_per_second.csv",
        "train_seconds.csv",
        "train_skipped_steps.csv",
        "train_theta.csv",
        "validation_loss.csv",
    ];
    assert_eq!(names, expected);
    let of = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(of("train_loss.csv"), "step,loss\r\n1,4\r\n2,2\r\n3,1.3333333333333333\r\n");
    let rates = "step,lr\r\n8,0.1\r\n16,0.1\r\n24,0.1\r\n32,0.1\r\n";
    assert_eq!(of("Train_Samples_lr.csv"), rates);
}
