//! Tests of layers with reuse. Without HITs, results and gradients equal plain ones. With HITs,
//! they equal a dense reference that builds each substituted vector by itself.

use mercury_hardware::config::{ArrayConfig, BitsConfig, Config};
use mercury_hardware::timing::DataflowName;
use mercury_reuse::config::{Channels, Granularity, Matrix, McacheConfig, Representative, Rpq, Scope, Variant};
use mercury_reuse::{Outcomes, Substitutes, VectorView, signatures, views};
use mercury_trace::geometry::{Conv2d, Geometry, Matmul, Pass};
use mercury_tracer::reuse::{NamedConfig, PassMeasurement, ReuseTap, Session};
use mercury_tracer::tap::{AttentionLayer, ConvLayer, LinearLayer, Plain, Tap};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// Creates a configuration without growth, on an array that accepts vectors of any granularity.
fn create_config(rpq: Rpq, mcache: McacheConfig) -> Config {
    let bits = BitsConfig { patience: 0, ..BitsConfig::default() };
    let array = ArrayConfig { dataflow: DataflowName::OutputStationary, ..ArrayConfig::default() };
    Config { rpq, mcache, bits, array, ..Config::default() }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::<f32>::try_from(tensor.detach().contiguous().reshape([-1])).unwrap()
}

/// Draws values with few levels, so that vectors repeat; some are zero.
fn tensor(size: &[i64], seed: i64) -> Tensor {
    tch::manual_seed(seed);
    (Tensor::randn(size, (Kind::Float, Device::Cpu)) * 1.5).round().relu()
        + Tensor::rand(size, (Kind::Float, Device::Cpu)) * 0.05
}

/// A layer of any kind with its operands and configuration.
#[derive(Debug)]
struct Case {
    layer: Layer,
    x: Tensor,
    config: Config,
}

#[derive(Debug)]
enum Layer {
    Conv(ConvLayer),
    Linear(LinearLayer),
    Attention { right: Tensor },
}

/// Y, dX and dW for the loss <Y, dY>.
struct LayerResults {
    y: Tensor,
    dx: Tensor,
    dw: Tensor,
}

impl Case {
    fn geometry(&self) -> Geometry {
        match &self.layer {
            Layer::Conv(layer) => layer.geometry(&self.x),
            Layer::Linear(layer) => layer.geometry(&self.x),
            Layer::Attention { right } => AttentionLayer::geometry(&self.x, right),
        }
    }

    fn weight(&self) -> &Tensor {
        match &self.layer {
            Layer::Conv(layer) => &layer.weight,
            Layer::Linear(layer) => &layer.weight,
            Layer::Attention { right } => right,
        }
    }

    fn run(&self, tap: &mut dyn Tap, dy: &Tensor) -> LayerResults {
        let x = self.x.detach().set_requires_grad(true);
        let y = match &self.layer {
            Layer::Conv(layer) => tap.conv2d(layer, &x),
            Layer::Linear(layer) => tap.linear(layer, &x),
            Layer::Attention { right } => tap.attention(&AttentionLayer { name: "l".into() }, &x, right),
        };
        let loss = (&y * dy).sum(Kind::Float);
        let mut gradients = Tensor::run_backward(&[loss], &[&x, self.weight()], false, false).into_iter();
        LayerResults { y, dx: gradients.next().unwrap(), dw: gradients.next().unwrap() }
    }

    fn dy(&self) -> Tensor {
        let size = match &self.layer {
            Layer::Conv(layer) => Plain.conv2d(layer, &self.x).size(),
            Layer::Linear(layer) => Plain.linear(layer, &self.x).size(),
            Layer::Attention { right } => AttentionLayer::compute(&self.x, right).size(),
        };
        tensor(&size, 77) - 0.4
    }

    fn session(&self) -> Session {
        let (name, config) = ("test".to_owned(), self.config.clone());
        Session::new(NamedConfig { name, config, text: String::new() }, Vec::new())
    }

    /// Builds a pass's substituted vectors, each a row of its product's im2col, and the Hitmaps.
    fn substituted(&self, pass: Pass, streamed: &[f32], samples: usize) -> Vec<(Vec<f64>, Outcomes)> {
        let geometry = self.geometry();
        let channels = match geometry {
            Geometry::Conv2d(conv) if pass == Pass::InputGrad => conv.out_channels as usize,
            Geometry::Conv2d(conv) => conv.in_channels as usize,
            _ => 1,
        };
        let Config { rpq, mcache, .. } = &self.config;
        let views = views(&geometry, pass, rpq.granularity, streamed, samples, channels);
        let mut products = Vec::new();
        for view in &views {
            let hitmap =
                Outcomes::look_up(view.layout(), &signatures(view, rpq), mcache, mcache.effective_scope(&geometry));
            let substitutes = Substitutes::new(view, &hitmap, rpq.variant, mcache.representative);
            let rows = substituted_rows(view, &substitutes);
            products.push((rows, hitmap));
        }
        products
    }

