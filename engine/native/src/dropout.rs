//! Masks of dropout.
use crate::error::{Result, check};
use crate::ffi;

/// Lets all threads draw the zeros and ones of dropout on CPUs (`bernoulli_` on float32, bf16 and fp16), in
/// the whole process, where libtorch draws them one after the other.
///
/// One number is taken from libtorch's generator for each mask, and the mask is a function of that number and of the
/// upper half of the generator's seed, of which its own numbers know only the lower 32 bits: Threefry 4x32 with 20 rounds (Salmon et al. 2011), the same for every number of threads. It is another one
/// than libtorch's; a one comes with the probability asked for to within 2^-33.
///
/// # Errors
/// None known.
pub fn set_parallel_dropout(on: bool) -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ty_set_parallel_dropout(on.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use tch::{Device, Kind, Tensor};

    /// The switch and the generator are the process's: one test at a time, where they share one.
    fn alone() -> MutexGuard<'static, ()> {
        static SWITCH: Mutex<()> = Mutex::new(());
        SWITCH.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const KINDS: [Kind; 3] = [Kind::Float, Kind::BFloat16, Kind::Half];

    fn drawn(n: i64, p: f64, kind: Kind) -> Tensor {
        Tensor::empty([n], (kind, Device::Cpu)).bernoulli_float_(p)
    }

    /// Threefry 4x32 with 20 rounds, as its authors state it.
    fn threefry(counter: [u32; 4], key: [u32; 4]) -> [u32; 4] {
        const TURNS: [[u32; 2]; 8] =
            [[10, 26], [11, 21], [13, 27], [23, 5], [6, 20], [17, 11], [25, 10], [18, 20]];
        let last = key.iter().fold(0x1BD1_1BDA, |all, k| all ^ k);
        let key = [key[0], key[1], key[2], key[3], last];
        let mut x: [u32; 4] = std::array::from_fn(|i| counter[i].wrapping_add(key[i]));
        for round in 0..20 {
            let partners = if round % 2 == 0 { [1, 3] } else { [3, 1] };
            for ((a, b), turn) in [0, 2].into_iter().zip(partners).zip(TURNS[round % 8]) {
                x[a] = x[a].wrapping_add(x[b]);
                x[b] = x[b].rotate_left(turn) ^ x[a];
            }
            if round % 4 == 3 {
                let number = round / 4 + 1;
                (0..4).for_each(|i| x[i] = x[i].wrapping_add(key[(number + i) % 5]));
                x[3] = x[3].wrapping_add(number as u32);
            }
        }
        x
    }

    fn number(seed: u64, place: u64) -> u32 {
        let (block, within) = (place / 64, place % 64);
        let counter = block * 16 + within % 16;
        let words = |x: u64| [x as u32, (x >> 32) as u32, 0, 0];
        threefry(words(counter), words(seed))[within as usize / 16]
    }

    /// The known answers that its authors publish beside it.
    #[test]
    fn the_reference_is_threefry() {
        let zeros = [0x9c6c_a96a, 0xe17e_ae66, 0xfc10_ecd4, 0x5256_a7d8];
        let ones = [0x2a88_1696, 0x5701_2287, 0xf6c7_446e, 0xa16a_6732];
        assert_eq!(threefry([0; 4], [0; 4]), zeros);
        assert_eq!(threefry([u32::MAX; 4], [u32::MAX; 4]), ones);
    }

    #[test]
    fn a_mask_is_the_reference_s_whatever_the_threads() {
        let _alone = alone();
        set_parallel_dropout(true).unwrap();
        let n = 70_001;
        for kind in KINDS {
            // libtorch's generator gives the seed of the mask; it hands out all but its highest bit.
            tch::manual_seed(5);
            let low = Tensor::empty([1], (Kind::Int64, Device::Cpu)).random_().int64_value(&[0]);
            let masks = [1, 2, 3].map(|threads| {
                tch::set_num_threads(threads);
                tch::manual_seed(5);
                drawn(n, 0.3, kind).to_kind(Kind::Float)
            });
            assert!(masks[0].equal(&masks[1]) && masks[0].equal(&masks[2]), "{kind:?}");
            let found = Vec::<f32>::try_from(&masks[0]).unwrap();
            let below = |seed, place| number(seed, place) < (0.3 * 2f64.powi(32)).round() as u32;
            let matches = |seed: u64| {
                let same = |(place, x): (usize, &f32)| *x == f32::from(below(seed, place as u64));
                found.iter().enumerate().all(same)
            };
            assert!(matches(low as u64) || matches(low as u64 | 1 << 63), "{kind:?}");
        }
    }

    /// libtorch's own numbers know 32 of them.
    #[test]
    fn every_bit_of_a_seed_matters() {
        let _alone = alone();
        set_parallel_dropout(true).unwrap();
        let mask = |seed: u64| {
            tch::manual_seed(seed as i64);
            Vec::<f32>::try_from(drawn(256, 0.5, Kind::Float)).unwrap()
        };
        let seeds: Vec<u64> = (0..64)
            .map(|bit| 1 << bit)
            .chain([0])
            .map(|bits| bits ^ 0x0123_4567_89AB_CDEF)
            .collect();
        let masks: Vec<_> = seeds.iter().map(|&seed| mask(seed)).collect();
        for (i, one) in masks.iter().enumerate() {
            assert_eq!(*one, mask(seeds[i]));
            assert!(masks[..i].iter().all(|other| other != one), "bit {i}");
        }
    }

    #[test]
    fn masks_have_the_probability_and_do_not_come_again() {
        let _alone = alone();
        set_parallel_dropout(true).unwrap();
        let n = 1 << 20;
        for kind in KINDS {
            for p in [0.0, 0.1, 0.5, 0.9, 1.0] {
                let [one, two] =
                    [drawn(n, p, kind), drawn(n, p, kind)].map(|x| x.to_kind(Kind::Double));
                let zeros_and_ones = (&one * &one).equal(&one);
                assert!(zeros_and_ones, "{kind:?} {p}");
                // Five standard errors; those of two masks that have nothing to do with each other.
                for (found, p) in [(&one, p), (&(&one * &two), p * p)] {
                    let error = 5.0 * (p * (1.0 - p) / n as f64).sqrt();
                    let mean = found.mean(Kind::Double).double_value(&[]);
                    assert!((mean - p).abs() <= error, "{kind:?} {p}: {mean}");
                }
                // Nor do neighbours, or the parts of two threads, in one mask.
                for shift in [1, 16, 64, n / 2] {
                    let product = one.narrow(0, 0, n - shift) * one.narrow(0, shift, n - shift);
                    let mean = product.mean(Kind::Double).double_value(&[]);
                    let error = 6.0 * (p * p * (1.0 - p * p) / (n - shift) as f64).sqrt();
                    assert!((mean - p * p).abs() <= error, "{kind:?} {p} {shift}: {mean}");
                }
            }
        }
    }

    /// What is not a dense tensor of floats stays libtorch's, and so does everything once it is off.
    #[test]
    fn the_rest_is_libtorch_s() {
        let _alone = alone();
        let mask = |on: bool, kind: Kind, strided: bool| {
            set_parallel_dropout(on).unwrap();
            tch::manual_seed(3);
            let whole = Tensor::zeros([100, 2], (kind, Device::Cpu));
            let mut part = if strided { whole.select(1, 0) } else { whole.shallow_clone() };
            let _ = part.bernoulli_float_(0.5);
            whole
        };
        let same = |kind, strided| mask(true, kind, strided).equal(&mask(false, kind, strided));
        assert!(same(Kind::Double, false) && same(Kind::Int64, false) && same(Kind::Float, true));
        assert!(!same(Kind::Float, false));
        for p in [-1e-12, 1.0 + 1e-9, f64::NAN] {
            set_parallel_dropout(true).unwrap();
            let refused = Tensor::zeros([4], (Kind::Float, Device::Cpu)).f_bernoulli_float_(p);
            let message = refused.unwrap_err().to_string();
            assert!(message.contains("expects p to be in [0, 1]"), "{message}");
        }
    }
}
