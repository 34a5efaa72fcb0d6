//! Gradients of leaf tensors.
use crate::error::{Result, check};
use crate::ffi;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
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

/// Makes `gradient`, of its size and kind, the gradient of `tensor`: shared, not copied.
///
/// # Errors
/// If a tensor is undefined.
pub fn set_gradient(tensor: &Tensor, gradient: &Tensor) -> Result<()> {
    // SAFETY: two valid tensor pointers; libtorch counts its references to the gradient.
    check(unsafe { ffi::ty_set_gradient(tensor.as_ptr(), gradient.as_ptr()) })
}

/// Which of `tensors`, leaves, a backward pass from `loss` will reach.
///
/// # Errors
/// If a tensor is undefined.
pub fn reached(loss: &Tensor, tensors: &[Tensor]) -> Result<Vec<bool>> {
    let handles = ffi::handles(tensors);
    let mut reached = vec![false; tensors.len()];
    // SAFETY: `handles` and `reached` hold `len` items, the former valid tensor pointers.
    check(unsafe {
        ffi::ty_reached(reached.as_mut_ptr(), loss.as_ptr(), handles.as_ptr(), handles.len())
    })?;
    Ok(reached)
}

/// What is called with the index of a tensor whose gradient is complete.
type Listener = Box<dyn Fn(usize) + Send + Sync>;

/// Listens to the gradients of leaf tensors until it is dropped.
pub struct Listening {
    tensors: Vec<Tensor>,
    /// Which listener is ours; the hooks own it.
    context: *const c_void,
}

// SAFETY: `context` is only compared, never read; the tensors may move between threads.
unsafe impl Send for Listening {}

impl Listening {
    /// Calls `listener` with the index of one of `tensors`, leaves, each time a backward pass has put its
    /// part into its gradient: on the thread of the backward pass, once a pass. It takes the place of an
    /// earlier listener. A panic of it is lost.
    ///
    /// # Errors
    /// If a tensor is no leaf.
    pub fn new(
        tensors: Vec<Tensor>,
        listener: impl Fn(usize) + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener: Box<Listener> = Box::new(Box::new(listener));
        let context: *mut c_void = Box::into_raw(listener).cast();
        let handles = ffi::handles(&tensors);
        // SAFETY: `handles` holds valid tensor pointers; `context` is the hooks' from here on, which share
        // it, call it from any thread and release it once, when the last of them is gone or at an error.
        check(unsafe { ffi::ty_listen(handles.as_ptr(), handles.len(), hear, release, context) })?;
        Ok(Listening { tensors, context })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let handles = ffi::handles(&self.tensors);
        // SAFETY: `handles` holds valid tensor pointers, which `self` keeps alive; `context` is compared.
        check(unsafe { ffi::ty_stop_listening(handles.as_ptr(), handles.len(), self.context) })
            .ok();
    }
}

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listening({} tensors)", self.tensors.len())
    }
}

/// Frees the listener at `context`.
extern "C" fn release(context: *mut c_void) {
    // SAFETY: from `Box::into_raw` in `Listening::new`, given back once.
    drop(unsafe { Box::from_raw(context.cast::<Listener>()) });
}

/// Hands on to the listener at `context`.
extern "C" fn hear(context: *mut c_void, index: usize) {
    // SAFETY: the address of a `Listener` that the calling hook has a share in.
    let listener = unsafe { &*context.cast::<Listener>() };
    // A panic must not unwind into C++.
    catch_unwind(AssertUnwindSafe(|| listener(index))).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tch::{Device, Kind};

    fn leaf() -> Tensor {
        Tensor::ones([3], (Kind::Float, Device::Cpu)).set_requires_grad(true)
    }

    #[test]
    fn cleared_gradients_are_undefined_not_zero() {
        let x = leaf();
        (&x * 2.0).sum(Kind::Float).backward();
        assert!(x.grad().defined());
        clear_gradients(&[x.shallow_clone()]).unwrap();
        assert!(!x.grad().defined());
        (&x * 3.0).sum(Kind::Float).backward();
        assert_eq!(x.grad(), Tensor::from_slice(&[3f32, 3.0, 3.0]));
    }

    #[test]
    fn a_gradient_that_was_set_is_shared() {
        let (x, gradient) = (leaf(), Tensor::from_slice(&[1f32, 2.0, 3.0]));
        set_gradient(&x, &gradient).unwrap();
        assert_eq!(x.grad().data_ptr(), gradient.data_ptr());
        (&x * 3.0).sum(Kind::Float).backward();
        assert_eq!(x.grad(), Tensor::from_slice(&[4f32, 5.0, 6.0]));
    }

    #[test]
    fn leaves_that_a_loss_depends_on_are_reached() {
        let [a, b, c] = [leaf(), leaf(), leaf()];
        let all = [a.shallow_clone(), b.shallow_clone(), c.shallow_clone()];
        let loss = (&a * &c * &a).sum(Kind::Float);
        assert_eq!(reached(&loss, &all).unwrap(), [true, false, true]);
        assert_eq!(reached(&b, &all).unwrap(), [false, true, false]);
        assert_eq!(reached(&Tensor::from(1f32), &all).unwrap(), [false; 3]);
    }

    #[test]
    fn a_listener_hears_each_complete_gradient_once() {
        let [a, b, c] = [leaf(), leaf(), leaf()];
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listening = {
            let heard = heard.clone();
            let tensors = [&a, &b, &c].map(Tensor::shallow_clone).into();
            Listening::new(tensors, move |index| {
                heard.lock().unwrap().push(index);
                assert!(index != 2, "a panic must not reach the backward pass");
            })
        };
        let loss = || (&a * &c * &a).sum(Kind::Float);
        loss().backward();
        let mut first = std::mem::take(&mut *heard.lock().unwrap());
        first.sort_unstable();
        assert_eq!(first, [0, 2]);
        drop(listening);
        loss().backward();
        assert!(heard.lock().unwrap().is_empty());
        assert_eq!(a.grad(), Tensor::from_slice(&[4f32, 4.0, 4.0]));
    }

    #[test]
    fn a_later_listener_stays_when_the_earlier_one_goes() {
        let a = leaf();
        let heard = Arc::new(Mutex::new(0));
        let listen = |step: i32| {
            let heard = heard.clone();
            Listening::new(vec![a.shallow_clone()], move |_| *heard.lock().unwrap() += step)
                .unwrap()
        };
        let (first, second) = (listen(1), listen(10));
        drop(first);
        a.sum(Kind::Float).backward();
        assert_eq!(*heard.lock().unwrap(), 10);
        drop(second);
        a.sum(Kind::Float).backward();
        assert_eq!((*heard.lock().unwrap(), Arc::strong_count(&heard)), (10, 1));
    }

    #[test]
    fn only_leaves_can_be_listened_to() {
        let error = Listening::new(vec![leaf() * 2.0], |_| {}).unwrap_err().to_string();
        assert!(error.contains("tensor 0 is no leaf"), "{error}");
    }
}
