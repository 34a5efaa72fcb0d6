//! Autocast: libtorch's operations choose the number format they run in.
use crate::error::{Error, Result, check};
use crate::ffi;
use tch::{Device, Kind};

/// Runs `body` with libtorch's autocast on for the device: matrix products, convolutions and attention
/// take their inputs in `kind`, what loses too much in it runs in float32, and everything else in the
/// format its inputs have. The setting is the calling thread's, and is as it was before when `body`
/// has returned or panicked. A backward pass needs no autocast and belongs outside.
///
/// `kind`: [`Kind::BFloat16`] or [`Kind::Half`]. `device`: a CPU or CUDA device; CUDA need not be there.
///
/// The casts of leaf tensors that require a gradient are kept and used again, also in later calls,
/// until [`clear_autocast_cache`]: a weight is then cast once for several forwards. Each of these may
/// have its own backward pass, as a cast saves no tensor for it.
///
/// # Errors
/// If the device or the kind has no autocast; `body` did not run then.
pub fn autocast<T>(device: Device, kind: Kind, body: impl FnOnce() -> T) -> Result<T> {
    let cuda = is_cuda(device)?;
    let half = match kind {
        Kind::BFloat16 => false,
        Kind::Half => true,
        other => return Err(Error(format!("{other:?} has no autocast; BFloat16 and Half have"))),
    };
    let mut before = ffi::Autocast::default();
    // SAFETY: `before` is written to during the call only.
    check(unsafe { ffi::ty_autocast_enter(cuda.into(), half.into(), &mut before) })?;
    let restore = Restore(before);
    let value = body();
    drop(restore);
    Ok(value)
}

/// Runs `body` with libtorch's autocast off for the device, as in a region of a model that is to keep its number
/// formats; it is as it was before when `body` has returned or panicked.
///
/// # Errors
/// If the device has no autocast; `body` did not run then.
pub fn without_autocast<T>(device: Device, body: impl FnOnce() -> T) -> Result<T> {
    let mut before = ffi::Autocast::default();
    // SAFETY: `before` is written to during the call only.
    check(unsafe { ffi::ty_autocast_pause(is_cuda(device)?.into(), &mut before) })?;
    let restore = Restore(before);
    let value = body();
    drop(restore);
    Ok(value)
}

fn is_cuda(device: Device) -> Result<bool> {
    match device {
        Device::Cpu => Ok(false),
        Device::Cuda(_) => Ok(true),
        other => Err(Error(format!("{other:?} has no autocast; a CPU or CUDA device has"))),
    }
}

/// Forgets the casts that [`autocast`] kept, on all threads. Call it once the tensors have changed, as
/// until then forwards see their old values, and before running the same tensors in another kind.
///
/// # Errors
/// None known.
pub fn clear_autocast_cache() -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ty_clear_autocast_cache() })
}

/// Sets autocast back when it goes, in a panic too.
struct Restore(ffi::Autocast);

