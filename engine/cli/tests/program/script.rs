//! Models from PyTorch, exported by `examples/torchscript/export.py` and trained from the command line alone.
use crate::output::{failed, limited};
use crate::{Ran, checkout, trainyard, write};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

/// A folder in which `export.py` has put the model of that name, small, with data for it.
pub fn exported(name: &str, options: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sizes =
        "--layers 4 --hidden 32 --heads 2 --length 16 --vocabulary 40 --image 8 --classes 4";
    python(
        &checkout("examples/torchscript/export.py"),
        [name, "--to"]
            .into_iter()
            .map(PathBuf::from)
            .chain([folder.path().to_owned()])
            .chain(sizes.split(' ').chain(options.iter().copied()).map(PathBuf::from)),
    );
    folder
}

/// Runs a script with PyTorch's Python.
pub fn python(script: &Path, arguments: impl IntoIterator<Item = PathBuf>) {
    let interpreter = checkout(".libtorch/python");
    let ran =
        Command::new(&interpreter).arg(script).args(arguments).output().unwrap_or_else(|e| {
            panic!("no Python at {}: {e}; run `make test`", interpreter.display())
        });
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{} (set up by `make test`):\n{stderr}", script.display());
}

/// Trains the exported model of that name by the configuration that comes with the examples, changed.
fn train(folder: &Path, name: &str, changes: &[&str]) -> Ran {
    train_under(&[], folder, name, changes)
}

/// The same as the program that `launcher`, arguments of ours, starts.
fn train_under(launcher: &[&str], folder: &Path, name: &str, changes: &[&str]) -> Ran {
    let config = checkout(&format!("examples/torchscript/{name}.json"));
    let (model, data) = (format!("{name}/model.pt"), format!("{name}/data"));
    let mut arguments = launcher.to_vec();
    arguments.extend(["train", "--config", config.to_str().expect("UTF-8")]);
    arguments.extend(["--model", &model, "--data", &data, "--output", "out", "--overwrite"]);
    arguments.extend(changes.iter().flat_map(|change| ["--set", change]));
    trainyard(folder, &arguments)
}

fn json(path: PathBuf) -> Value {
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// What a run logged, a line for each step and each evaluation.
fn lines(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("out/steps.jsonl")).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The validation losses of a run, and how many layer calls were offered and run over all its steps.
fn log(folder: &Path) -> (Vec<f64>, u64, u64) {
    let lines = lines(folder);
    let sum = |key: &str| lines.iter().filter_map(|line| line[key].as_u64()).sum();
    let losses = lines.iter().filter_map(|line| line["validation_loss"].as_f64());
    (losses.collect(), sum("layer_calls_offered"), sum("layer_calls_run"))
}

/// Ten epochs with layer dropping bring the validation loss from near what chance gives to well below.
fn learns(name: &str, samples: &str, changes: &[&str], chance: f64, below: f64) {
    let folder = exported(name, &["--samples", samples]);
    let path = folder.path();
    let common = ["training.evaluate_every=1", "training.epochs=10"];
    let ran = train(path, name, &[&common[..], changes].concat());
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let (losses, offered, run) = log(path);
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!((first - chance).abs() < 1.0, "{name} begins at {first}, chance is {chance}");
    assert!(last < below, "{name}: {first} to {last}");
    let steps = losses.len() as u64;
    assert_eq!(offered, 4 * steps, "four layers, whichever class they are of");
    assert!(run < offered && run > offered / 2, "{run} of {offered}");
    assert_eq!(json(path.join("out/summary.json"))["validation_loss"], last);
    for file in ["model.pt", "model.safetensors"] {
        assert!(path.join("out").join(file).is_file(), "{file}");
        assert!(ran.stdout.contains(file), "{}", ran.stdout);
    }

    // The page's lines load it into the model in Python.
    let check = ["exported".into(), name.into(), path.join("out")];
    python(&checkout("tests/python/state_dict.py"), check);

    // What was saved is what was trained: it goes on from there.
    let trained = path.join("out/model.pt");
    fs::rename(trained, path.join(name).join("model.pt")).expect("a file");
    let mut still = vec!["training.epochs=null", "training.total_steps=1", "optimizer.params.lr=0"];
    if name == "bert" {
        still.push("scheduler.params.warmup_max_lr=0");
    }
    let again = train(path, name, &[changes, &still].concat());
    assert_eq!(again.status, Some(0), "{again:#?}");
    let (again, ..) = log(path);
    // A step moves the statistics of batches, though its learning rate is nought.
    let apart = if name == "resnet" { 0.02 } else { 1e-5 };
    assert!((again[0] - last).abs() < apart * last, "{name}: {last}, loaded again {}", again[0]);
}

#[test]
fn bert_trains_on_a_stream_of_tokens() {
    let changes = ["script.data.sequence_length=16", "script.data.masking.vocabulary=40"];
    learns("bert", "1280", &changes, 40f64.ln(), 3.3);
}

#[test]
fn gpt2_trains_on_an_array_of_tokens() {
    learns("gpt2", "320", &[], 40f64.ln(), 2.5);
}

/// Weights go from one run to another by the names that they have in Python; the embedding has two.
#[test]
fn a_script_begins_with_weights_by_name() {
    let folder = exported("gpt2", &["--samples", "64"]);
    let path = folder.path();
    let two = ["training.epochs=null", "training.total_steps=2", "optimizer.params.lr=0.01"];
    assert_eq!(train(path, "gpt2", &two).status, Some(0));
    fs::rename(path.join("out"), path.join("first")).expect("a folder");
    let still = ["training.epochs=null", "training.total_steps=1", "optimizer.params.lr=0"];
    let weights =
        |folder: &str| fs::read(path.join(folder).join("model.safetensors")).expect("weights");
    for from in [
        r#"init_from={"file": "first", "unexpected": "error"}"#,
        r#"init_from={"file": "first", "names": {"model.*": "model.*"}}"#,
    ] {
        let ran = train(path, "gpt2", &[&still[..], &[from]].concat());
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        assert!(weights("out") == weights("first"), "{from}");
    }
    let other = r#"init_from={"file": "first", "names": {"model.transformer.h.*": null}}"#;
    let ran = train(path, "gpt2", &[&still[..], &[other]].concat());
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("of the model are not there: `model.transformer.h.0."), "{ran:#?}");
}

