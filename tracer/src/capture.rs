//! Capture: the operands of a step's layers, cut down to what is kept, on their way into the trace.

use crate::error::Result;
use crate::sampling::{self, Purpose};
use crate::sink::{Job, Sink};
use crate::tap::Record;
use mercury_trace::geometry::Geometry;
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{CapturedStep, Sampling};
use mercury_trace::tensor::{TensorKind, TensorShape};
use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

/// Tensors that the kept passes multiply, in the order in which they are written.
pub fn kinds(sampling: &Sampling) -> Vec<TensorKind> {
    let wanted: BTreeSet<TensorKind> = sampling.passes.iter().flat_map(|pass| pass.operands()).collect();
    [TensorKind::Weight, TensorKind::Input, TensorKind::GradOutput]
        .into_iter()
        .filter(|kind| wanted.contains(kind))
        .collect()
}

/// Parquet's own share of a tensor file: schema, metadata, page headers.
const FILE_BYTES: u64 = 4096;

/// Most bytes that the files of a captured step have; compression makes them smaller.
pub fn step_bytes(layers: &[&Layer], sampling: &Sampling, batch: u32) -> u64 {
    let samples = sampling.samples.unwrap_or(batch).min(batch);
    let of = |layer: &Layer, kind| {
        let shape = TensorShape::of(&layer.geometry, kind, sampling.dtype);
        let keys = keys(layer, kind, &[0], sampling).len() / shape.keys.len();
        let samples = if shape.keys[0] == "sample" { u64::from(samples) } else { 1 };
        let row = shape.row_bytes() + shape.keys.len() * size_of::<u32>();
        FILE_BYTES + samples * keys as u64 * row as u64
    };
    let kinds = kinds(sampling);
    layers.iter().flat_map(|layer| kinds.iter().map(move |&kind| of(layer, kind))).sum()
}

/// Hands a step's records over to be written; the backward pass must have run.
///
/// `indices` are the data set's indices of the batch.
pub fn submit(
    sink: &Sink,
    sampling: &Sampling,
    seed: u64,
    step: u64,
    indices: &[u32],
    records: &[Record],
) -> Result<()> {
    let order = sampling::permutation(seed, Purpose::Samples(step), indices.len());
    let samples = sampling::keep(&order, sampling.samples).unwrap_or_else(|| (0..indices.len() as u32).collect());
    let kinds = kinds(sampling);
    let mut files = 0;
    for record in records {
        for &kind in &kinds {
            let Some(kept) = kept(record, kind, &samples, sampling)? else { continue };
            let kept = kept.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
            let mut values = vec![0.0f32; kept.numel()];
            kept.f_copy_data(&mut values, kept.numel())?;
            let shape = TensorShape::of(&record.layer.geometry, kind, sampling.dtype);
            let keys = keys(&record.layer, kind, &samples, sampling);
            let rows = keys.len() / shape.keys.len();
            sink.write(Job { step, index: files, layer: record.layer.name.clone(), kind, keys, values, rows });
            files += 1;
        }
    }
    let dataset_indices = samples.iter().map(|&sample| u64::from(indices[sample as usize])).collect();
    sink.mark_captured(CapturedStep { step, samples, dataset_indices, tensors: Vec::new() }, files);
    Ok(())
}

/// The kept part of a tensor; `None` where the step had none.
fn kept(record: &Record, kind: TensorKind, samples: &[u32], sampling: &Sampling) -> Result<Option<Tensor>> {
    let name = &record.layer.name;
    let (tensor, map) = match kind {
        TensorKind::Input => (record.input.shallow_clone(), &sampling.channels),
        TensorKind::Weight => (record.weight.shallow_clone(), &sampling.filters),
        TensorKind::GradOutput => {
            let Some(gradient) = &record.grad_output else { return Ok(None) };
            (gradient.shallow_clone(), &sampling.grad_channels)
        }
    };
    let attention = matches!(record.layer.geometry, Geometry::Attention(_));
    if kind == TensorKind::Weight && !attention {
        return Ok(Some(match map.get(name) {
            Some(filters) => select(&tensor, 0, filters)?,
            None => tensor,
        }));
    }
    let tensor = select(&tensor, 0, samples)?;
    Ok(Some(match map.get(name) {
        Some(channels) => select(&tensor, 1, channels)?,
        None => tensor,
    }))
}

/// Keys of the rows of a tensor of which these samples are kept, row by row.
fn keys(layer: &Layer, kind: TensorKind, samples: &[u32], sampling: &Sampling) -> Vec<u32> {
    let all = |count: u32| (0..count).collect::<Vec<u32>>();
    let kept = |map: &std::collections::BTreeMap<String, Vec<u32>>, count| {
        map.get(&layer.name).cloned().unwrap_or_else(|| all(count))
    };
    let columns = match (layer.geometry, kind) {
        (Geometry::Attention(a), TensorKind::Weight) => vec![samples.to_vec(), all(a.heads), all(a.columns)],
        (Geometry::Attention(a), _) => vec![samples.to_vec(), all(a.heads), all(a.rows)],
        (geometry, TensorKind::Weight) => vec![kept(&sampling.filters, geometry.filters())],
        (Geometry::Linear(linear), _) => vec![samples.to_vec(), all(linear.rows)],
        (Geometry::Conv2d(conv), TensorKind::Input) => {
            vec![samples.to_vec(), kept(&sampling.channels, conv.in_channels)]
        }
        (Geometry::Conv2d(conv), TensorKind::GradOutput) => {
            vec![samples.to_vec(), kept(&sampling.grad_channels, conv.out_channels)]
        }
    };
    let mut rows: Vec<Vec<u32>> = vec![Vec::new()];
    for column in &columns {
        rows = rows.iter().flat_map(|row| column.iter().map(move |&key| [row.as_slice(), &[key]].concat())).collect();
    }
    rows.concat()
}

fn select(tensor: &Tensor, dimension: i64, indices: &[u32]) -> Result<Tensor> {
    let indices: Vec<i64> = indices.iter().map(|&index| i64::from(index)).collect();
    Ok(tensor.f_index_select(dimension, &Tensor::f_from_slice(&indices)?.to_device(tensor.device()))?)
}