    /// Computes every pass by loops over the substituted vectors, in f64.
    fn dense(&self, dy: &Tensor) -> ([Vec<f64>; 3], [u64; 2]) {
        let [x, w, dy] = [&self.x, self.weight(), dy].map(values);
        let samples = self.x.size()[0] as usize;
        let forward = self.substituted(Pass::Forward, &x, samples);
        let backward = self.substituted(Pass::InputGrad, &dy, samples);
        let hits = [&forward, &backward]
            .map(|products| products.iter().flat_map(|(_, hitmap)| hitmap.counts()).map(|counts| counts.hit).sum());
        let results = match self.geometry() {
            Geometry::Conv2d(conv) => dense_conv(&conv, samples, (&forward, &backward), &w, &dy),
            Geometry::Linear(l) => {
                let [n, k, f] = [samples as u32 * l.rows, l.in_features, l.out_features].map(|size| size as usize);
                dense_product(&forward[0].0, &backward[0].0, &w, &dy, [1, n, k, f])
            }
            Geometry::Matmul(a) => {
                let sizes = [a.rows as usize, a.inner as usize, a.columns as usize];
                let products = samples * a.heads as usize;
                let left = gather_by_head(&forward[0].0, samples, &a, sizes[1]);
                let right = gather_by_head(&backward[0].0, samples, &a, sizes[2]);
                dense_product(&left, &right, &w, &dy, [products, sizes[0], sizes[1], sizes[2]])
            }
        };
        (results, hits)
    }
}

/// Gathers the rows of each head, which are streams of a sample.
fn gather_by_head(rows: &[f64], samples: usize, attention: &Matmul, length: usize) -> Vec<f64> {
    let (heads, positions) = (attention.heads as usize, attention.rows as usize);
    let mut gathered = Vec::new();
    for (sample, head, position) in index_triples(samples, heads, positions) {
        let row = ((sample * positions + position) * heads + head) * length;
        gathered.extend_from_slice(&rows[row..row + length]);
    }
    gathered
}

/// Writes the substituted vectors as rows: `[samples][positions][group][element of the group's
/// row]`.
fn substituted_rows(view: &VectorView, substitutes: &Substitutes) -> Vec<f64> {
    let layout = view.layout();
    let mut buffers = substitutes.buffers();
    let groups = view.streams().iter().map(|stream| stream.group).max().unwrap() + 1;
    let group_length: usize = view.streams().iter().filter(|s| s.group == 0).map(|s| s.length).sum();
    let mut rows = vec![0.0; layout.samples * layout.positions * groups * group_length];
    for sample in 0..layout.samples {
        for (number, stream) in view.streams().iter().enumerate() {
            for position in 0..layout.positions {
                let (x, substitute) = substitutes.cut(sample, number, position, &mut buffers);
                let row = ((sample * layout.positions + position) * groups + stream.group) * group_length;
                for (offset, value) in substitute.unwrap_or(x).iter().enumerate() {
                    rows[row + stream.first + offset] = f64::from(*value);
                }
            }
        }
    }
    rows
}

/// Computes `count` products: Y = X' Wᵀ, dX = dY' W, dW = dYᵀ X'.
fn dense_product(x: &[f64], dy_: &[f64], w: &[f32], dy: &[f32], [count, n, k, f]: [usize; 4]) -> [Vec<f64>; 3] {
    let mut y = vec![0.0; count * n * f];
    let mut dx = vec![0.0; count * n * k];
    let mut dw = vec![0.0; count * f * k];
    for c in 0..count {
        for i in 0..n {
            for o in 0..f {
                for e in 0..k {
                    let [at_x, at_y, at_w] = [(c * n + i) * k + e, (c * n + i) * f + o, (c * f + o) * k + e];
                    y[at_y] += x[at_x] * f64::from(w[at_w]);
                    dx[at_x] += dy_[at_y] * f64::from(w[at_w]);
                    dw[at_w] += x[at_x] * f64::from(dy[at_y]);
                }
            }
        }
    }
    [y, dx, dw]
}

type Products = [(Vec<f64>, Outcomes)];

