//! Values of tensors of other libraries.

use crate::raise;
use dlpark::python::from_dlpack;
use half::{bf16, f16};
use pyo3::prelude::*;

/// Copies the values of a contiguous tensor in the CPU's memory, row by row, as f32.
///
/// # Errors
/// If the object has no `__dlpack__`, or is neither of f32, f16 nor bf16.
pub fn copy_values(tensor: &Bound<'_, PyAny>) -> PyResult<Vec<f32>> {
    let imported = from_dlpack(tensor.as_borrowed(), None, None)?;
    let view = imported.validate().map_err(raise)?;
    if !view.is_compact().map_err(raise)? {
        return Err(raise("values: the tensor is not contiguous; call .contiguous()"));
    }
    // SAFETY: the tensor is validated, compact and in the CPU's memory, and the caller holds the only reference that
    // could write to it while the interpreter is attached.
    unsafe {
        if let Ok(values) = view.cpu_slice::<f32>() {
            return Ok(values.to_vec());
        }
        if let Ok(values) = view.cpu_slice::<bf16>() {
            return Ok(values.iter().map(|value| value.to_f32()).collect());
        }
        if let Ok(values) = view.cpu_slice::<f16>() {
            return Ok(values.iter().map(|value| value.to_f32()).collect());
        }
    }
    Err(raise("values: must be a CPU tensor of f32, f16 or bf16; call .cpu().float()"))
}
