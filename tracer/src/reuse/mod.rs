//! Training and evaluating with reuse in the loop.
//!
//! Each convolution, linear layer and attention product is computed as MERCURY's hardware would
//! compute it, in all three passes (`mercury-passes`). `mercury-reuse` decides HITs, in training and
//! in replays.

mod exact;
mod in_loop;
mod memory;
pub mod node;
mod records;
mod session;
pub mod settings;
mod tap;

pub use exact::deviation;
pub use in_loop::{InLoop, LossGradients, measure_step};
pub use records::{PassComparison, PassMeasurement};
pub use session::Session;
pub use settings::{ConfigOverride, LayersOff, NamedConfig};
pub use tap::ReuseTap;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. Its value stays usable after a panic of another thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
