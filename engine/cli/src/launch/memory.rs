//! Whether the system killed a process for want of memory.
use std::fs;
use std::path::{Path, PathBuf};

/// How often the kernel has done so: in this program's control group, or where that does not say on the whole machine.
/// None where nothing says.
pub fn kills() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let counted = |path: &Path| count(&read(path)?);
    let cgroup = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let of_group = group(&cgroup, &mounts).and_then(|path| counted(&path));
    of_group.or_else(|| counted(Path::new("/proc/vmstat")))
}

/// Why a process was killed, by the counts before and after; nobody here did it.
pub fn why_killed(before: Option<u64>, after: Option<u64>) -> &'static str {
    match before.zip(after) {
        Some((before, after)) if after > before => "killed, out of memory: the kernel counts it so",
        // One that runs beside the kernel, such as systemd-oomd or a batch system, is not counted.
        Some(_) => {
            "killed, probably out of memory by a program that watches it, or by hand: the kernel itself \
             counts no kill for want of memory"
        }
        None => "killed, probably out of memory",
    }
}

/// The number of kills in `memory.events`, `memory.oom_control` or `/proc/vmstat`.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The file with the count of this process's control group, by its `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn group(cgroup: &str, mounts: &str) -> Option<PathBuf> {
    // "4:memory:/path" in the first version of control groups, "0::/path" in the second.
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        cgroup.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            wanted(controllers).then_some(path)
        })
    };
    let lists = |list: &str| list.split(',').any(|name| name == "memory");
    let (path, kind, file) = match path_of(&lists) {
        Some(path) => (path, "cgroup", "memory.oom_control"),
        None => (path_of(&str::is_empty)?, "cgroup2", "memory.events"),
    };
    // "ID PARENT DEVICE ROOT PLACE OPTIONS ... - KIND SOURCE OPTIONS"
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, place) = (mount.next()?, mount.next()?);
        let mut system = system.split(' ');
        let right =
            system.next()? == kind && (kind == "cgroup2" || system.next_back().is_some_and(lists));
        // A container sees its own group as the root.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        right.then(|| Path::new(place).join(below).join(file))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_three_files() {
        assert_eq!(count("low 0\noom 3\noom_kill 2\noom_group_kill 1\n"), Some(2));
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"), Some(5));
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn the_file_of_a_control_group() {
        let first = "30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let second = "31 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "31 24 0:27 /docker/7 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let found = |cgroup, mounts| {
            group(cgroup, mounts).map(|path| path.to_str().expect("UTF-8").to_owned())
        };
        for (cgroup, mounts, file) in [
            (
                "5:cpu:/a\n4:memory:/a/b\n0::/\n",
                first,
                Some("/sys/fs/cgroup/memory/a/b/memory.oom_control"),
            ),
            ("0::/a.slice/b\n", second, Some("/sys/fs/cgroup/a.slice/b/memory.events")),
            ("0::/docker/7/c\n", own, Some("/sys/fs/cgroup/c/memory.events")),
            ("0::/\n", own, Some("/sys/fs/cgroup/memory.events")),
            ("4:memory:/a\n", second, None),
            ("", first, None),
        ] {
            assert_eq!(found(cgroup, mounts).as_deref(), file, "{cgroup:?}");
        }
    }

    #[test]
    fn what_the_counts_say() {
        assert!(why_killed(Some(1), Some(2)).starts_with("killed, out of memory"));
        assert!(why_killed(Some(1), Some(1)).contains("the kernel itself counts no kill"));
        assert_eq!(why_killed(None, Some(1)), "killed, probably out of memory");
    }
}
