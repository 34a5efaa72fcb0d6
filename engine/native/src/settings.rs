//! Settings of libtorch that hold for the whole process.
use crate::error::{Result, check};
use crate::ffi;

/// Makes libtorch choose algorithms that give the same bits on every run with the same number of
/// threads; an operation that has none becomes an error.
///
/// # Errors
/// None known.
pub fn set_deterministic(on: bool) -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ty_set_deterministic(on.into()) })
}

/// From which level on libtorch's own log goes to standard error: 0 information, 1 warnings, 2 errors, 3 what
/// ends the process. The variable `TORCH_CPP_LOG_LEVEL` sets it at start.
///
/// # Errors
/// None known.
pub fn set_log_level(level: i32) -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ty_set_log_level(level) })
}

/// Flushes denormal numbers to zero on the calling thread and on libtorch's worker threads.
///
/// # Errors
/// If the processor cannot.
pub fn set_flush_denormal(on: bool) -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ty_set_flush_denormal(on.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn denormals_are_flushed_only_when_asked() {
        let tiny = Tensor::from_slice(&[1e-39f32]);
        set_flush_denormal(true).unwrap();
        assert_eq!((&tiny * 0.5f64).double_value(&[0]), 0.0);
        set_flush_denormal(false).unwrap();
        assert!((&tiny * 0.5f64).double_value(&[0]) > 0.0);
    }

    /// The setting is a thread's own, so the workers' share of a large tensor tells whether they have it.
    #[test]
    fn denormals_are_flushed_by_every_thread() {
        tch::set_num_threads(2);
        let tiny = Tensor::full([1 << 20], 1e-39, (Kind::Float, Device::Cpu));
        set_flush_denormal(true).unwrap();
        let halves = &tiny * 0.5f64;
        set_flush_denormal(false).unwrap();
        let left = halves.view_dtype(Kind::Int).count_nonzero(None::<i64>).int64_value(&[]);
        assert_eq!(left, 0, "elements that were not flushed");
    }

    /// Two pools of threads would take each other's cores.
    #[test]
    #[cfg(target_os = "linux")]
    fn there_is_one_openmp_runtime() {
        set_flush_denormal(false).unwrap(); // what links the library is used
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let is_openmp = |path: &&str| {
            let name = path.rsplit('/').next().unwrap();
            ["libgomp", "libiomp", "libomp"].iter().any(|runtime| name.starts_with(runtime))
        };
        let mut files: Vec<_> = maps
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5))
            .filter(is_openmp)
            .collect();
        files.sort_unstable();
        files.dedup();
        assert_eq!(files.len(), 1, "{files:?}");
    }
}
