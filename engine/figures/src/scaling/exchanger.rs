//! Measures what an exchange between ranks takes.
use serde_json::Value;
use std::time::{Duration, Instant};
use std::{fs, io};
use tch::{Device, Kind, Tensor};
use trainyard::{BoxError, Communicator, Introduction, World};
use trainyard_plugins::data_parallel::cluster::Cluster;
use trainyard_plugins::data_parallel::config::Backend;

use super::Link;

/// How long a rank waits for the others.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes of the large exchange that a [`Link`] is measured with.
const LARGE: usize = 8 << 20;

/// Exchanges of a turn: the short ones take microseconds.
const SHORT_ONES: usize = 50;
const LARGE_ONES: usize = 5;

/// Ranks that exchange nothing of use.
pub struct Exchanger(Cluster);

/// What one exchange took, of many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exchanged {
    /// Time on the clock, mean.
    pub seconds: f64,
    /// Processor time of this rank's threads, mean; 0 where the system does not tell.
    pub processor_seconds: f64,
}

impl Exchanger {
    /// Meets the other ranks of `world`.
    ///
    /// # Errors
    /// One does not come.
    pub fn new(world: World) -> Result<Self, BoxError> {
        let cluster = Cluster::new(world, Backend::Gloo, TIMEOUT);
        let (configuration, model) = (Value::Null, Vec::new());
        let fingerprints = Vec::new();
        cluster.join(&Introduction { configuration, model, fingerprints, device: Device::Cpu })?;
        Ok(Exchanger(cluster))
    }

    /// Sums `bytes` bytes of float32 over the ranks, `count` times.
    ///
    /// # Errors
    /// A rank is gone.
    pub fn exchange(&self, bytes: usize, count: usize) -> Result<Exchanged, BoxError> {
        let tensor = Tensor::zeros([(bytes / 4).max(1) as i64], (Kind::Float, Device::Cpu));
        // The first one makes buffers, and all begin the others together.
        self.0.sum(&tensor)?.wait()?;
        let (began, before) = (Instant::now(), processor_seconds());
        for _ in 0..count {
            self.0.sum(&tensor)?.wait()?;
        }
        let mean = |seconds: f64| seconds / count.max(1) as f64;
        let used = processor_seconds().zip(before).map_or(0.0, |(after, before)| after - before);
        let seconds = mean(began.elapsed().as_secs_f64());
        Ok(Exchanged { seconds, processor_seconds: mean(used) })
    }

    /// A short exchange and a large one.
    ///
    /// # Errors
    /// A rank is gone.
    pub fn both(&self) -> Result<[Exchanged; 2], BoxError> {
        Ok([self.exchange(4, SHORT_ONES)?, self.exchange(LARGE, LARGE_ONES)?])
    }
}

impl Link {
    /// From a short exchange between `ranks` ranks and a large one, as [`Exchanger::both`] has them. In a
    /// ring a rank sends 2 (n - 1) messages, each of an n-th of the bytes.
    pub fn new(ranks: usize, [short, large]: [Exchanged; 2]) -> Link {
        let messages = 2.0 * (ranks.max(2) - 1) as f64;
        let bytes = messages / ranks.max(2) as f64 * LARGE as f64;
        let more = |large: f64, short: f64| (large - short).max(large / 100.0);
        Link {
            hop_seconds: short.seconds / messages,
            bytes_per_second: bytes / more(large.seconds, short.seconds),
            processor_seconds_per_byte: more(large.processor_seconds, short.processor_seconds)
                / bytes,
        }
    }
}

/// Processor time of this process's threads so far, where Linux tells it.
fn processor_seconds() -> Option<f64> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let of = |task: io::Result<fs::DirEntry>| -> Option<f64> {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
        Some(nanoseconds / 1e9)
    };
    // A thread that ended meanwhile has no file.
    Some(tasks.filter_map(of).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_from_two_exchanges() {
        let exchanged = |seconds, processor_seconds| Exchanged { seconds, processor_seconds };
        // Four ranks send six messages, each a fourth of the bytes.
        let found = Link::new(4, [exchanged(0.6, 0.1), exchanged(2.1, 1.1)]);
        assert!((found.hop_seconds - 0.1).abs() < 1e-12);
        let bytes = 1.5 * LARGE as f64;
        assert!((found.bytes_per_second - bytes / 1.5).abs() < 1e-3);
        assert!((found.processor_seconds_per_byte - 1.0 / bytes).abs() < 1e-15);
    }

    #[test]
    fn a_busy_thread_takes_processor_time() {
        let Some(before) = processor_seconds() else { return };
        let until = Instant::now() + Duration::from_millis(60);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        let used = processor_seconds().expect("it told before") - before;
        assert!(used > 0.0, "{used}");
    }
}
