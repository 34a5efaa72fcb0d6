//! Programs of torch.export, exported by `examples/torchscript/export.py --program`: inspected and trained from the
//! command line alone, on two ranks as on one.
use crate::script::{exported, python};
use crate::{Ran, checkout, trainyard};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Trains by the configuration of the examples, without layer dropping.
fn train(folder: &Path, launcher: &[&str], name: &str, output: &str, changes: &[&str]) -> Ran {
    let config = checkout(&format!("examples/torchscript/{name}.json"));
    let (model, data) = (format!("{name}/model.pt2"), format!("{name}/data"));
    let mut arguments = launcher.to_vec();
    arguments.extend(["train", "--config", config.to_str().expect("UTF-8"), "--model", &model]);
    arguments.extend(["--data", &data, "--output", output]);
    let plain = ["progressive_layer_drop.enabled=false", "training.epochs=null"];
    arguments.extend(plain.iter().chain(changes).flat_map(|change| ["--set", change]));
    trainyard(folder, &arguments)
}

fn losses(folder: &Path, output: &str, key: &str) -> Vec<f64> {
    let text = fs::read_to_string(folder.join(output).join("steps.jsonl")).expect("a log");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter_map(|line| line[key].as_f64()).collect()
}

/// The validation loss falls from what chance gives, and the model in Python takes every weight.
#[test]
fn a_program_learns_and_python_takes_its_weights() {
    for (name, changes, chance, below) in [
        (
            "bert",
            &["script.data.sequence_length=16", "script.data.masking.vocabulary=40"][..],
            40f64.ln(),
            3.3,
        ),
        ("resnet", &[], 4f64.ln(), 1.2),
    ] {
        let folder = exported(name, &["--program", "--samples", "1280", "--dropout", "0.1"]);
        let path = folder.path();
        let more = ["training.total_steps=200", "training.evaluate_every=50"];
        let ran = train(path, &[], name, "out", &[changes, &more].concat());
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        let found = losses(path, "out", "validation_loss");
        let last = *found.last().expect("an evaluation");
        assert!(last < below && found[0] < 1.2 * chance, "{name}: {found:?}");
        assert!(!path.join("out/model.pt").exists());
        assert!(ran.stdout.contains("model.pt2"), "{}", ran.stdout);
        let check = ["program".into(), name.into(), path.join("out")];
        python(&checkout("tests/python/state_dict.py"), check);
    }
}

/// Each rank has its share of the batch; without dropout the losses are those of one process.
#[test]
fn two_ranks_train_a_program_as_one() {
    let folder = exported("gpt2", &["--program", "--samples", "128", "--dropout", "0"]);
    let path = folder.path();
    let more = ["training.total_steps=4", "train_batch_size=16", "training.evaluate_every=0"];
    let run = |launcher: &[&str], output: &str| {
        let ran = train(path, launcher, "gpt2", output, &more);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        losses(path, output, "loss")
    };
    let one = run(&[], "one");
    let program = env!("CARGO_BIN_EXE_trainyard");
    let two = run(&["launch", "--nproc-per-node", "2", "--", program], "two");
    assert_eq!((one.len(), two.len()), (4, 4));
    for (one, two) in one.iter().zip(&two) {
        assert!((one - two).abs() < 1e-5 * one, "{one}, two ranks {two}");
    }
}

/// Weights go from one run to another by the names that they have in Python. The embedding has two, of which one does.
#[test]
fn a_program_begins_with_weights_by_name() {
    let folder = exported("gpt2", &["--program", "--samples", "64"]);
    let path = folder.path();
    let train = |output: &str, changes: &[&str]| train(path, &[], "gpt2", output, changes);
    let two = ["training.total_steps=2", "optimizer.params.lr=0.01"];
    assert_eq!(train("first", &two).status, Some(0));
    let weights =
        |output: &str| fs::read(path.join(output).join("model.safetensors")).expect("weights");
    let still = ["training.total_steps=1", "optimizer.params.lr=0"];
    for (output, from) in [
        ("whole", r#"init_from={"file": "first", "unexpected": "error"}"#),
        ("tied", r#"init_from={"file": "first", "names": {"model.lm_head.weight": null}}"#),
    ] {
        let ran = train(output, &[&still[..], &[from]].concat());
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        assert!(weights(output) == weights("first"), "{from}");
    }
    assert_eq!(train("plain", &still).status, Some(0));
    assert!(weights("plain") != weights("first"), "the run has moved its weights");
    let other = r#"init_from={"file": "first", "names": {"model.transformer.h.*": null}}"#;
    let ran = train("less", &[&still[..], &[other]].concat());
    assert_eq!(ran.status, Some(1));
    assert!(ran.stderr.contains("of the model are not there: `model.transformer.h.0."), "{ran:#?}");
    assert!(!path.join("less").exists());
}

#[test]
fn inspect_shows_a_programs_modules_and_sizes() {
    let folder = exported("resnet", &["--program", "--samples", "8"]);
    let path = folder.path();
    let ran = trainyard(path, &["inspect", "resnet/model.pt2", "--depth", "2"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:#?}");
    for line in [
        "(the model)",
        "forward    images [s",
        ", 3, 8, 8]",
        "mode       exported in training mode; its dropouts and normalisations",
        "(9) are off in evaluation",
        "operators  ",
    ] {
        assert!(ran.stdout.contains(line), "{line:?} in\n{}", ran.stdout);
    }
    let ran = trainyard(path, &["inspect", "resnet/model.pt2", "--format", "json"]);
    let shown: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let modules = shown["modules"].as_array().expect("a list");
    let block = modules.iter().find(|module| module["name"] == "stage1.0").expect("a block");
    // Two convolutions of 8 x 8 x 9, two normalisations of 16.
    assert_eq!(
        (block["parameters"].as_u64(), &block["class"]),
        (Some(1184), &"__main__.Block".into())
    );
}

/// What cannot be done is said, before anything is written where it is known then.
#[test]
fn what_a_program_cannot_do_is_said() {
    let folder = exported("gpt2", &["--program", "--samples", "64"]);
    let path = folder.path();
    let refused = |changes: &[&str], parts: &[&str]| {
        let ran = train(path, &[], "gpt2", "out", &[&["training.total_steps=1"], changes].concat());
        assert_eq!(ran.status, Some(1), "{ran:#?}");
        for part in parts {
            assert!(ran.stderr.contains(part), "{part:?} in {}", ran.stderr);
        }
    };
    refused(
        &["progressive_layer_drop.enabled=true"],
        &["the layers \"model.transformer.h.*\" cannot be dropped"],
    );
    refused(
        &["script.inputs.ids=input_ids"],
        &["forward has no argument `ids`; it takes `input_ids`"],
    );
    let model = path.join("gpt2/model.pt2");
    let whole = fs::read(&model).expect("the model");
    fs::write(&model, &whole[..whole.len() / 2]).expect("a file");
    refused(&[], &["damaged or truncated zip archive"]);
    assert!(!path.join("out").exists());
    // What only the first step finds.
    fs::write(&model, &whole).expect("a file");
    refused(
        &["script.loss.type=output", "script.loss.labels=null", "script.loss.shift=false"],
        &["output 0 is", "and a loss is one number"],
    );
}