impl Drop for Restore {
    fn drop(&mut self) {
        // SAFETY: the state is one that `ty_autocast_enter` wrote, and is only read.
        let left = check(unsafe { ffi::ty_autocast_leave(&self.0) });
        left.expect("setting back what was set before needs nothing that could fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use tch::Tensor;

    const KINDS: [Kind; 2] = [Kind::BFloat16, Kind::Half];

    /// Values that neither format holds exactly.
    fn ramp(rows: i64, columns: i64) -> Tensor {
        let numbers = Tensor::arange(rows * columns, (Kind::Float, Device::Cpu));
        (numbers * 0.0123 - 0.3).view([rows, columns])
    }

    /// A leaf of its own: casts of views are not kept.
    fn weight() -> Tensor {
        ramp(5, 4).copy().set_requires_grad(true)
    }

    fn product(kind: Kind, x: &Tensor, w: &Tensor) -> Tensor {
        autocast(Device::Cpu, kind, || x.linear(w, None::<&Tensor>)).unwrap()
    }

    #[test]
    fn products_run_in_the_kind_inside_only_and_gradients_are_float32() {
        let (x, w) = (ramp(3, 4), weight());
        for kind in KINDS {
            let y = product(kind, &x, &w);
            assert_eq!(y.kind(), kind);
            let expected = x.to_kind(kind).linear(&w.to_kind(kind), None::<&Tensor>);
            assert_eq!(y, expected);
            assert_eq!(x.linear(&w, None::<&Tensor>).kind(), Kind::Float);
            y.to_kind(Kind::Float).square().sum(Kind::Float).backward();
            assert_eq!(w.grad().kind(), Kind::Float);
            clear_autocast_cache().unwrap();
        }
    }

    #[test]
    fn scopes_nest_and_a_panic_leaves_them() {
        let (x, w) = (ramp(3, 4), weight());
        let inner = || product(Kind::Half, &x, &w).kind();
        let after = || x.linear(&w, None::<&Tensor>).kind();
        let found = autocast(Device::Cpu, Kind::BFloat16, || (inner(), after())).unwrap();
        assert_eq!(found, (Kind::Half, Kind::BFloat16));
        let panics = || autocast(Device::Cpu, Kind::BFloat16, || x.matmul(&x)).is_ok();
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(after(), Kind::Float);
        clear_autocast_cache().unwrap();
    }

    #[test]
    fn a_region_without_it_keeps_formats() {
        let (x, w) = (ramp(3, 4), weight());
        let kind = || x.linear(&w, None::<&Tensor>).kind();
        let found = autocast(Device::Cpu, Kind::BFloat16, || {
            (without_autocast(Device::Cpu, kind).unwrap(), kind())
        });
        assert_eq!(found.unwrap(), (Kind::Float, Kind::BFloat16));
        clear_autocast_cache().unwrap();
    }

    /// A weight that changes behind the cache's back shows whether it was cast again.
    #[test]
    fn a_weight_is_cast_once_until_the_cache_is_cleared() {
        let (x, w) = (ramp(3, 4), weight());
        let first = product(Kind::BFloat16, &x, &w);
        let _ = tch::no_grad(|| w.shallow_clone().g_add_scalar_(1.0));
        assert_eq!(product(Kind::BFloat16, &x, &w), first);
        clear_autocast_cache().unwrap();
        assert_ne!(product(Kind::BFloat16, &x, &w), first);
        clear_autocast_cache().unwrap();
    }

    /// Several forwards on one cast, each with its own backward pass.
    #[test]
    fn gradients_through_one_cast_are_those_through_several() {
        let gradient = |kind, again: bool| {
            let w = weight();
            for rows in [3, 7, 2] {
                let y = product(kind, &ramp(rows, 4), &w).to_kind(Kind::Float);
                y.square().sum(Kind::Float).backward();
                if again {
                    clear_autocast_cache().unwrap();
                }
            }
            clear_autocast_cache().unwrap();
            w.grad()
        };
        for kind in KINDS {
            assert_eq!(gradient(kind, false), gradient(kind, true));
        }
    }

    /// The evaluation of a model must not take its gradients from a forward that follows.
    #[test]
    fn a_cast_made_while_no_gradients_are_recorded_still_leads_to_them() {
        let (x, w) = (ramp(3, 4), weight());
        let first = tch::no_grad(|| product(Kind::BFloat16, &x, &w));
        let y = product(Kind::BFloat16, &x, &w);
        assert_eq!((first.requires_grad(), y.requires_grad()), (false, true));
        y.to_kind(Kind::Float).sum(Kind::Float).backward();
        assert!(w.grad().defined());
        clear_autocast_cache().unwrap();
    }

    #[test]
    fn what_has_no_autocast_is_an_error() {
        let error = |device, kind| autocast(device, kind, || ()).unwrap_err().to_string();
        assert_eq!(
            error(Device::Vulkan, Kind::Half),
            "libtorch: Vulkan has no autocast; a CPU or CUDA device has"
        );
        assert_eq!(
            error(Device::Cpu, Kind::Double),
            "libtorch: Double has no autocast; BFloat16 and Half have"
        );
    }
}
