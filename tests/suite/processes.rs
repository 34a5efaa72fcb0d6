//! Ranks as processes that never outlive their test, and are never waited for without end.
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Seek};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// `distributed.timeout_seconds` of these tests.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What survivors have to say what happened and to end, beyond the timeout.
const GRACE: Duration = Duration::from_secs(5);

/// How long a busy machine may take for what takes a moment.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// An order for the program `faulty`, to which more may be added.
pub fn order(steps: u64) -> Value {
    json!({
        "steps": steps,
        "width": 8,
        "config": {
            "optimizer": {"type": "SGD", "params": {"lr": 0.1}},
            // A bucket for each parameter.
            "distributed": {"timeout_seconds": TIMEOUT.as_secs(), "reduce_bucket_size": 1},
        },
    })
}

/// A port that nobody had a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    listener.local_addr().expect("it is bound").port()
}

/// By when a rank has to end after a fault that has just happened.
pub fn soon() -> Instant {
    Instant::now() + TIMEOUT + GRACE
}

/// Where a process takes connections, in its own network namespace.
pub fn listening(process: u32) -> Vec<SocketAddr> {
    let links = std::fs::read_dir(format!("/proc/{process}/fd")).expect("it runs");
    let links = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    let sockets: Vec<_> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        // No IPv6, no table.
        let text =
            std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let parts: Vec<_> = line.split_whitespace().collect();
            // 0A is a socket that listens.
            if parts[3] == "0A" && sockets.contains(&format!("socket:[{}]", parts[9])) {
                found.push(address(parts[1]));
            }
        }
    }
    found
}

/// `0100007F:1F90` is 127.0.0.1, port 8080: words of 32 bits in the machine's order.
fn address(text: &str) -> SocketAddr {
    let (ip, port) = text.split_once(':').expect("an address and a port");
    let number = |text| u32::from_str_radix(text, 16).expect("hexadecimal");
    let word = |at: usize| number(&ip[at..at + 8]).to_ne_bytes();
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)),
        _ => {
            let bytes = [word(0), word(8), word(16), word(24)].concat();
            IpAddr::from(<[u8; 16]>::try_from(bytes).expect("four words"))
        }
    };
    (ip, number(port) as u16).into()
}

/// The program that trains, for one order.
pub fn faulty(order: &Value) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faulty"));
    command.arg(order.to_string());
    command
}

/// Sets what a launcher sets.
pub fn place(command: &mut Command, rank: usize, world_size: usize, master: (&str, u16)) {
    command
        .env("RANK", rank.to_string())
        .env("WORLD_SIZE", world_size.to_string())
        .env("LOCAL_RANK", rank.to_string())
        .env("LOCAL_WORLD_SIZE", world_size.to_string())
        .env("MASTER_ADDR", master.0)
        .env("MASTER_PORT", master.1.to_string());
}

/// A process, killed and waited for when this is dropped.
pub struct Process {
    child: Child,
    stdout: File,
    stderr: File,
}

/// How a process ended.
pub struct Ended {
    pub status: ExitStatus,
    pub stderr: String,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let ((to_stdout, stdout), (to_stderr, stderr)) = (ends_of_a_file(), ends_of_a_file());
        command.env("OMP_NUM_THREADS", "1").stdin(Stdio::null());
        let child = command.stdout(to_stdout).stderr(to_stderr).spawn();
        let child = child.unwrap_or_else(|e| panic!("{:?} starts: {e}", command.get_program()));
        Process { child, stdout, stderr }
    }

    /// Rank `rank` of so many on this machine.
    pub fn rank(rank: usize, world_size: usize, port: u16, order: &Value) -> Self {
        let mut command = faulty(order);
        place(&mut command, rank, world_size, ("127.0.0.1", port));
        Process::start(command)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&mut self) -> String {
        whole(&mut self.stdout)
    }

    /// Waits until it has said `text` on standard output.
    pub fn says(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.stdout().contains(text) {
            let running = self.child.try_wait().expect("it is ours").is_none();
            let right = running && Instant::now() < until;
            assert!(right, "it does not say {text:?}; {}", whole(&mut self.stderr));
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it is stopped or ended by a signal.
    pub fn is_stopped(&self) {
        let until = Instant::now() + PATIENCE;
        while !matches!(self.state(), Some('T' | 'Z')) {
            assert!(Instant::now() < until, "process {} does not stop", self.id());
            sleep(Duration::from_millis(5));
        }
    }

    /// Its state as the kernel has it: R, S, T, Z.
    fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Waits for the end, until a moment.
    pub fn ends_by(&mut self, until: Instant) -> Ended {
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return Ended { status, stderr: whole(&mut self.stderr) };
            }
            let said = whole(&mut self.stderr);
            assert!(Instant::now() < until, "process {} did not end; it said: {said}", self.id());
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end, however long it takes on a busy machine.
    pub fn ends(&mut self) -> Ended {
        self.ends_by(Instant::now() + PATIENCE)
    }

    /// Waits for the end after a fault that has just happened: within the timeout and five seconds, with
    /// status 1 and one sentence, which is returned.
    pub fn fails(&mut self) -> String {
        self.ends_by(soon()).sentence()
    }
}

impl Ended {
    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// The one sentence of a program that failed in an orderly way.
    pub fn sentence(self) -> String {
        let Ended { status, stderr } = self;
        assert_eq!((status.code(), status.signal()), (Some(1), None), "{stderr}");
        let sentence = stderr.strip_prefix("error: ").and_then(|text| text.strip_suffix('\n'));
        let sentence = sentence.filter(|text| !text.contains('\n'));
        sentence.unwrap_or_else(|| panic!("more or less than a sentence: {stderr:?}")).to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file without a name, to write to and to read from, each from a position of its own.
fn ends_of_a_file() -> (Stdio, File) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let read = file.reopen().expect("it is there");
    (Stdio::from(file.into_file()), read)
}

fn whole(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    read.expect("the file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