#[test]
fn vit_trains_on_safetensors() {
    learns("vit", "320", &[], 4f64.ln(), 0.7);
}

#[test]
fn a_residual_network_trains_on_arrays() {
    learns("resnet", "320", &[], 4f64.ln(), 1.0);
}

/// Without dropout two ranks, each with its half of every batch and the gates that all share, train as one.
#[test]
fn two_ranks_train_as_one() {
    let folder = exported("bert", &["--samples", "128", "--dropout", "0"]);
    let path = folder.path();
    let changes = [
        "script.data.sequence_length=16",
        "script.data.masking.vocabulary=40",
        "training.epochs=2",
        "training.evaluate_every=1",
    ];
    let train = |launcher: &[&str]| {
        let ran = train_under(launcher, path, "bert", &changes);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        let sent = lines(path).iter().filter_map(|line| line["bytes_sent"].as_u64()).collect();
        (log(path), sent)
    };
    let ((one, offered, run), sent): (_, Vec<u64>) = train(&[]);
    assert!(run < offered && one.len() > 4, "{run} of {offered} in {} steps", one.len());
    assert!(sent.iter().all(|&bytes| bytes == 0), "{sent:?} bytes from one process");
    let program = env!("CARGO_BIN_EXE_trainyard");
    let ((two, ..), sent) = train(&["launch", "--nproc-per-node", "2", "--", program]);
    assert!(sent.iter().all(|&bytes| bytes > 0), "{sent:?} bytes between two");
    assert_eq!(one.len(), two.len());
    for (step, (one, two)) in one.iter().zip(&two).enumerate() {
        assert!((one - two).abs() < 1e-5 * one, "after step {step}: {one}, two ranks {two}");
    }
}