fn dense_conv(conv: &Conv2d, samples: usize, products: (&Products, &Products), w: &[f32], dy: &[f32]) -> [Vec<f64>; 3] {
    let [oh, ow] = conv.output().map(|size| size as usize);
    let [h, wd] = conv.input.map(|size| size as usize);
    let groups = conv.groups as usize;
    let (channels, filters) = (conv.in_channels as usize, conv.out_channels as usize);
    let (cg, fg) = (channels / groups, filters / groups);
    let taps = (conv.kernel[0] * conv.kernel[1]) as usize;
    let (mut y, mut dw) = (vec![0.0; samples * filters * oh * ow], vec![0.0; filters * cg * taps]);
    // Channel patches are not grouped, but have the same place in the row.
    let rows = &products.0[0].0;
    for (s, p, f) in index_triples(samples, oh * ow, filters) {
        for e in 0..cg * taps {
            let x = rows[(s * oh * ow + p) * channels * taps + f / fg * cg * taps + e];
            let at = (s * filters + f) * oh * ow + p;
            y[at] += x * f64::from(w[f * cg * taps + e]);
            dw[f * cg * taps + e] += x * f64::from(dy[at]);
        }
    }
    let mut dx = vec![0.0; samples * channels * h * wd];
    for (windows, (rows, _)) in conv.windows(Pass::InputGrad).iter().zip(products.1) {
        let [py, px] = [windows.y.positions as usize, windows.x.positions as usize];
        let residue = [0, 1].map(|axis| {
            let walk = if axis == 0 { &windows.y } else { &windows.x };
            walk.residue(conv.stride[axis], conv.padding[axis], conv.dilation[axis]) as usize
        });
        let taps_here = windows.taps();
        for (s, p, c) in index_triples(samples, py * px, channels) {
            let group = c / cg;
            let mut sum = 0.0;
            for f in 0..fg {
                for t in 0..taps_here {
                    let (ty, tx) = (t / windows.x.taps as usize, t % windows.x.taps as usize);
                    let kernel = windows.y.kernel_element(ty as u32) * conv.kernel[1] as usize
                        + windows.x.kernel_element(tx as u32);
                    let row = (s * py * px + p) * filters * taps_here + (group * fg + f) * taps_here + t;
                    sum += rows[row] * f64::from(w[((group * fg + f) * cg + c % cg) * taps + kernel]);
                }
            }
            let (at_y, at_x) =
                (residue[0] + p / px * conv.stride[0] as usize, residue[1] + p % px * conv.stride[1] as usize);
            dx[((s * channels + c) * h + at_y) * wd + at_x] = sum;
        }
    }
    [y, dx, dw]
}

fn index_triples(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| (i, j, k))))
}

fn conv(
    size: [i64; 2],
    channels: i64,
    filters: i64,
    kernel: [i64; 2],
    stride: [i64; 2],
    padding: i64,
    groups: i64,
) -> (ConvLayer, Tensor) {
    let weight = (tensor(&[filters, channels / groups, kernel[0], kernel[1]], 5) - 0.5).set_requires_grad(true);
    let layer =
        ConvLayer { name: "l".into(), weight, bias: None, stride, padding: [padding; 2], dilation: [1; 2], groups };
    (layer, tensor(&[3, channels, size[0], size[1]], 3))
}

fn cases() -> impl Strategy<Value = Case> {
    let granularity = prop_oneof![
        Just(Granularity::CHANNEL_PATCH),
        Just(Granularity::Patch),
        (2u32..4).prop_map(|channels| Granularity::ChannelPatch(Channels::Count(channels))),
        (2u32..8).prop_map(Granularity::SubVector)
    ];
    let variant =
        prop::sample::select(vec![Variant::Sign, Variant::SignRescale, Variant::SignMagnitude(3), Variant::Centred]);
    let representative = prop::sample::select(vec![Representative::First, Representative::Centroid]);
    let scope = prop::sample::select(vec![Scope::Channel, Scope::Sample, Scope::Batch]);
    let geometry = (0usize..4, 1i64..3, 1i64..3, 0i64..2, prop::sample::select(vec![1i64, 2]), 5i64..9);
    let entries = prop::sample::select(vec![0u32, 8, 1024]);
    (geometry, granularity, variant, representative, scope, 2u32..12, entries).prop_map(
        |((kind, sy, sx, padding, groups, size), granularity, variant, representative, scope, bits, entries)| {
            let rpq = Rpq { bits, seed: 1, granularity, variant, projection: Matrix::Gaussian, ..Rpq::default() };
            let scope_linear = if scope == Scope::Channel { Scope::Sample } else { scope };
            let ways = entries.clamp(1, 2);
            let mcache = McacheConfig { entries, ways, representative, scope, scope_linear, ..McacheConfig::default() };
            let config = create_config(rpq, mcache);
            match kind {
                0 => {
                    let (mut layer, x) = conv([size, size + 1], 4, 6, [3, 2], [sy, sx], padding, groups);
                    // The axes differ in every parameter.
                    (layer.dilation, layer.padding) = ([1, 1 + size % 2], [padding, 1 - padding]);
                    Case { layer: Layer::Conv(layer), x, config }
                }
                1 => {
                    let weight = (tensor(&[7, 6], 5) - 0.5).set_requires_grad(true);
                    let layer = LinearLayer { name: "l".into(), weight, bias: None };
                    Case { layer: Layer::Linear(layer), x: tensor(&[4, size, 6], 3), config }
                }
                2 => {
                    // A 1-D convolution has one row.
                    let (mut layer, x) = conv([1, 2 * size], 4, 6, [1, 3], [1, sx], 0, groups);
                    (layer.dilation, layer.padding) = ([1, sy], [0, padding]);
                    Case { layer: Layer::Conv(layer), x, config }
                }
                _ => {
                    let right = (tensor(&[3, 2, 5, 6], 5) - 0.5).set_requires_grad(true);
                    Case { layer: Layer::Attention { right }, x: tensor(&[3, 2, size, 6], 3), config }
                }
            }
        },
    )
}

