//! The process that has a rank, as others of its machine can tell it, and whether it still runs.
use std::fmt;
use std::fs;

/// A process. A system gives a number anew once its process has ended; the moment when it started tells the two apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    id: u32,
    /// In ticks since the machine started; 0 where the system does not say.
    started: u64,
    host: String,
}

impl Holder {
    /// This process.
    pub fn this() -> Self {
        let id = std::process::id();
        Holder::of(id).unwrap_or_else(|| Holder { id, started: 0, host: host() })
    }

    /// A process of this machine, if it runs.
    pub fn of(id: u32) -> Option<Self> {
        running_since(id).map(|started| Holder { id, started, host: host() })
    }

    /// The machine's name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// For the store.
    pub fn written(&self) -> String {
        format!("{} {} {}", self.id, self.started, self.host)
    }

    /// What [`written`](Holder::written) made; of anything else a process that nobody can tell the end of.
    pub fn read(text: &str) -> Self {
        let mut parts = text.splitn(3, ' ');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).unwrap_or(0);
        let (id, started) = (u32::try_from(number()).unwrap_or(0), number());
        Holder { id, started, host: parts.next().unwrap_or_default().to_owned() }
    }

    /// Whether it was on this machine and has ended.
    pub fn has_ended(&self) -> bool {
        let this = Holder::this();
        let can_tell = this.started > 0 && self.started > 0 && self.host == this.host;
        can_tell && running_since(self.id) != Some(self.started)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {}", self.id, self.host)
    }
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "this machine".to_owned(), |name| name.trim().to_owned())
}

/// When the process started, unless there is none of that number or it has ended and only waits to be asked for its
/// status.
fn running_since(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // "ID (NAME) STATE ..."; the name may hold anything, and the start is the 22nd of all.
    let mut after = stat.rsplit_once(')')?.1.split_whitespace();
    let state = after.next()?;
    let started = after.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_one_that_has_ended() {
        let this = Holder::this();
        assert_eq!(Holder::read(&this.written()), this);
        assert!(this.started > 0 && !this.has_ended());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let other = Holder::of(child.id()).expect("it runs");
        assert!(!other.has_ended());
        // The number was another process's before.
        assert!(Holder { started: other.started - 1, ..other.clone() }.has_ended());
        // Nobody here knows of another machine's processes.
        assert!(!Holder { started: 1, host: "elsewhere".to_owned(), ..this }.has_ended());
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        assert!(other.has_ended());
        assert!(!Holder::read("nonsense").has_ended());
    }
}
