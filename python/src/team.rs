//! Work on the threads of PyTorch's OpenMP runtime.
//!
//! These threads spin for a while after each of PyTorch's operators, on the cores that threads of our own would need.
//! So a pass of reuse is an OpenMP region, whose threads are the workers of a rayon pool.

use crate::lock;
use pyo3::prelude::*;
use rayon::{ThreadBuilder, ThreadPoolBuilder};
use std::ffi::{c_int, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, OnceLock};

/// `GOMP_parallel(function, data, threads, flags)`: calls the function on each thread of a region, one of which is the
/// calling one, and waits for all.
type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// `omp_get_max_threads()`: what `torch.set_num_threads` sets.
type MaxThreads = unsafe extern "C" fn() -> c_int;

/// Functions of an OpenMP runtime with the interface of GCC's.
struct OpenMp {
    parallel: Parallel,
    max_threads: MaxThreads,
}

static OPEN_MP: OnceLock<OpenMp> = OnceLock::new();

/// Takes the addresses of `GOMP_parallel` and `omp_get_max_threads`; without them, reuse has threads of its own.
#[pyfunction]
pub fn share_openmp(parallel: usize, max_threads: usize) {
    // SAFETY: the caller found the functions by these names in a library that stays loaded.
    OPEN_MP.get_or_init(|| unsafe {
        OpenMp {
            parallel: std::mem::transmute::<usize, Parallel>(parallel),
            max_threads: std::mem::transmute::<usize, MaxThreads>(max_threads),
        }
    });
}

/// Runs work on PyTorch's threads, while other Python code may run.
pub fn run<R: Send>(py: Python<'_>, work: impl FnOnce() -> R + Send) -> R {
    py.detach(|| run_in_region(work))
}

fn run_in_region<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let Some(OpenMp { parallel, max_threads }) = OPEN_MP.get() else { return work() };
    let mut result = None;
    let task: Box<dyn FnOnce() + Send> = Box::new(|| result = Some(catch_unwind(AssertUnwindSafe(work))));
    // SAFETY: a pool's workers end after its tasks, and the region below after the workers, so the task ends in this
    // function. At least one worker runs, that of the calling thread.
    let task: Box<dyn FnOnce() + Send + 'static> = unsafe { std::mem::transmute(task) };
    // SAFETY: the function takes nothing.
    let threads = unsafe { max_threads() }.max(1);
    let workers = Mutex::new(Vec::new());
    let pool = ThreadPoolBuilder::new().num_threads(threads as usize).spawn_handler(|worker| {
        lock(&workers).push(worker);
        Ok(())
    });
    pool.build().expect("workers only wait in the list").spawn(task);
    // SAFETY: the region's function gets the list that it expects, which lives until the region ends.
    unsafe { parallel(work_in_region, (&raw const workers).cast_mut().cast(), threads as c_uint, 0) };
    result.expect("the region ends after the task").unwrap_or_else(|panic| resume_unwind(panic))
}

/// Runs one of the waiting workers until the pool ends.
extern "C" fn work_in_region(data: *mut c_void) {
    // SAFETY: `run` gives its list, which is only shared.
    let workers = unsafe { &*data.cast::<Mutex<Vec<ThreadBuilder>>>() };
    let worker = lock(workers).pop();
    if let Some(worker) = worker {
        worker.run();
    }
}
