//! Vectors, outcomes and representatives against naive implementations: im2col by its definition,
//! and a linear search in a list.

use mercury_reuse::config::{Channels, Granularity, McacheConfig, Rpq, Scope, SetIndex};
use mercury_reuse::{Layout, Outcome, Outcomes, Planes, VectorView, signatures};
use mercury_trace::geometry::{Conv2d, Pass};
use proptest::prelude::*;

/// Computes the rows of im2col of a padded operand, by the definition of convolution.
fn im2col(conv: &Conv2d, x: &[f32], sample: usize, group: usize) -> Vec<Vec<f32>> {
    let [height, width] = conv.input.map(i64::from);
    let channels = (conv.in_channels / conv.groups) as usize;
    let [rows, columns] = conv.output();
    let mut vectors = Vec::new();
    for row in 0..i64::from(rows) {
        for column in 0..i64::from(columns) {
            let mut vector = Vec::new();
            for channel in group * channels..(group + 1) * channels {
                for ky in 0..i64::from(conv.kernel[0]) {
                    for kx in 0..i64::from(conv.kernel[1]) {
                        let y = row * i64::from(conv.stride[0]) - i64::from(conv.padding[0])
                            + ky * i64::from(conv.dilation[0]);
                        let x_at = column * i64::from(conv.stride[1]) - i64::from(conv.padding[1])
                            + kx * i64::from(conv.dilation[1]);
                        let inside = (0..height).contains(&y) && (0..width).contains(&x_at);
                        let plane = sample * conv.in_channels as usize + channel;
                        let at = plane * (height * width) as usize + (y * width + x_at).max(0) as usize;
                        vector.push(if inside { x[at] } else { 0.0 });
                    }
                }
            }
            vectors.push(vector);
        }
    }
    vectors
}

fn convolutions() -> impl Strategy<Value = Conv2d> {
    // Views copy long rows of a window as slices.
    let wide = (16u32..22, 16u32..20, 1u32..3, 0u32..3, Just(1u32));
    let axis = move || prop_oneof![6 => (1u32..9, 1u32..4, 1u32..3, 0u32..3, 1u32..3), 1 => wide.clone()];
    (1u32..3, 1u32..3, 1u32..3, axis(), axis()).prop_filter_map("kernel fits", |(groups, c, f, y, x)| {
        let conv = Conv2d {
            in_channels: groups * c,
            out_channels: groups * f,
            input: [y.0, x.0],
            kernel: [y.1, x.1],
            stride: [y.2, x.2],
            padding: [y.3, x.3],
            dilation: [y.4, x.4],
            groups,
        };
        mercury_trace::geometry::Geometry::Conv2d(conv).validate().is_ok().then_some(conv)
    })
}

fn values(count: usize, seed: u32) -> Vec<f32> {
    (0..count as u32)
        .map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(97)) >> 20) as f32 / 64.0 - 30.0)
        .collect()
}