fn is_close(found: &Tensor, expected: &[f64]) -> bool {
    let found = values(found);
    let norm = expected.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-9);
    let error = found.iter().zip(expected).map(|(x, y)| (f64::from(*x) - y).powi(2)).sum::<f64>().sqrt();
    found.len() == expected.len() && error <= 2e-6 * norm
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// With HITs, results and counts equal those of the dense reference.
    #[test]
    fn reuse_is_the_product_of_substituted_operands(case in cases()) {
        let dy = case.dy();
        let session = case.session();
        let mut tap = ReuseTap::new(&session, 0, true);
        let found = case.run(&mut tap, &dy);
        let measured = tap.finish();
        let ([y, dx, dw], hits) = case.dense(&dy);
        prop_assert!(is_close(&found.y, &y), "Y");
        prop_assert!(is_close(&found.dx, &dx), "dX");
        prop_assert!(is_close(&found.dw, &dw), "dW");
        let find_row = |pass| measured.iter().find(|row: &&PassMeasurement| row.pass == pass).unwrap();
        let hit = |pass| find_row(pass).counts.hit;
        prop_assert_eq!([hit(Pass::Forward), hit(Pass::InputGrad)], hits);
        // The measured deviation is the distance from the plain results.
        let plain = case.run(&mut Plain, &dy);
        for (pass, reused, exact) in [
            (Pass::Forward, &found.y, &plain.y),
            (Pass::InputGrad, &found.dx, &plain.dx),
            (Pass::WeightGrad, &found.dw, &plain.dw),
        ] {
            let deviation = find_row(pass).comparison.unwrap().deviation;
            let norm = |tensor: Tensor| tensor.to_kind(Kind::Double).norm().double_value(&[]);
            let error = norm(reused - exact);
            prop_assert!((deviation.change.sqrt() - error).abs() <= 1e-5 * norm(exact.shallow_clone()), "{pass}");
        }
    }

    /// Signatures of 64 bits tell random vectors apart, so that gradients equal plain ones.
    #[test]
    fn without_hits_gradients_are_plain(stride in 1i64..3, groups in prop::sample::select(vec![1i64, 2]), padding in 0i64..2) {
        // Near a plane's edges, few taps are inside, so several channels make the vectors long
        // enough. The sizes give every input a gradient.
        let granularity = Granularity::Patch;
        let kernel = [3 * stride; 2];
        let (layer, _) = conv([12, 10], 4, 6, kernel, [stride; 2], padding, groups);
        tch::manual_seed(9);
        let x = Tensor::randn([2, 4, 12, 10], (Kind::Float, Device::Cpu));
        let rpq = Rpq { bits: 64, granularity, ..Rpq::default() };
        let case = Case { layer: Layer::Conv(layer), x, config: create_config(rpq, McacheConfig::default()) };
        tch::manual_seed(10);
        let dy = Tensor::randn(case.dy().size(), (Kind::Float, Device::Cpu));
        let session = case.session();
        let mut tap = ReuseTap::new(&session, 0, false);
        let found = case.run(&mut tap, &dy);
        let measured = tap.finish();
        prop_assert!(measured.iter().all(|row| row.counts.hit == 0), "no two vectors are alike");
        let plain = case.run(&mut Plain, &dy);
        for (found, plain) in [(found.y, plain.y), (found.dx, plain.dx), (found.dw, plain.dw)] {
            prop_assert!(found.allclose(&plain, 1e-5, 1e-5, false));
        }
    }
}
