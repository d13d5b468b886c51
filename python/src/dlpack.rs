//! Values of tensors of other libraries.

use crate::raise;
use dlpark::ffi::DLDeviceType;
use dlpark::python::from_dlpack;
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
