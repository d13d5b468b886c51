//! Replay: a trace's captured steps through signatures, MCACHE, timing and output error.

use crate::accuracy::{self, SquaredError};
use crate::config::Config;
use crate::error::Result;
use crate::operand::LayerData;
use crate::timing::{MercuryCycles, StreamWork, Work};
use mercury_reuse::{Counts, Hitmap, VectorView, signatures};
use mercury_trace::Trace;
use mercury_trace::geometry::{Gemm, Pass};
use mercury_trace::layers::Layer;

/// What reuse does to one pass of one layer in one captured step, over the kept samples.
#[derive(Debug, Clone, PartialEq)]
pub struct PassResult {
    /// The training step.
    pub step: u64,
    /// The layer's place in execution order.
    pub layer_index: usize,
    /// The layer.
    pub layer: Layer,
    /// The pass.
    pub pass: Pass,
    /// Kept samples.
    pub samples: usize,
    /// Whether the scheme is applied to this pass; if not, no vectors are looked up and the cycles
    /// are the baseline's.
    pub reuse: bool,
    /// Length of the longest vector.
    pub vector_length: usize,
    /// Streams captured, and how many the layer has.
    pub streams: [u64; 2],
    /// Outcomes of the captured vectors.
    pub counts: Counts,
    /// Multiply-accumulates of all channels of the kept samples.
    pub macs: u64,
    /// Those of them that hits make unnecessary (additions of gradients are not counted off).
    pub macs_skipped: u64,
    /// Cycles of the baseline.
    pub baseline: u64,
    /// Cycles with reuse.
    pub mercury: MercuryCycles,
    /// Output error, where the trace has what it takes.
    pub error: Option<SquaredError>,
    /// Baseline and MERCURY cycles without each one of the samples in turn.
    pub leave_one_out: Vec<[u64; 2]>,
}

/// Replays every captured step; `progress` is called with each layer before it is replayed.
pub fn replay(trace: &Trace, config: &Config, mut progress: impl FnMut(u64, &str)) -> Result<Vec<PassResult>> {
    let mut results = Vec::new();
    for step in &trace.manifest().captured {
        for (index, layer) in trace.layers().iter().enumerate() {
            // A layer that was not asked for at capture has no files.
            if step.tensors.iter().all(|file| file.layer != layer.name) {
                continue;
            }
            progress(step.step, &layer.name);
            let data = LayerData::read(trace, step, layer)?;
            results.extend(replay_layer(&data, config, step.step, index)?);
        }
    }
    Ok(results)
}

/// The vectors of a pass and their Hitmaps, one for each product.
pub struct Similarity<'a> {
    /// The vectors.
    pub views: Vec<VectorView<'a>>,
    /// Their signatures.
    pub signatures: Vec<Vec<u64>>,
    /// Their outcomes.
    pub hitmaps: Vec<Hitmap>,
}

impl<'a> Similarity<'a> {
    /// Cuts, signs and looks up the vectors that a pass streams.
    pub fn of(data: &'a LayerData, pass: Pass, config: &Config) -> Result<Self> {
        let views = data.views(pass, config.rpq.granularity)?;
        let scope = data.scope(config.mcache.scope, config.mcache.scope_linear);
        let signatures: Vec<_> = views.iter().map(|view| signatures(view, &config.rpq)).collect();
        let look_up = |(view, signatures): (&VectorView, &Vec<u64>)| {
            Hitmap::new(view.layout(), signatures, &config.mcache, scope)
        };
        let hitmaps = views.iter().zip(&signatures).map(look_up).collect();
        Ok(Self { views, signatures, hitmaps })
    }
}

