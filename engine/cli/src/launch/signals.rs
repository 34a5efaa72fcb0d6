//! The signals that come to the launcher.
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::fs;
use std::io;
use std::thread;

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

/// The signals that this process ignores, a bit for each from 1 on, from its `/proc/self/status`.
fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_ignored_from_before() {
        let status = "Name:\tsh\nSigBlk:\t0000000000000004\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored_signals(status), 1 << (SIGHUP - 1) | 1 << 12);
        assert_eq!(ignored_signals(""), 0);
    }
}
