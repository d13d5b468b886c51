//! Values on their way to and from libtorch.

use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// Copies a tensor's values to the CPU, in order.
pub fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut values = vec![0.0f32; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}

/// Memory that successive matrices reuse, so that it stays in the processor's caches.
#[derive(Debug, Default)]
pub struct Room {
    memory: Option<Tensor>,
}

impl Room {
    /// Creates a matrix of this shape; `fill` must write all its values.
    ///
    /// The next matrix overwrites it.
    pub fn matrix(&mut self, shape: &[i64], fill: impl FnOnce(&mut [f32])) -> Tensor {
        let count = shape.iter().product::<i64>();
        assert!(count > 0, "a matrix has values");
        let memory = match self.memory.take() {
            Some(memory) if memory.size1().is_ok_and(|size| size >= count) => memory,
            _ => Tensor::zeros([count], (Kind::Float, Device::Cpu)),
        };
        let start = memory.data_ptr().cast::<f32>();
        // SAFETY: the tensor was made here with at least `count` contiguous f32 values on the CPU.
        // It outlives the slice, and the slice is the only reference to its values in Rust.
        let values = unsafe { std::slice::from_raw_parts_mut(start, count as usize) };
        fill(values);
        let matrix = memory.narrow(0, 0, count).view(shape);
        self.memory = Some(memory);
        matrix
    }
}
