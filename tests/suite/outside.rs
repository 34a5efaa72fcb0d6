//! A user's own Cargo project, outside the workspace: what `tests/outside` holds is copied to a temporary
//! folder, built there and run. The README shows its files.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Features that the rest of the workspace switches on in what the project depends on. With them it finds
/// tch and nearly everything else compiled in the workspace's target folder; where the list falls behind,
/// the test takes minutes longer, and that is all.
const SAME_FEATURES: &str = r#"
[dependencies.borrow-or-share]
version = "0.2"

[dependencies.fluent-uri]
version = "0.3"

[dependencies.getrandom]
version = "0.3"
features = ["std"]

[dependencies.getrandom_of_rand]
package = "getrandom"
version = "0.4"
features = ["std", "sys_rng"]

[dependencies.miette]
version = "7.6"
features = ["fancy-no-backtrace"]

[dependencies.regex-automata]
version = "0.4"
default-features = false
features = ["dfa"]

[dependencies.rustix]
version = "1.1"
features = ["fs", "process", "termios"]

[dependencies.smallvec]
version = "1"
features = ["const_generics"]

[build-dependencies.syn]
version = "3"
features = ["extra-traits", "fold", "full", "visit"]
"#;

/// The folder of the checkout.
fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the checkout").to_owned()
}

/// Copies a folder's files, with `../trainyard` in them replaced by the checkout's path.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the temporary folder can be written");
    for entry in fs::read_dir(from).expect("the template is in the checkout") {
        let path = entry.expect("the template can be read").path();
        let copied = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            let text = fs::read_to_string(&path).expect("the template is text");
            let checkout = checkout().display().to_string();
            fs::write(copied, text.replace("../trainyard", &checkout)).expect("it can be written");
        }
    }
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("the program can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A cargo as the user would start it, with nothing of the one that runs this test.
fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO"));
    let ours =
        |name: &str| name.starts_with("CARGO") || name.starts_with("RUST") || name == "LIBTORCH";
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(ours) && name != "CARGO_HOME" && name != "RUSTUP_HOME" {
            command.env_remove(name);
        }
    }
    command.current_dir(folder);
    command
}

#[test]
fn a_project_outside_builds_and_trains() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path().join("outside");
    copy(&checkout().join("tests/outside"), &folder);
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).expect("the template has one");
    fs::write(&manifest, text + SAME_FEATURES).expect("it can be written");
    // The versions that are here already: the test downloads nothing.
    fs::copy(checkout().join("Cargo.lock"), folder.join("Cargo.lock")).expect("a lock file");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is target/tmp");
    let cargo = |arguments: &[&str]| {
        succeed(cargo(&folder).args(arguments).arg("--offline").env("CARGO_TARGET_DIR", target));
    };
    cargo(&["build"]);

    let program = target.join("debug/outside");
    let run = || {
        let mut command = Command::new(&program);
        command.current_dir(&folder).env_remove("LD_LIBRARY_PATH");
        command
    };
    let printed = String::from_utf8(succeed(&mut run()).stdout).expect("it prints UTF-8");
    let words: Vec<&str> = printed.split_whitespace().collect();
    let number = |place: usize| -> f64 {
        let word = words.get(place).map(|word| word.trim_end_matches(','));
        word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{printed}"))
    };
    // "60 steps: loss 0.7 to 0.01, validation 0.01, depth 2.9 of 4, 2 frozen"
    let (first, validation, depth, frozen) = (number(3), number(7), number(9), number(12));
    assert!(validation < 0.5 * first, "{printed}");
    assert!(depth < 3.5, "layer dropping is on: {printed}");
    assert_eq!(frozen, 2.0, "weight and bias of `embed`: {printed}");

    // The project's own section is checked like any other.
    let config = folder.join("run.json");
    let text = fs::read_to_string(&config).expect("the configuration is there");
    fs::write(&config, text.replace("from_step", "from_stpe")).expect("it can be written");
    let output = run().output().expect("the program can be started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let expected = r#"freeze: unknown key "from_stpe"; did you mean "from_step"?"#;
    assert!(error.contains(expected), "{error}");
    // The next run's folder has another name and so makes another program: this one would stay for good.
    cargo(&["clean", "--package", "outside"]);
}
