//! What a user would run instead: a program in the set-up's own Python, timed in turn with ours.
//!
//! The child lives as long as the benchmark and waits for its next turn at its standard input, so both
//! sides have warm caches and the same weather. Its half of the protocol is `examples/peers/peer.py`.
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;
use trainyard::BoxError;

/// How long a side that has just worked keeps its cores: OpenMP's idle threads wait busily for some
/// milliseconds, and would take the other side's time.
pub(super) const PAUSE: Duration = Duration::from_millis(30);

/// A peer's program, running.
#[derive(Debug)]
pub struct Peer {
    script: String,
    child: Child,
    /// Closed to end the child.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    about: String,
}

impl Peer {
    /// Starts `script` of `examples/peers` with `arguments` and as many threads as libtorch uses here,
    /// and waits until it is ready.
    ///
    /// # Errors
    /// If there is no Python, the script fails, which it tells itself on standard error, or it uses
    /// another number of threads.
    pub fn start(script: &str, arguments: &[&str]) -> Result<Self, BoxError> {
        let threads = tch::get_num_threads();
        let mut peer = Peer::spawn(script, script_command(script, arguments), threads)?;
        peer.ready(threads)?;
        Ok(peer)
    }

    /// Starts what `command` says, called `script` in messages, with so many threads.
    ///
    /// # Errors
    /// If there is no such program.
    pub fn spawn(script: &str, mut command: Command, threads: i32) -> Result<Self, BoxError> {
        let program = command.get_program().to_owned();
        command
            .env("OMP_NUM_THREADS", threads.to_string())
            .env_remove("MKL_NUM_THREADS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}; run `make bench`", program.display()))?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("the child has no output")?);
        let script = script.to_owned();
        Ok(Peer { script, child, requests, answers, about: String::new() })
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// If it fails, which it tells itself on standard error, or uses another number of `threads`.
    pub fn ready(&mut self, threads: i32) -> Result<(), BoxError> {
        let line = loop {
            let line = self.answer()?;
            // A test program says something of its own first.
            if !cfg!(test) || line.starts_with("ready ") {
                break line;
            }
        };
        let mut words = line.splitn(3, ' ');
        let (ready, theirs, about) = (words.next(), words.next(), words.next());
        match (ready, theirs.and_then(|n| n.parse::<i32>().ok()), about) {
            (Some("ready"), Some(n), Some(about)) if n == threads => {
                about.clone_into(&mut self.about);
                Ok(())
            }
            (Some("ready"), Some(n), _) => {
                Err(format!("{} has {n} threads, we have {threads}", self.script).into())
            }
            _ => Err(format!("{} began with \"{line}\"", self.script).into()),
        }
    }

    /// What the peer says it is: versions.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Seconds of each of `count` calls of `arm`, one after the other, with this process idle before and
    /// during them and the child idle again afterwards.
    ///
    /// # Errors
    /// If the script ends or answers something else.
    pub fn time(&mut self, arm: &str, count: usize) -> Result<Vec<f64>, BoxError> {
        sleep(PAUSE);
        self.ask(arm, count)?;
        let seconds = self.numbers()?;
        sleep(PAUSE);
        match seconds.len() == count {
            true => Ok(seconds),
            false => {
                let given = seconds.len();
                Err(format!("{} answered {given} times to \"{arm} {count}\"", self.script).into())
            }
        }
    }

    /// Asks for `count` calls of `arm`.
    ///
    /// # Errors
    /// If the program has ended.
    pub fn ask(&mut self, arm: &str, count: usize) -> Result<(), BoxError> {
        let sent = match &mut self.requests {
            Some(pipe) => writeln!(pipe, "{arm} {count}").and_then(|()| pipe.flush()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        Ok(sent.map_err(|e| format!("{} no longer listens: {e}", self.script))?)
    }

    /// The answer to what was asked.
    ///
    /// # Errors
    /// If the program ends or answers something else than numbers.
    pub fn numbers(&mut self) -> Result<Vec<f64>, BoxError> {
        let line = self.answer()?;
        let numbers: Result<Vec<f64>, _> = line.split(' ').map(str::parse).collect();
        numbers.map_err(|_| format!("{} answered \"{line}\"", self.script).into())
    }

    fn answer(&mut self) -> Result<String, BoxError> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => {
                let status = self.child.wait()?;
                let advice =
                    "its own words are above; `scripts/setup --full` installs what it needs";
                Err(format!("{} ended with {status}; {advice}", self.script).into())
            }
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(e) => Err(format!("{} cannot be heard: {e}", self.script).into()),
        }
    }
}

impl Drop for Peer {
    /// Ends the child, whatever it is doing.
    fn drop(&mut self) {
        self.requests = None;
        // It may have ended already; then there is nothing to kill, and waiting only clears it away.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a script of `examples/peers` in the set-up's Python.
pub(super) fn script_command(script: &str, arguments: &[&str]) -> Command {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(interpreter(examples));
    command.arg(examples.join("peers").join(script)).args(arguments);
    command
}

fn interpreter(examples: &Path) -> PathBuf {
    examples.with_file_name(".libtorch").join("python")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_answers_and_a_broken_one_is_an_error() -> Result<(), BoxError> {
        let mut peer = Peer::start("optimizers.py", &["adamw", "8x8,8"])?;
        assert!(peer.about().starts_with("PyTorch 2.11"), "{}", peer.about());
        for count in [1, 3] {
            let seconds = peer.time("adamw", count)?;
            assert_eq!(seconds.len(), count);
            assert!(seconds.iter().all(|&s| s > 0.0), "{seconds:?}");
        }
        let error = peer.time("no_such_arm", 1).unwrap_err().to_string();
        assert!(error.starts_with("optimizers.py ended with"), "{error}");
        let error = Peer::start("no_such_script.py", &[]).unwrap_err().to_string();
        assert!(error.starts_with("no_such_script.py ended with"), "{error}");
        Ok(())
    }
}
