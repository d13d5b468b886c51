//! All passes of convolutions, with copied results and without, against sums in f64 over substituted vectors.

use crate::{PassOutcomes, Reuse, Room, Streamed};
use mercury_hardware::config::Config;
use mercury_reuse::VectorView;
use mercury_reuse::config::{Representative, Scope};
use mercury_trace::geometry::{Conv2d, Geometry, Pass};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const SAMPLES: usize = 3;

/// Few values, so that vectors share signatures.
fn draw(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| (rng.next_u32() % 7) as f32 * 0.25 - 0.5).collect()
}

fn conv(kernel: [u32; 2], stride: [u32; 2], padding: [u32; 2], dilation: [u32; 2], groups: u32) -> Conv2d {
    Conv2d {
        in_channels: 16 * groups,
        out_channels: 18 * groups,
        input: [7, 6],
        kernel,
        stride,
        padding,
        dilation,
        groups,
    }
}

/// A configuration of the matrix array, which knows all granularities and scopes.
fn config(granularity: &str, variant: &str, representative: Representative, scope: Scope, entries: u32) -> Config {
    let mut config = Config::default();
    config.rpq.bits = 7;
    config.rpq.granularity = granularity.parse().unwrap();
    config.rpq.variant = variant.parse().unwrap();
    config.mcache.representative = representative;
    config.mcache.scope = scope;
    config.mcache.entries = entries;
    config.mcache.ways = entries.clamp(1, 4);
    config
}

/// The substituted vectors of a pass by product, sample and position, with the places of their elements in the kernel:
/// channel, kernel row, kernel column.
fn substitute(reuse: &Reuse, pass: Pass, mut each: impl FnMut(usize, &VectorView, [usize; 2], &[([usize; 3], f64)])) {
    for (product, (view, outcomes)) in reuse.substituted(pass).enumerate() {
        let substitutes = reuse.substitutes(&view, outcomes);
        let mut buffers = substitutes.buffers();
        for sample in 0..SAMPLES {
            for position in 0..view.layout().positions {
                let mut elements = Vec::new();
                for stream in 0..view.layout().streams {
                    let (vector, found) = substitutes.cut(sample, stream, position, &mut buffers);
                    let values = found.unwrap_or(vector).to_vec();
                    for (offset, value) in values.into_iter().enumerate() {
                        let (channel, row, column) = view.element(stream, offset);
                        elements.push(([channel, row, column], f64::from(value)));
                    }
                }
                each(product, &view, [sample, position], &elements);
            }
        }
    }
}

fn check(expected: &[f64], found: &[f32], what: &str) {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let norm = square(&mut expected.iter().copied());
    let error = square(&mut expected.iter().zip(found).map(|(a, b)| a - f64::from(*b)));
    assert!(error <= 2e-6 * norm, "{what}: {error} of {norm}");
}

