//! Capture: the operands of a step's layers, cut down to what is kept, into the trace.

use crate::error::Result;
use crate::sampling::{self, Purpose};
use crate::tap::Record;
use mercury_trace::TraceWriter;
use mercury_trace::geometry::Geometry;
use mercury_trace::manifest::{CapturedStep, TensorFile};
use mercury_trace::tensor::{TensorKind, TensorShape};
use tch::{Device, Kind, Tensor};

/// Writes a step's records and returns what the manifest will say of them.
///
/// `indices` are the data set's indices of the batch. The backward pass must have run.
pub fn write_step(writer: &TraceWriter, step: u64, indices: &[i64], records: &[Record]) -> Result<CapturedStep> {
    let sampling = &writer.manifest().sampling;
    let order = sampling::permutation(writer.manifest().seed, Purpose::Samples(step), indices.len());
    let samples = sampling::keep(&order, sampling.samples).unwrap_or_else(|| (0..indices.len() as u32).collect());
    let mut tensors = Vec::new();
    for record in records {
        let name = &record.layer.name;
        let kept_filters = sampling.filters.get(name);
        tensors.push(write_weight(writer, step, record, kept_filters.map(Vec::as_slice))?);
        for (kind, tensor, channels) in [
            (TensorKind::Input, &record.input, sampling.channels.get(name)),
            (TensorKind::GradOutput, &record.grad_output(), sampling.grad_channels.get(name)),
        ] {
            tensors.push(write_operand(writer, step, record, kind, tensor, &samples, channels.map(Vec::as_slice))?);
        }
    }
    let dataset_indices = samples.iter().map(|&sample| indices[sample as usize] as u64).collect();
    Ok(CapturedStep { step, samples, dataset_indices, tensors })
}

fn write_operand(
    writer: &TraceWriter,
    step: u64,
    record: &Record,
    kind: TensorKind,
    tensor: &Tensor,
    samples: &[u32],
    channels: Option<&[u32]>,
) -> Result<TensorFile> {
    let mut kept = select(tensor, 0, samples)?;
    // A linear layer's rows are all kept; between sample and features there is just one dimension.
    let inner: Vec<u32> = match (record.layer.geometry, channels) {
        (Geometry::Conv2d(_), Some(channels)) => {
            kept = select(&kept, 1, channels)?;
            channels.to_vec()
        }
        (Geometry::Conv2d(_), None) => (0..kept.size()[1] as u32).collect(),
        (Geometry::Linear(linear), _) => (0..linear.rows).collect(),
        (Geometry::Attention(_), _) => unreachable!("no model has attention yet"),
    };
    let keys = samples.iter().flat_map(|&sample| inner.iter().map(move |&key| [sample, key]));
    write_rows(writer, step, record, kind, &kept, keys)
}

fn write_weight(writer: &TraceWriter, step: u64, record: &Record, filters: Option<&[u32]>) -> Result<TensorFile> {
    let kind = TensorKind::Weight;
    if let Some(filters) = filters {
        let kept = select(&record.weight, 0, filters)?;
        write_rows(writer, step, record, kind, &kept, filters.iter().map(|&filter| [filter]))
    } else {
        let filters = 0..record.layer.geometry.filters();
        write_rows(writer, step, record, kind, &record.weight, filters.map(|filter| [filter]))
    }
}

fn select(tensor: &Tensor, dimension: i64, indices: &[u32]) -> Result<Tensor> {
    let indices: Vec<i64> = indices.iter().map(|&index| i64::from(index)).collect();
    Ok(tensor.f_index_select(dimension, &Tensor::f_from_slice(&indices)?.to_device(tensor.device()))?)
}

fn write_rows<const N: usize>(
    writer: &TraceWriter,
    step: u64,
    record: &Record,
    kind: TensorKind,
    tensor: &Tensor,
    keys: impl Iterator<Item = [u32; N]>,
) -> Result<TensorFile> {
    let width = TensorShape::of(&record.layer.geometry, kind).width;
    let tensor = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut values = vec![0.0f32; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(writer.write_tensor(step, &record.layer.name, kind, keys.zip(values.chunks_exact(width)))?)
}
