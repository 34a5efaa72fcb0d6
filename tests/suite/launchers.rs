//! Real launchers, and several hosts: network namespaces that virtual wires connect.
use crate::processes::{Process, faulty, free_port, listening, order, place, soon};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;
use tch::Tensor;
use tempfile::TempDir;
use trainyard_native::Store;

const STEPS: u64 = 5;

/// An order to write the parameters to a folder.
fn writing(folder: &TempDir) -> Value {
    let mut order = order(STEPS);
    // A launcher takes time of its own on a busy machine.
    order["config"]["distributed"]["timeout_seconds"] = json!(60);
    order["parameters"] = json!(folder.path());
    order
}

fn parameters(folder: &TempDir, rank: usize) -> BTreeMap<String, Tensor> {
    let path = folder.path().join(format!("{rank}.npz"));
    Tensor::read_npz(path).expect("the rank wrote it").into_iter().collect()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// What ranks that were started by hand on this machine come to.
fn by_hand(world_size: usize) -> BTreeMap<String, Tensor> {
    let (folder, port) = (folder(), free_port());
    let ranks: Vec<_> =
        (0..world_size).map(|r| Process::rank(r, world_size, port, &writing(&folder))).collect();
    ranks.into_iter().for_each(|mut rank| succeeds(&mut rank));
    parameters(&folder, 0)
}

fn succeeds(process: &mut Process) {
    let ended = process.ends();
    assert!(ended.status.success(), "{}", ended.stderr);
}

/// All ranks that wrote to the folder came to the same bits as those by hand.
fn assert_as_by_hand(folder: &TempDir, world_size: usize) {
    let expected = by_hand(world_size);
    for rank in 0..world_size {
        let found = parameters(folder, rank);
        assert!(expected.keys().eq(found.keys()));
        for (name, tensor) in &expected {
            assert!(tensor.equal(&found[name]), "{name} of rank {rank} differs");
        }
    }
}

/// PyTorch's launcher, from the Python that set-up puts beside the checkout, with two ranks.
fn torchrun(options: &[&str], order: &Value) -> Process {
    torchrun_starts(options, &[env!("CARGO_BIN_EXE_faulty"), &order.to_string()])
}

fn torchrun_starts(options: &[&str], program: &[&str]) -> Process {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.libtorch/python");
    assert!(python.exists(), "no Python at {}; run `make test`", python.display());
    let mut command = Command::new(python);
    command.args(["-m", "torch.distributed.run", "--nproc-per-node", "2"]);
    command.args(options).arg("--no-python").args(program);
    Process::start(command)
}

#[test]
fn torchrun_launches_ranks() {
    let (folder, port) = (folder(), free_port().to_string());
    succeeds(&mut torchrun(
        &["--master-addr", "127.0.0.1", "--master-port", &port],
        &writing(&folder),
    ));
    assert_as_by_hand(&folder, 2);
}

/// When a rank dies, torchrun ends the others and fails; nothing stays.
#[test]
fn torchrun_ends_all_when_one_dies() {
    let mut order = order(100_000);
    order["config"]["distributed"]["timeout_seconds"] = json!(60);
    order["fault"] = json!({"act": "kill", "place": "forward", "step": 3, "rank": 1});
    let mut launcher = torchrun(&["--standalone"], &order);
    let ended = launcher.ends();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("SIGKILL"), "{}", ended.stderr);
    let said = launcher.stdout();
    let ranks: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("process ")).collect();
    assert_eq!(ranks.len(), 2, "{said}");
    for id in ranks {
        let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        assert_ne!(name.trim(), "faulty", "process {id} is still there");
    }
}

/// One program after another under one launcher, whose store has seen the first one's ranks.
#[test]
fn torchrun_launches_two_programs_in_turn() {
    let folder = folder();
    let (first, second) = (order(1).to_string(), writing(&folder).to_string());
    let script = r#""$0" "$1" && exec "$0" "$2""#;
    let program = ["sh", "-c", script, env!("CARGO_BIN_EXE_faulty"), &first, &second];
    succeeds(&mut torchrun_starts(&["--standalone"], &program));
    assert_as_by_hand(&folder, 2);
}

/// What torchrun starts anew meets in a store that has seen the ranks before.
#[test]
fn torchrun_starts_all_anew() {
    let folder = folder();
    let (mut first, second) = (order(100_000), writing(&folder).to_string());
    first["fault"] = json!({"act": "kill", "place": "forward", "step": 3, "rank": 1});
    let first = first.to_string();
    let script =
        r#"if [ "$TORCHELASTIC_RESTART_COUNT" = 0 ]; then exec "$0" "$1"; fi; exec "$0" "$2""#;
    let program = ["sh", "-c", script, env!("CARGO_BIN_EXE_faulty"), &first, &second];
    succeeds(&mut torchrun_starts(&["--standalone", "--max-restarts", "1"], &program));
    assert_as_by_hand(&folder, 2);
}

