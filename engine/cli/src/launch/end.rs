//! How a process ended.
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::signal_name;
use std::fmt;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Status(i32),
    Signal(i32),
}

impl End {
    /// The exit status that a shell gives it.
    pub fn status(self) -> u8 {
        let status = match self {
            End::Status(status) => status,
            End::Signal(signal) => 128 + signal,
        };
        (status & 0xff) as u8
    }

    /// Whether a process ends so that was asked to stop and did, as `trainyard train` does. One that died by the signal
    /// did not.
    pub fn is_stop(self) -> bool {
        [SIGINT, SIGUSR1, SIGTERM].map(|signal| End::Status(128 + signal)).contains(&self)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Status(status) => write!(f, "ended with status {status}"),
            End::Signal(signal) => write!(f, "was ended by {}", name_of(*signal)),
        }
    }
}

/// `SIGTERM` for 15.
pub fn name_of(signal: i32) -> &'static str {
    signal_name(signal).unwrap_or("a signal without a name")
}

/// How a process ended, once it has, or with NOHANG if it has. It stays to be waited for.
pub fn ended(process: Pid, options: WaitIdOptions) -> Option<End> {
    let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(process), options)).ok()??;
    let signal = status.terminating_signal().map(End::Signal);
    signal.or_else(|| status.exit_status().map(End::Status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_as_a_shell_tells_them() {
        assert!([130, 138, 143].into_iter().all(|status| End::Status(status).is_stop()));
        assert!(!End::Signal(SIGTERM).is_stop() && !End::Status(0).is_stop());
        assert_eq!(End::Status(3).status(), 3);
        assert_eq!(End::Signal(SIGTERM).status(), 143);
        assert_eq!(End::Signal(SIGTERM).to_string(), "was ended by SIGTERM");
    }
}
