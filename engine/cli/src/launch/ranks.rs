//! The ranks' processes: how they start, are watched, and end.
use super::end::{End, ended};
use super::lines::{LastError, pass_on};
use super::signals::{ENDING, on_signals};
use rustix::process::{Pid, Signal, WaitIdOptions, kill_process_group};
use signal_hook::consts::SIGKILL;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tracing::warn;
use trainyard_native::kill_with_parent;

/// Time that ranks which agreed to stop have, at least, from the end of the first to that of the last.
const PARTING: Duration = Duration::from_secs(5);
/// Time for a killed process to go away; one that waits for a device may not.
const KILLED: Duration = Duration::from_secs(5);
/// Time that a process outside the ranks' groups may hold their output open without writing.
const HELD: Duration = Duration::from_secs(1);

/// How all of them ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first that failed, counted from 0 on this node.
    pub first: Option<(usize, End)>,
    /// The first signal to the launcher that ends the ranks.
    pub received: Option<i32>,
    /// The status of ranks that all ended as programs do that were asked to stop, and that the launcher did not have to
    /// end: 130 if it is one's, else 138, else 143.
    pub stopped: Option<u8>,
}

/// What the launcher has done about the ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// A rank ended as one that stopped. If all agreed to, the others follow by themselves.
    Parting,
    /// They have been told to end.
    Ending,
    Killed,
}

enum Event {
    /// A rank's process ended.
    Ended(usize, End),
    /// A signal came to the launcher.
    Signal(i32),
    /// A stream of a rank's output ended.
    Closed,
}

/// The ranks of this node. Dropping it kills those that are left.
pub struct Ranks {
    ranks: Vec<Rank>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    /// Where signals go: to `events`, whichever that is.
    signals: Arc<Mutex<Sender<Event>>>,
    /// Streams of output that are open.
    streams: usize,
    /// Streams that wait for somebody to take what they pass on.
    writing: Arc<AtomicUsize>,
}

/// A process, the leader of a process group. It is not waited for, so its id stays its own.
struct Rank {
    number: u64,
    child: Child,
    ended: Option<End>,
    last_error: Arc<Mutex<LastError>>,
}

impl Ranks {
    /// No ranks; from now on signals are kept for them.
    ///
    /// # Errors
    /// The system gives no thread or no handler.
    pub fn new() -> io::Result<Self> {
        let (sender, events) = channel();
        let signals = Arc::new(Mutex::new(sender.clone()));
        let to = Arc::clone(&signals);
        on_signals(move |signal| {
            let to = to.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody listens once the program is ending.
            drop(to.send(Event::Signal(signal)));
        })?;
        let writing = Arc::default();
        Ok(Ranks { ranks: Vec::new(), events, sender, signals, streams: 0, writing })
    }

    /// Forgets the ranks, all of which have ended, for others to be started. Not if a signal that ends has come since, or
    /// one of them is left.
    pub fn forget(&mut self) -> bool {
        let (sender, events) = channel();
        // What the old ones' threads still have to say is not of the new ones.
        self.sender = sender.clone();
        *self.signals.lock().unwrap_or_else(PoisonError::into_inner) = sender;
        let before = std::mem::replace(&mut self.events, events);
        let ends = |event| matches!(event, Event::Signal(signal) if ENDING.contains(&signal));
        let left = |rank: &mut Rank| !matches!(rank.child.try_wait(), Ok(Some(_)));
        if before.try_iter().any(ends) || self.ranks.iter_mut().any(left) {
            return false;
        }
        (self.ranks, self.streams) = (Vec::new(), 0);
        true
    }

    /// Starts rank `number`, in a process group of its own, without standard input. It is killed when the
    /// calling thread ends, so that none outlives the launcher; its lines go on with `prefix` before each.
    ///
    /// # Errors
    /// The program cannot be started, or the system gives no thread.
    pub fn start(&mut self, number: u64, prefix: &str, mut command: Command) -> io::Result<()> {
        kill_with_parent(&mut command);
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let streams = (child.stdout.take(), child.stderr.take());
        let (which, pid) = (self.ranks.len(), pid(&child));
        let last_error = Arc::default();
        self.ranks.push(Rank { number, child, ended: None, last_error: Arc::clone(&last_error) });

        let sender = self.sender.clone();
        spawn(move || {
            // No other error is possible: this process is ours and nobody else waits for it.
            let end = ended(pid, WaitIdOptions::empty()).unwrap_or(End::Signal(SIGKILL));
            let _ = sender.send(Event::Ended(which, end));
        })?;
        if let (Some(stdout), Some(stderr)) = streams {
            self.relay(stdout, prefix, |_| {}, |bytes| write(io::stdout().lock(), bytes))?;
            let see = move |line: &[u8]| {
                if let Ok(mut last) = last_error.lock() {
                    last.see(line);
                }
            };
            self.relay(stderr, prefix, see, |bytes| write(io::stderr().lock(), bytes))?;
        }
        Ok(())
    }

