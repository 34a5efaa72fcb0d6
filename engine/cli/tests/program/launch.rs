//! `trainyard launch` with shell scripts for ranks.
use crate::{Ran, ended, program};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes, and shorter than the ranks would sleep.
const SOON: Duration = Duration::from_secs(30);

/// The launcher with `options`, its ranks the shell script.
fn command(options: &str, script: &str) -> Command {
    let options = options.split_whitespace();
    let arguments: Vec<_> =
        ["launch"].into_iter().chain(options).chain(["--", "sh", "-c", script]).collect();
    program(&std::env::temp_dir(), &arguments)
}

fn launch(options: &str, script: &str) -> Ran {
    ran(command(options, script))
}

/// With the name of a file, `$UP`, by which one rank waits for another.
fn launch_in_turn(options: &str, script: &str) -> Ran {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = command(options, script);
    command.env("UP", folder.path().join("up"));
    ran(command)
}

fn ran(mut command: Command) -> Ran {
    let began = Instant::now();
    let ran = ended(command.output().expect("the program starts"));
    assert!(began.elapsed() < SOON, "it took {:?}: {ran:#?}", began.elapsed());
    ran
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn last(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

/// A launcher whose ranks run.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Waits for a line from each of the ranks; the lines, sorted.
    fn start(mut command: Command, ranks: usize) -> (Self, Vec<String>) {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut running = Running { child, stdout };
        let mut lines: Vec<_> = (0..ranks).map(|_| running.line()).collect();
        lines.sort();
        (running, lines)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("UTF-8");
        line
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn end(mut self) -> Ran {
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).expect("UTF-8");
        let mut output = self.child.wait_with_output().expect("the program ends");
        output.stdout = stdout.into_bytes();
        ended(output)
    }
}

/// Whether the process is gone, or only waits for its parent to take note of it.
fn gone(process: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(process).join("stat"));
    // The name, in brackets, may hold anything; the state comes after it.
    stat.map_or(true, |stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

fn assert_gone(process: &str) {
    let began = Instant::now();
    while !gone(process) {
        assert!(began.elapsed() < SOON, "process {process} is left");
        thread::sleep(Duration::from_millis(10));
    }
}

const VARIABLES: &str = "echo $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $GROUP_RANK \
    $MASTER_ADDR ${TORCHELASTIC_USE_AGENT_STORE-unset} ${TRAINYARD_LAUNCH:+named}";

#[test]
fn ranks_know_who_they_are() {
    let mut command = command("--nproc-per-node 2", VARIABLES);
    let ran =
        ended(command.env("TORCHELASTIC_USE_AGENT_STORE", "True").output().expect("a launcher"));
    let expected =
        ["[rank 0] 0 2 0 2 0 127.0.0.1 unset named", "[rank 1] 1 2 1 2 0 127.0.0.1 unset named"];
    assert_eq!((ran.status, sorted(&ran.stdout)), (Some(0), expected.to_vec()), "{ran:#?}");

    let options = "--nproc_per_node 2 --nnodes 3 --node_rank 2 --rdzv [fd00::1]:29500 --no-prefix";
    let ran = launch(options, &format!("{VARIABLES} $MASTER_PORT"));
    assert_eq!(
        sorted(&ran.stdout),
        ["4 6 0 2 2 fd00::1 unset 29500", "5 6 1 2 2 fd00::1 unset 29500"]
    );
    assert!(
        ran.stderr.contains("launch: ranks 4 to 5 of 6; rank 0 at [fd00::1]:29500; "),
        "{ran:#?}"
    );

    let ran = launch("--nproc-per-node auto", "echo $RANK of $WORLD_SIZE");
    assert!(ran.stdout.contains("[rank 0] 0 of "), "{ran:#?}");
}

#[test]
fn a_free_port_is_found() {
    let ran = launch("--nproc-per-node 2 --no-prefix", "echo $MASTER_PORT");
    let ports: Vec<u16> = ran.stdout.lines().map(|port| port.parse().expect("a port")).collect();
    assert!(ports.len() == 2 && ports[0] == ports[1] && ports[0] > 0, "{ran:#?}");
}

#[test]
fn cores_are_shared_where_nobody_says_otherwise() {
    let mut more_ranks_than_cores = command("--nproc-per-node 64", "echo $OMP_NUM_THREADS");
    let output = more_ranks_than_cores.env_remove("OMP_NUM_THREADS").output();
    let ran = ended(output.expect("the program starts"));
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let each = (cores / 64).max(1);
    assert_eq!(ran.stdout.lines().filter(|line| line.ends_with(&format!("] {each}"))).count(), 64);
    let told = format!("OMP_NUM_THREADS={each} for each, of {cores} cores");
    assert!(ran.stderr.contains(&told), "{ran:#?}");

    let mut set = command("--nproc-per-node 1", "echo $OMP_NUM_THREADS");
    let ran = ended(set.env("OMP_NUM_THREADS", "7").output().expect("the program starts"));
    assert_eq!(ran.stdout, "[rank 0] 7\n");
    assert!(
        ran.stderr.contains("launch: 1 rank; ") && ran.stderr.contains("as it is set"),
        "{ran:#?}"
    );
}

#[test]
fn lines_come_whole_behind_their_rank() {
    let script = r"for i in 1 2 3 4 5 6 7 8 9; do printf a; printf 'b%s\n' $i; echo err $i >&2; done; printf end";
    let ran = launch("--nproc-per-node 3", script);
    for rank in 0..3 {
        let prefix = format!("[rank {rank}] ");
        let of_rank = |text: &str| -> Vec<String> {
            text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
        };
        let mut expected: Vec<_> = (1..10).map(|i| format!("ab{i}")).collect();
        expected.push("end".to_owned());
        assert_eq!(of_rank(&ran.stdout), expected);
        assert_eq!(of_rank(&ran.stderr), (1..10).map(|i| format!("err {i}")).collect::<Vec<_>>());
    }
    assert_eq!(ran.stdout.lines().count(), 30);
    assert!(ran.stdout.ends_with('\n'));
}

#[test]
fn bytes_pass_unharmed_and_long_lines_in_pieces() {
    let output =
        command("--nproc-per-node 1", r"printf '\377\001\r\n'").output().expect("a launcher");
    assert_eq!(output.stdout, b"[rank 0] \xff\x01\r\n");
    let ran = launch("--nproc-per-node 2", "head -c 1000000 /dev/zero | tr '\\0' x");
    for rank in ["[rank 0] ", "[rank 1] "] {
        let pieces: Vec<_> =
            ran.stdout.lines().filter_map(|line| line.strip_prefix(rank)).collect();
        assert_eq!(pieces.concat(), "x".repeat(1_000_000));
        assert!(pieces.iter().all(|piece| piece.len() <= 65536) && pieces.len() == 16);
    }
}

#[test]
fn nobody_waits_for_standard_input() {
    let mut command = command("--nproc-per-node 1", "cat; echo done");
    let (running, lines) = Running::start(
        {
            command.stdin(Stdio::piped());
            command
        },
        1,
    );
    assert_eq!(lines, ["[rank 0] done\n"]);
    assert_eq!(running.end().status, Some(0));
}

#[test]
fn a_rank_that_fails_ends_the_others() {
    let script =
        "[ $RANK = 0 ] && exec sleep 60; echo error: no such file >&2; echo bye >&2; exit 3";
    let ran = launch("--nproc-per-node 2", script);
    assert_eq!(ran.status, Some(3));
    let told = last(&ran.stderr);
    assert!(told.starts_with("error: rank 1 of 2 (process "), "{ran:#?}");
    assert!(told.ends_with(") ended with status 3; it said last: error: no such file"), "{ran:#?}");
    assert!(ran.stderr.contains("ending the other ranks"), "{ran:#?}");

    let ran = launch("--nproc-per-node 2", "[ $RANK = 1 ] && exec sleep 60; kill -9 $$");
    assert_eq!(ran.status, Some(128 + 9));
    let told = "was ended by SIGKILL: killed, probably out of memory";
    assert!(last(&ran.stderr).contains(told), "{ran:#?}");
    assert!(last(&ran.stderr).ends_with("; it said nothing on standard error"), "{ran:#?}");
    assert!(last(&ran.stderr).starts_with("error: rank 0 of 2 "), "{ran:#?}");
}

/// A control group with a limit of 300 MB, where this user may make one; gone with this value.
struct Limited(PathBuf);

impl Limited {
    fn new() -> Option<Self> {
        let cgroup = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = |controllers: &str| {
            let line = cgroup.lines().find_map(|line| line.split_once(controllers))?;
            Some(line.1.trim_start_matches('/').to_owned())
        };
        let (root, limit) = match own(":memory:") {
            Some(path) => (Path::new("/sys/fs/cgroup/memory").join(path), "memory.limit_in_bytes"),
            None => (Path::new("/sys/fs/cgroup").join(own("0::")?), "memory.max"),
        };
        let group = Limited(root.join(format!("trainyard-test-{}", std::process::id())));
        fs::create_dir(&group.0).ok()?;
        fs::write(group.0.join(limit), "300000000").ok()?;
        Some(group)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // A group goes once all that was in it has.
        let began = Instant::now();
        while fs::remove_dir(&self.0).is_err() && began.elapsed() < SOON {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_rank_that_is_killed_for_want_of_memory() {
    let Some(group) = Limited::new() else {
        eprintln!("SKIPPED: no control group with a limit can be made here");
        return;
    };
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$0\"/cgroup.procs || exit 9; exec \"$@\""]).arg(&group.0);
    command.arg(env!("CARGO_BIN_EXE_trainyard")).args(["launch", "--nproc-per-node", "1", "--"]);
    command.args(["awk", "BEGIN { x = \"x\"; while (1) x = x x }"]);
    let ran = ran(command);
    if ran.status == Some(9) {
        eprintln!("SKIPPED: no process can be put into a control group here");
        return;
    }
    assert_eq!(ran.status, Some(128 + 9), "{ran:#?}");
    let told = "was ended by SIGKILL: killed, out of memory: the kernel counts it so";
    assert!(last(&ran.stderr).contains(told), "{ran:#?}");
}

#[test]
fn the_others_are_told_to_end() {
    let script = "if [ $RANK = 0 ]; then trap 'echo told; exit 0' TERM; touch $UP; \
        while :; do sleep 0.02; done; fi; while [ ! -e $UP ]; do sleep 0.02; done; exit 5";
    let ran = launch_in_turn("--nproc-per-node 2", script);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(5), "[rank 0] told\n"), "{ran:#?}");
}

#[test]
fn a_rank_that_does_not_end_is_killed_after_the_grace() {
    // What it started is killed with it.
    let script = "if [ $RANK = 1 ]; then while [ ! -e $UP ]; do sleep 0.02; done; exit 4; fi; \
        trap '' TERM; sleep 60 & touch $UP; echo $! $$; wait; wait";
    let ran = launch_in_turn("--nproc-per-node 2 --grace 1", script);
    assert_eq!(ran.status, Some(4), "{ran:#?}");
    assert!(ran.stderr.contains("ranks are left after 1 s"), "{ran:#?}");
    ran.stdout.trim_start_matches("[rank 0] ").split_whitespace().for_each(assert_gone);
}

#[test]
fn what_a_rank_left_behind_does_not_hold_the_launcher() {
    let ran = launch("--nproc-per-node 1", "sleep 60 & echo $!");
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_gone(ran.stdout.trim_start_matches("[rank 0] ").trim());
    // One in a session of its own is out of reach, and still does not hold it.
    let ran = launch("--nproc-per-node 1", "setsid sleep 61 & echo $!; sleep 0.2");
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    let left = ran.stdout.trim_start_matches("[rank 0] ").trim().parse().expect("an id");
    kill_process(Pid::from_raw(left).expect("not 0"), Signal::KILL).expect("it runs");
}

#[test]
fn signals_are_passed_on() {
    let script = "trap 'echo saved; exit 0' TERM; trap 'echo user' USR1; echo up; \
        while :; do sleep 0.05; done";
    let (mut running, _) = Running::start(command("--nproc-per-node 2", script), 2);
    running.signal(Signal::USR1);
    let mut lines = [running.line(), running.line()];
    lines.sort();
    assert_eq!(lines, ["[rank 0] user\n", "[rank 1] user\n"]);
    running.signal(Signal::TERM);
    let ran = running.end();
    assert_eq!(
        (ran.status, sorted(&ran.stdout)),
        (Some(0), vec!["[rank 0] saved", "[rank 1] saved"])
    );

    for (signal, name, status) in [
        (Signal::INT, "SIGINT", 130),
        (Signal::TERM, "SIGTERM", 143),
        (Signal::HUP, "SIGHUP", 129),
        (Signal::QUIT, "SIGQUIT", 131),
    ] {
        let (running, _) =
            Running::start(command("--nproc-per-node 2", "echo up; exec sleep 60"), 2);
        running.signal(signal);
        let ran = running.end();
        assert_eq!(ran.status, Some(status), "{ran:#?}");
        let told = last(&ran.stderr);
        assert!(told.starts_with(&format!("error: {name} came, and rank ")), "{ran:#?}");
        assert!(told.ends_with(&format!("was ended by {name}")), "{ran:#?}");
    }
}

/// Ranks that agreed to stop end by themselves with the status of a stop, one after the other, whoever got the signal.
#[test]
fn ranks_that_agreed_to_stop_have_not_failed() {
    let last_of = |options: &str, script: &str| {
        let ran = launch(options, script);
        (ran.status, last(&ran.stderr).to_owned(), ran)
    };
    let told = |status| format!("stopped: all 2 ranks ended by themselves, with status {status}");
    let late = "trap 'echo told; exit 1' TERM; [ $RANK = 1 ] && exit";
    for (one, other, status) in [(143, 143, 143), (130, 143, 130), (143, 130, 130)] {
        let script = format!("{late} {one}; sleep 0.5; exit {other}");
        for options in ["--nproc-per-node 2", "--nproc-per-node 2 --grace 0"] {
            let (code, line, ran) = last_of(options, &script);
            assert_eq!((code, line), (Some(status), told(status)), "{ran:#?}");
            assert_eq!((ran.stdout.as_str(), ran.stderr.matches("error").count()), ("", 0));
        }
    }
    // One that died by the signal, one whose peers fail over it, and one whose peers know nothing of it.
    for (script, status, what) in [
        ("[ $RANK = 1 ] && kill -TERM $$; exec sleep 60", 143, "was ended by SIGTERM"),
        ("[ $RANK = 1 ] && exit 143; sleep 0.5; exit 1", 143, "ended with status 143"),
        ("[ $RANK = 1 ] && exit 143; exec sleep 60", 143, "ended with status 143"),
        (
            "[ $RANK = 1 ] && exit 143; trap 'exit 143' TERM; while :; do sleep 0.1; done",
            143,
            "ended with status 143",
        ),
        ("[ $RANK = 1 ] && exit 143; sleep 0.5; exit 0", 143, "ended with status 143"),
    ] {
        let (code, line, ran) = last_of("--nproc-per-node 2 --grace 1", script);
        assert_eq!(code, Some(status), "{ran:#?}");
        assert!(line.starts_with("error: rank 1 of 2 ") && line.contains(what), "{ran:#?}");
    }
}

#[test]
fn a_signal_that_all_ranks_stop_for_is_no_error() {
    let script = "trap 'exit 143' TERM; echo up; while :; do sleep 0.05; done";
    let (running, _) = Running::start(command("--nproc-per-node 2", script), 2);
    running.signal(Signal::TERM);
    let ran = running.end();
    let told = "stopped by SIGTERM: all 2 ranks ended by themselves, with status 143";
    assert_eq!((ran.status, last(&ran.stderr)), (Some(143), told), "{ran:#?}");
    assert!(!ran.stderr.contains("error"), "{ran:#?}");
}

#[test]
fn a_second_signal_kills() {
    let script = "trap 'echo no' TERM; echo up $$; while :; do sleep 0.05; done";
    let (mut running, lines) =
        Running::start(command("--nproc-per-node 2 --grace 3600", script), 2);
    running.signal(Signal::TERM);
    assert!(running.line().ends_with("no\n"));
    running.signal(Signal::TERM);
    let ran = running.end();
    assert_eq!(ran.status, Some(137), "{ran:#?}");
    lines
        .iter()
        .for_each(|line| assert_gone(line.trim_end().rsplit(' ').next().unwrap_or_default()));
}

#[test]
fn a_signal_ignored_from_before_stays_ignored() {
    let launcher = format!(
        "trap '' HUP; exec {} launch --nproc-per-node 1 -- sh -c 'echo up; sleep 0.5; echo done'",
        env!("CARGO_BIN_EXE_trainyard")
    );
    let mut command = Command::new("sh");
    command.args(["-c", &launcher]);
    let (running, _) = Running::start(command, 1);
    running.signal(Signal::HUP);
    let ran = running.end();
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "[rank 0] done\n"), "{ran:#?}");
}

