//! Values of tensors of other libraries.

use crate::raise;
use dlpark::ffi::DLDeviceType;
use dlpark::python::{ImportedDlpack, from_dlpack};
use dlpark::{DlpackElement, TensorRef};
use half::{bf16, f16};
use pyo3::prelude::*;

/// Copies the values of a contiguous tensor in the CPU's memory, row by row, as f32.
///
/// # Errors
/// If the object has no `__dlpack__`, or is neither of f32, f16 nor bf16.
pub fn copy_values(tensor: &Bound<'_, PyAny>) -> PyResult<Vec<f32>> {
    let imported = from_dlpack(tensor.as_borrowed(), None, None)?;
    let view = imported.validate().map_err(raise)?;
    let strides = view.strides_or_compact().map_err(raise)?;
    if !is_contiguous(view.shape(), &strides) {
        return Err(raise("values: the tensor is not contiguous; call .contiguous()"));
    }
    let converted = copy_if::<f32>(&view, |value| value)
        .or_else(|| copy_if::<bf16>(&view, bf16::to_f32))
        .or_else(|| copy_if::<f16>(&view, f16::to_f32));
    converted.ok_or_else(|| raise("values: must be a CPU tensor of f32, f16 or bf16; call .cpu().float()"))
}

/// Copies the values of a contiguous tensor if it is in the CPU's memory and of this type.
fn copy_if<T: DlpackElement + Copy>(view: &TensorRef, convert: impl Fn(T) -> f32) -> Option<Vec<f32>> {
    if view.device().device_type != DLDeviceType::CPU || view.dtype() != T::DTYPE {
        return None;
    }
    let count = view.num_elements();
    if count == 0 {
        return Some(Vec::new());
    }
    // SAFETY: the tensor is validated, has this type, is contiguous and in the CPU's memory; the package hands
    // over private copies, and no other Python thread runs while the interpreter is attached.
    let values = unsafe { std::slice::from_raw_parts(view.offset_data_ptr::<T>().ok()?, count) };
    Some(values.iter().map(|&value| convert(value)).collect())
}

/// The memory of a contiguous f32 tensor on the CPU, which nothing else uses while this exists.
pub struct SharedValues {
    data: *mut f32,
    count: usize,
    /// Keeps the memory.
    _tensor: ImportedDlpack,
}

// SAFETY: the pointer is to memory that the tensor owns, and the tensor can be sent.
unsafe impl Send for SharedValues {}
// SAFETY: shared references only read.
unsafe impl Sync for SharedValues {}

impl SharedValues {
    /// Takes a tensor's memory.
    ///
    /// The package hands over tensors that no other thread writes to until the call returns.
    ///
    /// # Errors
    /// If the tensor is not contiguous, not of f32 or not on the CPU.
    pub fn new(tensor: &Bound<'_, PyAny>) -> PyResult<Self> {
        let imported = from_dlpack(tensor.as_borrowed(), None, None)?;
        let view = imported.validate().map_err(raise)?;
        let strides = view.strides_or_compact().map_err(raise)?;
        let is_f32 = view.device().device_type == DLDeviceType::CPU && view.dtype() == f32::DTYPE;
        if !is_f32 || !is_contiguous(view.shape(), &strides) {
            return Err(raise("values: must be a contiguous CPU tensor of f32; call .float().cpu().contiguous()"));
        }
        let count = view.num_elements();
        let data = if count == 0 {
            std::ptr::NonNull::dangling().as_ptr()
        } else {
            // SAFETY: the tensor is validated and has this type.
            unsafe { view.offset_data_ptr::<f32>() }.map_err(raise)?.cast_mut()
        };
        Ok(Self { data, count, _tensor: imported })
    }

    /// The values, row by row.
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: the memory holds `count` values as long as the tensor lives, and by the contract of `new` no thread
        // writes to it.
        unsafe { std::slice::from_raw_parts(self.data, self.count) }
    }

    /// The values, to be overwritten.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above; the package made the tensor for the results.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.count) }
    }
}

/// Whether values lie row by row; the strides of axes of one element do not matter.
fn is_contiguous(shape: &[i64], strides: &[i64]) -> bool {
    let mut expected = 1;
    for (&size, &stride) in shape.iter().zip(strides).rev() {
        if size != 1 && stride != expected {
            return false;
        }
        expected *= size;
    }
    true
}
