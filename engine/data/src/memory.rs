//! How much memory there is: what the machine has free, or what the process's cgroup leaves of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Bytes that this process may still take without something being swapped out or killed; `None` where
/// the system does not say (it is no Linux).
///
/// That is what the kernel calls available, or less where the process's cgroup or one above it (a
/// container, a Slurm job, `systemd-run -p MemoryMax=`) has a limit, of version 2 or 1.
pub fn available_memory() -> Option<u64> {
    let machine = available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let left = folders(&cgroups).into_iter().filter_map(|(folder, version)| {
        let read = |file| fs::read_to_string(folder.join(file)).ok();
        left(&read(version.limit)?, &read(version.usage)?, &read("memory.stat").unwrap_or_default())
    });
    Some(left.fold(machine, u64::min))
}

/// Refuses what cannot fit. `what` is the beginning of a sentence ("a micro-batch of 8 samples"), and
/// `remedy` what to change.
///
/// # Errors
/// `bytes` are more than [`available_memory`].
pub fn check_memory(what: impl Into<String>, bytes: u64, remedy: impl Into<String>) -> Result<()> {
    match available_memory() {
        Some(available) if bytes > available => Err(Error::Memory {
            what: what.into(),
            needed: Bytes(bytes),
            available: Bytes(available),
            remedy: remedy.into(),
        }),
        _ => Ok(()),
    }
}

/// An empty list with room for so many items; a failure to get it is no abort.
///
/// # Errors
/// The system refuses.
pub(crate) fn reserved<T>(items: usize, what: impl FnOnce() -> String) -> Result<Vec<T>> {
    let mut list = Vec::new();
    let bytes = items.saturating_mul(size_of::<T>()) as u64;
    match list.try_reserve_exact(items) {
        Ok(()) => Ok(list),
        Err(_) => Err(Error::NoMemory { what: what(), bytes: Bytes(bytes) }),
    }
}

/// A number of bytes, shown in the unit that suits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mut value, mut unit) = (self.0 as f64, "bytes");
        for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
            if value < 1024.0 {
                break;
            }
            (value, unit) = (value / 1024.0, larger);
        }
        match unit {
            "bytes" => write!(f, "{} bytes", self.0),
            unit => write!(f, "{value:.1} {unit}"),
        }
    }
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the files of a cgroup are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    root: &'static str,
    limit: &'static str,
    usage: &'static str,
}

const V2: Version =
    Version { root: "/sys/fs/cgroup", limit: "memory.max", usage: "memory.current" };
const V1: Version = Version {
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
};

/// The folders of the process's memory cgroups and of all above them, from `/proc/self/cgroup`.
fn folders(cgroups: &str) -> Vec<(PathBuf, Version)> {
    let mut folders = Vec::new();
    for line in cgroups.lines() {
        // "0::/path" in version 2, "7:cpu,memory:/path" in version 1.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version = match controllers {
            "" => V2,
            names if names.split(',').any(|name| name == "memory") => V1,
            _ => continue,
        };
        // Within a container the path may be the host's; what is mounted then is its own root.
        let path = Path::new(path.trim_start_matches('/'));
        let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let ancestors = path.ancestors().filter(|_| inside);
        folders.extend(ancestors.map(|path| (Path::new(version.root).join(path), version)));
        if !inside {
            folders.push((PathBuf::from(version.root), version));
        }
    }
    folders
}

/// What a cgroup's limit leaves, in bytes; `None` without one. Pages of files count as free: the
/// kernel drops them first.
fn left(limit: &str, usage: &str, stat: &str) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?; // "max" is none
    let usage: u64 = usage.trim().parse().ok()?;
    let stat: BTreeMap<_, u64> = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name, value.trim().parse().ok()?)))
        .collect();
    // In version 1 only the totals include the cgroups below, as the usage does.
    let of = |total, own| stat.get(total).or_else(|| stat.get(own)).copied().unwrap_or(0);
    let files = of("total_active_file", "active_file")
        .saturating_add(of("total_inactive_file", "inactive_file"));
    Some(limit.saturating_sub(usage.saturating_sub(files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemTotal:       24576000 kB\nMemFree: 1 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(available(text), Some(2 << 20));
        for bad in ["", "MemAvailable:", "MemAvailable: x kB", "MemAvailable: 99999999999999999 kB"]
        {
            assert_eq!(available(bad), None, "{bad}");
        }
        assert!(available_memory().is_none_or(|bytes| bytes > 0));
    }

    #[test]
    fn cgroups_of_both_versions_are_found() {
        let paths = |text| {
            let folders = folders(text).into_iter();
            folders.map(|(path, _)| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            paths("0::/user.slice/job\n"),
            ["/sys/fs/cgroup/user.slice/job", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup/"]
        );
        assert_eq!(paths("0::/\n"), ["/sys/fs/cgroup/"]);
        assert_eq!(
            paths("9:cpu:/a\n7:hugetlb,memory:/b\n"),
            ["/sys/fs/cgroup/memory/b", "/sys/fs/cgroup/memory/"]
        );
        assert_eq!(paths("0::/../../x\n"), ["/sys/fs/cgroup"]);
        assert!(paths("nonsense\n\n1:2").is_empty());
    }

    #[test]
    fn a_limit_leaves_what_is_not_used() {
        let mib = |n: u64| (n << 20).to_string();
        assert_eq!(left(&mib(100), &mib(30), ""), Some(70 << 20));
        let stat = format!("anon 5\nactive_file {}\ninactive_file {}\n", mib(10), mib(5));
        assert_eq!(left(&mib(100), &mib(30), &stat), Some(85 << 20));
        let first = format!("{stat}total_active_file {}\ntotal_inactive_file 0\n", mib(1));
        assert_eq!(left(&mib(100), &mib(30), &first), Some(71 << 20));
        assert_eq!(left("max\n", &mib(30), &stat), None);
        assert_eq!(left(&mib(10), &mib(30), ""), Some(0));
        assert_eq!(left("-1", "x", ""), None);
    }

    #[test]
    fn what_cannot_fit_is_said_with_numbers() {
        assert!(check_memory("a batch", 1, "").is_ok());
        if available_memory().is_some() {
            let error = check_memory("a batch", 1 << 60, "lower it").unwrap_err().to_string();
            assert!(error.starts_with("a batch takes 1.0 EiB of memory, and "), "{error}");
            assert!(error.ends_with(" can be had: lower it"), "{error}");
        }
        let error = reserved::<u64>(usize::MAX / 8, || "a list".to_owned()).unwrap_err();
        assert!(error.to_string().starts_with("no memory for a list: "), "{error}");
        assert_eq!(Bytes(1023).to_string(), "1023 bytes");
        assert_eq!(Bytes(3 << 29).to_string(), "1.5 GiB");
    }
}
