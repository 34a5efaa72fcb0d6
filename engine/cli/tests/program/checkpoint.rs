//! `trainyard checkpoint` on checkpoints of a small model.
use crate::{Ran, trainyard, write};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};
use trainyard::config::{self, Document, Source};
use trainyard::{Engine, Layers, Loss};
use trainyard_checkpoint::{Checkpoints, Extra, Keep, Snapshot};

/// Trains a linear map of 3 by 3 and saves it after each of these steps, with these validation losses.
fn save(folder: &Path, rate: f64, steps: &[(u64, f64)]) {
    let text = json!({
        "optimizer": { "type": "AdamW", "params": { "lr": rate } }, "training": { "seed": 5 },
    });
    let document = Document::parse(Source::text("a.json", text.to_string())).expect("JSON");
    let plan = trainyard_plugins::registry().plan(config::Layers::new(document)).expect("a plan");
    tch::manual_seed(7);
    let (variables, layers) = (VarStore::new(Device::Cpu), Layers::new());
    let linear = nn::linear(variables.root() / "linear", 3, 3, nn::LinearConfig::default());
    let mut engine: Engine<_> = plan.engine(linear, &variables, &layers).expect("an engine");
    let keep = Keep { last: 9, ..Keep::default() };
    let mut checkpoints = Checkpoints::claim(folder, keep).expect("a folder");
    let x = Tensor::eye(3, (Kind::Float, Device::Cpu));
    for &(step, loss) in steps {
        while engine.completed_steps() < step {
            let forward = |net: &nn::Linear, x: &Tensor| {
                Loss::mean(net.forward(x).square().mean(Kind::Float), 3)
            };
            engine.step(&[x.shallow_clone()], forward).expect("a step");
        }
        // How long it took differs from run to run, and is no difference.
        let run = json!({ "seconds": folder.as_os_str().len() });
        let configuration = text.clone();
        let extra = Extra { validation_loss: Some(loss), configuration, run, ..Extra::default() };
        checkpoints.save(&Snapshot::take(&engine, extra).expect("a copy")).expect("saved");
    }
}

/// A folder with a run's output folder, `run`, that has three checkpoints.
fn run_with_three() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    save(&folder.path().join("run/checkpoints"), 0.1, &[(1, 3.0), (2, 1.5), (3, 2.0)]);
    folder
}

fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
}

/// Changes one byte in the middle of a file.
fn flip(path: &Path) {
    let file = fs::File::options().read(true).write(true).open(path).expect("a file");
    let (mut byte, at) = ([0], file.metadata().expect("its size").len() / 2);
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("written");
}

fn step(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("run/checkpoints/step-{step}"))
}

