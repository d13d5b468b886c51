//! Gradients computed in Rust within libtorch's graph.
//!
//! tch has no custom autograd functions, so `node.cpp` defines one, which calls back into Rust.

use crate::error::{Result, TracerError};
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::Tensor;
use torch_sys::C_tensor;

/// The backward pass of a layer.
pub trait Backward: Send {
    /// Computes dX and dW from dY, as far as they are wanted.
    fn backward(&mut self, gradient: &Tensor, wanted: [bool; 2]) -> Result<[Option<Tensor>; 2]>;
}

unsafe extern "C" {
    fn mercury_attach(
        x: *const C_tensor,
        w: *const C_tensor,
        y: *const C_tensor,
        state: *mut c_void,
        reason: *mut c_char,
        length: usize,
    ) -> *mut C_tensor;
    fn mercury_set(slot: *mut C_tensor, value: *const C_tensor);
}

/// Returns `y` as a function of `x` and `w`; `backward` computes its gradients.
pub fn attach(x: &Tensor, w: &Tensor, y: &Tensor, backward: Box<dyn Backward>) -> Result<Tensor> {
    let state = Box::into_raw(Box::new(backward)).cast();
    let mut reason = [0 as c_char; 256];
    // SAFETY: the tensors live. `mercury_backward` and `mercury_release` expect this type of state,
    // and the call takes ownership of it. The call writes a terminated string that fits into
    // `reason`.
    let attached =
        unsafe { mercury_attach(x.as_ptr(), w.as_ptr(), y.as_ptr(), state, reason.as_mut_ptr(), reason.len()) };
    if attached.is_null() {
        // SAFETY: the string is terminated: it was before the call, and the call keeps it so.
        let reason = unsafe { CStr::from_ptr(reason.as_ptr()) }.to_string_lossy();
        return Err(TracerError::Torch(reason.lines().next().unwrap_or_default().to_owned()));
    }
    // SAFETY: the call created the tensor and passes its ownership on.
    Ok(unsafe { Tensor::from_ptr(attached) })
}

/// Runs a layer's backward pass; libtorch calls it.
///
/// The cause of a failure is logged here, because libtorch passes on only that there was one.
///
/// # Safety
/// [`attach`] created `state`, and it is not released. The tensors live; the slots can be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn mercury_backward(
    state: *mut c_void,
    gradient: *const C_tensor,
    wants_x: bool,
    wants_w: bool,
    x: *mut C_tensor,
    w: *mut C_tensor,
) -> bool {
    // SAFETY: by the function's contract.
    let work = || unsafe { run_backward(state, gradient, [wants_x, wants_w]) };
    // Unlike `tch::no_grad`, a guard restores the mode after a panic.
    let _no_grad = tch::no_grad_guard();
    // A panic must not unwind into C++.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(gradients)) => {
            for (slot, gradient) in [x, w].into_iter().zip(gradients) {
                if let Some(gradient) = gradient {
                    // SAFETY: both are live tensors, by the function's contract.
                    unsafe { mercury_set(slot, gradient.as_ptr()) };
                }
            }
            true
        }
        Ok(Err(error)) => {
            tracing::error!("backward pass with reuse: {error}");
            false
        }
        Err(_) => {
            tracing::error!("backward pass with reuse: panicked (message above)");
            false
        }
    }
}

/// Runs a layer's backward pass.
///
/// # Safety
/// As for [`mercury_backward`].
unsafe fn run_backward(
    state: *mut c_void,
    gradient: *const C_tensor,
    wanted: [bool; 2],
) -> Result<[Option<Tensor>; 2]> {
    // SAFETY: by the function's contract.
    let backward = unsafe { &mut *state.cast::<Box<dyn Backward>>() };
    // SAFETY: by the function's contract.
    let gradient = unsafe { Tensor::clone_from_ptr(gradient.cast_mut()) };
    backward.backward(&gradient, wanted)
}

/// Releases a layer's backward pass; libtorch calls it when the graph is gone.
///
/// # Safety
/// [`attach`] created `state`, and it is not used again.
#[unsafe(no_mangle)]
unsafe extern "C" fn mercury_release(state: *mut c_void) {
    // SAFETY: by the function's contract.
    drop(unsafe { Box::from_raw(state.cast::<Box<dyn Backward>>()) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tch::{Device, Kind};

    /// Gradients that no operation of libtorch has, so that they can only come from here.
    struct Fixed(Arc<AtomicUsize>);

    impl Backward for Fixed {
        fn backward(&mut self, gradient: &Tensor, wanted: [bool; 2]) -> Result<[Option<Tensor>; 2]> {
            let factors = [3.0, 5.0];
            Ok([0, 1].map(|i| wanted[i].then(|| gradient * factors[i])))
        }
    }

    impl Drop for Fixed {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Failing;

    impl Backward for Failing {
        fn backward(&mut self, _: &Tensor, _: [bool; 2]) -> Result<[Option<Tensor>; 2]> {
            Err(TracerError::Torch("no".to_owned()))
        }
    }

    fn tensor() -> Tensor {
        Tensor::from_slice(&[1.0f32, 2.0]).set_requires_grad(true)
    }

    #[test]
    fn libtorch_returns_the_gradients_of_the_node() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (x, w) = (tensor(), tensor());
        let y = tch::no_grad(|| &x + &w);
        let attached = attach(&x, &w, &y, Box::new(Fixed(Arc::clone(&dropped)))).unwrap();
        assert_eq!(attached, y);
        let loss = (attached * 2.0).sum(Kind::Float);
        let gradients = Tensor::f_run_backward(&[&loss], &[&x, &w], false, false).unwrap();
        assert_eq!(gradients[0], Tensor::from_slice(&[6.0f32, 6.0]));
        assert_eq!(gradients[1], Tensor::from_slice(&[10.0f32, 10.0]));
        drop(loss);
        assert_eq!(dropped.load(Ordering::Relaxed), 1, "the state goes with the graph");
    }

    #[test]
    fn only_wanted_gradients_are_computed() {
        struct Wanted;
        impl Backward for Wanted {
            fn backward(&mut self, gradient: &Tensor, wanted: [bool; 2]) -> Result<[Option<Tensor>; 2]> {
                assert_eq!(wanted, [false, true]);
                Ok([None, Some(gradient.shallow_clone())])
            }
        }
        let x = Tensor::ones([2], (Kind::Float, Device::Cpu));
        let w = tensor();
        let y = tch::no_grad(|| &x * &w);
        let attached = attach(&x, &w, &y, Box::new(Wanted)).unwrap();
        let loss = attached.sum(Kind::Float);
        let gradients = Tensor::f_run_backward(&[&loss], &[&w], false, false).unwrap();
        assert_eq!(gradients[0], Tensor::from_slice(&[1.0f32, 1.0]));
    }

    #[test]
    fn a_failure_is_an_error() {
        let (x, w) = (tensor(), tensor());
        let y = tch::no_grad(|| &x * &w);
        let attached = attach(&x, &w, &y, Box::new(Failing)).unwrap();
        let error = Tensor::f_run_backward(&[attached.sum(Kind::Float)], &[&x, &w], false, false).unwrap_err();
        assert!(error.to_string().contains("with reuse failed"), "{error}");
    }
}
