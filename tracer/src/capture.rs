//! Captures a step: selects the part of the layers' operands to keep and sends it to the sink.

use crate::error::Result;
use crate::sampling::{self, Purpose};
use crate::sink::{Job, Sink};
use crate::tap::Record;
use mercury_trace::geometry::Geometry;
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{CapturedStep, Sampling};
use mercury_trace::tensor::{TensorKind, TensorShape};
use std::collections::{BTreeMap, BTreeSet};
use tch::{Device, Kind, Tensor};

/// Lists the tensors that the kept passes multiply, in the order of writing.
pub fn kinds(sampling: &Sampling) -> Vec<TensorKind> {
    let wanted: BTreeSet<TensorKind> = sampling.passes.iter().flat_map(|pass| pass.operands()).collect();
    [TensorKind::Weight, TensorKind::Input, TensorKind::GradOutput]
        .into_iter()
        .filter(|kind| wanted.contains(kind))
        .collect()
}

/// Size of a tensor file's schema, metadata and page headers, in bytes.
const FILE_BYTES: u64 = 4096;

/// Computes the maximum size of a captured step's files, in bytes before compression.
pub fn step_bytes(layers: &[&Layer], sampling: &Sampling, batch: u32) -> u64 {
    let samples = sampling.samples.unwrap_or(batch).min(batch);
    let mut bytes = 0;
    for layer in layers {
        for kind in kinds(sampling) {
            bytes += file_bytes(layer, kind, samples, sampling);
        }
    }
    bytes
}

fn file_bytes(layer: &Layer, kind: TensorKind, samples: u32, sampling: &Sampling) -> u64 {
    let shape = TensorShape::from_geometry(&layer.geometry, kind, sampling.dtype);
    let rows_of_sample = list_keys(layer, kind, &[0], sampling).len() / shape.keys.len();
    let samples = if shape.keys[0] == "sample" { u64::from(samples) } else { 1 };
    let row_bytes = shape.row_bytes() + shape.keys.len() * size_of::<u32>();
    FILE_BYTES + samples * rows_of_sample as u64 * row_bytes as u64
}

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
    let kinds = kinds(sampling);
    let mut files = 0;
    for record in records {
        for &kind in &kinds {
            let Some(kept) = select_kept(record, kind, &samples, sampling)? else { continue };
            let kept = kept.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
            let mut values = vec![0.0f32; kept.numel()];
            kept.f_copy_data(&mut values, kept.numel())?;
            let shape = TensorShape::from_geometry(&record.layer.geometry, kind, sampling.dtype);
            let keys = list_keys(&record.layer, kind, &samples, sampling);
            let rows = keys.len() / shape.keys.len();
            let layer = record.layer.name.clone();
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
    // The right operand of an attention product has samples, unlike other weights.
    let is_attention = matches!(record.layer.geometry, Geometry::Attention(_));
    let has_samples = kind != TensorKind::Weight || is_attention;
    let tensor = if has_samples { select(&tensor, 0, samples)? } else { tensor };
    let channel_dimension = i64::from(has_samples);
    Ok(Some(match kept_channels.get(name) {
        Some(channels) => select(&tensor, channel_dimension, channels)?,
        None => tensor,
    }))
}

/// Lists the keys of a tensor's kept rows, row by row.
fn list_keys(layer: &Layer, kind: TensorKind, samples: &[u32], sampling: &Sampling) -> Vec<u32> {
    let all = |count: u32| (0..count).collect::<Vec<u32>>();
    let kept = |map: &BTreeMap<String, Vec<u32>>, count| map.get(&layer.name).cloned().unwrap_or_else(|| all(count));
    let samples = samples.to_vec();
    let columns = match (layer.geometry, kind) {
        (Geometry::Attention(a), TensorKind::Weight) => vec![samples, all(a.heads), all(a.columns)],
        (Geometry::Attention(a), _) => vec![samples, all(a.heads), all(a.rows)],
        (geometry, TensorKind::Weight) => vec![kept(&sampling.filters, geometry.filters())],
        (Geometry::Linear(linear), _) => vec![samples, all(linear.rows)],
        (Geometry::Conv2d(conv), TensorKind::Input) => {
            vec![samples, kept(&sampling.channels, conv.in_channels)]
        }
        (Geometry::Conv2d(conv), TensorKind::GradOutput) => {
            vec![samples, kept(&sampling.grad_channels, conv.out_channels)]
        }
    };
    let mut rows: Vec<Vec<u32>> = vec![Vec::new()];
    for column in &columns {
        let mut longer_rows = Vec::with_capacity(rows.len() * column.len());
        for row in &rows {
            longer_rows.extend(column.iter().map(|&key| [row.as_slice(), &[key]].concat()));
        }
        rows = longer_rows;
    }
    rows.concat()
}

fn select(tensor: &Tensor, dimension: i64, indices: &[u32]) -> Result<Tensor> {
    let indices: Vec<i64> = indices.iter().map(|&index| i64::from(index)).collect();
    Ok(tensor.f_index_select(dimension, &Tensor::f_from_slice(&indices)?.to_device(tensor.device()))?)
}
