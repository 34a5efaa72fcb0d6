//! The folder that a run writes to: whose it is, what stops a run, and what is left when something fails.
use crate::{Ran, configuration, ended, folder, program, trainyard, write};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Names of the files in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn summary(folder: &Path) -> Value {
    let text = fs::read_to_string(folder.join("summary.json")).expect("a summary");
    serde_json::from_str(&text).expect("JSON")
}

/// The attempts of steps in the log, whose lines are each of them whole.
fn steps(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("steps.jsonl")).expect("a log");
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?} ends within a line");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON"));
    lines.filter(|line: &Value| line.get("validation_loss").is_none()).collect()
}

const WHOLE: [&str; 3] = ["model.safetensors", "steps.jsonl", "summary.json"];

#[test]
fn a_folder_is_one_runs_and_an_earlier_one_stays_unless_told() {
    let folder = folder();
    let path = folder.path();
    let train = |more: &[&str]| {
        trainyard(path, &[&["train", "--config", "run.json", "--steps", "2"], more].concat())
    };
    let ran = train(&[]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let out = path.join("runs/run");
    assert_eq!(names(&out), WHOLE);
    assert!(ran.stdout.ends_with("written to runs/run with model.safetensors\n"), "{ran:#?}");
    let first = summary(&out);
    assert_eq!((&first["ended"], &first["steps"]), (&json!("completed"), &json!(2)));
    assert_eq!(first["validation_step"], 2, "{first}");
    for name in &WHOLE[..2] {
        let bytes = fs::read(out.join(name)).expect("a file");
        let digest = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes));
        let expected = json!({ "bytes": bytes.len(), "xxh3": digest });
        assert_eq!(first["files"][name], expected, "{name}");
    }

    let ran = train(&["--set", "training.seed=2"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
    for part in
        ["error: runs/run has files of a run (summary.json, steps.jsonl", "--output", "--overwrite"]
    {
        assert!(ran.stderr.contains(part), "{part:?} in {ran:#?}");
    }
    assert_eq!(summary(&out), first, "it is as it was");
    assert!(!ran.stderr.contains("tokenis"), "told before the text is read: {ran:#?}");

    // Of an earlier run nothing is left, of others' files all.
    for name in ["model.pt", "constants.safetensors", ".unfinished-1", "notes.txt"] {
        write(&out, name, "");
    }
    let ran = train(&["--set", "training.seed=2", "--overwrite"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_eq!(names(&out), ["model.safetensors", "notes.txt", "steps.jsonl", "summary.json"]);
    assert_eq!(summary(&out)["configuration"]["training"]["seed"], 2);

    // What the run reads stays, whatever it is told.
    for more in [&["--overwrite"][..], &[]] {
        let ran = train(&[more, &["--text", "runs/run/steps.jsonl"]].concat());
        let told = "error: runs/run/steps.jsonl is read by this run, which would replace it";
        assert!(ran.status == Some(1) && ran.stderr.contains(told), "{ran:#?}");
    }

    // What is wrong with the run is found before the earlier one goes.
    let ran = train(&["--overwrite", "--set", "data.text=nowhere.txt"]);
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert_eq!(names(&out), ["model.safetensors", "notes.txt", "steps.jsonl", "summary.json"]);
}

/// What a run says on standard error, beside its folder.
const SAID: &str = "said.txt";

/// A run of so many steps that a test ends it, with at least one of them done.
struct Running(Child);

impl Running {
    fn start(mut command: Command, out: &Path) -> Self {
        let said = fs::File::create(out.with_file_name(SAID)).expect("a file");
        let command = command.stdout(Stdio::null()).stderr(said);
        let running = Running(command.spawn().expect("the program starts"));
        let began = Instant::now();
        let log = || fs::read_to_string(out.join("steps.jsonl")).unwrap_or_default();
        while log().lines().count() < 2 {
            assert!(began.elapsed() < Duration::from_secs(120), "no step in two minutes");
            sleep(Duration::from_millis(20));
        }
        running
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it runs");
    }

    fn status(mut self) -> Option<i32> {
        self.0.wait().expect("it is a child").code()
    }
}

const LONG: [&str; 7] = ["train", "--config", "run.json", "--output", "out", "--steps", "1000000"];

#[test]
fn a_signal_ends_a_run_behind_its_step_with_all_written() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let folder = folder();
        let out = folder.path().join("out");
        let running = Running::start(program(folder.path(), &LONG), &out);
        let second = trainyard(folder.path(), &[&LONG[..], &["--overwrite"]].concat());
        let id = running.0.id();
        let expected = format!("error: out is in use by the run of process {id}: name another");
        assert_eq!((second.status, second.stdout.as_str()), (Some(1), ""), "{second:#?}");
        assert!(second.stderr.contains(&expected), "{second:#?}");
        running.signal(signal);
        assert_eq!(running.status(), Some(status));
        assert_eq!(names(&out), WHOLE);
        let (summary, steps) = (summary(&out), steps(&out));
        assert_eq!(summary["ended"], "stopped");
        assert_eq!(summary["steps"].as_u64(), Some(steps.len() as u64));
    }
}

#[test]
fn a_killed_run_leaves_whole_lines_and_nothing_that_looks_finished() {
    let folder = folder();
    let out = folder.path().join("out");
    let running = Running::start(program(folder.path(), &LONG), &out);
    running.signal(Signal::KILL);
    assert_eq!(running.status(), None);
    assert!(steps(&out).len() >= 2);
    assert!(!out.join("summary.json").exists() && !out.join("model.safetensors").exists());
    // Its lock went with it.
    let again = ["train", "--config", "run.json", "--output", "out", "--steps", "1", "--overwrite"];
    let ran = trainyard(folder.path(), &again);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_eq!(names(&out), WHOLE);
}

/// A signal to one rank alone, which need not be the first, ends all of them behind one step.
#[test]
fn ranks_stop_together() {
    let folder = folder();
    let out = folder.path().join("out");
    // No grace: what is written is written before the first of them ends.
    let launch = ["launch", "--nproc-per-node", "2", "--grace", "0", "--"];
    let launch = [&launch[..], &[env!("CARGO_BIN_EXE_trainyard")]].concat();
    let small = ["--set", "train_batch_size=4"];
    let command = program(folder.path(), &[&launch[..], &LONG, &small].concat());
    let running = Running::start(command, &out);
    let ranks = children(running.0.id());
    assert_eq!(ranks.len(), 2, "{ranks:?}");
    let last = Pid::from_raw(*ranks.iter().max().expect("there are two")).expect("a process");
    kill_process(last, Signal::TERM).expect("it runs");
    assert_eq!(running.status(), Some(143));
    let said = fs::read_to_string(folder.path().join(SAID)).expect("text");
    let told = "stopped: all 2 ranks ended by themselves, with status 143";
    assert!(said.lines().last() == Some(told) && !said.contains("error"), "{said}");
    assert_eq!(names(&out), WHOLE);
    let (summary, steps) = (summary(&out), steps(&out));
    assert_eq!(summary["ended"], "stopped");
    assert_eq!(summary["steps"].as_u64(), Some(steps.len() as u64));
}

/// Processes that `parent` started.
fn children(parent: u32) -> Vec<i32> {
    let is_child = |status: &str| {
        let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        (of("PPid:") == Some(&parent.to_string())).then(|| of("Pid:")?.parse().ok()).flatten()
    };
    let processes = fs::read_dir("/proc").expect("a system with /proc").flatten();
    let statuses =
        processes.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
    statuses.filter_map(|status| is_child(&status)).collect()
}

/// The program where no file may become larger than `blocks` of 512 bytes.
pub fn limited(folder: &Path, blocks: u32, arguments: &[&str]) -> Ran {
    let inner = program(folder, arguments);
    let mut outer = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    outer.current_dir(folder).args(["-c", &script, "sh"]);
    outer.arg(inner.get_program()).args(inner.get_args()).env("OMP_NUM_THREADS", "1");
    for name in ["RUST_LOG", "RUST_BACKTRACE", "NO_COLOR"] {
        outer.env_remove(name);
    }
    ended(outer.output().expect("a shell"))
}

/// That a run failed with one sentence, and left these files.
pub fn failed(ran: &Ran, out: &Path, file: &str, left: &[&str]) {
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
    let errors: Vec<_> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{ran:#?}") };
    assert!(error.starts_with(&format!("error: cannot write out/{file}: ")), "{error}");
    assert!(error.contains("(os error "), "{error}");
    assert_eq!(names(out), left, "{ran:#?}");
    steps(out);
}

/// A folder whose text is tokenised already, so that nothing but the output is written.
fn tokenised() -> TempDir {
    let folder = folder();
    let mut config = configuration();
    config["data"]["cache"] = json!("cache");
    write(folder.path(), "run.json", &config.to_string());
    let first = ["train", "--config", "run.json", "--output", "first", "--steps", "1"];
    let ran = trainyard(folder.path(), &first);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    folder
}

const SHORT: [&str; 7] = ["train", "--config", "run.json", "--output", "out", "--steps", "6"];

#[test]
fn a_log_and_a_model_that_find_no_room_leave_nothing_half_written() {
    let folder = tokenised();
    let out = folder.path().join("out");
    let ran = limited(folder.path(), 2, &SHORT);
    failed(&ran, &out, "steps.jsonl", &["steps.jsonl"]);
    assert!((1..6).contains(&steps(&out).len()));
    let ran = limited(folder.path(), 16, &[&SHORT[..], &["--overwrite"]].concat());
    failed(&ran, &out, "model.safetensors", &["steps.jsonl"]);
    assert_eq!(steps(&out).len(), 6, "all of the training is in the log");
}

/// A file system of so many bytes in memory, until it is dropped; none where the system does not let tests mount.
pub struct Disk(std::path::PathBuf);

impl Disk {
    pub fn new(path: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir(path).expect("a folder");
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        match mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output() {
            Ok(Output { status, .. }) if status.success() => Some(Disk(path.to_owned())),
            other => {
                eprintln!("skipped: a small file system cannot be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().ok();
    }
}

#[test]
fn room_is_asked_for_before_training_and_a_summary_that_finds_none_is_not_there() {
    let folder = tokenised();
    let path = folder.path();
    let out = path.join("out");
    let model = fs::metadata(path.join("first/model.safetensors")).expect("a model").len();
    let Some(disk) = Disk::new(&out, model) else { return };
    let ran = trainyard(path, &SHORT);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
    assert!(ran.stderr.contains("error: out has room for ") && ran.stderr.contains("takes "));
    assert!(names(&out).is_empty(), "{:?}", names(&out));
    drop(disk);
    fs::remove_dir(&out).expect("an empty folder");

    // Room for the model and the log, and not for a summary with a configuration of 200 KB.
    let Some(_disk) = Disk::new(&out, model.next_multiple_of(4096) + 100_000) else { return };
    let note = format!("wandb.group=\"{}\"", "x".repeat(200_000));
    let config = fs::read_to_string(path.join("run.json")).expect("a configuration");
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    config["wandb"] = json!({ "enabled": false, "group": note });
    write(path, "run.json", &config.to_string());
    let ran = trainyard(path, &SHORT);
    failed(&ran, &out, "summary.json", &["model.safetensors", "steps.jsonl"]);
}

/// A step that fails is in the log with its error, and a run whose weights overflow ends with an error.
#[test]
fn what_fails_is_in_the_log_and_no_model_is_left() {
    let folder = folder();
    let out = folder.path().join("out");
    let ran =
        trainyard(folder.path(), &[&SHORT[..], &["--set", "optimizer.params.lr=1e38"]].concat());
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    assert_eq!(names(&out), ["steps.jsonl"], "{ran:#?}");
    assert!(steps(&out).iter().all(|line| line["attempt"].is_u64()), "{ran:#?}");

    let stop = ["--set", "optimizer.params.lr=1e38", "--set", "training.terminate_on_nan=true"];
    let ran = trainyard(folder.path(), &[&SHORT[..], &stop, &["--overwrite"]].concat());
    assert_eq!(ran.status, Some(1), "{ran:#?}");
    let steps = steps(&out);
    let last = steps.last().expect("a step");
    assert!(last["error"].as_str().is_some_and(|error| ran.stderr.contains(error)), "{last}");
    assert_eq!(last["attempt"].as_u64(), Some(steps.len() as u64 - 1));
    assert_eq!(names(&out), ["steps.jsonl"]);
}

/// The system refuses threads to a user who has one process already; it never does to root.
#[test]
fn threads_that_cannot_start_are_told_in_a_sentence() {
    let folder = folder();
    let path = folder.path();
    let inner = program(path, &SHORT);
    let open = Command::new("chmod").args(["-R", "a+rwX"]).arg(path).status();
    let limits = ["--nproc=1", "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let mut outer = Command::new("prlimit");
    outer.current_dir(path).args(limits).arg(inner.get_program()).env("OMP_NUM_THREADS", "1");
    let can = geteuid().is_root() && open.is_ok_and(|status| status.success());
    let mut reached = Command::new("prlimit");
    reached.args(limits).args(["test", "-x"]).arg(inner.get_program());
    if !can || !reached.status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: tests cannot run the program as another user here");
        return;
    }
    let ran = ended(outer.args(inner.get_args()).output().expect("prlimit"));
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
    let last = ran.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: cannot start the threads that tokenise: "), "{ran:#?}");
}
