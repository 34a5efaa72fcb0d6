//! PyTorch's own Python, to compare with.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::Tensor;

/// Runs a script of `tests/python` on named tensors and returns those that it made.
///
/// The script is called with two paths: an `.npz` to read, and one to write.
///
/// # Panics
/// If there is no Python with PyTorch, saying how to get one, or if the script fails.
pub fn python(script: &str, inputs: &[(String, Tensor)]) -> BTreeMap<String, Tensor> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (given, made) = (folder.path().join("given.npz"), folder.path().join("made.npz"));
    Tensor::write_npz(inputs, &given).expect("the inputs can be written");
    run(script, [given.as_path(), &made]);
    Tensor::read_npz(made).expect("the script's output").into_iter().collect()
}

/// Runs a script of `tests/python`, and returns what it prints.
///
/// # Panics
/// If there is no Python with PyTorch, or if the script fails.
pub fn run<'a>(script: &str, arguments: impl IntoIterator<Item = &'a Path>) -> String {
    // Tests that were built elsewhere run beside a copy of the checkout.
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = if built.exists() { built } else { Path::new("tests") };
    let output = Command::new(interpreter())
        .arg(here.join("python").join(script))
        .args(arguments)
        // What is compared with is on the CPU.
        .env("CUDA_VISIBLE_DEVICES", "")
        .output()
        .unwrap_or_else(|e| {
            panic!("no Python at {}: {e}; run `make test`", interpreter().display())
        });
    assert!(
        output.status.success(),
        "{script} failed (PyTorch's Python is set up by `make test`):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8 is printed")
}

fn interpreter() -> PathBuf {
    if let Some(python) = std::env::var_os("TRAINYARD_PYTHON") {
        return python.into();
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.libtorch/python")
}
