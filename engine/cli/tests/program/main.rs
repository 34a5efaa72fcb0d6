//! The built `trainyard` program, as a user runs it.
mod bad_input;
mod checkpoint;
mod compare;
mod data;
mod explain;
mod exported;
mod init_from;
mod launch;
mod migrate;
mod monitors;
mod output;
mod plan;
mod ranks;
mod report;
mod resume;
mod schema;
mod script;
mod train;
mod usage;
mod validate;

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// What a run of the program came to.
#[derive(Debug)]
struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

/// The program in `folder`, with nothing of the tests' own environment that it would read.
fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainyard"));
    command.current_dir(folder).args(arguments).env("OMP_NUM_THREADS", "1");
    for name in ["RUST_LOG", "RUST_BACKTRACE", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

/// Runs the program in `folder`; whatever it was given, it neither panics nor writes colours where
/// there is no terminal.
fn trainyard(folder: &Path, arguments: &[&str]) -> Ran {
    ended(program(folder, arguments).output().expect("the program starts"))
}

fn ended(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8 is printed");
    let ran = Ran {
        status: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    for word in ["panicked", "backtrace", "internal error", "\u{1b}["] {
        assert!(!ran.stdout.contains(word) && !ran.stderr.contains(word), "{word:?} in {ran:#?}");
    }
    ran
}

/// A small model's configuration, and a text for it.
fn configuration() -> Value {
    json!({
        "model": { "layers": 2, "hidden": 16, "heads": 2, "max_positions": 16 },
        "data": { "text": "text.txt", "sequence_length": 16, "max_validation_sequences": 4 },
        "train_batch_size": 4,
        "training": { "total_steps": 6, "evaluate_every": 4, "seed": 1 },
        "optimizer": { "type": "AdamW", "params": { "lr": 1e-3 } },
        "progressive_layer_drop": { "enabled": true, "theta": 0.5, "gamma": "auto" }
    })
}

/// A folder with `run.json`, the above, and `text.txt`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "run.json", &configuration().to_string());
    let line =
        |i| format!("document {i} says that the union of {i} states is strong and at peace\n");
    write(folder.path(), "text.txt", &(0..60).map(line).collect::<String>());
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).expect("a file in a temporary folder");
}

/// A folder of the checkout.
fn checkout(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// Python with PyTorch and the reader of TensorBoard, as `make test` sets it up.
fn python(script: &Path) -> Command {
    let set = std::env::var_os("TRAINYARD_PYTHON").map(PathBuf::from);
    let mut command = Command::new(set.unwrap_or_else(|| checkout(".libtorch/python")));
    command.arg(script);
    command
}
