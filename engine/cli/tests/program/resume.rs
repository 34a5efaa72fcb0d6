//! Runs that end before their end, and go on.
use crate::output::Disk;
use crate::{Ran, checkout, configuration, ended, folder, program, trainyard, write};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Time for what takes a moment.
const SOON: Duration = Duration::from_secs(60);

/// A folder with a configuration of so many steps that saves every second one.
fn saving(steps: u64) -> TempDir {
    let folder = folder();
    let mut config = configuration();
    config["training"]["total_steps"] = json!(steps);
    config["progressive_layer_drop"]["gamma"] = json!(0.1);
    config["checkpoint"] = json!({ "every_steps": 2 });
    config["distributed"] = json!({ "timeout_seconds": 60 });
    write(folder.path(), "run.json", &config.to_string());
    folder
}

fn train(folder: &Path, output: &str, more: &[&str]) -> Ran {
    let arguments = ["train", "--config", "run.json", "--output", output];
    trainyard(folder, &[&arguments[..], more].concat())
}

/// Steps that the log has, in order, each once.
fn steps(folder: &Path) -> Vec<u64> {
    let text = fs::read_to_string(folder.join("steps.jsonl")).expect("a log");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let steps = lines.filter(|line| line.get("attempt").is_some());
    steps.map(|line| line["step"].as_u64().expect("a number")).collect()
}

fn weights(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("model.safetensors")).expect("weights")
}

fn wait_for(what: &Path) {
    let began = Instant::now();
    while !what.exists() {
        assert!(began.elapsed() < SOON, "{} does not come", what.display());
        thread::sleep(Duration::from_millis(2));
    }
}