fn replay_layer(data: &LayerData, config: &Config, step: u64, layer_index: usize) -> Result<Vec<PassResult>> {
    let mut results = Vec::new();
    // The weight gradient keeps the forward pass's signatures and outcomes.
    let mut forward = None;
    for pass in Pass::ALL {
        if (pass == Pass::InputGrad && !data.layer.input_grad) || data.streamed(pass).is_none() {
            continue;
        }
        let reuse = config.reuse.passes.contains(&pass);
        let fresh;
        let similarity = match (reuse, pass) {
            (false, _) => None,
            (true, Pass::InputGrad) => {
                fresh = Similarity::of(data, pass, config)?;
                Some(&fresh)
            }
            (true, Pass::Forward) => Some(&*forward.insert(Similarity::of(data, pass, config)?)),
            (true, Pass::WeightGrad) => forward.as_ref(),
        };
        let (dataflow, array) = (config.dataflow(), config.timing_array());
        let gemms = data.layer.geometry.gemms(pass, data.samples as u32);
        let mut result = PassResult {
            step,
            layer_index,
            layer: data.layer.clone(),
            pass,
            samples: data.samples,
            reuse,
            vector_length: 0,
            streams: [0; 2],
            counts: Counts::default(),
            macs: gemms.iter().map(Gemm::macs).sum(),
            macs_skipped: 0,
            baseline: 0,
            mercury: MercuryCycles::default(),
            error: None,
            leave_one_out: vec![[0; 2]; if data.samples > 1 { data.samples } else { 0 }],
        };
        let cycles = |work: &Work| {
            let baseline = dataflow.baseline(&array, work);
            let plain = MercuryCycles { compute: baseline, ..MercuryCycles::default() };
            (baseline, if reuse { dataflow.mercury(&array, work) } else { plain })
        };
        for product in 0..gemms.len() {
            let seen = similarity.map(|all| (&all.views[product], &all.hitmaps[product]));
            let work = |without| work(data, pass, product, seen, config, without);
            let whole = work(None);
            let (baseline, mercury) = cycles(&whole);
            result.baseline += baseline;
            result.mercury += mercury;
            for (sample, sum) in result.leave_one_out.iter_mut().enumerate() {
                let (baseline, mercury) = cycles(&work(Some(sample)));
                sum[0] += baseline;
                sum[1] += mercury.total();
            }
            if let Some((view, hitmap)) = seen {
                result.vector_length = result.vector_length.max(view.max_length());
                let captured = view.layout().streams;
                result.streams = [captured as u64, data.streams_in_all(pass, captured)];
                result.counts += hitmap.counts().into_iter().sum();
                let skipped: u64 = whole.streams.iter().map(|s| s.counts.hit * s.length * whole.gemm.n).sum();
                result.macs_skipped += skipped * whole.streams_in_all / whole.streams.len() as u64;
                let error = match pass {
                    Pass::WeightGrad => accuracy::weight_gradient_error(data, view, hitmap),
                    Pass::Forward | Pass::InputGrad => accuracy::output_error(data, pass, view, hitmap),
                };
                if let Some(error) = error {
                    *result.error.get_or_insert_default() += error;
                }
            }
        }
        results.push(result);
    }
    Ok(results)
}

/// One product of a pass as timing sees it, over all kept samples or all but one.
fn work(
    data: &LayerData,
    pass: Pass,
    product: usize,
    seen: Option<(&VectorView, &Hitmap)>,
    config: &Config,
    without: Option<usize>,
) -> Work {
    let samples = data.samples - usize::from(without.is_some());
    let gemm = data.layer.geometry.gemms(pass, samples as u32)[product];
    let bits = u64::from(config.rpq.bits);
    let Some((view, hitmap)) = seen else {
        return Work { pass, gemm, streams: Vec::new(), streams_in_all: 0, bits };
    };
    let layout = view.layout();
    let length = |stream: usize| view.streams()[stream].length as u64;
    let counts = hitmap.counts();
    let kept = (0..layout.samples).filter(|&sample| Some(sample) != without);
    let streams: Vec<StreamWork> = if data.weights_change_with_sample() {
        // Each sample's vectors meet weights of their own: a product for each.
        kept.flat_map(|sample| (0..layout.streams).map(move |stream| (sample, stream)))
            .map(|(sample, stream)| StreamWork { length: length(stream), counts: counts[sample * layout.streams + stream] })
            .collect()
    } else {
        let kept: Vec<usize> = kept.collect();
        let of = |stream| kept.iter().map(|sample| counts[sample * layout.streams + stream]).sum();
        (0..layout.streams).map(|stream| StreamWork { length: length(stream), counts: of(stream) }).collect()
    };
    let streams_in_all = data.streams_in_all(pass, streams.len());
    Work { pass, gemm, streams, streams_in_all, bits }
}
