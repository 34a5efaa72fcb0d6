//! Gradients of leaf tensors.
use crate::error::{Result, check};
use crate::ffi;
use tch::Tensor;

/// Sets the gradient of every tensor to undefined (not to zero), so that a parameter that the next
/// backward pass does not reach can be told from one whose gradient is zero.
///
/// `tensors`: leaf tensors of any shape; those without a gradient stay as they are.
///
/// # Errors
/// If a tensor is undefined.
pub fn clear_gradients(tensors: &[Tensor]) -> Result<()> {
    let handles = ffi::handles(tensors);
    // SAFETY: `handles` holds `len` valid tensor pointers, which `tensors` keeps alive.
    check(unsafe { ffi::ty_clear_gradients(handles.as_ptr(), handles.len()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn cleared_gradients_are_undefined_not_zero() {
        let x = Tensor::ones([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        (&x * 2.0).sum(Kind::Float).backward();
        assert!(x.grad().defined());
        clear_gradients(&[x.shallow_clone()]).unwrap();
        assert!(!x.grad().defined());
        (&x * 3.0).sum(Kind::Float).backward();
        assert_eq!(x.grad(), Tensor::from_slice(&[3f32, 3.0, 3.0]));
    }
}
