use crate::{ended, folder, program, trainyard};
use std::process::Stdio;

#[test]
fn a_wrong_command_line_is_status_2() {
    let folder = folder();
    for arguments in [
        &[][..],
        &["fly"],
        &["validate"],
        &["validate", "run.json", "--format", "xml"],
        &["validate", "run.json", "--set", "no-equals"],
        &["explain"],
        &["explain", "run.json", "--layers", "0"],
        &["explain", "run.json", "--steps", "many"],
        &["schema", "extra"],
        &["train"],
        &["train", "--config", "run.json", "--colour"],
        &["inspect"],
        &["inspect", "m.pt", "--depth", "0"],
        &["train", "--config", "run.json", "--model", "m.pt", "--text", "t"],
        &["plan"],
        &["checkpoint"],
        &["checkpoint", "ls"],
        &["checkpoint", "diff", "a"],
        &["checkpoint", "export", "a"],
        &["plan", "--model", "figures.json", "--ranks", "4..2"],
        &["plan", "--model", "figures.json", "--link", "0"],
        &["plan", "--model", "figures.json", "--theta", "1.5"],
        &["plan", "--model", "figures.json", "--measure", "run.json"],
    ] {
        let ran = trainyard(folder.path(), arguments);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {ran:#?}");
        assert!(ran.stderr.contains("--help") || ran.stderr.contains("Usage"), "{ran:#?}");
    }
}

#[test]
fn each_help_shows_an_example() {
    let folder = folder();
    for task in [
        "validate",
        "explain",
        "migrate",
        "schema",
        "train",
        "inspect",
        "launch",
        "plan",
        "checkpoint",
    ] {
        for help in ["-h", "--help"] {
            let ran = trainyard(folder.path(), &[task, help]);
            assert_eq!(ran.status, Some(0), "{ran:#?}");
            assert!(ran.stdout.contains(&format!("\n  trainyard {task}")), "{}", ran.stdout);
        }
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let folder = folder();
    for (arguments, status) in
        [(&["schema"][..], 0), (&["explain", "run.json"], 0), (&["validate", "none.json"], 1)]
    {
        let mut command = program(folder.path(), arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let ran = ended(child.wait_with_output().expect("the program ends"));
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(status), ""), "{arguments:?}");
    }
}

/// However the program ends, what it wrote has arrived and its status holds, and libtorch's tables, which fill
/// a hundred thousand pieces of memory, are left to the system.
#[test]
#[cfg(target_env = "gnu")]
fn the_end_takes_no_time() {
    let folder = folder();
    for (arguments, status, says) in [
        (&["validate", "run.json"][..], 0, "run.json: ok\n"),
        (&["validate", "none.json"], 1, "none.json: there is no such file"),
        (&["--version"], 0, "trainyard "),
        (&["fly"], 2, ""),
    ] {
        let mut command = program(folder.path(), arguments);
        // The loader tells whose constructors and destructors it calls.
        let ran = ended(command.env("LD_DEBUG", "files").output().expect("the program starts"));
        assert_eq!(ran.status, Some(status), "{arguments:?}");
        assert!(ran.stdout.contains(says), "{arguments:?}: {ran:#?}");
        let calls = |what: &str| ran.stderr.matches(what).count();
        assert!(calls("calling init: ") > 5, "{}", ran.stderr);
        assert_eq!(calls("calling fini: "), 0, "{arguments:?}");
    }
}
