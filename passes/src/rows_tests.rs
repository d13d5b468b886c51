//! All passes of matrix products against sums in f64 over substituted rows, one by one.

use crate::{PassOutcomes, Reuse, Room, Streamed};
use mercury_hardware::config::Config;
use mercury_reuse::config::{Representative, Scope};
use mercury_trace::geometry::{Geometry, Linear, Matmul, Pass};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const SAMPLES: usize = 3;
/// Rows, inner size and columns of a product.
const SIZES: [usize; 3] = [5, 12, 4];

/// Few values, so that vectors share signatures.
fn draw(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| (rng.next_u32() % 5) as f32 * 0.5 - 1.0).collect()
}

/// The rows of a pass, `[samples][heads][rows]`, each replaced by its substitute.
fn substitute(reuse: &Reuse, pass: Pass, heads: usize) -> Vec<Vec<f64>> {
    let (view, outcomes) = reuse.substituted(pass).next().expect("one product");
    let substitutes = reuse.substitutes(&view, outcomes);
    let mut buffers = substitutes.buffers();
    let mut rows = Vec::new();
    for sample in 0..SAMPLES {
        for head in 0..heads {
            for position in 0..view.layout().positions {
                let mut row = Vec::new();
                for (number, _) in view.streams().iter().enumerate().filter(|(_, stream)| stream.group == head) {
                    let (vector, found) = substitutes.cut(sample, number, position, &mut buffers);
                    row.extend(found.unwrap_or(vector).iter().copied().map(f64::from));
                }
                rows.push(row);
            }
        }
    }
    rows
}

fn check(expected: &[f64], found: &[f32], what: &str) {
    assert_eq!(expected.len(), found.len(), "{what}");
    let norm = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
    let error = expected.iter().zip(found).map(|(a, b)| (a - f64::from(*b)).powi(2)).sum::<f64>().sqrt();
    assert!(error <= 2e-6 * norm, "{what}: {error} of {norm}");
}

/// Checks the passes of a layer with this number of heads in a sample; a matmul's samples have weights of their own.
fn check_passes(geometry: &Geometry, heads: usize, config: &Config, rng: &mut ChaCha8Rng) -> u64 {
    let [rows, inner, columns] = SIZES;
    let products = SAMPLES * heads;
    let has_own_weights = matches!(geometry, Geometry::Matmul(_));
    let x = draw(rng, products * rows * inner);
    let dy = draw(rng, products * rows * columns);
    let w = draw(rng, if has_own_weights { products } else { 1 } * columns * inner);
    let weight = |product: usize, column: usize, element: usize| {
        (if has_own_weights { product * columns } else { 0 } + column) * inner + element
    };
    let mut room = Room::default();

    let streamed = Streamed::new(geometry, Pass::Forward, &x, SAMPLES);
    let outcomes = PassOutcomes::new(config, geometry, Pass::Forward, &streamed);
    let reuse = Reuse { config, geometry, streamed, outcomes: &outcomes };
    let (mut y, mut dw) = (vec![0.0; dy.len()], vec![0.0; w.len()]);
    let (mut expected_y, mut expected_dw) = (vec![0.0; dy.len()], vec![0.0; w.len()]);
    for (number, row) in substitute(&reuse, Pass::Forward, heads).iter().enumerate() {
        for column in 0..columns {
            for (element, value) in row.iter().enumerate() {
                let place = weight(number / rows, column, element);
                expected_y[number * columns + column] += value * f64::from(w[place]);
                expected_dw[place] += value * f64::from(dy[number * columns + column]);
            }
        }
    }
    reuse.forward(&w, &mut y, &mut room);
    reuse.weight_grad(&dy, &mut dw, &mut room);
    check(&expected_y, &y, "forward");
    check(&expected_dw, &dw, "weight-grad");

    let streamed = Streamed::new(geometry, Pass::InputGrad, &dy, SAMPLES);
    let back = PassOutcomes::new(config, geometry, Pass::InputGrad, &streamed);
    let reuse = Reuse { config, geometry, streamed, outcomes: &back };
    let (mut dx, mut expected_dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    for (number, row) in substitute(&reuse, Pass::InputGrad, heads).iter().enumerate() {
        for (column, value) in row.iter().enumerate() {
            for element in 0..inner {
                expected_dx[number * inner + element] += value * f64::from(w[weight(number / rows, column, element)]);
            }
        }
    }
    reuse.input_grad(&w, &mut dx, &mut room);
    check(&expected_dx, &dx, "input-grad");
    outcomes.counts().hit + back.counts().hit
}

#[test]
fn products_with_reuse_are_those_of_substituted_rows() {
    let [rows, inner, columns] = SIZES.map(|size| size as u32);
    let linear = Geometry::Linear(Linear { rows, in_features: inner, out_features: columns });
    let matmul = Geometry::Matmul(Matmul { heads: 2, rows, inner, columns });
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (geometry, heads) in [(linear, 1), (matmul, 2)] {
        for variant in ["sign", "sign+rescale", "sign+magnitude(2)", "centred"] {
            for granularity in ["patch", "sub-vector(5)"] {
                for representative in [Representative::First, Representative::Centroid] {
                    for scope in [Scope::Sample, Scope::Batch] {
                        let mut config = Config::default();
                        config.rpq.bits = 3;
                        config.rpq.granularity = granularity.parse().unwrap();
                        config.rpq.variant = variant.parse().unwrap();
                        config.mcache.representative = representative;
                        config.mcache.scope_linear = scope;
                        let hits = check_passes(&geometry, heads, &config, &mut rng);
                        assert!(hits > 0, "{config:?}");
                    }
                }
            }
        }
    }
}
