//! Replay: a trace's captured steps through signatures, MCACHE, timing and output error.

use crate::accuracy::{self, SquaredError};
use crate::config::Config;
use crate::error::{AnalyzerError, Result};
use crate::interval;
use crate::limits::Limits;
use crate::operand::LayerData;
use crate::timing::rows::{RowArray, RowProduct};
use crate::timing::{Array, Dataflow, MercuryCycles, StreamWork, Work};
use mercury_reuse::{Counts, Hitmap, VectorView, signatures};
use mercury_trace::Trace;
use mercury_trace::geometry::{Gemm, Pass};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::CapturedStep;

/// What reuse does to one pass of one layer in one captured step.
///
/// Outcomes are counted over the kept samples and channels. Cycles and MACs are those of the whole
/// training step, its batch and all channels, for which what was kept stands in proportion: the
/// share of folds that is overhead depends on the batch, so a few samples timed alone would say
/// little about the step. Where MCACHE lives longer than a sample this is biased: hits among samples
/// that were not kept are left out, and so are sets that they would have filled.
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
    /// Samples of the step.
    pub batch: u32,
    /// Whether the scheme is applied to this pass; if not, no vectors are looked up and the cycles
    /// are the baseline's.
    pub reuse: bool,
    /// Length of the longest vector.
    pub vector_length: usize,
    /// Streams captured, and how many the layer has.
    pub streams: [u64; 2],
    /// Outcomes of the captured vectors.
    pub counts: Counts,
    /// What bounds reuse on these vectors; the weight gradient's are the forward pass's.
    pub limits: Option<Limits>,
    /// Multiply-accumulates.
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

impl PassResult {
    /// 95 % interval of the speed-up over kept samples.
    pub fn interval(&self) -> Option<[f64; 2]> {
        interval::speed_up([self.baseline, self.mercury.total()], &self.leave_one_out)
    }
}

/// The captured steps of a trace, of which there must be one at least.
pub fn captured_steps(trace: &Trace) -> Result<&[CapturedStep]> {
    match trace.manifest().captured.as_slice() {
        [] => Err(AnalyzerError::NothingCaptured { path: trace.dir().to_owned() }),
        steps => Ok(steps),
    }
}

