//! The rows of a captured step's tensor files.

use mercury_trace::geometry::Geometry;
use mercury_trace::layers::Layer;
use mercury_trace::manifest::Sampling;
use mercury_trace::tensor::{TensorKind, TensorShape};
use std::collections::{BTreeMap, BTreeSet};

/// Size of a tensor file's schema, metadata and page headers, in bytes.
const FILE_BYTES: u64 = 4096;

/// Lists the tensors of a layer that are kept, in the order of writing.
///
/// dY is left out if training computes no gradient of the layer.
pub fn layer_kinds(layer: &Layer, sampling: &Sampling) -> Vec<TensorKind> {
    let mut kinds = kinds(sampling);
    kinds.retain(|kind| *kind != TensorKind::GradOutput || layer.has_gradient());
    kinds
}

/// Lists the tensors that the kept passes multiply, in the order of writing.
pub fn kinds(sampling: &Sampling) -> Vec<TensorKind> {
    let wanted: BTreeSet<TensorKind> = sampling.passes.iter().flat_map(|pass| pass.operands()).collect();
    [TensorKind::Weight, TensorKind::Input, TensorKind::GradOutput]
        .into_iter()
        .filter(|kind| wanted.contains(kind))
        .collect()
}

/// Computes the maximum size of a captured step's files, in bytes before compression.
pub fn step_bytes(layers: &[&Layer], sampling: &Sampling, batch: u32) -> u64 {
    let samples = sampling.samples.unwrap_or(batch).min(batch);
    let mut bytes = 0;
    for layer in layers {
        for kind in layer_kinds(layer, sampling) {
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

/// Lists the keys of a tensor's kept rows, row by row.
pub fn list_keys(layer: &Layer, kind: TensorKind, samples: &[u32], sampling: &Sampling) -> Vec<u32> {
    let all = |count: u32| (0..count).collect::<Vec<u32>>();
    let kept = |map: &BTreeMap<String, Vec<u32>>, count| map.get(&layer.name).cloned().unwrap_or_else(|| all(count));
    let samples = samples.to_vec();
    let columns = match (layer.geometry, kind) {
        (Geometry::Matmul(a), TensorKind::Weight) => vec![samples, all(a.heads), all(a.columns)],
        (Geometry::Matmul(a), _) => vec![samples, all(a.heads), all(a.rows)],
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

#[cfg(test)]
mod tests {
    use super::*;
    use mercury_trace::geometry::{Linear, Pass};

    #[test]
    fn a_layer_without_gradients_needs_no_room_for_them() {
        let geometry = Geometry::Linear(Linear { rows: 3, in_features: 5, out_features: 7 });
        let layer = |input_grad, weight_grad| Layer { name: "fc".to_owned(), geometry, input_grad, weight_grad };
        let sampling = Sampling { passes: Pass::ALL.to_vec(), ..Sampling::default() };
        let bytes = |layer: &Layer| step_bytes(&[layer], &sampling, 2);
        let all = bytes(&layer(true, true));
        assert_eq!([bytes(&layer(false, true)), bytes(&layer(true, false))], [all; 2]);
        // A row of dY has 7 values and 2 keys.
        assert_eq!(bytes(&layer(false, false)), all - FILE_BYTES - 2 * 3 * 4 * (7 + 2));
        let forward = Sampling { passes: vec![Pass::Forward], ..Sampling::default() };
        assert_eq!(layer_kinds(&layer(true, true), &forward), [TensorKind::Weight, TensorKind::Input]);
    }
}
