//! Training and evaluating with reuse in the loop.
//!
//! Each convolution, linear layer and attention product is computed as MERCURY's hardware would
//! compute it, in all three passes (`mercury-passes`). `mercury-reuse` decides HITs, in training and
//! in replays.

mod exact;
mod in_loop;
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

use crate::error::Result;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, Tensor};

/// Locks a mutex. Its value stays usable after a panic of another thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies a tensor's values to the CPU, in order.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut values = vec![0.0f32; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}
