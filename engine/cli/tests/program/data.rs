//! Data by input name that is as other programs write it, or does not fit the model.
use crate::script::python;
use crate::{Ran, trainyard, write};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Guesses the next of 20 tokens.
const MODEL: &str = r#"
import sys
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.out = nn.Linear(8, 20)

    def forward(self, input_ids):
        return self.out(self.table(input_ids))

torch.manual_seed(1)
torch.jit.script(Model()).save(sys.argv[1] + "/model.pt")
"#;

/// A folder with the model and a configuration.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "model.py", MODEL);
    python(&folder.path().join("model.py"), [folder.path().to_owned()]);
    let config = json!({
        "train_batch_size": 8,
        "training": { "epochs": 1 },
        "optimizer": { "type": "SGD", "params": { "lr": 0.1 } },
        "script": {
            "data": { "sequence_length": 8 },
            "loss": { "type": "cross_entropy", "labels": "input_ids", "shift": true }
        }
    });
    write(folder.path(), "run.json", &config.to_string());
    folder
}

fn ids(count: usize) -> Vec<u16> {
    (0..count).map(|at| (at * at % 19) as u16).collect()
}

fn bytes(ids: &[u16]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// Trains on a folder of these files.
fn trained(path: &Path, files: &[(&str, Vec<u8>)], changes: &[&str]) -> Ran {
    fs::remove_dir_all(path.join("data")).ok();
    for (name, bytes) in files {
        let path = path.join("data").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    let mut arguments =
        vec!["train", "--config", "run.json", "--model", "model.pt", "--data", "data"];
    arguments.extend(["--device", "cpu", "--output", "out", "--overwrite"]);
    arguments.extend(changes.iter().flat_map(|change| ["--set", change]));
    trainyard(path, &arguments)
}

/// The files that nanoGPT and llm.c write give the losses of the same tokens under names of our own.
#[test]
fn token_files_of_other_programs_are_read_as_they_are() {
    let folder = folder();
    let path = folder.path();
    let (train, held) = (ids(800), ids(160));
    let losses = |files: &[(&str, Vec<u8>)]| {
        let ran = trained(path, files, &[]);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        let text = fs::read_to_string(path.join("out/summary.json")).expect("a summary");
        let summary: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(summary["steps"], 12, "100 sequences, 8 a step");
        (summary["loss"].clone(), summary["validation_loss"].clone())
    };
    let header = |ids: &[u16]| {
        let mut file: Vec<u8> =
            [20_240_520u32, 1, ids.len() as u32].into_iter().flat_map(u32::to_le_bytes).collect();
        file.resize(1024, 0);
        [file, bytes(ids)].concat()
    };
    let own = losses(&[
        ("train/input_ids.bin", bytes(&train)),
        ("validation/input_ids.bin", bytes(&held)),
    ]);
    let nano = [("train.bin", bytes(&train)), ("val.bin", bytes(&held)), ("meta.pkl", vec![])];
    assert_eq!(losses(&nano), own);
    let (first, second) = train.split_at(320);
    let shards = [
        ("f_train_000001.bin", header(first)),
        ("f_train_000002.bin", header(second)),
        ("f_val_000000.bin", header(&held)),
    ];
    assert_eq!(losses(&shards), own);
}

#[test]
fn what_a_model_cannot_look_up_is_named_with_its_place() {
    let folder = folder();
    let path = folder.path();
    let mut tokens = ids(160);
    tokens[77] = 25;
    let ran = trained(
        path,
        &[("train/input_ids.bin", bytes(&tokens)), ("val/input_ids.bin", bytes(&ids(80)))],
        &[],
    );
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    for words in [
        "index out of range in self",
        "`input_ids` has 25 in sample 9 of \"data/train/input_ids.bin\"",
    ] {
        assert!(ran.stderr.contains(words), "{words:?} in\n{}", ran.stderr);
    }
    // Told before a step, for a look at the labels finds it.
    let labels: Vec<u8> =
        (0..160i64).flat_map(|at| (at % 20 - i64::from(at == 33) * 40).to_le_bytes()).collect();
    let header = |shape: &str| {
        let text = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}");
        let text = format!("{text:<117}\n");
        [b"\x93NUMPY\x01\x00", &118u16.to_le_bytes()[..], text.as_bytes()].concat()
    };
    let files =
        [("input_ids.bin", bytes(&ids(160))), ("labels.npy", [header("(20, 8)"), labels].concat())];
    let ran = trained(path, &files, &["script.loss.labels=labels", "script.loss.shift=false"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(
        ran.stderr
            .contains("`labels` has -27 in sample 4 of \"data/labels.npy\", which is no class"),
        "{}",
        ran.stderr
    );
    // Told in the step, for only the model says how many classes there are.
    let far: Vec<u8> =
        (0..160i64).flat_map(|at| if at % 20 == 14 { 40 } else { at % 20 }.to_le_bytes()).collect();
    let files =
        [("input_ids.bin", bytes(&ids(160))), ("labels.npy", [header("(20, 8)"), far].concat())];
    let ran = trained(path, &files, &["script.loss.labels=labels", "script.loss.shift=false"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    for words in [
        "a label in `labels` is 40, and output 0 has 20 classes",
        "`labels` has 40 in sample ",
        " of \"data/labels.npy\"",
    ] {
        assert!(ran.stderr.contains(words), "{words:?} in\n{}", ran.stderr);
    }
}

#[test]
fn ids_of_another_width_are_told_before_a_step() {
    let folder = folder();
    let wide: Vec<u8> = ids(800).iter().flat_map(|&id| u32::from(id).to_le_bytes()).collect();
    let files = [("input_ids.bin", wide)];
    let ran = trained(folder.path(), &files, &[]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("set token_type to \"uint32\""), "{}", ran.stderr);
    assert!(!folder.path().join("out").exists());
    let ran = trained(folder.path(), &files, &["script.data.token_type=uint32"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
}
