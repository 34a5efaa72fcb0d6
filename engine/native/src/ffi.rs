//! The C interface of `cpp/shim.h`, declaration by declaration.
use std::ffi::{c_char, c_int};
use tch::Tensor;
use torch_sys::C_tensor;

/// An `at::Tensor*`; the shim reads the tensor behind it and never frees it.
pub(crate) type Handle = *const C_tensor;

unsafe extern "C" {
    pub(crate) fn ty_free_message(message: *mut c_char);
    pub(crate) fn ty_clear_gradients(tensors: *const Handle, count: usize) -> *mut c_char;
    pub(crate) fn ty_add_scaled(
        out: *mut *mut C_tensor,
        x: Handle,
        y: Handle,
        scale: f64,
    ) -> *mut c_char;
    pub(crate) fn ty_norm_of(
        out: *mut *mut C_tensor,
        tensors: *const Handle,
        count: usize,
    ) -> *mut c_char;
    pub(crate) fn ty_scale_all(tensors: *const Handle, count: usize, factor: Handle)
    -> *mut c_char;
    pub(crate) fn ty_fused_adam(
        params: *const Handle,
        grads: *const Handle,
        exp_avgs: *const Handle,
        exp_avg_sqs: *const Handle,
        steps: *const i64,
        count: usize,
        decoupled: c_int,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> *mut c_char;
    pub(crate) fn ty_fused_sgd(
        params: *const Handle,
        grads: *const Handle,
        momenta: *const Handle,
        count: usize,
        lr: f64,
        momentum: f64,
        dampening: f64,
        weight_decay: f64,
        nesterov: c_int,
        first: c_int,
    ) -> *mut c_char;
    pub(crate) fn ty_set_deterministic(on: c_int) -> *mut c_char;
    pub(crate) fn ty_set_flush_denormal(on: c_int) -> *mut c_char;
}

/// The handles of `tensors`, valid while the tensors are borrowed.
pub(crate) fn handles(tensors: &[Tensor]) -> Vec<Handle> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

/// Takes over a tensor that the shim made.
pub(crate) fn take(out: *mut C_tensor) -> Tensor {
    // SAFETY: called only after the shim reported success, when `out` is a new `at::Tensor*` that
    // nobody else holds; tch releases it with `delete`, as the shim made it with `new`.
    unsafe { Tensor::from_ptr(out) }
}
