//! What the README shows is what is there.
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Lines of code, without the comment that heads the file.
fn code(path: &str) -> Vec<String> {
    read(path).lines().filter(|line| !line.starts_with("//!")).map(str::to_owned).collect()
}

/// The `-` and `+` lines of the README's first diff are the difference between the plain BERT and the
/// wrapped one, no line more or less.
#[test]
fn the_diff_in_the_readme_is_the_difference_between_the_two_berts() {
    let (plain, wrapped) = (code("examples/src/plain_bert.rs"), code("examples/src/bert.rs"));
    let readme = read("README.md");
    let diff = readme.split("```diff\n").nth(1).and_then(|rest| rest.split("```").next());
    let diff = diff.expect("the README has a diff");
    let shown = |sign: char| {
        let lines = diff.lines().filter_map(move |line| line.strip_prefix(sign));
        lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let (removed, added) = (shown('-'), shown('+'));
    let mut rest = plain.iter().map(|l| l.trim().to_owned()).collect::<Vec<_>>();
    for line in &removed {
        let at = rest.iter().position(|have| have == line);
        rest.remove(at.unwrap_or_else(|| panic!("plain_bert.rs has no line `{line}`")));
    }
    rest.extend(added.iter().cloned());
    let mut expected = wrapped.iter().map(|l| l.trim().to_owned()).collect::<Vec<_>>();
    rest.sort();
    expected.sort();
    assert_eq!(rest, expected);
    assert!(added.len() <= 9, "{} lines", added.len());
}

#[test]
fn every_make_target_in_the_readme_exists() {
    let makefile = read("Makefile");
    let readme = read("README.md");
    let commands = readme.lines().filter_map(|line| line.strip_prefix("    make "));
    let inline = readme.split("`make ").skip(1);
    let named: Vec<_> = commands.chain(inline).filter_map(|t| t.split(['`', ' ']).next()).collect();
    assert!(named.contains(&"demo") && named.contains(&"test"), "{named:?}");
    for target in named {
        assert!(makefile.contains(&format!("\n{target}:")), "`make {target}`");
    }
}

/// Code that the README takes from a file is in that file, to the letter.
#[test]
fn excerpts_are_of_files_that_are_tested() {
    let readme = read("README.md");
    let excerpts = [
        ("but the imports:", "examples/custom_plugin/gradient_noise.rs"),
        ("`Cargo.toml`:", "tests/outside/Cargo.toml"),
        ("`.cargo/config.toml`,", "tests/outside/.cargo/config.toml"),
        ("`build.rs`, so", "tests/outside/build.rs"),
    ];
    for (before, path) in excerpts {
        let block = readme.split(before).nth(1).and_then(|rest| rest.split("```").nth(1));
        let block = block.unwrap_or_else(|| panic!("no block after {before:?}"));
        let file = read(path);
        for line in block.lines().skip(1) {
            assert!(file.lines().any(|have| have == line), "{path} has no line `{line}`");
        }
    }
}
