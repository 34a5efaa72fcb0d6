//! What a run was made on, for who reads of it later.
use serde_json::{Value, json};
use std::fs;
use std::thread::available_parallelism;
use tch::Device;
use trainyard::World;

/// The machine of this rank, as far as the system tells; null for what it does not.
pub fn facts(world: &World, device: Device) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    json!({
        "processor": field(&read("/proc/cpuinfo"), "model name"),
        "processors": available_parallelism().ok().map(usize::from),
        "threads": tch::get_num_threads(),
        "memory_bytes": field(&read("/proc/meminfo"), "MemTotal").and_then(bytes),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "device": match device {
            Device::Cuda(number) => format!("cuda:{number}"),
            _ => "cpu".to_owned(),
        },
        "ranks": world.world_size,
        "trainyard": env!("CARGO_PKG_VERSION"),
    })
}

/// What stands behind `name` and a colon, the first time.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
    values.next()
}

/// `24603756 kB`.
fn bytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_systems_files() {
        let text = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\nMemTotal:    24 kB\n";
        assert_eq!(field(text, "model name"), Some("A: B"));
        assert_eq!(field(text, "MemTotal").and_then(bytes), Some(24 * 1024));
        assert_eq!(field(text, "name"), None);
        assert_eq!(bytes("24 MB"), None);
    }

    #[test]
    fn this_machine_has_a_name_and_a_size() {
        let facts = facts(&World::solo(), Device::Cpu);
        assert_eq!((&facts["device"], &facts["ranks"]), (&json!("cpu"), &json!(1)));
        assert!(facts["threads"].as_u64() > Some(0), "{facts}");
    }
}
