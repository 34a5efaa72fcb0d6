//! The C interface of `cpp/shim.h`, declaration by declaration.
use crate::adam::AdamStep;
use crate::lamb::LambStep;
use crate::lion::LionStep;
use std::ffi::{c_char, c_int, c_void};
use tch::Tensor;
use torch_sys::C_tensor;

/// An `at::Tensor*`; the shim reads the tensor behind it and never frees it.
pub(crate) type Handle = *const C_tensor;

/// How autocast stood before a scope; the shim's `TyAutocast`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Autocast {
    cuda: c_int,
    kind: c_int,
    enabled: c_int,
    cache: c_int,
}

/// The shim's `TyPlace`.
#[repr(C)]
pub(crate) struct Place {
    pub name: *const c_char,
    pub r#type: *const c_char,
    pub identity: *const c_void,
    pub tensor: *mut C_tensor,
    pub parameter: bool,
    pub forward: bool,
}

/// The shim's `TyArgument`.
#[repr(C)]
pub(crate) struct Argument {
    pub name: *const c_char,
    pub r#type: *const c_char,
    pub tensor: bool,
    pub optional: bool,
}

/// The shim's `TyValue`.
#[repr(C)]
pub(crate) struct Value {
    pub kind: c_int,
    pub count: usize,
    pub whole: i64,
    pub real: f64,
    pub items: *const c_void,
}

impl Default for Value {
    /// The default of an argument.
    fn default() -> Self {
        Value { kind: 0, count: 0, whole: 0, real: 0.0, items: std::ptr::null() }
    }
}

/// The shim's `TyParameter`.
#[repr(C)]
pub(crate) struct Parameter {
    pub name: *const c_char,
    pub r#type: *const c_char,
    pub sets: *const c_char,
    pub result: bool,
    pub optional: bool,
    pub written: bool,
}

/// The shim's `TyExtra`.
#[repr(C)]
pub(crate) struct Extra {
    pub name: *const c_char,
    pub content: *const c_char,
    pub size: usize,
}

/// The shim's `TyCall`.
#[repr(C)]
pub(crate) struct Call {
    pub module: usize,
    pub visit: usize,
    pub inputs: usize,
    pub caller: *const c_char,
    pub method: *const c_char,
    pub place: *const c_char,
    pub output: *const c_char,
    pub assigned: *const c_char,
    pub looped: bool,
    pub conditional: bool,
    pub forked: bool,
    pub threads: bool,
    pub streams: bool,
    pub rest_used: bool,
    pub rest_optional: bool,
    pub tensor: *const bool,
    pub residual: *const bool,
    pub written: *const bool,
    pub from: *const i64,
}

pub(crate) type Layer =
    extern "C" fn(*mut c_void, usize, *mut C_tensor, *mut c_void, *mut *mut C_tensor) -> bool;

