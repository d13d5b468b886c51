//! Compares output errors with dense results. The dense results are computed by the definition of
//! each layer, from operands in which every HIT is replaced by its representative.

mod common;

use mercury_analyzer::accuracy::sampling::RunningSums;
use mercury_analyzer::accuracy::{self, ErrorSums, Estimate, WeightGradient};
use mercury_analyzer::config::Config;
use mercury_analyzer::operand::{LayerData, Needs};
use mercury_analyzer::replay::{ErrorMode, Similarity};
use mercury_reuse::config::{Granularity, Scope};
use mercury_reuse::{Deviation, Substitutes};
use mercury_trace::Trace;
use mercury_trace::geometry::{Geometry, Pass};
use mercury_trace::manifest::Sampling;

/// A dense matrix product by its definition: vectors `[samples][streams..]` times the weights of
/// each element. The weights are found from tensor indices, independently of the code under test.
struct Dense<'a> {
    data: &'a LayerData,
    pass: Pass,
}

impl Dense<'_> {
    /// The weight between an element (plane's channel, kernel row, kernel column) and an output;
    /// `None` if they are not connected or the filter was not kept.
    fn weight(&self, sample: usize, (channel, ky, kx): (usize, usize, usize), output: usize) -> Option<f64> {
        let data = self.data;
        let weight = data.weight.as_ref().unwrap();
        let find_row = |filter: u32| data.kept.filters.iter().position(|&kept| kept == filter);
        let value = match (data.kept.layer.geometry, self.pass) {
            (Geometry::Conv2d(conv), pass) => {
                let (channels, filters) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
                let (input, filter) = match pass {
                    Pass::InputGrad => (output as u32, data.kept.grad_channels[channel]),
                    _ => (data.kept.channels[channel], data.kept.filters[output]),
                };
                if input / channels != filter / filters {
                    return None;
                }
                let tap = ((input % channels) as usize * conv.kernel[0] as usize + ky) * conv.kernel[1] as usize + kx;
                weight.row(find_row(filter)?)[tap]
            }
            (Geometry::Linear(_), Pass::InputGrad) => weight.row(find_row(kx as u32)?)[output],
            (Geometry::Linear(_), _) => weight.row(output)[kx],
            (Geometry::Matmul(a), pass) => {
                let (columns, inner) = (a.columns as usize, a.inner as usize);
                let block = if pass == Pass::InputGrad { inner } else { columns };
                if output / block != channel {
                    return None;
                }
                let (column, element) =
                    if pass == Pass::InputGrad { (kx, output % inner) } else { (output % columns, kx) };
                weight.row((sample * a.heads as usize + channel) * columns + column)[element]
            }
        };
        Some(f64::from(value))
    }

    /// The deviation of a product, and its change of the loss, <dY, Y' - Y>, over all kept
    /// elements.
    fn error(&self, similarity: &Similarity, product: usize) -> (Deviation, f64) {
        let (view, outcomes) = (&similarity.signed.views[product], &similarity.outcomes[product]);
        let layout = view.layout();
        let mut buffer = vec![0.0; view.max_length()];
        let (mut sum, mut loss) = (Deviation::default(), 0.0);
        for sample in 0..layout.samples {
            for position in 0..layout.positions {
                for output in 0..self.data.outputs(self.pass) {
                    let (mut exact, mut reused) = (0.0, 0.0);
                    for stream in 0..layout.streams {
                        let vector = (sample * layout.streams + stream) * layout.positions + position;
                        let x = view.gather(sample, stream, position, &mut buffer).to_vec();
                        let (s, t, p) = layout.locate(outcomes.representative(vector));
                        let substitute = view.gather(s, t, p, &mut buffer).to_vec();
                        for offset in 0..x.len() {
                            let Some(weight) = self.weight(sample, view.element(stream, offset), output) else {
                                continue;
                            };
                            exact += f64::from(x[offset]) * weight;
                            reused += f64::from(substitute[offset]) * weight;
                        }
                    }
                    let change = reused - exact;
                    sum += Deviation { exact: exact * exact, change: change * change, cross: exact * change };
                    if self.pass == Pass::Forward {
                        loss += self.gradient_of_output(sample, position, output).unwrap_or(0.0) * change;
                    }
                }
            }
        }
        (sum, loss)
    }

    fn gradient_of_output(&self, sample: usize, position: usize, output: usize) -> Option<f64> {
        let data = self.data;
        match data.kept.layer.geometry {
            // All channels of the filter's group have the same gradient; take the first.
            Geometry::Conv2d(conv) => {
                let group = data.kept.filters[output] / (conv.out_channels / conv.groups);
                let channel = data
                    .kept
                    .channels
                    .iter()
                    .position(|channel| channel / (conv.in_channels / conv.groups) == group)?;
                self.gradient(sample, channel, position, output)
            }
            Geometry::Linear(_) => self.gradient(sample, 0, position, output),
            Geometry::Matmul(a) => {
                let columns = a.columns as usize;
                self.gradient(sample, output / columns, position, output % columns)
            }
        }
    }

    /// The deviation of the weight gradient, over each element of each stream and each kept filter
    /// connected to it.
    fn gradient_error(&self, similarity: &Similarity) -> Deviation {
        let (view, outcomes) = (&similarity.signed.views[0], &similarity.outcomes[0]);
        let (layout, data) = (view.layout(), self.data);
        let mut sum = Deviation::default();
        let mut buffer = vec![0.0; view.max_length()];
        let groups = if data.kept.weights_change_with_sample() { layout.samples } else { 1 };
        for (stream, separate) in (0..layout.streams).flat_map(|s| (0..groups).map(move |g| (s, g))) {
            let samples = if groups > 1 { separate..separate + 1 } else { 0..layout.samples };
            let outputs = match data.kept.layer.geometry {
                Geometry::Matmul(a) => a.columns as usize,
                _ => data.kept.filters.len(),
            };
            for (offset, output) in (0..view.streams()[stream].length).flat_map(|o| (0..outputs).map(move |f| (o, f))) {
                let (mut exact, mut reused) = (0.0, 0.0);
                for (sample, position) in samples.clone().flat_map(|s| (0..layout.positions).map(move |p| (s, p))) {
                    let (channel, _, _) = view.element(stream, offset);
                    let Some(dy) = self.gradient(sample, channel, position, output) else { continue };
                    let vector = (sample * layout.streams + stream) * layout.positions + position;
                    let x = f64::from(view.gather(sample, stream, position, &mut buffer)[offset]);
                    let (s, t, p) = layout.locate(outcomes.representative(vector));
                    let substitute = f64::from(view.gather(s, t, p, &mut buffer)[offset]);
                    exact += x * dy;
                    reused += substitute * dy;
                }
                let change = reused - exact;
                sum += Deviation { exact: exact * exact, change: change * change, cross: exact * change };
            }
        }
        sum
    }

    fn gradient(&self, sample: usize, channel: usize, position: usize, output: usize) -> Option<f64> {
        let data = self.data;
        let dy = data.grad_output.as_ref().unwrap();
        Some(f64::from(match data.kept.layer.geometry {
            Geometry::Conv2d(conv) => {
                let filter = data.kept.filters[output];
                if data.kept.channels[channel] / (conv.in_channels / conv.groups)
                    != filter / (conv.out_channels / conv.groups)
                {
                    return None;
                }
                let plane = data.kept.grad_channels.iter().position(|&kept| kept == filter)?;
                dy.row(sample * data.kept.grad_channels.len() + plane)[position]
            }
            Geometry::Linear(linear) => {
                dy.row(sample * linear.rows as usize + position)[data.kept.filters[output] as usize]
            }
            Geometry::Matmul(a) => dy.row((sample * a.heads as usize + channel) * a.rows as usize + position)[output],
        }))
    }
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b.abs().max(1e-6)
}