/// A training that has saved the checkpoint of that step, and goes on.
fn started(folder: &Path, output: &str, step: u64) -> Child {
    let mut command = program(folder, &["train", "--config", "run.json", "--output", output]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    wait_for(&folder.join(format!("{output}/checkpoints/step-{step}/checkpoint.json")));
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}

/// Killed, asked to stop by two signals, and at last left alone: the same command goes on each time.
#[test]
fn the_same_command_goes_on() {
    let folder = saving(300);
    let path = folder.path();
    assert_eq!(train(path, "straight", &[]).status, Some(0));
    let child = started(path, "out", 2);
    signal(&child, Signal::KILL);
    assert_eq!(ended(child.wait_with_output().expect("it ends")).status, None);
    for (asked, name, status) in [(Signal::TERM, "SIGTERM", 143), (Signal::USR1, "SIGUSR1", 138)] {
        let (before, places) = (steps(&path.join("out")).len(), path.join("out/checkpoints"));
        let newest = || fs::read_dir(&places).expect("a folder").count();
        assert!(newest() > 0);
        let child = started(path, "out", 2 + before as u64 / 2 * 2 + 2);
        signal(&child, asked);
        let ran = ended(child.wait_with_output().expect("it ends"));
        assert_eq!(ran.status, Some(status), "{ran:#?}");
        assert!(ran.stderr.contains(&format!("asked to stop by {name}")), "{ran:#?}");
    }
    let reached = steps(&path.join("out")).len() as u64;
    let ran = train(path, "out", &[]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let from = format!("goes on from out/checkpoints/step-{reached}");
    assert!(ran.stderr.contains(&from), "{from}: {ran:#?}");
    assert_eq!(steps(&path.join("out")), (0..300).collect::<Vec<_>>());
    assert!(weights(&path.join("out")) == weights(&path.join("straight")));
    // And what is complete stays so.
    let again = train(path, "out", &[]);
    assert_eq!(again.status, Some(0), "{again:#?}");
    assert!(weights(&path.join("out")) == weights(&path.join("straight")));
}

/// More steps and another rate go on, and are told; another optimizer or model does not.
#[test]
fn what_changed_is_told_or_refused() {
    let folder = saving(4);
    let path = folder.path();
    assert_eq!(train(path, "out", &[]).status, Some(0));
    let kept = weights(&path.join("out"));
    for (change, why) in [
        (r#"optimizer={"type": "Lion", "params": {"lr": 1e-4}}"#, "Lion"),
        ("model.hidden=32", "`last_norm.bias` is [16], saved, and [32] here"),
        ("model.layers=1", "`layers.1."),
    ] {
        let ran = train(path, "out", &["--set", "training.total_steps=6", "--set", change]);
        assert_eq!(ran.status, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("step-4") && ran.stderr.contains(why), "{why}: {ran:#?}");
        assert!(ran.stderr.contains("init_from"), "what to do: {ran:#?}");
        assert_eq!(steps(&path.join("out")), [0, 1, 2, 3], "nothing is lost");
        assert!(weights(&path.join("out")) == kept);
    }
    let more = ["training.total_steps=6", "optimizer.params.lr=0.01"];
    let ran = train(path, "out", &["--set", more[0], "--set", more[1]]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let told = "the configuration has changed: ";
    let line = ran.stderr.lines().find(|line| line.contains(told)).expect(told);
    for change in
        ["training.total_steps was 4 and is 6", "optimizer.params.lr was 0.001 and is 0.01"]
    {
        assert!(line.contains(change), "{line}");
    }
    assert_eq!(steps(&path.join("out")), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn where_a_run_begins_can_be_said() {
    let folder = saving(4);
    let path = folder.path();
    assert_eq!(train(path, "one", &[]).status, Some(0));
    // From another run's checkpoint, into a folder of its own.
    let ran = train(path, "two", &["--resume", "one", "--set", "training.total_steps=6"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_eq!(steps(&path.join("two")), [4, 5]);
    assert_eq!(steps(&path.join("one")), [0, 1, 2, 3]);
    let ran = train(path, "three", &["--resume", "one/checkpoints/step-2"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_eq!(steps(&path.join("three")), [2, 3]);
    assert!(weights(&path.join("three")) == weights(&path.join("one")));
    // None is there.
    for (output, resume) in [("four", &["--resume"][..]), ("four", &["--resume", "nowhere"])] {
        let ran = train(path, output, resume);
        assert_eq!(ran.status, Some(1), "{ran:#?}");
        assert!(!path.join("four").exists(), "{ran:#?}");
    }
    let never = ["--set", "checkpoint.resume=never"];
    let ran = train(path, "one", &never);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    let why = "one/checkpoints/step-4 is there, and checkpoint.resume is \"never\": go on from it with --resume";
    assert!(ran.stderr.contains(why), "{ran:#?}");
    let ran = train(
        path,
        "one",
        &[&never[..], &["--overwrite", "--set", "training.total_steps=2"]].concat(),
    );
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_eq!(steps(&path.join("one")), [0, 1]);
    let left: Vec<_> = fs::read_dir(path.join("one/checkpoints")).expect("a folder").collect();
    let named = |name: &str| left.iter().flatten().any(|entry| entry.file_name() == name);
    assert!(named("step-2") && !named("step-4"), "{left:?}");
}

/// Where the last checkpoint is damaged, the one before is taken; where none is whole, the run does not begin anew.
#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let folder = saving(6);
    let path = folder.path();
    assert_eq!(train(path, "out", &[]).status, Some(0));
    let damage = |step: u64| {
        let file = path.join(format!("out/checkpoints/step-{step}/model.safetensors"));
        let content = fs::read(&file).expect("a file");
        fs::write(&file, &content[..content.len() / 2]).expect("a file");
    };
    let whole = weights(&path.join("out"));
    damage(6);
    let ran = train(path, "out", &[]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("step-6") && ran.stderr.contains("step-4"), "{ran:#?}");
    assert!(weights(&path.join("out")) == whole);
    damage(4);
    damage(6);
    // As a run leaves it that was killed.
    fs::remove_file(path.join("out/summary.json")).expect("a file");
    for resume in [&["--resume"][..], &[]] {
        let ran = train(path, "out", resume);
        assert_eq!(ran.status, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("has no whole checkpoint"), "{ran:#?}");
        assert_eq!(steps(&path.join("out")), (0..6).collect::<Vec<_>>());
    }
}

/// The second of two runs at one folder is told, and the first one goes on.
#[test]
fn one_run_at_a_time() {
    let folder = saving(2000);
    let path = folder.path();
    let mut child = started(path, "out", 2);
    let ran = train(path, "out", &[]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains(&format!("process {}", child.id())), "{ran:#?}");
    assert!(child.try_wait().expect("a process").is_none());
    signal(&child, Signal::KILL);
    child.wait().expect("it ends");
}

/// A script for each rank, whose second is killed once, behind the checkpoint of step 4.
fn dying(folder: &Path) -> String {
    let train = format!("{} train --config run.json --output out", env!("CARGO_BIN_EXE_trainyard"));
    write(
        folder,
        "rank.sh",
        &format!(
            "if [ $RANK = 1 ] && ! [ -e died ]; then\n\
             touch died; {train} & trainer=$!\n\
             while ! [ -e out/checkpoints/step-4/checkpoint.json ]; do sleep 0.01; done\n\
             kill -9 $trainer; wait $trainer; exit $?\n\
         fi\n\
         exec {train}\n"
        ),
    );
    "rank.sh".to_owned()
}

/// The run of two ranks in `out` is the undisturbed one.
fn check_two(path: &Path) {
    let train = ["train", "--config", "run.json", "--output", "straight"];
    let ours = env!("CARGO_BIN_EXE_trainyard");
    let launch = ["launch", "--nproc-per-node", "2", "--", ours];
    let ran = trainyard(path, &[&launch[..], &train].concat());
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert!(path.join("died").exists());
    assert_eq!(steps(&path.join("out")), (0..200).collect::<Vec<_>>());
    assert!(weights(&path.join("out")) == weights(&path.join("straight")));
}

#[test]
fn the_launcher_starts_ranks_again() {
    let folder = saving(200);
    let path = folder.path();
    let script = dying(path);
    let launch = ["launch", "--nproc-per-node", "2", "--max-restarts", "2", "--", "sh", &script];
    let ran = trainyard(path, &launch);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("starting all ranks again, 1 of 2"), "{ran:#?}");
    assert!(!ran.stderr.contains("2 of 2"), "{ran:#?}");
    check_two(path);
}

#[test]
fn torchrun_starts_ranks_again() {
    let folder = saving(200);
    let path = folder.path();
    let script = dying(path);
    let mut command = Command::new::<PathBuf>(checkout(".libtorch/python"));
    command.current_dir(path).env("OMP_NUM_THREADS", "1");
    let options = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "2", "--no-python"];
    command.args(["-m", "torch.distributed.run"]).args(options).args(["sh", &script]);
    let output = command.output().expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    check_two(path);
}

/// A save that fails ends the run with the reason; what was saved before is still good.
#[test]
fn a_folder_that_goes_ends_the_run() {
    let folder = saving(2000);
    let path = folder.path();
    let child = started(path, "out", 4);
    let (here, away) = (path.join("out/checkpoints"), path.join("away"));
    fs::rename(&here, &away).expect("a folder");
    let ran = ended(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("error: cannot write out/checkpoints"), "{ran:#?}");
    assert!(!path.join("out/summary.json").exists());
    fs::remove_dir_all(&here).ok();
    fs::rename(&away, &here).expect("a folder");
    let reached = steps(&path.join("out")).len();
    let ran = train(path, "out", &["--steps", &(reached + 4).to_string()]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_eq!(steps(&path.join("out")), (0..reached as u64 + 4).collect::<Vec<_>>());
}

/// A disk that fills up ends the run with the reason; the older checkpoints are good, and with room it goes on.
#[test]
fn a_full_disk_loses_nothing() {
    let folder = saving(12);
    let path = folder.path();
    // Room for two of them, and not for a third.
    let Some(_disk) = Disk::new(&path.join("disk"), 16_000_000) else { return };
    let kept = ["--set", "checkpoint.dir=disk"];
    let ran = train(path, "out", &kept);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("error: cannot write disk/"), "{ran:#?}");
    assert!(ran.stderr.contains("No space left on device"), "{ran:#?}");
    fs::remove_dir_all(path.join("disk/step-2")).expect("an older one");
    let ran = train(path, "out", &[&kept[..], &["--set", "checkpoint.keep_last=1"]].concat());
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("goes on from disk/step-4"), "{ran:#?}");
    assert_eq!(steps(&path.join("out")), (0..12).collect::<Vec<_>>());
}

/// A launcher that starts ranks again gives them the same command line, and does not mean to begin anew.
#[test]
fn ranks_that_are_started_again_go_on_whatever_the_command_line_says() {
    let folder = saving(4);
    let path = folder.path();
    let again = |output: &str, more: &[&str]| {
        let arguments = ["train", "--config", "run.json", "--output", output];
        let arguments = [&arguments[..], more].concat();
        let mut command = program(path, &arguments);
        command.env("TORCHELASTIC_RESTART_COUNT", "1");
        ended(command.output().expect("the program starts"))
    };
    assert_eq!(train(path, "one", &[]).status, Some(0));
    for asked in [&["--overwrite"][..], &["--set", "checkpoint.resume=never"], &["--resume", "one"]]
    {
        let output = format!("out{}", asked.len() + asked[0].len());
        // None is there yet: as was asked for at first.
        let ran = again(&output, &[asked, &["--steps", "5"]].concat());
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        let ran = again(&output, &[asked, &["--steps", "6"]].concat());
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        let from = format!("the run goes on from {output}/checkpoints/step-5");
        assert!(ran.stderr.contains(&from), "{ran:#?}");
    }
}

/// Nothing that a user may still want is removed.
#[test]
fn a_run_takes_the_place_of_its_own_alone() {
    let folder = saving(4);
    let path = folder.path();
    assert_eq!(train(path, "one", &[]).status, Some(0));
    // Weights that it begins with.
    for from in ["one/checkpoints", "one/checkpoints/step-4"] {
        let from = format!("init_from=\"{from}\"");
        let ran = train(path, "one", &["--overwrite", "--set", &from]);
        assert_eq!(ran.status, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("is read by this run, which would replace it"), "{ran:#?}");
        assert!(path.join("one/checkpoints/step-4/checkpoint.json").exists());
    }
    // A run in a folder of its own, where two share a folder of checkpoints.
    let shared = ["--set", "checkpoint.dir=shared"];
    assert_eq!(train(path, "two", &shared).status, Some(0));
    let ran = train(path, "one", &shared);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("one has files of a run"), "{ran:#?}");
    let ran = train(path, "three", &["--set", "checkpoint.dir=three"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("checkpoint.dir is the folder that the run writes to"), "{ran:#?}");
}

/// The place in the data is counted in steps, so another batch size is told with what it does.
#[test]
fn another_batch_size_is_told() {
    let folder = saving(4);
    let path = folder.path();
    assert_eq!(train(path, "out", &[]).status, Some(0));
    for (size, told) in [
        (
            "2",
            "a step had 4 samples and has 2: the place in the data is counted in steps, so 8 samples come twice",
        ),
        (
            "8",
            "a step had 4 samples and has 8: the place in the data is counted in steps, so 16 samples are passed over",
        ),
    ] {
        let change = format!("train_batch_size={size}");
        let output = format!("out-{size}");
        let ran = train(path, &output, &["--resume", "out", "--steps", "5", "--set", &change]);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        assert!(ran.stderr.contains(told), "{ran:#?}");
    }
}