unsafe extern "C" {
    pub(crate) fn ty_script_load(
        out: *mut *mut c_void,
        path: *const c_char,
        device: c_int,
        index: c_int,
    ) -> *mut c_char;
    pub(crate) fn ty_script_free(script: *mut c_void);
    pub(crate) fn ty_script_settle(script: *mut c_void) -> *mut c_char;
    pub(crate) fn ty_script_places(
        script: *mut c_void,
        take: extern "C" fn(*mut c_void, *const Place),
        context: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn ty_script_arguments(
        script: *mut c_void,
        take: extern "C" fn(*mut c_void, *const Argument),
        context: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn ty_script_modes(
        script: *mut c_void,
        out: *mut crate::script::Modes,
    ) -> *mut c_char;
    pub(crate) fn ty_script_calls(
        script: *mut c_void,
        modules: *const *const c_void,
        count: usize,
        take: extern "C" fn(*mut c_void, *const Call),
        context: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn ty_script_gate(
        script: *mut c_void,
        modules: *const *const c_void,
        streams: *const usize,
        count: usize,
    ) -> *mut c_char;
    pub(crate) fn ty_script_forward(
        script: *mut c_void,
        inputs: *const Handle,
        count: usize,
        train: bool,
        layer: Layer,
        take: extern "C" fn(*mut c_void, *const c_char, *mut C_tensor),
        context: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn ty_script_layer(
        call: *mut c_void,
        x: Handle,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn ty_script_save(
        script: *mut c_void,
        extra: *const Extra,
        count: usize,
        write: extern "C" fn(*mut c_void, *const c_void, usize),
        context: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn ty_operator_find(
        out: *mut *mut c_void,
        name: *const c_char,
        overload: *const c_char,
    ) -> *mut c_char;
    pub(crate) fn ty_operator_free(op: *mut c_void);
    pub(crate) fn ty_operator_describe(
        op: *mut c_void,
        random: *mut bool,
        take: extern "C" fn(*mut c_void, *const Parameter),
        context: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn ty_operator_fill(
        call: *mut *mut c_void,
        op: *mut c_void,
        values: *const Value,
        later: *const bool,
        count: usize,
    ) -> *mut c_char;
    pub(crate) fn ty_call_free(call: *mut c_void);
    pub(crate) fn ty_call_run(
        call: *mut c_void,
        places: *const usize,
        values: *const Value,
        count: usize,
        take: extern "C" fn(*mut c_void, *const Value),
        context: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn ty_free_message(message: *mut c_char);
    pub(crate) fn ty_autocast_enter(cuda: c_int, half: c_int, before: *mut Autocast)
    -> *mut c_char;
    pub(crate) fn ty_autocast_pause(cuda: c_int, before: *mut Autocast) -> *mut c_char;
    pub(crate) fn ty_autocast_leave(before: *const Autocast) -> *mut c_char;
    pub(crate) fn ty_clear_autocast_cache() -> *mut c_char;
    pub(crate) fn ty_first_non_finite(
        index: *mut i64,
        tensors: *const Handle,
        count: usize,
    ) -> *mut c_char;
    pub(crate) fn ty_blemished(
        out: *mut *mut C_tensor,
        tensors: *const Handle,
        count: usize,
        nan_only: bool,
    ) -> *mut c_char;
    pub(crate) fn ty_clear_gradients(tensors: *const Handle, count: usize) -> *mut c_char;
    pub(crate) fn ty_set_gradient(tensor: Handle, gradient: Handle) -> *mut c_char;
    pub(crate) fn ty_reached(
        reached: *mut bool,
        loss: Handle,
        tensors: *const Handle,
        count: usize,
    ) -> *mut c_char;
    pub(crate) fn ty_listen(
        tensors: *const Handle,
        count: usize,
        listener: extern "C" fn(*mut c_void, usize),
        release: extern "C" fn(*mut c_void),
        context: *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn ty_stop_listening(
        tensors: *const Handle,
        count: usize,
        context: *const c_void,
    ) -> *mut c_char;
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
        scale: Handle,
        how: *const AdamStep,
    ) -> *mut c_char;
    pub(crate) fn ty_fused_lamb(
        params: *const Handle,
        grads: *const Handle,
        exp_avgs: *const Handle,
        exp_avg_sqs: *const Handle,
        steps: *const i64,
        count: usize,
        scale: Handle,
        how: *const LambStep,
    ) -> *mut c_char;
    pub(crate) fn ty_fused_lion(
        params: *const Handle,
        grads: *const Handle,
        exp_avgs: *const Handle,
        count: usize,
        scale: Handle,
        how: *const LionStep,
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
    pub(crate) fn ty_lerp_all(
        starts: *const Handle,
        ends: *const Handle,
        count: usize,
        weight: f64,
    ) -> *mut c_char;
    pub(crate) fn ty_shrink_and_add(
        tensors: *const Handle,
        others: *const Handle,
        count: usize,
        kept: f64,
    ) -> *mut c_char;
    pub(crate) fn ty_fused_adagrad(
        params: *const Handle,
        grads: *const Handle,
        sums: *const Handle,
        steps: *const i64,
        count: usize,
        lr: f64,
        lr_decay: f64,
        weight_decay: f64,
        eps: f64,
    ) -> *mut c_char;
    pub(crate) fn ty_load_cuda() -> *mut c_char;
    pub(crate) fn ty_begin_counting_waits() -> *mut c_char;
    pub(crate) fn ty_end_counting_waits(count: *mut u64) -> *mut c_char;
    pub(crate) fn ty_set_deterministic(on: c_int) -> *mut c_char;
    pub(crate) fn ty_set_flush_denormal(on: c_int) -> *mut c_char;
    pub(crate) fn ty_set_parallel_dropout(on: c_int) -> *mut c_char;
    pub(crate) fn ty_set_own_attention(on: c_int) -> *mut c_char;
    pub(crate) fn ty_own_attentions(forwards: *mut u64, backwards: *mut u64) -> *mut c_char;
    pub(crate) fn ty_set_log_level(level: c_int) -> *mut c_char;
    pub(crate) fn ty_skip_teardown() -> *mut c_char;
    pub(crate) fn ty_keep_freed_memory() -> *mut c_char;

    pub(crate) fn ty_store_connect(
        out: *mut *mut c_void,
        host: *const c_char,
        port: u16,
        listener: c_int,
        timeout_ms: i64,
    ) -> *mut c_char;
    pub(crate) fn ty_store_set_timeout(store: *mut c_void, timeout_ms: i64) -> *mut c_char;
    pub(crate) fn ty_store_prefixed(
        out: *mut *mut c_void,
        inner: *mut c_void,
        prefix: *const c_char,
    ) -> *mut c_char;
    pub(crate) fn ty_store_free(store: *mut c_void);
    pub(crate) fn ty_store_set(
        store: *mut c_void,
        key: *const c_char,
        data: *const u8,
        length: usize,
    ) -> *mut c_char;
    pub(crate) fn ty_store_check(
        store: *mut c_void,
        key: *const c_char,
        there: *mut bool,
    ) -> *mut c_char;
    pub(crate) fn ty_store_get(
        store: *mut c_void,
        key: *const c_char,
        timeout_ms: i64,
        data: *mut *mut u8,
        length: *mut usize,
    ) -> *mut c_char;
    pub(crate) fn ty_store_compare_set(
        store: *mut c_void,
        key: *const c_char,
        data: *const u8,
        data_length: usize,
        found: *mut *mut u8,
        found_length: *mut usize,
    ) -> *mut c_char;
    pub(crate) fn ty_free_bytes(data: *mut u8);

    pub(crate) fn ty_group_gloo(
        out: *mut *mut c_void,
        store: *mut c_void,
        address: *const c_char,
        interface: *const c_char,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
    ) -> *mut c_char;
    #[cfg(nccl)]
    pub(crate) fn ty_group_nccl(
        out: *mut *mut c_void,
        store: *mut c_void,
        image: *const u8,
        length: usize,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
    ) -> *mut c_char;
    pub(crate) fn ty_group_free(group: *mut c_void);
    pub(crate) fn ty_group_abort(group: *mut c_void) -> *mut c_char;
    pub(crate) fn ty_all_reduce(
        work: *mut *mut c_void,
        group: *mut c_void,
        tensor: Handle,
        op: c_int,
    ) -> *mut c_char;
    pub(crate) fn ty_broadcast(
        work: *mut *mut c_void,
        group: *mut c_void,
        tensor: Handle,
        root: c_int,
    ) -> *mut c_char;
    pub(crate) fn ty_all_gather(
        work: *mut *mut c_void,
        group: *mut c_void,
        gathered: Handle,
        own: Handle,
    ) -> *mut c_char;
    pub(crate) fn ty_reduce_scatter(
        work: *mut *mut c_void,
        group: *mut c_void,
        own: Handle,
        whole: Handle,
        op: c_int,
    ) -> *mut c_char;
    pub(crate) fn ty_barrier(work: *mut *mut c_void, group: *mut c_void) -> *mut c_char;
    pub(crate) fn ty_work_free(work: *mut c_void);
    pub(crate) fn ty_work_done(work: *mut c_void, done: *mut bool) -> *mut c_char;
    pub(crate) fn ty_work_wait(work: *mut c_void, timeout_ms: i64) -> *mut c_char;
}

/// The handles of `tensors`, valid while the tensors are borrowed.
pub(crate) fn handles(tensors: &[Tensor]) -> Vec<Handle> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

/// The handle of a tensor that may be missing: null then.
pub(crate) fn handle(tensor: Option<&Tensor>) -> Handle {
    tensor.map_or(std::ptr::null(), Tensor::as_ptr)
}

/// Takes over a tensor that the shim made.
pub(crate) fn take(out: *mut C_tensor) -> Tensor {
    // SAFETY: called only after the shim reported success, when `out` is a new `at::Tensor*` that
    // nobody else holds; tch releases it with `delete`, as the shim made it with `new`.
    unsafe { Tensor::from_ptr(out) }
}
