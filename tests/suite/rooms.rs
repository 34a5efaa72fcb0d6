//! What stands in which room: the arrows of ARCHITECTURE.md.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Rust files below `folder`, as paths from the root.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut open = vec![PathBuf::from(folder)];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            match entry.file_type().expect("a type").is_dir() {
                true => open.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
                false => {}
            }
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

/// What another program's files hold is a dialect, which the plugins' crate has.
#[test]
fn core_and_configuration_do_not_know_deepspeed() {
    for path in ["engine/config/src", "engine/core/src"].into_iter().flat_map(sources) {
        let text = fs::read_to_string(root().join(&path)).expect("a text").to_lowercase();
        assert!(!text.contains("deepspeed"), "{}", path.display());
    }
}

/// The packages of this workspace that `package` is built with.
fn built_with(package: &str) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--prefix", "none", "-e", "normal", "-p", package])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).expect("UTF-8");
    let names = text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned);
    names.filter(|name| name != package).collect()
}

#[test]
fn arrows_run_one_way() {
    for (package, without) in [
        ("trainyard-config", &["trainyard", "trainyard-native", "tch", "torch-sys"][..]),
        ("trainyard", &["trainyard-plugins", "trainyard-data", "trainyard-run"]),
        ("trainyard-plugins", &["trainyard-data", "trainyard-run", "trainyard-models"]),
        (
            "trainyard-checkpoint",
            &["trainyard-plugins", "trainyard-data", "trainyard-run", "trainyard-models"],
        ),
        ("trainyard-run", &["trainyard-plugins", "trainyard-models", "trainyard-examples"]),
        ("trainyard-models", &["trainyard-examples", "trainyard-cli"]),
        ("trainyard-data", &["trainyard", "trainyard-plugins"]),
        ("trainyard-figures", &["trainyard-examples", "trainyard-cli"]),
        ("trainyard-cli", &["trainyard-examples", "trainyard-tests"]),
    ] {
        let found = built_with(package);
        assert!(!found.is_empty(), "{package}");
        for name in without {
            assert!(!found.iter().any(|have| have == name), "{package} is built with {name}");
        }
    }
}