/// Two launchers, as on two hosts, with a rank each: where one rank dies, both start theirs anew, and only one
/// of them counts that as a restart.
#[test]
fn two_torchruns_start_all_anew() {
    let (folder, endpoint) = (folder(), format!("127.0.0.1:{}", free_port()));
    let (mut first, second) = (order(100_000), writing(&folder).to_string());
    first["config"]["distributed"]["timeout_seconds"] = json!(60);
    first["fault"] = json!({"act": "kill", "place": "forward", "step": 3, "rank": 1});
    let (first, died) = (first.to_string(), folder.path().join("died").display().to_string());
    let script = r#"if [ -e "$3" ]; then exec "$0" "$2"; fi
        "$0" "$1"; status=$?; [ $status = 137 ] && touch "$3"; exit $status"#;
    let program = ["sh", "-c", script, env!("CARGO_BIN_EXE_faulty"), &first, &second, &died];
    let options = [
        ["--nnodes", "2"],
        ["--nproc-per-node", "1"],
        ["--max-restarts", "1"],
        ["--rdzv-backend", "c10d"],
        ["--rdzv-id", "two"],
        ["--rdzv-endpoint", &endpoint],
        ["--local-addr", "127.0.0.1"],
    ];
    let launchers = [(); 2].map(|()| torchrun_starts(&options.concat(), &program));
    launchers.into_iter().for_each(|mut launcher| succeeds(&mut launcher));
    assert!(Path::new(&died).exists(), "a rank died before");
    assert_as_by_hand(&folder, 2);
}

/// A launcher's store that has seen a run: ranks that come before the next run's rank 0 wait for it, and believe
/// nothing that the earlier one left.
#[test]
fn ranks_wait_for_their_own_run() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let port = listener.local_addr().expect("it is bound").port();
    let _store = Store::keep(listener, Duration::from_secs(60)).expect("a store");
    let rank = |rank, world_size, order: &Value| {
        let mut command = faulty(order);
        place(&mut command, rank, world_size, ("127.0.0.1", port));
        command.env("TORCHELASTIC_USE_AGENT_STORE", "True");
        Process::start(command)
    };
    // One whose rank 1 never came, and said so.
    let said = rank(0, 2, &order(1)).fails();
    assert!(said.ends_with("rank 1 of 2 did not come within 3 s"), "{said}");
    for world_size in [2, 3] {
        let folder = folder();
        let order = writing(&folder);
        let last = rank(world_size - 1, world_size, &order);
        sleep(Duration::from_secs(1));
        let others = (0..world_size - 1).map(|r| rank(r, world_size, &order));
        others.chain([last]).collect::<Vec<_>>().iter_mut().for_each(succeeds);
        assert_as_by_hand(&folder, world_size);
    }
}

