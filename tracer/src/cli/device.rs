//! The device that `--device` names.

use crate::error::TracerError;
use tch::{Cuda, Device};

/// Finds an available device by name.
pub fn parse(name: &str) -> Result<Device, TracerError> {
    let bad = |reason: String| TracerError::Flag { flag: "--device", reason };
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => 0,
        _ => name
            .strip_prefix("cuda:")
            .and_then(|index| index.parse::<usize>().ok())
            .ok_or_else(|| bad(format!("{name:?} is not one of cpu, cuda, cuda:N")))?,
    };
    if !Cuda::is_available() {
        return Err(bad(format!(
            "{name} is not available: this libtorch sees no CUDA device; use cpu, or set LIBTORCH to a \
             CUDA build and build again"
        )));
    }
    let count = Cuda::device_count();
    if index as i64 >= count {
        return Err(bad(format!("{name} is not available: there are {count} CUDA devices, numbered from 0")));
    }
    Ok(Device::Cuda(index))
}
