//! Memory of tensors in main memory.
use crate::error::{Result, check};
use crate::ffi;

/// Lets CPU tensors made from now on, in the whole process, keep their memory for others when they are
/// freed: all in all at most half as much again as was ever in use at once, in huge pages where the
/// system has them. With glibc the same holds for what libtorch's own libraries allocate as they work.
///
/// A training step frees what it allocated. By default the C library then gives large blocks back to the
/// system, which clears every page anew in the next step. Call it before other threads make tensors.
///
/// # Errors
/// None known.
pub fn keep_freed_memory() -> Result<()> {
    // SAFETY: takes no pointer; the allocator that it puts in place lives as long as the process, and
    // tensors of the one before keep that one's way of freeing them.
    check(unsafe { ffi::ty_keep_freed_memory() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    fn ones(rows: i64) -> Tensor {
        Tensor::ones([rows, 1024], (Kind::Float, Device::Cpu))
    }

    /// Pages that the system had to provide so far.
    #[cfg(target_os = "linux")]
    fn page_faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        // The name, in brackets, may hold anything; the tenth field is the eighth after it.
        let (_, rest) = stat.rsplit_once(')').unwrap();
        rest.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    /// Three tensors of 40 MB at once, again and again.
    #[test]
    #[cfg(target_os = "linux")]
    fn freed_memory_is_not_asked_for_again() {
        keep_freed_memory().unwrap();
        let fill = || drop([ones(10_000), ones(10_000), ones(10_000)]);
        fill();
        let before = page_faults();
        (0..5).for_each(|_| fill());
        let faults = page_faults() - before;
        assert!(faults < 300, "{faults} faults");
    }

    fn resident_bytes() -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Blocks of 40 to 92 MB, each of a size class of its own: 1 GB if all were kept.
    #[test]
    #[cfg(target_os = "linux")]
    fn sizes_that_no_longer_come_are_given_back() {
        keep_freed_memory().unwrap();
        drop(ones(10_000));
        let before = resident_bytes();
        (0..16).for_each(|i| drop(ones(10_000 + 850 * i)));
        let more = resident_bytes().saturating_sub(before);
        assert!(more < 160 << 20, "{more} bytes");
    }

    #[test]
    fn blocks_are_as_large_as_their_tensors_and_lie_apart() {
        keep_freed_memory().unwrap();
        for round in 0..3 {
            let made: Vec<_> = (0..300)
                .map(|i| Tensor::full([i * i * 7 + round], i, (Kind::Int64, Device::Cpu)))
                .collect();
            for (i, tensor) in made.iter().enumerate() {
                assert_eq!(tensor.data_ptr() as usize % 64, 0);
                assert_eq!(tensor.eq(i as i64).all().int64_value(&[]), 1, "{i}");
            }
        }
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        keep_freed_memory().unwrap();
        let error = Tensor::f_empty([1 << 46], (Kind::Float, Device::Cpu)).unwrap_err();
        assert!(error.to_string().contains("beyond any memory"), "{error}");
        assert!(Tensor::f_empty([1 << 44], (Kind::Float, Device::Cpu)).is_err());
        assert_eq!(ones(2).sum(Kind::Float).double_value(&[]), 2048.0);
    }
}
