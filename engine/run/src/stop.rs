//! How a run is asked to stop.
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a shell adds to a signal's number to make a status of it.
const OF_SIGNAL: i32 = 128;

/// Asks a run to end after the step under way, with what it has reached written. Clones ask for the same.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    /// The signal that asked; 0 for none.
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Nobody asks but by [`ask`](Self::ask).
    pub fn new() -> Self {
        Stop::default()
    }

    /// From now on SIGINT, SIGTERM and SIGUSR1, by which Slurm announces that it will end a job, ask, but for those that
    /// this process was started to ignore. A SIGINT behind any of them ends the process at once.
    ///
    /// # Errors
    /// The system gives no handler.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Stop::new();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored_signals(&status);
        for signal in [SIGINT, SIGTERM, SIGUSR1] {
            if ignored & (1 << (signal - 1)) != 0 {
                continue;
            }
            if signal == SIGINT {
                // Before what the first one sets. `timeout` sends each SIGTERM twice, so a second one is no haste.
                flag::register_conditional_shutdown(
                    signal,
                    OF_SIGNAL + signal,
                    stop.asked.clone(),
                )?;
            }
            flag::register_usize(signal, stop.signal.clone(), signal as usize)?;
            flag::register(signal, stop.asked.clone())?;
        }
        Ok(stop)
    }

    /// Asks.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
    }

    /// Whether somebody has asked.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// The exit status of a program whose run was stopped: 130 after SIGINT, 138 after SIGUSR1, 143 after SIGTERM and
    /// where another rank's signal or the program itself asked.
    pub fn status(&self) -> u8 {
        let signal = match self.signal.load(Ordering::SeqCst) as i32 {
            signal @ (SIGINT | SIGUSR1) => signal,
            _ => SIGTERM,
        };
        (OF_SIGNAL + signal) as u8
    }

    /// The signal's name, if one asked.
    pub fn by(&self) -> Option<&'static str> {
        match self.signal.load(Ordering::SeqCst) as i32 {
            SIGINT => Some("SIGINT"),
            SIGTERM => Some("SIGTERM"),
            SIGUSR1 => Some("SIGUSR1"),
            _ => None,
        }
    }
}

/// The signals that a process ignores, a bit for each from 1 on, from its `/proc/self/status`.
pub fn ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::consts::SIGHUP;

    #[test]
    fn signals_ignored_from_before() {
        let status = "Name:\tsh\nSigBlk:\t0000000000000004\nSigIgn:\t0000000000001001\n";
        assert_eq!(ignored_signals(status), 1 << (SIGHUP - 1) | 1 << 12);
        assert_eq!(ignored_signals(""), 0);
    }

    #[test]
    fn a_signal_asks_and_gives_the_status() {
        let stop = Stop::on_signals().unwrap();
        assert_eq!((stop.asked(), stop.by()), (false, None));
        for _ in 0..2 {
            signal_hook::low_level::raise(SIGTERM).unwrap();
            assert_eq!((stop.asked(), stop.by(), stop.status()), (true, Some("SIGTERM"), 143));
        }
        signal_hook::low_level::raise(SIGUSR1).unwrap();
        assert_eq!((stop.by(), stop.status()), (Some("SIGUSR1"), 138));
        let other = Stop::new();
        other.clone().ask();
        assert_eq!((other.asked(), other.by(), other.status()), (true, None, 143));
    }
}