fn is_close(found: &Estimate, expected: Deviation) -> bool {
    is_near(found.change(), expected.change)
        && is_near(found.exact(), expected.exact)
        && (expected.exact == 0.0 || is_near(found.cosine().value, expected.cosine()))
        && (expected.exact == 0.0 || is_near(found.norm_ratio().value, expected.norm_ratio()))
}

/// Number of the layer's products of a channel and a filter per kept product.
fn products_per_kept(data: &LayerData) -> f64 {
    let kept = &data.kept;
    match kept.layer.geometry {
        Geometry::Conv2d(conv) => {
            let connected = |channel: u32, filter: u32| {
                channel / (conv.in_channels / conv.groups) == filter / (conv.out_channels / conv.groups)
            };
            let count = |channels: &[u32], filters: &[u32]| -> f64 {
                channels.iter().map(|&c| filters.iter().filter(|&&f| connected(c, f)).count() as f64).sum()
            };
            let all = |count: u32| (0..count).collect::<Vec<u32>>();
            let filters: Vec<u32> =
                kept.filters.iter().copied().filter(|filter| kept.grad_channels.contains(filter)).collect();
            count(&all(conv.in_channels), &all(conv.out_channels)) / count(&kept.channels, &filters)
        }
        Geometry::Linear(linear) => f64::from(linear.out_features) / kept.filters.len() as f64,
        Geometry::Matmul(_) => 1.0,
    }
}