/// The same without a launcher's store: rank 1 comes to the second program while rank 0 still ends the first.
#[test]
fn a_second_program_waits_for_the_first_to_end() {
    let (folder, port) = (folder(), free_port());
    let (mut first, second) = (order(1), writing(&folder).to_string());
    first["fault"] = json!({"act": "pause", "place": "last", "rank": 0});
    let first = first.to_string();
    let start = |rank| {
        let mut command = Command::new("sh");
        command.args(["-c", r#""$0" "$1" && exec "$0" "$2""#, env!("CARGO_BIN_EXE_faulty")]);
        place(command.args([&first, &second]), rank, 2, ("127.0.0.1", port));
        Process::start(command)
    };
    [0, 1].map(start).iter_mut().for_each(succeeds);
    assert_as_by_hand(&folder, 2);
}

/// Our own launcher, where it was built together with the tests.
#[test]
fn trainyard_launches_ranks() {
    let launcher = Path::new(env!("CARGO_BIN_EXE_faulty")).with_file_name("trainyard");
    if !launcher.exists() {
        eprintln!("SKIPPED: {} is not built", launcher.display());
        return;
    }
    let folder = folder();
    let mut command = Command::new(launcher);
    command.args(["launch", "--nproc-per-node", "2", "--", env!("CARGO_BIN_EXE_faulty")]);
    command.arg(writing(&folder).to_string());
    succeeds(&mut Process::start(command));
    assert_as_by_hand(&folder, 2);
}

/// Hosts as network namespaces, each with a wire to either of two switches: `eth0` is 10.77.0.HOST+1 and
/// `eth1` is 10.78.0.HOST+1. They are there for as long as this is.
struct Hosts {
    switch: Keeper,
    hosts: Vec<Keeper>,
}

/// A process that holds a namespace, and ends when this is dropped or the test ends.
struct Keeper(Child);

impl Keeper {
    /// Holds what `command` makes before it starts `cat`.
    fn new(mut command: Command) -> Result<Self, String> {
        let piped = command.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.stderr(Stdio::null()).spawn().map_err(|e| e.to_string())?;
        let (stdin, stdout) = (child.stdin.as_mut(), child.stdout.take());
        // What comes back tells that the namespaces are there.
        stdin.map(|stdin| writeln!(stdin, "there"));
        let mut line = String::new();
        let read = stdout.map(|stdout| BufReader::new(stdout).read_line(&mut line));
        let keeper = Keeper(child);
        match (read, line.as_str()) {
            (Some(Ok(_)), "there\n") => Ok(keeper),
            _ => Err(format!("{command:?} is not permitted")),
        }
    }

    /// A command inside.
    fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let id = self.0.id().to_string();
        command.args(["-t", &id, "-U", "-n", "--preserve-credentials", "--"]).arg(program);
        command
    }

    fn ip(&self, arguments: &str) -> Result<(), String> {
        let mut command = self.inside("ip");
        let output = command.args(arguments.split(' ')).output().map_err(|e| e.to_string())?;
        let said = || format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        output.status.success().then_some(()).ok_or_else(said)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Hosts {
    /// So many hosts; `None`, and a message, where namespaces are not permitted.
    fn new(count: usize) -> Option<Self> {
        let made = Hosts::make(count);
        made.inspect_err(|error| eprintln!("SKIPPED: no network namespaces here: {error}")).ok()
    }

    fn make(count: usize) -> Result<Self, String> {
        let mut unshare = Command::new("unshare");
        unshare.args(["-U", "-r", "-n"]);
        let switch = Keeper::new(unshare)?;
        let host = |_| {
            let mut command = Command::new("nsenter");
            let id = switch.0.id().to_string();
            command.args(["-t", &id, "-U", "--preserve-credentials", "--", "unshare", "-n"]);
            Keeper::new(command)
        };
        let hosts = (0..count).map(host).collect::<Result<Vec<_>, _>>()?;
        for net in [0, 1] {
            switch.ip(&format!("link add switch{net} type bridge"))?;
            switch.ip(&format!("link set switch{net} up"))?;
            for (index, host) in hosts.iter().enumerate() {
                let (port, id) = (format!("port{net}-{index}"), host.0.id());
                switch.ip(&format!("link add {port} type veth peer name eth{net} netns {id}"))?;
                switch.ip(&format!("link set {port} master switch{net} up"))?;
                host.ip(&format!("addr add 10.7{}.0.{}/24 dev eth{net}", 7 + net, index + 1))?;
                host.ip(&format!("link set eth{net} up"))?;
            }
        }
        hosts.iter().try_for_each(|host| host.ip("link set lo up"))?;
        Ok(Hosts { switch, hosts })
    }

    /// A rank on each host; all meet at `eth0` of the first.
    fn ranks(&self, order: impl Fn(usize) -> Value, variables: &[(&str, &str)]) -> Vec<Process> {
        let start = |(rank, host): (usize, &Keeper)| {
            let mut command = host.inside(env!("CARGO_BIN_EXE_faulty"));
            command.arg(order(rank).to_string());
            place(&mut command, rank, self.hosts.len(), ("10.77.0.1", 29500));
            command.env("LOCAL_RANK", "0").env("LOCAL_WORLD_SIZE", "1");
            command.envs(variables.iter().copied());
            Process::start(command)
        };
        self.hosts.iter().enumerate().map(start).collect()
    }

    /// Bytes that came to a host by an interface.
    fn received(&self, host: usize, interface: &str) -> u64 {
        let output = self.hosts[host].inside("cat").arg("/proc/net/dev").output();
        let output = output.expect("the namespace is there").stdout;
        let text = String::from_utf8_lossy(&output).into_owned();
        let line = text.lines().find_map(|line| line.trim().strip_prefix(interface));
        let bytes = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
        bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or_else(|| panic!("{text}"))
    }
}

#[test]
fn ranks_on_three_hosts() {
    let Some(hosts) = Hosts::new(3) else { return };
    let folder = folder();
    hosts.ranks(|_| writing(&folder), &[]).iter_mut().for_each(succeeds);
    assert_as_by_hand(&folder, 3);
}

/// Gradients take the interface that `GLOO_SOCKET_IFNAME` names, and there is an error where it is none.
#[test]
fn an_interface_by_name() {
    let Some(hosts) = Hosts::new(2) else { return };
    let folder = folder();
    let wide = |_| {
        let mut order = writing(&folder);
        order["width"] = json!(256);
        order
    };
    hosts.ranks(wide, &[("GLOO_SOCKET_IFNAME", "eth1")]).iter_mut().for_each(succeeds);
    // Four layers of 256 x 256 in float32 are a megabyte in each step.
    let [store, gradients] = ["eth0", "eth1"].map(|name| hosts.received(1, name));
    assert!(store < 200_000 && gradients > STEPS * 1_000_000, "{store} and {gradients} bytes");

    let mut ranks = hosts.ranks(|_| order(1), &[("GLOO_SOCKET_IFNAME", "eth7")]);
    for (rank, process) in ranks.iter_mut().enumerate() {
        let said = process.fails();
        assert!(said.starts_with(&format!("rank {rank}: meeting the others failed: ")), "{said}");
        assert!(said.contains("eth7"), "{said}");
    }
}

/// Hosts that know themselves by name on loopback, as Debian's installer writes it, and have no default route: each
/// net by which the others know the first one, one or two ranks on a host, with a launcher that says how many and not.
#[test]
fn hosts_whose_own_name_is_on_loopback() {
    let Some(hosts) = Hosts::new(2) else { return };
    for (net, here, told) in [(77, 1, true), (78, 1, false), (78, 2, true), (77, 2, false)] {
        let (folder, world_size) = (folder(), 2 * here);
        let names = [0, 1].map(|host| {
            let path = folder.path().join(format!("hosts{host}"));
            let other = 1 - host;
            let lines = format!(
                "127.0.0.1 localhost\n127.0.1.1 node{host}\n10.{net}.0.{} node{other}\n",
                other + 1
            );
            std::fs::write(&path, lines).expect("a file");
            path
        });
        let start = |rank: usize| {
            let host = rank / here;
            let mut command = hosts.hosts[host].inside("unshare");
            let script = r#"mount --bind "$0" /etc/hosts && exec "$@""#;
            command.args(["-m", "sh", "-c", script]).arg(&names[host]);
            command.arg(env!("CARGO_BIN_EXE_faulty")).arg(writing(&folder).to_string());
            place(&mut command, rank, world_size, ("node0", 29500));
            command.env("LOCAL_RANK", (rank % here).to_string());
            match told {
                true => command.env("LOCAL_WORLD_SIZE", here.to_string()),
                false => command.env_remove("LOCAL_WORLD_SIZE"),
            };
            Process::start(command)
        };
        (0..world_size).map(start).collect::<Vec<_>>().iter_mut().for_each(succeeds);
        assert_as_by_hand(&folder, world_size);
    }
}

/// Ranks take connections on the interface of `MASTER_ADDR` and on no other.
#[test]
fn ranks_listen_on_one_interface() {
    let Some(hosts) = Hosts::new(2) else { return };
    let mut pausing = order(100_000);
    pausing["fault"] = json!({"act": "pause", "place": "forward"});
    let mut ranks = hosts.ranks(|_| pausing.clone(), &[]);
    ranks.iter_mut().for_each(|rank| rank.says("step 0 "));
    for (rank, process) in ranks.iter().enumerate() {
        let listening = listening(process.id());
        let own = format!("10.77.0.{}", rank + 1);
        assert!(!listening.is_empty(), "Gloo's groups at least");
        assert!(listening.iter().all(|at| at.ip().to_string() == own), "{listening:?}");
    }
}

/// Two hosts that both reach the first, and not one another.
#[test]
fn a_way_is_closed() {
    let Some(hosts) = Hosts::new(3) else { return };
    hosts.hosts[1].ip("route add blackhole 10.77.0.3/32").expect("the host is ours");
    let mut ranks = hosts.ranks(|_| order(1), &[]);
    for (rank, process) in ranks.iter_mut().enumerate() {
        let said = process.fails();
        let met = "meeting the others failed: the ranks met, but have not reached one another: ";
        let address = format!("this one is at 10.77.0.{}", rank + 1);
        assert!(said.starts_with(&format!("rank {rank}: {met}{address}, ")), "{said}");
    }
}

/// The host of rank 1 loses its wires: it cannot know of the others, and the others not of it.
#[test]
fn a_link_is_cut() {
    let Some(hosts) = Hosts::new(3) else { return };
    let mut endless = order(100_000);
    endless["fault"] = json!({"act": "pause", "place": "forward"});
    let mut ranks = hosts.ranks(|_| endless.clone(), &[]);
    ranks.iter_mut().for_each(|rank| rank.says("step 3 "));
    hosts.switch.ip("link set port0-1 down").expect("the wire is ours");
    let until = soon();
    for (rank, process) in ranks.iter_mut().enumerate() {
        let cause = match rank {
            1 => "rank 0, where the ranks met, no longer answers: ended, or stuck? (",
            _ => "no word from rank 1 since: ended, or stuck? (",
        };
        let said = process.ends_by(until).sentence();
        let start = format!("rank {rank}: averaging the gradients of step ");
        assert!(said.starts_with(&start) && said.contains(cause), "{said}");
    }
}
