use crate::{folder, trainyard, write};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The lines of the log without what depends on the clock, those of evaluations apart.
fn log(folder: &Path) -> (Vec<Value>, Vec<Value>) {
    let text = fs::read_to_string(folder.join("steps.jsonl")).expect("a log");
    let line = |line| {
        let mut line: Value = serde_json::from_str(line).expect("a line is JSON");
        let object = line.as_object_mut().expect("an object");
        let elapsed = object.remove("elapsed_seconds").and_then(|value| value.as_f64());
        assert!(elapsed > Some(0.0), "elapsed_seconds");
        for key in ["seconds", "samples_per_second"] {
            let clock = object.remove(key).and_then(|value| value.as_f64());
            assert!(clock > Some(0.0) || object.contains_key("validation_loss"), "{key}");
        }
        line
    };
    text.lines().map(line).partition(|line| line.get("validation_loss").is_none())
}

#[test]
fn a_run_leaves_a_log_and_a_summary() {
    let folder = folder();
    let train = |output| {
        let arguments = ["train", "--config", "run.json", "--output", output];
        let ran = trainyard(folder.path(), &arguments);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        (ran, log(&folder.path().join(output)))
    };
    let (ran, (lines, evaluated)) = train("a/b");
    let steps: Vec<_> = lines.iter().map(|line| line["step"].as_u64()).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4, 5].map(Some));
    let found = evaluated.iter().map(|line| (&line["step"], line["validation_loss"].is_number()));
    let expected = [(&json!(4), true), (&json!(6), true)];
    assert_eq!(found.collect::<Vec<_>>(), expected, "every 4 and at the end");
    assert_eq!(lines[0]["theta"], 1.0);
    assert_eq!(lines[0]["layer_calls_offered"], 4, "two branches in each of two layers");
    // At first every token is as likely as another: ln 30522 = 10.33.
    let first = lines[0]["loss"].as_f64().expect("a loss");
    assert!((first - 10.33).abs() < 0.2, "{first}");

    let summary = fs::read_to_string(folder.path().join("a/b/summary.json")).expect("a summary");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(summary["steps"], 6);
    assert_eq!(summary["loss"], lines[5]["loss"]);
    assert_eq!(summary["validation_loss"], evaluated[1]["validation_loss"]);
    assert_eq!(summary["configuration"]["training"]["seed"], 1);
    let loss = format!("loss {:.4}, validation loss ", summary["loss"].as_f64().expect("a loss"));
    assert!(ran.stdout.starts_with(&loss) && ran.stdout.lines().count() == 1, "{ran:#?}");
    assert!(ran.stderr.contains("train 4/6: validation loss "), "{ran:#?}");

    let (_, again) = train("again");
    assert_eq!(again, (lines, evaluated), "the same seed gives the same run");
    let mut names: Vec<_> = fs::read_dir(folder.path().join("again"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["model.safetensors", "steps.jsonl", "summary.json"]);
}

#[test]
fn the_text_and_values_of_the_command_line_hold() {
    let folder = folder();
    let path = folder.path();
    fs::rename(path.join("text.txt"), path.join("a \"b\".txt")).expect("a file");
    let arguments = [
        "train",
        "--config",
        "run.json",
        "--text",
        "a \"b\".txt",
        "--set",
        "training.total_steps=null",
        "--set",
        "training.epochs=0.05",
        "--output",
        "out",
    ];
    let ran = trainyard(path, &arguments);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let steps = log(&path.join("out")).0.len();
    assert!((1..5).contains(&steps), "a part of an epoch: {steps} steps");
    let summary = fs::read_to_string(path.join("out/summary.json")).expect("a summary");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(summary["configuration"]["data"]["text"], json!("a \"b\".txt"));
}

/// What a file leaves out is told beside what is wrong with it, and all of it at once.
#[test]
fn what_training_needs_is_asked_for_at_once() {
    let folder = folder();
    for (text, needs) in [
        ("{}", &["train_batch_size is not set", "training.total_steps is not set"][..]),
        (
            r#"{ "train_batch_size": 8, "thta": 1, "optimizer": { "type": "SGD", "params": { "nesterov": true } } }"#,
            &["training.total_steps is not set", "unknown key \"thta\"", "nesterov = true needs"],
        ),
        // One complaint for one cause.
        (r#"{ "train_batch_size": 8, "training": 3 }"#, &["training = 3 is a number"]),
        (
            r#"{ "train_micro_batch_size_per_gpu": None, "training": { "epochs": None } }"#,
            &["1:37: None is not JSON", "1:67: None is not JSON"],
        ),
        (
            r#"{ "gradient_accumulation_steps": 4, "training": { "epochs": 1 } }"#,
            &["gradient_accumulation_steps = 4 needs a batch size"],
        ),
        (
            r#"{ "train_batch_size": 8, "scheduler": { "type": "WarmupDecayLR" },
                "optimizer": { "type": "SGD", "params": { "nesterov": true } } }"#,
            &["training.total_steps is not set", "nesterov = true needs"],
        ),
        (
            r#"{ "training": { "epochs": 1 }, "scheduler": { "type": "WarmupDecayLR" } }"#,
            &["train_batch_size is not set"],
        ),
    ] {
        write(folder.path(), "run.json", text);
        let ran = trainyard(folder.path(), &["train", "--config", "run.json"]);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""));
        let told =
            ran.stderr.lines().filter(|line| line.contains("run.json:") && !line.contains("["));
        assert_eq!(told.count(), needs.len(), "{ran:#?}");
        assert!(needs.iter().all(|need| ran.stderr.contains(need)), "{ran:#?}");
    }
}

#[test]
fn an_output_that_is_no_folder_is_told() {
    let folder = folder();
    write(folder.path(), "out", "");
    let ran = trainyard(folder.path(), &["train", "--config", "run.json", "--output", "out"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""));
    let last = ran.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: cannot write out: "), "{ran:#?}");
    assert!(!ran.stderr.contains("tokenis"), "told before the text is read: {ran:#?}");
}
