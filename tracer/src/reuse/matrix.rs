//! Values on their way from and to libtorch.

use crate::error::Result;
use std::ops::Deref;
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
    values: Vec<f32>,
}

/// A tensor over the memory of a [`Room`], which it borrows.
pub struct Matrix<'a> {
    tensor: Tensor,
    _room: &'a mut Room,
}

impl Room {
    /// The matrix of this shape whose values `fill` writes, all of them.
    pub fn matrix(&mut self, shape: &[i64], fill: impl FnOnce(&mut [f32])) -> Matrix<'_> {
        let count = shape.iter().product::<i64>() as usize;
        if self.values.len() < count {
            self.values.resize(count, 0.0);
        }
        fill(&mut self.values[..count]);
        let mut strides = vec![1; shape.len()];
        for axis in (0..shape.len().saturating_sub(1)).rev() {
            strides[axis] = strides[axis + 1] * shape[axis + 1];
        }
        // SAFETY: `count` values lie there, contiguous as the strides say; they are neither moved nor
        // written while the matrix borrows the room, and nothing of it is handed out but by reference.
        let tensor =
            unsafe { Tensor::from_blob(self.values.as_ptr().cast(), shape, &strides, Kind::Float, Device::Cpu) };
        Matrix { tensor, _room: self }
    }
}

impl Deref for Matrix<'_> {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}
