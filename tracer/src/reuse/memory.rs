//! The memory of libtorch's tensors as slices.

use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// A contiguous tensor of f32 in the CPU's memory, which nothing changes while it is used.
#[derive(Debug)]
pub struct Values(Tensor);

impl Values {
    /// Takes a tensor's memory, or a converted copy if it lies elsewhere or otherwise.
    ///
    /// The caller must not change the tensor in place as long as the result lives.
    pub fn share(tensor: &Tensor) -> Result<Self> {
        Ok(Self(tensor.detach().f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?))
    }

    /// Copies a tensor, which may change later.
    pub fn copy(tensor: &Tensor) -> Result<Self> {
        Self::share(&tensor.detach().copy())
    }

    /// The values, row by row.
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: the tensor is contiguous, of f32 and on the CPU, and lives as long as the slice; by the contract of
        // `share` nothing writes to it.
        unsafe { std::slice::from_raw_parts(self.0.data_ptr().cast(), self.0.numel()) }
    }

    /// The tensor.
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }
}

/// Makes a tensor of this size on the CPU; `fill` gets its values, which are zeros.
pub fn fill_tensor(size: &[i64], fill: impl FnOnce(&mut [f32])) -> Tensor {
    let tensor = Tensor::zeros(size, (Kind::Float, Device::Cpu));
    // SAFETY: the tensor was made here, contiguous and of f32 on the CPU; the slice is the only reference to its values.
    fill(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) });
    tensor
}
