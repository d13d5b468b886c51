//! Values on their way from and to libtorch.

use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// A tensor's values, in order.
pub fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut values = vec![0.0f32; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}

/// Memory of one matrix after the other, so that it stays in the processor's caches.
#[derive(Debug, Default)]
pub struct Room {
    memory: Option<Tensor>,
}

impl Room {
    /// The matrix of this shape whose values `fill` writes, all of them. It holds until the next one is made,
    /// which is written over it.
    pub fn matrix(&mut self, shape: &[i64], fill: impl FnOnce(&mut [f32])) -> Tensor {
        let count = shape.iter().product::<i64>();
        assert!(count > 0, "a matrix has values");
        let memory = match self.memory.take() {
            Some(memory) if memory.size1().is_ok_and(|size| size >= count) => memory,
            _ => Tensor::zeros([count], (Kind::Float, Device::Cpu)),
        };
        // SAFETY: the tensor was made here with `count` values or more, f32 on the CPU, one after the other; it
        // lives until the slice is gone, which is the only reference to its values in Rust.
        let values = unsafe { std::slice::from_raw_parts_mut(memory.data_ptr().cast::<f32>(), count as usize) };
        fill(values);
        let matrix = memory.narrow(0, 0, count).view(shape);
        self.memory = Some(memory);
        matrix
    }
}
