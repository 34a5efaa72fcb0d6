//! `--device`: where a model trains.
use std::str::FromStr;
use tch::{Cuda, Device};
use trainyard::{BoxError, World, load_cuda};

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// A GPU where there is one, the CPU elsewhere.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU: the one of that number, or with none each rank of a machine its own.
    Cuda(Option<usize>),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().map(|number| Choice::Cuda(Some(number)));
        let choice = match text {
            "auto" => Some(Choice::Auto),
            "cpu" => Some(Choice::Cpu),
            "cuda" => Some(Choice::Cuda(None)),
            _ => text.strip_prefix("cuda:").and_then(number),
        };
        choice
            .ok_or_else(|| "auto, cpu, cuda or a GPU's number, such as cuda:0, is expected".into())
    }
}

/// The device of this rank. Has to come before anything that libtorch looks for CUDA in, seeding among it.
///
/// # Errors
/// CUDA was asked for and does not load; there is no GPU of that number.
pub fn of(choice: Choice, world: &World) -> Result<Device, BoxError> {
    let wanted = match choice {
        Choice::Cpu => return Ok(Device::Cpu),
        Choice::Auto => None,
        Choice::Cuda(number) => number,
    };
    match load_cuda() {
        Ok(()) => {}
        Err(why) if choice == Choice::Auto => {
            tracing::info!("the model trains on the CPU: {why}");
            return Ok(Device::Cpu);
        }
        Err(why) => return Err(format!("--device cuda: {why}").into()),
    }
    let number = numbered(wanted, world.local_rank, Cuda::device_count())?;
    tracing::info!("the model trains on GPU {number}");
    Ok(Device::Cuda(number))
}

/// The GPU of that number, or else of this rank, among `count`.
fn numbered(wanted: Option<usize>, local_rank: usize, count: i64) -> Result<usize, String> {
    let number = wanted.unwrap_or(local_rank);
    if (number as u64) < count.max(0) as u64 {
        return Ok(number);
    }
    Err(match wanted {
        Some(_) => format!("--device cuda:{number}: there are {count} GPUs, counted from 0"),
        None => format!(
            "there are {count} GPUs for the ranks of this machine, and this is its rank {number}: start as many \
             ranks as GPUs, or --device cpu"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_name() {
        let cases = [
            ("auto", Choice::Auto),
            ("cpu", Choice::Cpu),
            ("cuda", Choice::Cuda(None)),
            ("cuda:3", Choice::Cuda(Some(3))),
        ];
        for (text, choice) in cases {
            assert_eq!(text.parse(), Ok(choice));
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(text.parse::<Choice>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rank_has_the_gpu_of_its_number() {
        assert_eq!(numbered(None, 1, 2), Ok(1));
        assert_eq!(numbered(Some(0), 1, 2), Ok(0));
        let error = numbered(Some(2), 0, 2).expect_err("there are two");
        assert_eq!(error, "--device cuda:2: there are 2 GPUs, counted from 0");
        let error = numbered(None, 1, 1).expect_err("there is one");
        assert!(error.starts_with("there are 1 GPUs for the ranks of this machine"), "{error}");
    }

    #[test]
    fn without_a_gpu_the_cpu_is_chosen_unless_cuda_is_asked_for() {
        if load_cuda().is_ok() {
            return;
        }
        let world = World::solo();
        assert_eq!(of(Choice::Auto, &world).expect("the CPU"), Device::Cpu);
        let error = of(Choice::Cuda(None), &world).expect_err("no GPU").to_string();
        assert!(error.starts_with("--device cuda: libtorch: no CUDA device: "), "{error}");
    }
}