#[test]
fn no_rank_outlives_a_launcher_that_is_killed() {
    let script = "trap '' TERM INT HUP; echo $$; while :; do sleep 0.05; done";
    let (running, lines) = Running::start(command("--nproc-per-node 3", script), 3);
    running.signal(Signal::KILL);
    for line in &lines {
        assert_gone(line.trim_end().rsplit(' ').next().unwrap_or_default());
    }
    assert_eq!(running.end().status, None);
}

#[test]
fn a_reader_that_leaves_ends_the_ranks_that_write() {
    let (running, _) = Running::start(command("--nproc-per-node 2", "while :; do echo y; done"), 2);
    let Running { child, stdout } = running;
    drop(stdout);
    let ran = ended(child.wait_with_output().expect("the program ends"));
    assert_eq!(ran.status, Some(128 + 13), "SIGPIPE, as without a launcher: {ran:#?}");
}

#[test]
fn programs_that_do_not_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str, mode| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    write("plain", "text", 0o644);
    write("lost", "#!/no/such/interpreter\n", 0o755);
    for (name, status, why) in [
        ("no-such-program", 127, "`no-such-program` is not there"),
        ("./none", 127, "`./none` is not there"),
        ("./lost", 127, "or the interpreter that its first line names is not"),
        ("./plain", 126, "`./plain` is not an executable file"),
        ("/", 126, "`/` is not an executable file"),
    ] {
        let ran = crate::trainyard(folder.path(), &["launch", "--nproc-per-node", "2", name]);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(status), ""), "{name}: {ran:#?}");
        let told = last(&ran.stderr);
        assert!(told.starts_with("error: cannot start rank 0: ") && told.contains(why), "{ran:#?}");
    }
}