/// Replays every captured step; `progress` is called with each layer before it is replayed.
pub fn replay(trace: &Trace, config: &Config, mut progress: impl FnMut(u64, &str)) -> Result<Vec<PassResult>> {
    let mut results = Vec::new();
    for step in captured_steps(trace)? {
        for (index, layer) in trace.layers().iter().enumerate() {
            // A layer that was not asked for at capture has no files.
            if step.tensors.iter().all(|file| file.layer != layer.name) {
                continue;
            }
            progress(step.step, &layer.name);
            let data = LayerData::read(trace, step, layer)?;
            let place = Place { step: step.step, layer_index: index, batch: trace.manifest().training.batch_size };
            results.extend(replay_layer(&data, config, place)?);
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
        if let Some(view) = views.iter().find(|view| u32::try_from(view.layout().vectors()).is_err()) {
            let reason =
                format!("has {} vectors, more than {}; capture fewer samples", view.layout().vectors(), u32::MAX);
            return Err(AnalyzerError::Layer { layer: data.layer.name.clone(), reason });
        }
        let scope = data.scope(config.mcache.scope, config.mcache.scope_linear);
        let signatures: Vec<_> = views.iter().map(|view| signatures(view, &config.rpq)).collect();
        let look_up = |(view, signatures): (&VectorView, &Vec<u64>)| {
            Hitmap::new(view.layout(), signatures, &config.mcache, scope)
        };
        let hitmaps = views.iter().zip(&signatures).map(look_up).collect();
        Ok(Self { views, signatures, hitmaps })
    }
}

/// Where a layer's data come from.
#[derive(Clone, Copy)]
struct Place {
    step: u64,
    layer_index: usize,
    batch: u32,
}

fn replay_layer(data: &LayerData, config: &Config, place: Place) -> Result<Vec<PassResult>> {
    let mut results = Vec::new();
    // The weight gradient keeps the forward pass's signatures and outcomes.
    let mut forward = None;
    for pass in Pass::ALL {
        if pass == Pass::InputGrad && !data.layer.input_grad {
            continue;
        }
        // A pass whose operand was not captured runs as in the baseline.
        let reuse = config.reuse.passes.contains(&pass) && data.streamed(pass).is_some();
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
        let result = replay_pass(data, config, place, pass, similarity);
        let (counts, mercury) = (result.counts, result.mercury);
        tracing::debug!(step = place.step, layer = %data.layer.name, %pass, ?counts, ?mercury, "replayed");
        results.push(result);
    }
    Ok(results)
}

/// One pass; without `similarity` it runs as in the baseline.
fn replay_pass(
    data: &LayerData,
    config: &Config,
    place: Place,
    pass: Pass,
    similarity: Option<&Similarity>,
) -> PassResult {
    let gemms = data.layer.geometry.gemms(pass, place.batch);
    let row_array = config.row_array();
    let mut result = PassResult {
        step: place.step,
        layer_index: place.layer_index,
        batch: place.batch,
        layer: data.layer.clone(),
        pass,
        samples: data.samples,
        reuse: similarity.is_some(),
        vector_length: 0,
        streams: [0; 2],
        counts: Counts::default(),
        limits: similarity.filter(|_| pass != Pass::WeightGrad).map(|similarity| Limits::of(data, similarity, config)),
        macs: gemms.iter().map(Gemm::macs).sum(),
        macs_skipped: 0,
        baseline: 0,
        mercury: MercuryCycles::default(),
        error: None,
        leave_one_out: vec![[0; 2]; if data.samples > 1 { data.samples } else { 0 }],
    };
    for (product, &gemm) in gemms.iter().enumerate() {
        let timing = Timing::new(config, &row_array, data, pass, product, gemm, place.batch);
        let baseline = timing.baseline();
        result.baseline += baseline;
        let Some(similarity) = similarity else {
            result.mercury += MercuryCycles { compute: baseline, ..MercuryCycles::default() };
            result.leave_one_out.iter_mut().flatten().for_each(|cycles| *cycles += baseline);
            continue;
        };
        let (view, hitmap) = (&similarity.views[product], &similarity.hitmaps[product]);
        let counts = hitmap.counts();
        let work = |without| {
            let (streams, streams_in_all) = streams(data, pass, view, &counts, place.batch, without);
            Work { pass, gemm, streams, streams_in_all, bits: u64::from(config.rpq.bits) }
        };
        let whole = work(None);
        result.mercury += timing.mercury(view, hitmap, None, || work(None));
        for (sample, sum) in result.leave_one_out.iter_mut().enumerate() {
            sum[0] += baseline;
            sum[1] += timing.mercury(view, hitmap, Some(sample), || work(Some(sample))).total();
        }
        result.macs_skipped += whole.macs_skipped();
        result.vector_length = result.vector_length.max(view.max_length());
        let captured = view.layout().streams;
        result.streams = [captured as u64, data.streams_in_all(pass, captured)];
        result.counts += counts.iter().copied().sum();
        let error = match pass {
            Pass::WeightGrad => accuracy::weight_gradient_error(data, view, hitmap),
            Pass::Forward | Pass::InputGrad => accuracy::output_error(data, pass, view, hitmap),
        };
        // Where nothing of what was kept meets (channels and filters of other groups), nothing is known.
        if let Some(error) = error.filter(|error| error.exact > 0.0 || error.error > 0.0) {
            *result.error.get_or_insert_default() += error;
        }
    }
    result
}

/// The timing of one product: by matrix products, or by rows of planes.
enum Timing<'a> {
    Products { dataflow: &'static dyn Dataflow, array: Array, gemm: Gemm },
    Rows(Box<RowProduct<'a>>),
}

impl<'a> Timing<'a> {
    fn new(
        config: &Config,
        row_array: &'a RowArray,
        data: &LayerData,
        pass: Pass,
        product: usize,
        gemm: Gemm,
        batch: u32,
    ) -> Self {
        if let Some(dataflow) = config.dataflow() {
            return Self::Products { dataflow, array: config.timing_array(), gemm };
        }
        let geometry = &data.layer.geometry;
        Self::Rows(Box::new(RowProduct::new(row_array, geometry, pass, product, batch, config.rpq.bits)))
    }

    fn baseline(&self) -> u64 {
        match self {
            Self::Products { dataflow, array, gemm } => dataflow.product(array, *gemm),
            Self::Rows(product) => product.baseline(),
        }
    }

    fn mercury(
        &self,
        view: &VectorView,
        hitmap: &Hitmap,
        without: Option<usize>,
        work: impl FnOnce() -> Work,
    ) -> MercuryCycles {
        match self {
            Self::Products { dataflow, array, .. } => dataflow.mercury(array, &work()),
            Self::Rows(product) => product.mercury(view, hitmap, without),
        }
    }
}

/// The streams of a product as timing sees them, and how many there are in the whole batch and
/// layer; from the counts of all kept samples or all but one.
fn streams(
    data: &LayerData,
    pass: Pass,
    view: &VectorView,
    counts: &[Counts],
    batch: u32,
    without: Option<usize>,
) -> (Vec<StreamWork>, u64) {
    let layout = view.layout();
    let kept: Vec<usize> = (0..layout.samples).filter(|&sample| Some(sample) != without).collect();
    let run = |sample: usize, stream: usize| counts[sample * layout.streams + stream];
    let work = |stream: usize, counts| StreamWork { length: view.streams()[stream].length as u64, counts };
    let in_all = data.streams_in_all(pass, layout.streams);
    if data.weights_change_with_sample() {
        // Each sample's vectors meet weights of their own: a stream for each.
        let pairs = kept.iter().flat_map(|&sample| (0..layout.streams).map(move |stream| (sample, stream)));
        let streams = pairs.map(|(sample, stream)| work(stream, run(sample, stream))).collect();
        (streams, in_all * u64::from(batch))
    } else {
        let sum = |stream| kept.iter().map(|&sample| run(sample, stream)).sum();
        let whole = |counts| scale(counts, u64::from(batch), kept.len() as u64);
        let streams = (0..layout.streams).map(|stream| work(stream, whole(sum(stream)))).collect();
        (streams, in_all)
    }
}

/// Counts of `samples` samples scaled to `batch`; rounded so that they add up.
fn scale(counts: Counts, batch: u64, samples: u64) -> Counts {
    let vectors = counts.vectors() * batch / samples;
    let hit = (counts.hit * batch / samples).min(vectors);
    let mau = (counts.mau * batch).div_ceil(samples).min(vectors - hit);
    Counts { hit, mau, mnu: vectors - hit - mau }
}