/// Returns the number of HITs. Memory comes from passes of other shapes.
fn check_passes(conv: &Conv2d, config: &Config, rng: &mut ChaCha8Rng, room: &mut Room) -> u64 {
    let geometry = Geometry::Conv2d(*conv);
    let [height, width] = conv.output().map(|size| size as usize);
    let [input_height, input_width] = conv.input.map(|size| size as usize);
    let [down, right] = conv.kernel.map(|size| size as usize);
    let (channels, filters) = (conv.in_channels as usize, conv.out_channels as usize);
    let (own_channels, own_filters) = (channels / conv.groups as usize, filters / conv.groups as usize);
    let x = draw(rng, SAMPLES * channels * input_height * input_width);
    let w = draw(rng, filters * own_channels * down * right);
    let dy = draw(rng, SAMPLES * filters * height * width);
    let weight = |filter: usize, channel: usize, [row, column]: [usize; 2]| {
        ((filter * own_channels + channel % own_channels) * down + row) * right + column
    };
    let streamed = Streamed::new(&geometry, Pass::Forward, &x, SAMPLES);
    let outcomes = PassOutcomes::new(config, &geometry, Pass::Forward, &streamed);
    let reuse = Reuse { config, geometry: &geometry, streamed, outcomes: &outcomes };
    let (mut y, mut dw) = (vec![0.0; dy.len()], vec![0.0; w.len()]);
    let (mut expected_y, mut expected_dw) = (vec![0.0; dy.len()], vec![0.0; w.len()]);
    substitute(&reuse, Pass::Forward, |_, _, [sample, position], elements| {
        for &([channel, row, column], value) in elements {
            let group = channel / own_channels;
            for filter in group * own_filters..(group + 1) * own_filters {
                let (output, place) =
                    ((sample * filters + filter) * height * width + position, weight(filter, channel, [row, column]));
                expected_y[output] += value * f64::from(w[place]);
                expected_dw[place] += value * f64::from(dy[output]);
            }
        }
    });
    reuse.forward(&w, &mut y, room);
    reuse.weight_grad(&dy, &mut dw, room);
    check(&expected_y, &y, "forward");
    check(&expected_dw, &dw, "weight-grad");

    let streamed = Streamed::new(&geometry, Pass::InputGrad, &dy, SAMPLES);
    let back = PassOutcomes::new(config, &geometry, Pass::InputGrad, &streamed);
    let reuse = Reuse { config, geometry: &geometry, streamed, outcomes: &back };
    let (mut dx, mut expected_dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let walks = conv.windows(Pass::InputGrad);
    substitute(&reuse, Pass::InputGrad, |product, view, [sample, position], elements| {
        let walk = &walks[product];
        let along = |axis: usize, walk: &mercury_trace::windows::Axis, position: usize| {
            let first = walk.residue(conv.stride[axis], conv.padding[axis], conv.dilation[axis]) as usize;
            first + position * conv.stride[axis] as usize
        };
        let columns = view.windows().x.positions as usize;
        let place = along(0, &walk.y, position / columns) * input_width + along(1, &walk.x, position % columns);
        for &([filter, row, column], value) in elements {
            let group = filter / own_filters;
            for channel in group * own_channels..(group + 1) * own_channels {
                let input = (sample * channels + channel) * input_height * input_width + place;
                expected_dx[input] += value * f64::from(w[weight(filter, channel, [row, column])]);
            }
        }
    });
    reuse.input_grad(&w, &mut dx, room);
    check(&expected_dx, &dx, "input-grad");
    outcomes.counts().hit + back.counts().hit
}

#[test]
fn copied_results_are_those_of_substituted_vectors() {
    let (mut rng, mut room) = (ChaCha8Rng::seed_from_u64(1), Room::default());
    let convs = [
        conv([3, 3], [1, 1], [1, 1], [1, 1], 1),
        conv([3, 2], [2, 1], [0, 2], [1, 2], 2),
        conv([5, 1], [1, 3], [2, 0], [1, 1], 1),
        // Rows of four registers and more.
        Conv2d { out_channels: 82, ..conv([3, 3], [1, 2], [1, 0], [1, 1], 1) },
        // Too few kernels for copies.
        Conv2d { in_channels: 6, out_channels: 4, ..conv([3, 3], [2, 1], [1, 1], [1, 1], 2) },
    ];
    for conv in &convs {
        for variant in ["sign", "sign+rescale", "sign+magnitude(2)", "centred"] {
            for granularity in ["channel-patch", "sub-vector(5)", "patch"] {
                for representative in [Representative::First, Representative::Centroid] {
                    for scope in [Scope::Channel, Scope::Sample, Scope::Batch] {
                        for entries in [0, 8] {
                            let config = config(granularity, variant, representative, scope, entries);
                            let hits = check_passes(conv, &config, &mut rng, &mut room);
                            assert!(hits > 0 || granularity == "patch", "{config:?}");
                        }
                    }
                }
            }
        }
    }
}
