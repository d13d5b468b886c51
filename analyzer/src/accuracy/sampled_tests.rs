//! Sampled errors against those of all outputs, of a layer with enough positions and filters to be sampled.

use super::sampling::RunningSums;
use super::{ErrorSums, Estimate, WeightGradient, output_error};
use crate::operand::Kept;
use crate::operand::LayerData;
use crate::request::ErrorMode;
use mercury_reuse::config::{Granularity, McacheConfig, Representative, Rpq, Scope, Variant};
use mercury_reuse::{Outcomes, Substitutes, signatures};
use mercury_trace::geometry::{Conv2d, Geometry, Pass};
use mercury_trace::layers::Layer;
use mercury_trace::read::Tensor;
use mercury_trace::tensor::{Dtype, TensorKind, TensorShape};
use std::sync::Arc;

const SAMPLES: usize = 3;
const SIDE: u32 = 20;
const AREA: usize = 400;

/// A convolution of 12 channels and 96 filters whose gradients differ in size.
fn layer(step: u64) -> LayerData {
    let geometry = Geometry::Conv2d(Conv2d {
        in_channels: 12,
        out_channels: 96,
        input: [SIDE; 2],
        kernel: [3; 2],
        stride: [1; 2],
        padding: [1; 2],
        dilation: [1; 2],
        groups: 1,
    });
    let noise = |i: usize| ((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let tensor = |kind, channels: usize, scale: fn(usize) -> f32| {
        let values = (0..SAMPLES * channels * AREA).map(|i| noise(i / 3) * scale(i / AREA % channels)).collect();
        Tensor { values, ..Tensor::new(TensorShape::from_geometry(&geometry, kind, Dtype::F32)) }
    };
    let mut weight = Tensor::new(TensorShape::from_geometry(&geometry, TensorKind::Weight, Dtype::F32));
    weight.values = (0..96 * 12 * 9).map(|i| noise(i + 12_345)).collect();
    let kept = Kept {
        layer: Layer { name: "features.3".to_owned(), geometry, input_grad: true, weight_grad: true },
        step,
        first_captured: 0,
        samples: SAMPLES,
        channels: (0..12).collect(),
        grad_channels: (0..96).collect(),
        filters: (0..96).collect(),
        has_grad_output: true,
        has_weight: true,
    };
    LayerData {
        kept: Arc::new(kept),
        first_sample: 0,
        samples: SAMPLES,
        input: tensor(TensorKind::Input, 12, |_| 1.0),
        grad_output: Some(tensor(TensorKind::GradOutput, 96, |filter| 1.0 + (filter % 7) as f32 / 4.0)),
        weight: Some(Arc::new(weight)),
    }
}

#[test]
fn a_part_of_the_filters_tells_the_error_of_all() {
    let data = layer(0);
    let views = data.views(Pass::Forward, Granularity::CHANNEL_PATCH).unwrap();
    let rpq = Rpq { bits: 6, ..Rpq::default() };
    let signatures = signatures(&views[0], &rpq);
    let outcomes = Outcomes::look_up(views[0].layout(), &signatures, &McacheConfig::default(), Scope::Channel);
    let substitutes = Substitutes::new(&views[0], &outcomes, Variant::Sign, Representative::First);
    let measure = |mode, samples_per_kept| {
        let mut gradient = WeightGradient::new(&data, mode, samples_per_kept).unwrap();
        gradient.add(&data, &substitutes);
        (gradient.error().estimate(), gradient.evaluated_columns())
    };
    let (all, every_column) = measure(ErrorMode::All, 1.0);
    let (sampled, columns) = measure(ErrorMode::Sampled, 1.0);
    let (_, fewer_columns) = measure(ErrorMode::Rough, 1.0);
    assert!(columns < every_column / 2, "{columns} of {every_column}");
    assert!(fewer_columns < columns, "{fewer_columns} of {columns}");
    let (truth, found) = (all.relative(), sampled.relative());
    assert_eq!(truth.bounds, Some([truth.value; 2]), "nothing was left out");
    assert!(truth.value > 0.1 && (found.value / truth.value - 1.0).abs() < 0.03, "{found:?} {truth:?}");
    let [low, high] = found.bounds.expect("an interval");
    assert!(low < truth.value && truth.value < high && high - low < 0.1 * truth.value, "{found:?} {truth:?}");
    // Of a batch of 30 samples the three are still told from.
    let (all, _) = measure(ErrorMode::All, 10.0);
    let (sampled, _) = measure(ErrorMode::Sampled, 10.0);
    assert!((sampled.relative().value / all.relative().value - 1.0).abs() < 0.03);
}

/// The error of the forward pass's outputs.
fn measure_outputs(data: &LayerData, substitutes: &Substitutes, mode: ErrorMode) -> Estimate {
    let mut errors = ErrorSums::new(1.0, true);
    let mut sums = RunningSums::default();
    for sample in output_error(data, (Pass::Forward, 0), substitutes, mode, &mut sums).unwrap() {
        errors.push(sample);
    }
    errors.estimate()
}

/// Positions are drawn anew in each step, and intervals hold the error about as often as they say.
#[test]
fn a_part_of_the_positions_tells_the_error_of_all() {
    let (mut held, steps) = (0, 60);
    for step in 0..steps {
        let data = layer(step);
        let views = data.views(Pass::Forward, Granularity::CHANNEL_PATCH).unwrap();
        let rpq = Rpq { bits: 6, ..Rpq::default() };
        let signatures = signatures(&views[0], &rpq);
        let outcomes = Outcomes::look_up(views[0].layout(), &signatures, &McacheConfig::default(), Scope::Channel);
        let substitutes = Substitutes::new(&views[0], &outcomes, Variant::Sign, Representative::First);
        let truth = measure_outputs(&data, &substitutes, ErrorMode::All).relative();
        assert_eq!(truth.bounds, Some([truth.value; 2]));
        let found = measure_outputs(&data, &substitutes, ErrorMode::Sampled).relative();
        let [low, high] = found.bounds.expect("an interval");
        assert!(low < high, "some positions were left out");
        assert!(high - found.value <= 1.05 * 0.02 * found.value, "{found:?}");
        held += u32::from((low..=high).contains(&truth.value));
    }
    assert!((52..=60).contains(&held), "{held} of {steps}");
}