fn check(sampling: &Sampling, config: &Config) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    common::write_trace(dir.path(), sampling, common::value);
    let trace = Trace::open(dir.path()).unwrap();
    let step = &trace.manifest().captured[1];
    let mut hits = 0;
    for layer in trace.layers() {
        let data = LayerData::read(&trace, step, layer, Needs::ALL).unwrap();
        for pass in [Pass::Forward, Pass::InputGrad] {
            let similarity = Similarity::find(&data, pass, config).unwrap();
            let dense = Dense { data: &data, pass };
            for product in 0..similarity.signed.views.len() {
                let (view, outcomes) = (&similarity.signed.views[product], &similarity.outcomes[product]);
                hits += outcomes.counts().iter().map(|counts| counts.hit).sum::<u64>();
                let substitutes = Substitutes::new(view, outcomes, config.rpq.variant, config.mcache.representative);
                let mut found = ErrorSums::new(1.0, true);
                let samples = accuracy::output_error(
                    &data,
                    (pass, product),
                    &substitutes,
                    ErrorMode::All,
                    &mut RunningSums::default(),
                )
                .unwrap();
                for sample in samples {
                    found.push(sample);
                }
                let found = found.estimate();
                let (expected, loss) = dense.error(&similarity, product);
                assert!(is_close(&found, expected), "{} {pass}: {found:?}, dense {expected:?}", layer.name);
                let scale = if loss == 0.0 { 1.0 } else { products_per_kept(&data) };
                let found = found.loss_change().unwrap().value;
                assert!(is_near(found, loss * scale), "{} {pass}: loss {found}, dense {loss} x {scale}", layer.name);
            }
            if pass == Pass::Forward {
                let (view, outcomes) = (&similarity.signed.views[0], &similarity.outcomes[0]);
                let substitutes = Substitutes::new(view, outcomes, config.rpq.variant, config.mcache.representative);
                let mut gradient = WeightGradient::new(&data, ErrorMode::All, 1.0).unwrap();
                gradient.add(&data, &substitutes);
                let found = gradient.error().estimate();
                let expected = Dense { data: &data, pass: Pass::WeightGrad }.gradient_error(&similarity);
                assert!(is_close(&found, expected), "{} weight-grad: {found:?}, dense {expected:?}", layer.name);
            }
        }
    }
    hits
}

fn config(granularity: Granularity, bits: u32, scope: Scope) -> Config {
    let mut config = Config::default();
    config.rpq.granularity = granularity;
    config.rpq.bits = bits;
    config.mcache.scope = scope;
    config
}

#[test]
fn errors_equal_those_of_substituted_operands() {
    for granularity in [Granularity::CHANNEL_PATCH, Granularity::Patch, Granularity::SubVector(5)] {
        for scope in [Scope::Channel, Scope::Sample, Scope::Batch] {
            let hits = check(&Sampling::default(), &config(granularity, 4, scope));
            assert!(hits > 100, "{granularity} {scope:?}: only {hits} hits, the test would say little");
        }
    }
}

#[test]
fn errors_of_a_sampled_trace_cover_the_kept_channels_and_filters() {
    let kept = |layer: &str, kept: &[u32]| (layer.to_owned(), kept.to_vec());
    let sampling = Sampling {
        samples: Some(3),
        channels: [kept("features.0", &[0, 2]), kept("features.3", &[1, 3])].into(),
        grad_channels: [kept("features.3", &[0, 2, 5])].into(),
        filters: [kept("features.0", &[1, 2]), kept("features.3", &[0, 5]), kept("classifier.0", &[3, 4, 6])].into(),
        ..Sampling::default()
    };
    assert!(check(&sampling, &config(Granularity::CHANNEL_PATCH, 4, Scope::Channel)) > 50);
}