#[test]
fn ls_tells_the_newest_the_best_and_what_is_not_whole() {
    let folder = run_with_three();
    let path = folder.path();
    for named in ["run", "run/checkpoints"] {
        let ran = trainyard(path, &["checkpoint", "ls", named]);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
        let line = |of: &str| {
            let found = ran.stdout.lines().find(|line| line.starts_with(of));
            let words = found.unwrap_or_else(|| panic!("{of} in {ran:#?}")).split_whitespace();
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(ran.stdout.starts_with("run/checkpoints\n\nname "), "{}", ran.stdout);
        assert_eq!(line("step-2")[..3], ["step-2", "2", "2"]);
        assert_eq!(line("step-2")[5], "1.5000");
        assert_eq!(line("step-2").last().unwrap(), "best");
        assert_eq!(line("step-3").last().unwrap(), "newest");
    }
    fs::write(step(path, 3).join("model.safetensors"), "short").unwrap();
    let ran = trainyard(path, &["checkpoint", "ls", "run"]);
    assert!(ran.stdout.contains("step-3 is not whole: model.safetensors has 5 bytes"), "{ran:#?}");
    let ran = trainyard(path, &["checkpoint", "ls", "run", "--format", "json"]);
    let listed = json_of(&ran);
    let of = |key: &str| -> Vec<Value> {
        listed.as_array().unwrap().iter().map(|entry| entry[key].clone()).collect()
    };
    assert_eq!(of("name"), ["step-3", "step-1", "step-2"]);
    assert_eq!(of("whole"), [false, true, true]);
    assert_eq!(of("newest")[1..], [false, true]);
    assert_eq!(of("best")[1..], [false, true]);
    fs::create_dir(path.join("empty")).unwrap();
    let ran = trainyard(path, &["checkpoint", "ls", "empty"]);
    assert_eq!(ran.status, Some(0));
    assert!(ran.stdout.starts_with("empty has no checkpoints; a run keeps some with"), "{ran:#?}");
    // The folder of many runs is taken for that of one.
    let ran = trainyard(path, &["checkpoint", "show", "."]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains(". has no checkpoints; ./run has some"), "{ran:#?}");
    let ran = trainyard(path, &["checkpoint", "show", "run/checkpoints/latest"]);
    assert!(ran.stderr.contains("latest is no folder: name a checkpoint"), "{ran:#?}");
    let ran = trainyard(path, &["checkpoint", "ls", "none"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("cannot read none"), "{ran:#?}");
}

#[test]
fn show_has_state_files_tensors_and_configuration() {
    let folder = run_with_three();
    for named in ["run", "run/checkpoints/step-3"] {
        let ran = trainyard(folder.path(), &["checkpoint", "show", named]);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
        for text in [
            "run/checkpoints/step-3\n",
            "step               3\n",
            "validation loss    2.0000\n",
            "optimizer          Adam, with 2 parameters\n",
            "  linear.weight    F32   [3, 3]\n",
            "  linear.weight/exp_avg",
            "\"seed\": 5",
        ] {
            assert!(ran.stdout.contains(text), "{text:?} in {}", ran.stdout);
        }
    }
    let ran = trainyard(folder.path(), &["checkpoint", "show", "run", "--format", "json"]);
    let shown = json_of(&ran);
    assert_eq!(shown["tensors"]["model.safetensors"]["linear.bias"]["shape"], json!([3]));
    assert_eq!(shown["configuration"]["training"]["seed"], 5);
    assert_eq!(shown["optimizer"]["updates"]["linear.bias"], 3);
}

#[test]
fn verify_reads_every_byte() {
    let folder = run_with_three();
    let path = folder.path();
    let ran = trainyard(path, &["checkpoint", "verify", "run"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(ran.stdout.matches(": whole, ").count(), 3, "{}", ran.stdout);
    flip(&step(path, 2).join("optimizer.safetensors"));
    let ran = trainyard(path, &["checkpoint", "verify", "run"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(1), ""));
    assert_eq!(ran.stdout.matches(": whole, ").count(), 2, "{}", ran.stdout);
    let line = ran.stdout.lines().find(|line| line.starts_with("step-2: ")).unwrap();
    assert_eq!(line, "step-2: not whole: optimizer.safetensors is not what was written");
    // What is damaged is no difference.
    let ran = trainyard(path, &["checkpoint", "diff", "run/checkpoints/step-2", "run"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("optimizer.safetensors is not what was written"), "{ran:#?}");
    fs::remove_file(step(path, 2).join("checkpoint.json")).unwrap();
    let ran = trainyard(path, &["checkpoint", "show", "run/checkpoints/step-2"]);
    assert!(ran.stderr.contains("step-2 is not whole: it has no checkpoint.json"), "{ran:#?}");
    let ran =
        trainyard(path, &["checkpoint", "verify", "run/checkpoints/step-2", "--format", "json"]);
    assert_eq!((ran.status, json_of(&ran)[0]["whole"].clone()), (Some(1), json!(false)));
    let ran = trainyard(path, &["checkpoint", "verify", "run/checkpoints/step-1"]);
    assert_eq!(ran.status, Some(0));
    fs::create_dir(path.join("empty")).unwrap();
    let ran = trainyard(path, &["checkpoint", "verify", "empty"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("empty has no checkpoints"), "{ran:#?}");
}

#[test]
fn diff_tells_state_configuration_and_tensors() {
    let folder = run_with_three();
    let path = folder.path();
    save(&path.join("same"), 0.1, &[(3, 2.0)]);
    let ran = trainyard(path, &["checkpoint", "diff", "run", "same"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.ends_with("6 tensors are the same, 0 are not\n"), "{}", ran.stdout);
    save(&path.join("other"), 0.2, &[(1, 2.0)]);
    let ran = trainyard(path, &["checkpoint", "diff", "run", "other"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(1), ""));
    for text in [
        "\nstate\n",
        "  step: 3 in a, 1 in b\n",
        "  updates of 2 parameters, `linear.bias` the first: 3 in a, 1 in b\n",
        "  optimizer.params.lr: 0.1 in a, 0.2 in b\n",
        "  model.safetensors linear.weight: differs by up to ",
        "0 tensors are the same, 6 are not\n",
    ] {
        assert!(ran.stdout.contains(text), "{text:?} in {}", ran.stdout);
    }
    let ran = trainyard(path, &["checkpoint", "diff", "run", "other", "--format", "json"]);
    let told = json_of(&ran);
    assert_eq!((ran.status, told["same"].clone()), (Some(1), json!(false)));
    let by = &told["tensors"]["model.safetensors linear.bias"]["largest_difference"];
    // Adam's first steps are as long as its rate.
    let by = by.as_f64().unwrap();
    assert!(by > 0.0 && by < 1.0, "{by}");
}

#[test]
fn export_writes_what_was_saved_and_replaces_nothing() {
    let folder = run_with_three();
    let path = folder.path();
    let export = |more: &[&str]| {
        let arguments = ["checkpoint", "export", "run", "--output"];
        trainyard(path, &[&arguments[..], more].concat())
    };
    let ran = export(&["weights"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.starts_with("the weights of step 3 are in weights"), "{}", ran.stdout);
    let bytes = |path: PathBuf| fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let name = "model.safetensors";
    assert_eq!(bytes(path.join("weights").join(name)), bytes(step(path, 3).join(name)));
    let configuration: Value =
        serde_json::from_slice(&bytes(path.join("weights/configuration.json"))).unwrap();
    assert_eq!(configuration["training"]["seed"], 5);
    let ran = export(&["weights"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("--overwrite"), "{ran:#?}");
    assert_eq!(export(&["weights", "--overwrite"]).status, Some(0));
    let ran = export(&["run/checkpoints/step-1", "--overwrite"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("is a checkpoint"), "{ran:#?}");
    // What is damaged is not passed on: the newest whole one is, and what is named is refused.
    flip(&step(path, 3).join(name));
    let ran = export(&["weights", "--overwrite"]);
    assert!(ran.stdout.starts_with("the weights of step 2"), "{ran:#?}");
    assert!(ran.stderr.contains("model.safetensors is not what was written"), "{ran:#?}");
    let named = ["checkpoint", "export", "run/checkpoints/step-3", "--output", "new"];
    let ran = trainyard(path, &named);
    assert_eq!((ran.status, path.join("new").exists()), (Some(1), false));
}

/// Whose weights they are, and which vocabulary, is found out before anything is written.
#[test]
fn export_to_hugging_face_is_of_the_example_bert_alone() {
    let folder = run_with_three();
    let path = folder.path();
    let refused = |from: &str, more: &[&str], says: &str| {
        let arguments = ["checkpoint", "export", from, "--output", "hf"];
        let ran = trainyard(path, &[&arguments[..], more].concat());
        assert_eq!((ran.status, path.join("hf").exists()), (Some(1), false), "{ran:#?}");
        assert!(ran.stderr.contains(says), "{says}: {}", ran.stderr);
    };
    let format = ["--format", "huggingface"];
    refused("run", &format, "it has no `bias`: it is no example BERT of these sizes");
    refused("run", &["--vocabulary", "v.txt"], "is for --format huggingface");
    refused("none", &[], "cannot read none");
    // The weights of a finished run that kept no checkpoints.
    let bert = crate::folder();
    let ended = bert.path().join("one");
    let train = ["train", "--config", "run.json", "--output", "one", "--steps", "1"];
    let own = r#"data.tokenizer={"train": "wordpiece", "vocabulary_size": 256}"#;
    let ran = trainyard(bert.path(), &[&train[..], &["--set", own]].concat());
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let from = ended.to_str().unwrap();
    write(path, "v.txt", &(0..40_000).map(|i| format!("{i}\n")).collect::<String>());
    refused(from, &[&format[..], &["--vocabulary", "v.txt"]].concat(), "lacks [PAD]");
    fs::rename(ended.join("vocab.txt"), ended.join("elsewhere.txt")).unwrap();
    refused(from, &format, "name the file with --vocabulary");
    let ran = trainyard(path, &["checkpoint", "export", from, "--output", from, "--overwrite"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("is the output folder of a run"), "{ran:#?}");
}

/// Names and texts of somebody else's checkpoint do not reach the terminal as commands to it.
#[test]
fn no_control_characters_are_printed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    save(&folder.path().join("run/checkpoints"), 0.1, &[(1, 1.0)]);
    let hostile = folder.path().join("run/checkpoints/step-\u{1b}[31m");
    fs::create_dir(hostile).unwrap();
    // `trainyard` refuses escapes in what is printed.
    let ran = trainyard(folder.path(), &["checkpoint", "ls", "run"]);
    assert_eq!(ran.status, Some(0));
    assert!(ran.stdout.contains("step-\u{fffd}[31m is not whole"), "{}", ran.stdout);
    let record = step(folder.path(), 1).join("checkpoint.json");
    let mut hostile: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    hostile["files"]["../\u{1b}[31m"] = json!({ "bytes": 1, "xxh3": "0" });
    fs::write(&record, hostile.to_string()).unwrap();
    let ran = trainyard(folder.path(), &["checkpoint", "show", "run/checkpoints/step-1"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("names `../\u{fffd}[31m`, which is no file in it"), "{ran:#?}");
    // A model that the record does not have is not taken.
    hostile["files"]
        .as_object_mut()
        .unwrap()
        .retain(|name, _| !name.contains("31m") && name != "model.safetensors");
    fs::write(&record, hostile.to_string()).unwrap();
    let ran = trainyard(
        folder.path(),
        &["checkpoint", "export", "run/checkpoints/step-1", "--output", "new"],
    );
    assert_eq!((ran.status, folder.path().join("new").exists()), (Some(1), false));
    assert!(ran.stderr.contains("step-1 has no model.safetensors"), "{ran:#?}");
}