    /// Passes a stream on. Where nobody takes it any more it is closed, so that the rank learns of it as
    /// if it wrote there itself.
    fn relay(
        &mut self,
        from: impl Read + Send + 'static,
        prefix: &str,
        see: impl FnMut(&[u8]) + Send + 'static,
        to: fn(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (prefix, sender) = (prefix.to_owned(), self.sender.clone());
        let writing = Arc::clone(&self.writing);
        spawn(move || {
            let _ = pass_on(from, &prefix, see, |bytes| {
                writing.fetch_add(1, Ordering::Relaxed);
                let written = to(bytes);
                writing.fetch_sub(1, Ordering::Relaxed);
                written
            });
            let _ = sender.send(Event::Closed);
        })?;
        self.streams += 1;
        Ok(())
    }

    /// Waits until all have ended and their output is passed on. Once one has failed, or a signal that
    /// ends came, the others have `grace` to end before they are killed; a second signal kills at once.
    pub fn watch(&mut self, grace: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        let (mut phase, mut deadline) = (Phase::Running, None);
        let after = |time| Some(Instant::now() + time);
        while let Some(waited_for) = self.ranks.iter().position(|rank| rank.ended.is_none()) {
            match self.next(deadline) {
                Some(Event::Ended(which, end)) => {
                    self.ranks[which].ended = Some(end);
                    if end == End::Status(0) {
                        continue;
                    }
                    let first = match (outcome.first, outcome.received) {
                        (Some(first), _) => first,
                        (None, Some(_)) => (which, end),
                        (None, None) => self.culprit(which, end),
                    };
                    outcome.first = Some(first);
                    let stop = end.is_stop() && first.1.is_stop();
                    match phase {
                        Phase::Running if stop => {
                            (phase, deadline) = (Phase::Parting, after(grace.max(PARTING)));
                        }
                        Phase::Running | Phase::Parting if !stop => {
                            self.end_others(first);
                            (phase, deadline) = (Phase::Ending, after(grace));
                        }
                        _ => {}
                    }
                }
                Some(Event::Signal(signal)) => {
                    let ends = ENDING.contains(&signal);
                    if ends && outcome.received.is_some() {
                        self.signal(Signal::KILL);
                        (phase, deadline) = (Phase::Killed, after(KILLED));
                    } else if let Some(named) = Signal::from_named_raw(signal) {
                        self.signal(named);
                    }
                    if ends && outcome.received.is_none() {
                        outcome.received = Some(signal);
                        if phase < Phase::Ending {
                            (phase, deadline) = (Phase::Ending, after(grace));
                        }
                    }
                }
                Some(Event::Closed) => self.streams -= 1,
                None => match (phase, outcome.first) {
                    (Phase::Killed, _) => {
                        let rank = self.ranks[waited_for].number;
                        warn!(
                            "launch: rank {rank} was killed and does not end; the system holds it"
                        );
                        outcome.first.get_or_insert((waited_for, End::Signal(SIGKILL)));
                        break;
                    }
                    (Phase::Parting, Some(first)) => {
                        self.end_others(first);
                        (phase, deadline) = (Phase::Ending, after(grace));
                    }
                    _ => {
                        warn!("launch: ranks are left after {} s: killing them", grace.as_secs());
                        self.signal(Signal::KILL);
                        (phase, deadline) = (Phase::Killed, after(KILLED));
                    }
                },
            }
        }
        if phase == Phase::Parting || outcome.received.is_some() {
            outcome.stopped = self.stopped();
        }
        // What the ranks started themselves and left behind would keep their output open.
        self.signal(Signal::KILL);
        self.drain();
        outcome
    }

    /// The status of ranks that have all stopped.
    fn stopped(&self) -> Option<u8> {
        let ends = self.ranks.iter().map(|rank| rank.ended.filter(|end| end.is_stop()));
        ends.collect::<Option<Vec<_>>>()?.into_iter().map(End::status).min()
    }

    /// A rank's number and its process.
    pub fn name(&self, which: usize) -> (u64, u32) {
        (self.ranks[which].number, self.ranks[which].child.id())
    }

    /// What a rank said last on standard error, the line with the error if it can be told.
    pub fn last_error(&self, which: usize) -> Option<String> {
        self.ranks[which].last_error.lock().ok()?.take()
    }

    fn next(&self, deadline: Option<Instant>) -> Option<Event> {
        match deadline {
            None => self.events.recv().ok(),
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                self.events.recv_timeout(left).ok()
            }
        }
    }

    /// The rank that failed first, where one is known to have failed. One that died by a signal takes
    /// others with it, which may be noticed before.
    fn culprit(&self, which: usize, end: End) -> (usize, End) {
        let now = |rank: &Rank| ended(pid(&rank.child), WaitIdOptions::NOHANG);
        let ends = self.ranks.iter().map(|rank| rank.ended.or_else(|| now(rank)));
        let died = ends.enumerate().find(|(_, end)| matches!(end, Some(End::Signal(_))));
        match (end, died) {
            (End::Status(_), Some((which, Some(end)))) => (which, end),
            _ => (which, end),
        }
    }

    fn end_others(&self, (which, end): (usize, End)) {
        let left = self.ranks.iter().filter(|rank| rank.ended.is_none()).count();
        if left > 0 {
            warn!("launch: rank {} {end}; ending the other ranks", self.ranks[which].number);
        }
        self.signal(Signal::TERM);
    }

    /// Sends a signal to all ranks and what they started.
    fn signal(&self, signal: Signal) {
        for rank in &self.ranks {
            // Fails only where the rank became another user's, and then nothing can be done.
            let _ = kill_process_group(pid(&rank.child), signal);
        }
    }

    /// Waits for what the ranks have written, unless a stranger holds a stream open or a signal comes.
    fn drain(&mut self) {
        while self.streams > 0 {
            match self.events.recv_timeout(HELD) {
                Ok(Event::Closed) => self.streams -= 1,
                Ok(Event::Signal(signal)) => {
                    // For who asks later.
                    let _ = self.sender.send(Event::Signal(signal));
                    return;
                }
                Ok(Event::Ended(..)) => {}
                Err(_) if self.writing.load(Ordering::Relaxed) == 0 => return,
                Err(_) => {}
            }
        }
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn spawn(body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().spawn(body).map(drop)
}

fn write(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
