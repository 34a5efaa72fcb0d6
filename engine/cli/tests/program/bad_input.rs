//! Each bad input gives one clear sentence that names the thing, the value and what would be right.
use crate::{configuration, folder, trainyard, write};
use serde_json::{Value, json};

/// A configuration with another value at `pointer`, and the sentence it gives.
const VALUES: &[(&str, &str, &str)] = &[
    ("/progressive_layer_drop/theta", "0", "progressive_layer_drop.theta = 0 is not in (0, 1]"),
    ("/progressive_layer_drop/theta", "1.5", "progressive_layer_drop.theta = 1.5 is not in (0, 1]"),
    (
        "/progressive_layer_drop/theta",
        "\"0.5\"",
        "progressive_layer_drop.theta = \"0.5\" is a string; a number in (0, 1] is expected",
    ),
    ("/progressive_layer_drop/gamma", "-0.1", "progressive_layer_drop.gamma = -0.1 is not > 0"),
    (
        "/progressive_layer_drop/layers",
        "\"encoder.*\"",
        "progressive_layer_drop.layers: pattern \"encoder.*\" does not match any of the model's 2 \
         blocks: `layers.0`, `layers.1`",
    ),
    (
        "/train_batch_size",
        "10",
        "train_batch_size = 10 is not a multiple of micro-batch 4 x 1 rank = 4; 8 or 12 would be",
    ),
    (
        "/progresive_layer_drop",
        "{}",
        "unknown key \"progresive_layer_drop\"; it is like \"progressive_layer_drop\", which is there already",
    ),
    ("/model/hidden", "15", "model.hidden = 15 is not a multiple of heads = 2; 14 would be"),
    (
        "/optimizer/no_decay",
        "[\"bais\"]",
        "optimizer.no_decay[0]: \"bais\" matches no parameter; there are",
    ),
    (
        "/optimizer/params/max_grad_norm",
        "1",
        "optimizer.params.max_grad_norm = 1 belongs to no optimizer; set \"gradient_clipping\" beside",
    ),
];

/// Texts that are no configuration, or none that can be.
const TEXTS: &[(&str, &str, &str)] = &[
    ("empty.json", "", "empty.json:1:1: there is no value here; an object, { ... }, is expected"),
    ("prose.json", "theta is one half", "prose.json:1:1: text needs double quotes: \"theta\""),
    (
        "list.json",
        "[1, 2]",
        "list.json:1:1: the top level is a list; an object, { ... }, is expected",
    ),
    (
        "both.json",
        r#"{ "model": { "layers": 1, "hidden": 16, "heads": 2, "max_positions": 16 },
             "data": { "text": "text.txt", "sequence_length": 16 }, "train_batch_size": 4,
             "training": { "total_steps": 1 }, "optimizer": { "type": "AdamW" },
             "bf16": { "enabled": true }, "fp16": { "enabled": true } }"#,
        "both.json:4:51: fp16 is on, and `bf16` too: both set the precision; keep one",
    ),
    ("open.json", "{\"seed\": 1", "open.json:1:1: this { is never closed"),
];