#[test]
fn inspect_shows_the_modules_and_suggests_the_pattern() {
    let folder = exported("resnet", &["--samples", "8"]);
    let ran = trainyard(folder.path(), &["inspect", "resnet/model.pt"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:#?}");
    for line in [
        "(the model)",
        "forward    images (Tensor)",
        "mode       switches between training and evaluation",
        "\"stage1.*\": 2 Block, ",
        // All stacks, in one list.
        "\"progressive_layer_drop\": {\"enabled\":true,\"layers\":[\"stage1.*\",\"stage2.*\"]}",
    ] {
        assert!(ran.stdout.contains(line), "{line:?} in\n{}", ran.stdout);
    }
    let arguments = ["inspect", "resnet/model.pt", "--layers", "stage?.*", "--format", "json"];
    let ran = trainyard(folder.path(), &arguments);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let shown: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let gated = shown["gated"].as_array().expect("a list").iter();
    let gated: Vec<_> = gated.filter_map(|gate| gate["name"].as_str()).collect();
    assert_eq!(gated, ["stage1.0", "stage1.1", "stage2.0", "stage2.1"]);
    let modules = shown["modules"].as_array().expect("a list");
    let block = modules.iter().find(|module| module["name"] == "stage1.0").expect("a block");
    // Two convolutions of 8 x 8 x 9, two normalisations of 16.
    assert_eq!((block["parameters"].as_u64(), &block["class"]), (Some(1184), &"Block".into()));

    let ran = trainyard(folder.path(), &["inspect", "resnet/model.pt", "--layers", "encoder.*"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
    assert!(ran.stderr.contains("\"encoder.*\""), "{ran:#?}");
}

/// Layers that no pattern names without others are listed, to be pasted whole; and where there is none, that is
/// said.
#[test]
fn inspect_says_what_to_write_or_why_there_is_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    python(&checkout("tests/python/scripts.py"), ["make".into(), path.to_owned(), "mixed".into()]);
    let ran = trainyard(path, &["inspect", "mixed.pt"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let proposed = ran
        .stdout
        .lines()
        .find_map(|line| line.trim().strip_prefix("\"progressive_layer_drop\": "));
    let section: Value = serde_json::from_str(proposed.expect("a section")).expect("JSON");
    let layers = section["layers"].as_array().expect("a list").clone();
    assert_eq!(layers.len(), 4, "{section}");
    let lists = layers.iter().filter_map(Value::as_str).flat_map(|name| ["--layers", name]);
    let arguments: Vec<_> = ["inspect", "mixed.pt"].into_iter().chain(lists).collect();
    let ran = trainyard(path, &arguments);
    let words = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words.matches("on its input 0").count(), 4, "{words}");
    let code = "import torch
net = torch.nn.Sequential(torch.nn.LSTM(4, 4, 2))
torch.jit.trace(net, torch.zeros(3, 2, 4)).save('PATH')";
    let code = code.replace("PATH", &path.join("lstm.pt").display().to_string());
    python(Path::new("-c"), [code.into()]);
    let ran = trainyard(path, &["inspect", "lstm.pt"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let words = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("no layers none: no alike modules lie side by side"), "{words}");
    assert!(!words.contains("progressive_layer_drop"), "{words}");
}

#[test]
fn a_repeated_layer_is_a_layer_in_each_call() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let arguments = ["make".into(), path.to_owned(), "traced_repeated".into()];
    python(&checkout("tests/python/scripts.py"), arguments);
    let code = "import numpy; numpy.save('data/x.npy', numpy.ones((16, 8), 'float32'))";
    fs::create_dir(path.join("data")).expect("a folder");
    let code = code.replace("data/", &format!("{}/data/", path.display()));
    python(Path::new("-c"), [code.into()]);
    let config = r#"{
        "train_batch_size": 4,
        "training": { "epochs": 1 },
        "optimizer": { "type": "SGD", "params": { "lr": 0.1 } },
        "progressive_layer_drop": { "enabled": true, "layers": "layers.*" },
        "script": { "repeated_layers": true, "data": { "validation_share": 0.25 } }
    }"#;
    fs::write(path.join("run.json"), config).expect("a file");
    let model =
        ["--model", "traced_repeated.pt", "--data", "data", "--output", "out", "--overwrite"];
    let train = |changes: &[&str]| {
        trainyard(path, &[&["train", "--config", "run.json"], &model[..], changes].concat())
    };
    let ran = train(&["--set", "script.repeated_layers=false"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(
        ran.stderr.contains("`repeated_layers`") && ran.stderr.contains("2 places"),
        "{ran:#?}"
    );
    let ran = train(&[]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let steps: Vec<_> = lines(path).into_iter().filter(|line| line["attempt"].is_u64()).collect();
    assert_eq!(steps.len(), 3);
    assert!(steps.iter().all(|step| step["layer_calls_offered"] == 2), "{steps:#?}");

    let inspect = |more: &[&str]| {
        let arguments = ["inspect", "traced_repeated.pt", "--layers", "layers.*"];
        trainyard(path, &[&arguments[..], more].concat())
    };
    assert_eq!(inspect(&[]).status, Some(1));
    let ran = inspect(&["--repeated-layers"]);
    assert_eq!(ran.stdout.matches("layers.0 by layers.*").count(), 2, "{ran:#?}");
}

#[test]
fn what_does_not_go_together_is_told_before_anything_is_written() {
    let folder = exported("resnet", &["--samples", "8"]);
    let path = folder.path();
    let told = |changes: &[&str], expected: &str| {
        let ran = train(path, "resnet", changes);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{changes:?}: {ran:#?}");
        assert!(ran.stderr.contains(expected), "{changes:?}: {expected:?} in\n{}", ran.stderr);
        assert!(!path.join("out").exists());
    };
    told(&[], "fewer than one batch of 32");
    let batch = "train_batch_size=4";
    told(
        &[batch, "script.loss.labels=classes"],
        "the data has no `classes` for labels; it has `images`, `labels`",
    );
    told(
        &[batch, "script.loss.labels=null"],
        "which input of the data does cross_entropy compare with?",
    );
    told(
        &[batch, "script.inputs={\"pixels\":\"images\"}"],
        "forward has no argument `pixels`; it takes `images`",
    );
    told(&[batch, "script.inputs={\"images\":\"pixels\"}"], "the data has no `pixels`");
    told(&[batch, "script.loss.typ=1"], "it is like \"type\", which is there already");
    told(&[batch, "progressive_layer_drop.layers=stage3.*"], "stage3.*");
    told(&[batch, "model.layers=2"], "describes the example BERT, and the model is a script");
    told(&[batch, "script.data.validation_share=2"], "validation_share = 2 is not in (0, 1)");
    let gamma = "progressive_layer_drop.gamma=0.01";
    told(&[batch, gamma, "training.epochs=null"], "how long is the run?");

    let (labels, aside) = (path.join("resnet/data/labels.npy"), path.join("labels.npy"));
    fs::rename(&labels, &aside).expect("a file");
    told(&[batch], "has no `labels`");
    fs::rename(&aside, &labels).expect("a file");
    fs::write(path.join("resnet/model.pt"), "<html>").expect("a file");
    told(&[batch], "resnet/model.pt");
    fs::remove_dir_all(path.join("resnet/data")).expect("a folder");
    told(&[batch], "data folder \"resnet/data\" does not exist");
}

#[test]
fn a_loss_that_is_none_is_told_with_the_outputs_there_are() {
    let folder = exported("resnet", &["--samples", "8"]);
    let batch = "train_batch_size=4";
    for (changes, expected) in [
        (["script.loss.type=output", batch], "and a loss is one number"),
        (["script.loss.output=3", batch], "forward returned no output 3; it returned 0"),
        (
            ["script.loss.output=logits", batch],
            "forward returned no output `logits`; it returned 0",
        ),
        (["script.loss.shift=true", batch], "have no next position to shift to"),
    ] {
        let ran = train(folder.path(), "resnet", &changes);
        assert_eq!(ran.status, Some(1), "{changes:?}: {ran:#?}");
        assert!(ran.stderr.contains(expected), "{changes:?}: {expected:?} in\n{}", ran.stderr);
    }
}

/// Weights that lie column by column, as after `channels_last`, in a file whose name PyTorch puts into it.
#[test]
fn weights_that_do_not_lie_row_by_row_are_saved() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let make = ["make".into(), path.to_owned(), "spread".into()];
    python(&checkout("tests/python/scripts.py"), make);
    fs::rename(path.join("spread.pt"), path.join("at 12:30.pt")).expect("a file");
    fs::create_dir(path.join("data")).expect("a folder");
    let rows = Tensor::arange(16 * 8, (Kind::Float, Device::Cpu)).view([16, 8]).sin();
    rows.write_npy(path.join("data/x.npy")).expect("an array");
    let config = r#"{ "train_batch_size": 8, "training": { "total_steps": 2 },
        "script": { "data": { "validation_share": 0.5 } },
        "optimizer": { "type": "AdamW", "params": { "lr": 0.01 } },
        "progressive_layer_drop": { "enabled": true, "layers": "layers.*" } }"#;
    write(path, "run.json", config);
    let train = |model: &str, more: &[&str]| {
        let arguments = [
            "train",
            "--config",
            "run.json",
            "--model",
            model,
            "--data",
            "data",
            "--output",
            "out",
            "--overwrite",
        ];
        let ran = trainyard(path, &[&arguments, more].concat());
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        json(path.join("out/summary.json"))["validation_loss"].as_f64().expect("a loss")
    };
    let loss = train("at 12:30.pt", &[]);
    let mut saved =
        Tensor::read_safetensors(path.join("out/model.safetensors")).expect("the weights");
    saved.sort_by(|a, b| a.0.cmp(&b.0));
    let script = tch::CModule::load(path.join("out/model.pt")).expect("a module");
    let mut scripted = script.named_parameters().expect("parameters");
    scripted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(saved.len(), 6);
    for ((name, tensor), (other, expected)) in saved.iter().zip(&scripted) {
        assert!(name == other && tensor.equal(expected), "{name} and {other}");
    }
    fs::rename(path.join("out/model.pt"), path.join("again.pt")).expect("a file");
    let again = train("again.pt", &["--set", "optimizer.params.lr=0"]);
    assert!((again - loss).abs() < 1e-6 * loss, "{loss}, loaded again {again}");
}

/// Buffers that the model in Python keeps out of its `state_dict` are kept out of `model.safetensors`: where the file
/// says which they are, and where it does not.
#[test]
fn the_model_in_python_takes_what_was_saved() {
    let config = r#"{ "train_batch_size": 8, "training": { "total_steps": 3 },
        "script": { "loss": { "type": "cross_entropy", "labels": "labels" } },
        "optimizer": { "type": "SGD", "params": { "lr": 0.1 } } }"#;
    let script = checkout("tests/python/state_dict.py");
    for sort in ["recorded", "plain"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path();
        python(&script, ["make".into(), path.to_owned(), sort.into()]);
        write(path, "run.json", config);
        let mut model = "model.pt".to_owned();
        // What was trained is trained again: it still says what it said.
        for output in [sort.to_owned(), format!("{sort} again")] {
            let arguments = ["--model", &model, "--data", "data", "--output", &output];
            let ran =
                trainyard(path, &[&["train", "--config", "run.json"], &arguments[..]].concat());
            assert_eq!(ran.status, Some(0), "{ran:#?}");
            python(&script, ["load".into(), path.to_owned(), path.join(&output)]);
            model = format!("{output}/model.pt");
        }
    }
}

/// libtorch's own writer ends the process where a disk is full.
#[test]
fn a_script_that_finds_no_room_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let make = ["make".into(), path.to_owned(), "plain".into()];
    python(&checkout("tests/python/state_dict.py"), make);
    let config = r#"{ "train_batch_size": 8, "training": { "total_steps": 3 },
        "script": { "model": "model.pt", "data": { "folder": "data" },
                    "loss": { "type": "cross_entropy", "labels": "labels" } },
        "optimizer": { "type": "SGD", "params": { "lr": 0.1 } } }"#;
    write(path, "run.json", config);
    let ran = limited(path, 8, &["train", "--config", "run.json", "--output", "out"]);
    failed(&ran, &path.join("out"), "model.pt", &["steps.jsonl"]);
}

#[test]
fn a_device_that_is_not_there() {
    let folder = crate::folder();
    let train = |device: &str| {
        let arguments = ["train", "--config", "run.json", "--output", "out", "--device", device];
        let ran = trainyard(folder.path(), &arguments);
        assert!(ran.status != Some(0) && ran.stdout.is_empty(), "{ran:#?}");
        assert!(!folder.path().join("out").exists());
        (ran.status, ran.stderr)
    };
    let (status, said) = train("tpu");
    assert!(status == Some(2) && said.contains("auto, cpu, cuda or a GPU's number"), "{said}");
    let (status, said) = train("cuda:99");
    assert!(status == Some(1) && said.starts_with("error: --device cuda"), "{said}");
}

/// The checks that need no model take the configuration for what it is.
#[test]
fn the_examples_are_valid_and_explained_without_a_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["bert", "gpt2", "vit", "resnet"] {
        let config = checkout(&format!("examples/torchscript/{name}.json"));
        let config = config.to_str().expect("UTF-8");
        let ran = trainyard(folder.path(), &["validate", config]);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        let ran = trainyard(folder.path(), &["explain", config]);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        assert!(ran.stdout.contains("the script is not read"), "{}", ran.stdout);
    }
    write(folder.path(), "not.pt", "{}");
    let ran = trainyard(folder.path(), &["inspect", "not.pt"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
}