#[test]
fn wrong_options_are_told_in_a_sentence() {
    for (options, why) in [
        ("--nproc-per-node 0", "'0' for '--nproc-per-node <N>': give a number of ranks from 1 to"),
        ("--nproc-per-node 2 --node-rank 1", "--node-rank 1 is not one of --nnodes 1: 0 would be"),
    ] {
        let ran = launch(options, "echo started");
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{options}: {ran:#?}");
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(why), "{ran:#?}");
    }
}

/// All ranks are started again, so often as was said, and not where somebody ends the launcher.
#[test]
fn ranks_are_started_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let count = folder.path().join("count");
    let script = format!("echo $RANK >> {0}; [ $(wc -l < {0}) -ge 6 ] || exit 3", count.display());
    let ran = launch("--nproc-per-node 1 --max-restarts 2", &script);
    assert_eq!(ran.status, Some(3), "{ran:#?}");
    assert_eq!(fs::read_to_string(&count).expect("a file").lines().count(), 3);
    let told = "ended with status 3; it said nothing on standard error; starting all ranks again, ";
    for times in ["1 of 2", "2 of 2"] {
        assert!(ran.stderr.contains(&format!("{told}{times}")), "{ran:#?}");
    }
    let ran = launch("--nproc-per-node 1 --max-restarts 9", &script);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_eq!(fs::read_to_string(&count).expect("a file").lines().count(), 6);

    let script = format!("echo $RANK >> {}; echo up; exec sleep 60", count.display());
    let (running, _) = Running::start(command("--nproc-per-node 2 --max-restarts 9", &script), 2);
    running.signal(Signal::TERM);
    assert_eq!(running.end().status, Some(143));
    assert_eq!(fs::read_to_string(&count).expect("a file").lines().count(), 8);
}
