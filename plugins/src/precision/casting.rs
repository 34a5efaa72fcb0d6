//! The forward under autocast, and whether a device can do it.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use tch::{Device, Kind, Tensor};
use trainyard::{BoxError, Error, Invalid, Loss, panic_message};
use trainyard_native::{autocast, clear_autocast_cache};

/// Runs forwards under autocast.
pub(super) struct Casting {
    device: Device,
    kind: Kind,
}

impl Casting {
    /// `device`: where the parameters lie.
    ///
    /// # Errors
    /// If the device cannot run a small product and its backward pass in `kind`.
    pub fn new(device: Device, kind: Kind) -> Result<Self, Invalid> {
        let tried = catch_unwind(AssertUnwindSafe(|| trial(device, kind)));
        let tried = tried.unwrap_or_else(|panic| Err(panic_message(&*panic).into()));
        tried.map_err(|why| lacking(device, kind, &*why))?;
        if !device.is_cuda() {
            warn_if_slow(kind);
        }
        Ok(Casting { device, kind })
    }

    pub fn forward(&self, forward: &mut dyn FnMut() -> Result<Loss, Error>) -> Result<Loss, Error> {
        autocast(self.device, self.kind, forward)?
    }

    pub fn forget_casts(&self) -> Result<(), BoxError> {
        Ok(clear_autocast_cache()?)
    }
}

/// A product and its backward pass.
fn trial(device: Device, kind: Kind) -> Result<(), BoxError> {
    let ones = || Tensor::ones([16, 16], (Kind::Float, device));
    let weight = ones().set_requires_grad(true);
    let y = autocast(device, kind, || ones().f_linear(&weight, None::<&Tensor>));
    clear_autocast_cache()?;
    y??.f_sum(Kind::Float)?.f_backward()?;
    let found = weight.grad().f_sum(Kind::Float)?.f_double_value(&[])?;
    match found {
        4096.0 => Ok(()),
        _ => Err(format!("a gradient came to {found}, not to 4096").into()),
    }
}

/// Says so where products take many times as long in `kind` as in float32, because the processor has no
/// instructions for them.
fn warn_if_slow(kind: Kind) {
    let [plain, cast] = [Kind::Float, kind].map(|kind| {
        let x = Tensor::ones([256, 256], (Kind::Float, Device::Cpu)).to_kind(kind);
        let seconds = || {
            let began = Instant::now();
            let _ = x.matmul(&x);
            began.elapsed().as_secs_f64()
        };
        // The fastest of some: what disturbs only slows.
        (0..4).map(|_| seconds()).fold(f64::INFINITY, f64::min)
    });
    let times = cast / plain;
    if times > 4.0 {
        let name = name(kind);
        tracing::warn!(
            target: "trainyard::machine",
            "a product in {name} takes {times:.0} times as long as in float32 on this processor"
        );
    }
}

/// What to use where `kind` does not work.
fn lacking(device: Device, kind: Kind, why: &(dyn std::error::Error + Send + Sync)) -> Invalid {
    let (name, device) = (name(kind), if device.is_cuda() { "GPU" } else { "CPU" });
    let instead = match kind {
        Kind::Half => "use bf16: { \"enabled\": true } instead",
        _ => "leave bf16 out for float32",
    };
    let why = why.to_string();
    let why = why.lines().next().unwrap_or_default();
    Invalid::at("enabled", format!("this {device} cannot train in {name} ({why}); {instead}"))
}

/// The format by its usual name.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => "float16",
        _ => "bfloat16",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_do_both() {
        for kind in [Kind::BFloat16, Kind::Half] {
            assert!(Casting::new(Device::Cpu, kind).is_ok());
        }
    }

    #[test]
    fn a_device_that_cannot_is_said_with_what_to_use() {
        let why = BoxError::from("\"addmm_impl_cpu_\" not implemented for 'Half'\nframe #0");
        let invalid = lacking(Device::Cpu, Kind::Half, &*why);
        assert_eq!(invalid.path, "enabled");
        assert_eq!(
            invalid.message,
            "this CPU cannot train in float16 (\"addmm_impl_cpu_\" not implemented for 'Half'); \
             use bf16: { \"enabled\": true } instead"
        );
        // No Vulkan here: libtorch's own refusal comes out as the reason.
        let invalid = Casting::new(Device::Vulkan, Kind::BFloat16).err().unwrap();
        assert!(invalid.message.ends_with("leave bf16 out for float32"), "{invalid}");
    }
}