/// Finds the outcomes by a list in order of arrival, as the scheme states them. A signature that
/// was inserted in the same stream since the flush is a HIT. Otherwise it is inserted if its set
/// has room.
fn naive_hitmap(layout: Layout, signatures: &[u64], config: &McacheConfig, scope: Scope) -> Vec<Outcome> {
    let sets = u64::from(config.entries / config.ways);
    let set = |signature: u64| {
        let mut key = signature;
        if config.index == SetIndex::Mixed {
            key = (key ^ (key >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            key = (key ^ (key >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            key ^= key >> 33;
        }
        key % sets
    };
    let mut list: Vec<(u64, usize, usize)> = Vec::new();
    let mut outcomes = Vec::new();
    for (vector, &signature) in signatures.iter().enumerate() {
        let (sample, stream, position) = layout.locate(vector);
        let first = match scope {
            Scope::Channel => position == 0,
            Scope::Sample => stream == 0 && position == 0,
            Scope::Batch => sample == 0 && stream == 0 && position == 0,
        };
        if first {
            list.clear();
        }
        let found = list.iter().find(|entry| entry.0 == signature && entry.1 == stream);
        let full = list.iter().filter(|entry| set(entry.0) == set(signature)).count() == config.ways as usize;
        outcomes.push(match found {
            Some(entry) => Outcome::Hit(entry.2 as u32),
            None if full => Outcome::Mnu,
            None => {
                list.push((signature, stream, vector));
                Outcome::Mau
            }
        });
    }
    outcomes
}

proptest! {
    #[test]
    fn rows_of_a_product_are_cut_in_slices(
        samples in 1usize..3, heads in 1usize..3, rows in 1u32..4, length in 1u32..50, cut in 1u32..40, seed: u32,
    ) {
        let values = values(samples * heads * (rows * length) as usize, seed);
        let view = VectorView::from_rows(&values, samples, heads, rows, length, Granularity::SubVector(cut));
        let mut buffer = vec![0.0; view.max_length()];
        for (number, row) in values.chunks(length as usize).enumerate() {
            let (run, position) = (number / rows as usize, number % rows as usize);
            for (piece, expected) in row.chunks(cut as usize).enumerate() {
                let stream = run % heads * row.len().div_ceil(cut as usize) + piece;
                prop_assert_eq!(&*view.gather(run / heads, stream, position, &mut buffer), expected);
            }
        }
    }

    #[test]
    fn views_cut_the_rows_of_im2col(conv in convolutions(), samples in 1usize..3, seed: u32, cut in 0u32..16) {
        let x = values(samples * (conv.in_channels * conv.input[0] * conv.input[1]) as usize, seed);
        let [height, width] = conv.input;
        let planes = Planes { values: &x, samples, channels: conv.in_channels as usize, height, width };
        let windows = conv.windows(Pass::Forward)[0];
        let area = (conv.kernel[0] * conv.kernel[1]) as usize;
        let (granularity, length, groups) = match cut {
            0 => (Granularity::CHANNEL_PATCH, area, 1),
            1 => (Granularity::Patch, area * (conv.in_channels / conv.groups) as usize, conv.groups as usize),
            12.. => {
                let channels = (cut - 10).min(conv.in_channels / conv.groups);
                let granularity = Granularity::ChannelPatch(Channels::Count(cut - 10));
                (granularity, area * channels as usize, conv.groups as usize)
            }
            _ => (Granularity::SubVector(cut - 1), cut as usize - 1, conv.groups as usize),
        };
        let view = VectorView::new(planes, windows, groups, granularity);
        let mut buffer = vec![f32::NAN; view.max_length()];
        for sample in 0..samples {
            // The expected vectors of each stream: the rows of the group, cut into pieces.
            let mut pieces: Vec<Vec<Vec<f32>>> = Vec::new();
            for group in 0..conv.groups as usize {
                let rows = im2col(&conv, &x, sample, group);
                for first in (0..rows[0].len()).step_by(length) {
                    let end = (first + length).min(rows[0].len());
                    pieces.push(rows.iter().map(|row| row[first..end].to_vec()).collect());
                }
            }
            prop_assert_eq!(view.layout().streams, pieces.len());
            for (stream, vectors) in pieces.iter().enumerate() {
                prop_assert_eq!(view.layout().positions, vectors.len());
                for (position, vector) in vectors.iter().enumerate() {
                    prop_assert_eq!(&*view.gather(sample, stream, position, &mut buffer), vector.as_slice());
                }
            }
        }
    }

    /// Input gradients of a convolution from the views of the input-grad pass equal those from the
    /// definition.
    #[test]
    fn input_gradient_views_compute_the_transposed_convolution(conv in convolutions(), seed: u32) {
        let [rows, columns] = conv.output();
        let [height, width] = conv.input.map(|size| size as usize);
        let dy = values((conv.out_channels * rows * columns) as usize, seed);
        let filter_length = ((conv.in_channels / conv.groups) * conv.kernel[0] * conv.kernel[1]) as usize;
        let w = values(conv.out_channels as usize * filter_length, !seed);
        let (channels, filters) = ((conv.in_channels / conv.groups) as usize, (conv.out_channels / conv.groups) as usize);
        let weight = |f: usize, c: usize, ky: usize, kx: usize| {
            w[f * filter_length + (c * conv.kernel[0] as usize + ky) * conv.kernel[1] as usize + kx]
        };

        let mut expected = vec![0.0f64; conv.in_channels as usize * height * width];
        for f in 0..conv.out_channels as usize {
            for (row, column) in (0..rows as usize).flat_map(|r| (0..columns as usize).map(move |c| (r, c))) {
                for (c, ky, kx) in triples(channels, conv.kernel[0] as usize, conv.kernel[1] as usize) {
                    let y = (row * conv.stride[0] as usize + ky * conv.dilation[0] as usize).checked_sub(conv.padding[0] as usize);
                    let x = (column * conv.stride[1] as usize + kx * conv.dilation[1] as usize).checked_sub(conv.padding[1] as usize);
                    if let (Some(y), Some(x)) = (y.filter(|&y| y < height), x.filter(|&x| x < width)) {
                        let channel = f / filters * channels + c;
                        let grad = dy[(f * rows as usize + row) * columns as usize + column];
                        expected[(channel * height + y) * width + x] += f64::from(grad) * f64::from(weight(f, c, ky, kx));
                    }
                }
            }
        }

        let planes = Planes { values: &dy, samples: 1, channels: conv.out_channels as usize, height: rows, width: columns };
        let mut found: Vec<f64> = Vec::new();
        for windows in conv.windows(Pass::InputGrad) {
            let view = VectorView::new(planes, windows, conv.groups as usize, Granularity::Patch);
            let mut buffer = vec![0.0; view.max_length()];
            for (stream, position) in (0..view.layout().streams).flat_map(|s| (0..view.layout().positions).map(move |p| (s, p))) {
                let vector = view.gather(0, stream, position, &mut buffer).to_vec();
                for c in 0..channels {
                    found.push(vector.iter().enumerate().map(|(offset, &x)| {
                        let (f, ky, kx) = view.element(stream, offset);
                        f64::from(x) * f64::from(weight(f, c, ky, kx))
                    }).sum());
                }
            }
        }
        // The views visit the inputs in another order. Inputs that no window reaches have no view
        // and a zero gradient.
        found.resize(found.len().max(expected.len()), 0.0);
        found.sort_by(f64::total_cmp);
        expected.resize(found.len(), 0.0);
        expected.sort_by(f64::total_cmp);
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn outcomes_equal_those_of_a_linear_search(
        (samples, streams, positions) in (1usize..4, 1usize..4, 1usize..60),
        (sets, ways) in (1u32..6, 1u32..5),
        mixed: bool,
        scope in prop::sample::select(vec![Scope::Channel, Scope::Sample, Scope::Batch]),
        spread in 1u64..40,
        seed: u32,
    ) {
        let layout = Layout { samples, streams, positions };
        let signatures: Vec<u64> = values(layout.vectors(), seed).iter().map(|&v| u64::from(v.abs().to_bits()) % spread).collect();
        let index = if mixed { SetIndex::Mixed } else { SetIndex::LowBits };
        let config = McacheConfig { entries: sets * ways, ways, index, ..McacheConfig::default() };
        let hitmap = Outcomes::look_up(layout, &signatures, &config, scope);
        let expected = naive_hitmap(layout, &signatures, &config, scope);
        prop_assert_eq!(hitmap.iter().collect::<Vec<_>>(), expected.as_slice());
        for (vector, outcome) in expected.iter().enumerate() {
            let representative = hitmap.representative(vector);
            match outcome {
                Outcome::Hit(first) => prop_assert_eq!(representative, *first as usize),
                Outcome::Mau | Outcome::Mnu => prop_assert_eq!(representative, vector),
            }
        }
        let counts = hitmap.counts();
        prop_assert_eq!(counts.len(), layout.runs());
        prop_assert_eq!(counts.iter().map(mercury_reuse::Counts::vectors).sum::<u64>(), layout.vectors() as u64);
    }
}

fn triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |a| (0..b).flat_map(move |b| (0..c).map(move |c| (a, b, c))))
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let x = values(3 * 4 * 20 * 20, 5);
    let conv = Conv2d {
        in_channels: 4,
        out_channels: 1,
        input: [20, 20],
        kernel: [3, 3],
        stride: [1; 2],
        padding: [1; 2],
        dilation: [1; 2],
        groups: 1,
    };
    let run = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let planes = Planes { values: &x, samples: 3, channels: 4, height: 20, width: 20 };
            let view = VectorView::new(planes, conv.windows(Pass::Forward)[0], 1, Granularity::CHANNEL_PATCH);
            let signatures = signatures(&view, &Rpq { bits: 6, ..Rpq::default() });
            let hitmap = Outcomes::look_up(view.layout(), &signatures, &McacheConfig::default(), Scope::Channel);
            (signatures, hitmap)
        })
    };
    assert_eq!(run(1), run(4));
}
