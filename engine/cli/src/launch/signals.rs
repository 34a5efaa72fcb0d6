//! The signals that come to the launcher.
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::fs;
use std::io;
use std::thread;
use trainyard_run::ignored_signals;

/// Signals that end the ranks.
pub const ENDING: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];
/// Signals that are passed on and nothing else; Slurm can send one before the time is up.
const PASSED_ON: [i32; 2] = [SIGUSR1, SIGUSR2];

/// Calls `with` for each signal to this process, from now on; none of those that it was started to ignore,
/// as `nohup` and a shell's `&` do.
///
/// # Errors
/// The system gives no handler or no thread.
pub fn on_signals(with: impl Fn(i32) + Send + 'static) -> io::Result<()> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored_signals(&status);
    let kept = ENDING.into_iter().chain(PASSED_ON).filter(|s| ignored & (1 << (s - 1)) == 0);
    // Were SIGCHLD ignored, the system would forget how the ranks ended; a handler undoes that.
    let mut signals = Signals::new(kept.chain([SIGCHLD]))?;
    let listen = move || signals.forever().filter(|signal| *signal != SIGCHLD).for_each(with);
    thread::Builder::new().spawn(listen).map(drop)
}
