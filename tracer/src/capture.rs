//! Captures a step: selects the part of the layers' operands to keep and sends it to the sink.

use crate::error::Result;
use crate::tap::Record;
use mercury_capture::rows::{layer_kinds, list_keys};
use mercury_capture::sampling::{self, Purpose};
use mercury_capture::sink::{Job, Sink};
use mercury_trace::geometry::Geometry;
use mercury_trace::manifest::{CapturedStep, Sampling};
use mercury_trace::tensor::{TensorKind, TensorShape};
use tch::{Device, Kind, Tensor};

/// Sends a step's records to the sink, after the backward pass.
///
/// `indices` are the batch's indices in the data set.
pub fn submit(
    sink: &Sink,
    sampling: &Sampling,
    seed: u64,
    step: u64,
    indices: &[u32],
    records: &[Record],
) -> Result<()> {
    let order = sampling::permutation(seed, Purpose::Samples(step), indices.len());
    let samples = sampling::keep_first(&order, sampling.samples).unwrap_or_else(|| (0..indices.len() as u32).collect());
    let mut files = 0;
    for record in records {
        for kind in layer_kinds(&record.layer, sampling) {
            let Some(kept) = select_kept(record, kind, &samples, sampling)? else { continue };
            let kept = kept.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
            let mut values = vec![0.0f32; kept.numel()];
            kept.f_copy_data(&mut values, kept.numel())?;
            let shape = TensorShape::from_geometry(&record.layer.geometry, kind, sampling.dtype);
            let keys = list_keys(&record.layer, kind, &samples, sampling);
            let rows = keys.len() / shape.keys.len();
            let layer = record.layer.clone();
            sink.write(Job { step, index: files, layer, kind, keys, values, rows });
            files += 1;
        }
    }
    let dataset_indices = samples.iter().map(|&sample| u64::from(indices[sample as usize])).collect();
    sink.mark_captured(CapturedStep { step, samples, dataset_indices, tensors: Vec::new() }, files);
    Ok(())
}

/// Selects the kept part of a tensor; `None` if the step has no such tensor.
fn select_kept(record: &Record, kind: TensorKind, samples: &[u32], sampling: &Sampling) -> Result<Option<Tensor>> {
    let name = &record.layer.name;
    let (tensor, kept_channels) = match kind {
        TensorKind::Input => (record.input.shallow_clone(), &sampling.channels),
        TensorKind::Weight => (record.weight.shallow_clone(), &sampling.filters),
        TensorKind::GradOutput => {
            let Some(gradient) = &record.grad_output else { return Ok(None) };
            (gradient.shallow_clone(), &sampling.grad_channels)
        }
    };
    // The right operand of a product of two activations has samples, unlike other weights.
    let is_matmul = matches!(record.layer.geometry, Geometry::Matmul(_));
    let has_samples = kind != TensorKind::Weight || is_matmul;
    let tensor = if has_samples { select(&tensor, 0, samples)? } else { tensor };
    let channel_dimension = i64::from(has_samples);
    Ok(Some(match kept_channels.get(name) {
        Some(channels) => select(&tensor, channel_dimension, channels)?,
        None => tensor,
    }))
}

fn select(tensor: &Tensor, dimension: i64, indices: &[u32]) -> Result<Tensor> {
    let indices: Vec<i64> = indices.iter().map(|&index| i64::from(index)).collect();
    Ok(tensor.f_index_select(dimension, &Tensor::f_from_slice(&indices)?.to_device(tensor.device()))?)
}
