//! What the README and the pages of `docs` show is what is there.
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The pages at the top and every page of `docs`, as paths from the root.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).expect("docs can be listed");
    let docs = docs.map(|entry| Path::new("docs").join(entry.expect("an entry").file_name()));
    let docs = docs.filter(|path| path.extension().is_some_and(|e| e == "md"));
    let top = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md"].map(PathBuf::from);
    let pages: Vec<_> = top.into_iter().chain(docs).collect();
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

/// Lines of code, without the comment that heads the file.
fn code(path: &str) -> Vec<String> {
    read(path).lines().filter(|line| !line.starts_with("//!")).map(str::to_owned).collect()
}

/// A newcomer reads it in one go.
#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 220, "{lines} lines");
}

/// Every relative link of every page leads to a file or folder of the project.
#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let folder = root().join(&page).parent().expect("a page is in a folder").to_owned();
        let text = read(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().expect("split gives one part");
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(folder.join(target).exists(), "{}: ({link}) leads nowhere", page.display());
        }
    }
}

/// The `-` and `+` lines of the page's first diff are the difference between the plain BERT and the
/// wrapped one, no line more or less.
#[test]
fn the_diff_is_the_difference_between_the_two_berts() {
    let (plain, wrapped) = (code("examples/src/plain_bert.rs"), code("engine/models/src/bert.rs"));
    let page = read("docs/rust-models.md");
    let diff = page.split("```diff\n").nth(1).and_then(|rest| rest.split("```").next());
    let diff = diff.expect("the page has a diff");
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
fn every_make_target_that_a_page_names_exists() {
    let makefile = read("Makefile");
    let mut seen = Vec::new();
    for page in pages() {
        let text = read(&page);
        let commands = text.lines().filter_map(|line| line.strip_prefix("    make "));
        let inline = text.split("`make ").skip(1);
        for target in commands.chain(inline).filter_map(|t| t.split(['`', ' ', '\n']).next()) {
            let there = makefile.contains(&format!("\n{target}:"));
            assert!(there, "{}: `make {target}`", page.display());
            seen.push(target.to_owned());
        }
    }
    assert!(["demo", "test", "bench"].iter().all(|t| seen.iter().any(|s| s == t)), "{seen:?}");
}

/// Code that a page takes from a file is in that file, to the letter.
#[test]
fn excerpts_are_of_files_that_are_tested() {
    let excerpts = [
        ("docs/writing-a-plugin.md", "imports:", "examples/custom_plugin/gradient_noise.rs"),
        ("docs/install.md", "`Cargo.toml`:", "tests/outside/Cargo.toml"),
        ("docs/install.md", "`.cargo/config.toml`,", "tests/outside/.cargo/config.toml"),
        ("docs/install.md", "`build.rs`, so", "tests/outside/build.rs"),
    ];
    for (page, before, path) in excerpts {
        let text = read(page);
        let block = text.split(before).nth(1).and_then(|rest| rest.split("```").nth(1));
        let block = block.unwrap_or_else(|| panic!("{page}: no block after {before:?}"));
        let file = read(path);
        for line in block.lines().skip(1) {
            assert!(file.lines().any(|have| have == line), "{path} has no line `{line}`");
        }
    }
}