fn changed(pointer: &str, value: &str) -> Value {
    let mut config = configuration();
    config["train_micro_batch_size_per_gpu"] = json!(4);
    let (section, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
    let section = config.pointer_mut(section).expect("the section is there");
    section[key] = serde_json::from_str(value).expect("the table has JSON");
    config
}

#[test]
fn validate_and_train_say_the_same_sentence_and_write_nothing() {
    let folder = folder();
    let mut cases = vec![("none.json".to_owned(), "none.json: there is no such file")];
    for (name, text, sentence) in TEXTS {
        write(folder.path(), name, text);
        cases.push(((*name).to_owned(), sentence));
    }
    for (i, (pointer, value, sentence)) in VALUES.iter().enumerate() {
        let name = format!("value{i}.json");
        write(folder.path(), &name, &changed(pointer, value).to_string());
        cases.push((name, sentence));
    }
    let files: Vec<_> = cases.iter().map(|(name, _)| name.as_str()).collect();
    let ran = trainyard(folder.path(), &[&["validate"], &files[..]].concat());
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(1), ""));
    let json = trainyard(folder.path(), &[&["validate", "--format", "json"], &files[..]].concat());
    assert_eq!(json.status, Some(1));
    let verdicts: Vec<Value> = serde_json::from_str(&json.stdout).expect("a list");
    assert_eq!(verdicts.len(), cases.len());
    for ((name, sentence), verdict) in cases.iter().zip(&verdicts) {
        // Once as a sentence of its own: what is underlined repeats the end of it.
        let lines = ran.stdout.lines().filter(|line| line.contains(sentence) && line.contains('×'));
        assert_eq!(lines.count(), 1, "{name}: {sentence} in {}", ran.stdout);
        let answers = verdict["answers"].as_array().expect("answers");
        let wrong: Vec<_> = answers.iter().filter(|answer| answer["kind"] != "used").collect();
        assert_eq!((verdict["ok"].clone(), wrong.len()), (json!(false), 1), "{verdict:#}");
        let kind = match sentence {
            unknown if unknown.contains("unknown key") => "unknown",
            refused if refused.contains("belongs to no optimizer") => "refused",
            _ => "invalid",
        };
        assert_eq!(wrong[0]["kind"], kind);

        let ran = trainyard(folder.path(), &["train", "--config", name, "--output", "out"]);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{name}");
        assert!(ran.stderr.contains(sentence), "{name}: {sentence} in {}", ran.stderr);
    }
    assert!(!folder.path().join("out").exists());
}

#[test]
fn a_bad_text_is_told_and_nothing_is_written() {
    let folder = folder();
    write(folder.path(), "empty.txt", "");
    write(folder.path(), "small.txt", "two words\nthree words here\n");
    std::fs::write(folder.path().join("latin.txt"), b"a caf\xe9\n".repeat(50)).expect("a file");
    for (text, sentence) in [
        (
            "empty.txt",
            "error: text file \"empty.txt\" is empty: it should hold one document on each line\n",
        ),
        (
            "small.txt",
            "error: text file \"small.txt\" has 5 tokens, fewer than the 14 of one sequence of 16: give \
             more text or lower sequence_length\n",
        ),
        (
            "latin.txt",
            "error: line 1 of text file \"latin.txt\" is not UTF-8 (byte 6 of the line): convert the \
             file to UTF-8\n",
        ),
        ("none.txt", "error: text file \"none.txt\" does not exist\n"),
        (".", "error: text file \".\" is a folder, not a file\n"),
    ] {
        let arguments = ["train", "--config", "run.json", "--output", "out", "--text", text];
        let ran = trainyard(folder.path(), &arguments);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{text}");
        assert!(ran.stderr.ends_with(sentence), "{sentence} at the end of {}", ran.stderr);
    }
    assert!(!folder.path().join("out").exists());
}

/// Root may read anything, so that another user has to try.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_may_not_be_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let closed = folder.path().join("run.json");
    let permit = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .expect("our own file");
    };
    permit(folder.path(), 0o755);
    permit(&closed, 0o600);
    // The program lies where only root may look, so that it is copied next to the file.
    let copy = folder.path().join("trainyard");
    std::fs::copy(env!("CARGO_BIN_EXE_trainyard"), &copy).expect("a copy of the program");
    permit(&copy, 0o755);
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(&copy).args(["validate", "run.json"]).current_dir(folder.path());
    let output = match command.output() {
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("setpriv: ") => output,
        other => return eprintln!("skipped: this takes setpriv and root: {other:?}"),
    };
    if String::from_utf8_lossy(&output.stderr).contains("shared libraries") {
        return eprintln!("skipped: another user may not read the program's libraries");
    }
    let ran = crate::ended(output);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(ran.stdout.contains("run.json: no permission to read this file"), "{ran:#?}");
}
