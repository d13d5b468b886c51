//! Cycles and traffic of one product of a pass, by whichever dataflow the configuration has.

use crate::config::{Config, Substitution};
use crate::timing::memory::{Accesses, MemoryModel, Traffic};
use crate::timing::{
    Array, Dataflow, Dealing, LayerProduct, MercuryCycles, ProductModel, SigningUnit, StreamWork, Work,
};
use mercury_reuse::config::{Representative, Scope, Variant};
use mercury_reuse::{Counts, Outcomes, VectorView};
use mercury_trace::geometry::{Gemm, Geometry, Pass};

/// A layer, and how much of it is known; that stands for the whole batch.
#[derive(Debug, Clone, Copy)]
pub struct LayerExtent {
    /// The layer.
    pub geometry: Geometry,
    /// Samples.
    pub samples: usize,
    /// Channels of X of a convolution.
    pub channels: usize,
    /// Channels of dY of a convolution.
    pub grad_channels: usize,
}

impl LayerExtent {
    /// Everything of so many samples.
    pub fn whole(geometry: &Geometry, samples: usize) -> Self {
        let (channels, grad_channels) = match geometry {
            Geometry::Conv2d(conv) => (conv.in_channels as usize, conv.out_channels as usize),
            Geometry::Linear(_) | Geometry::Matmul(_) => (1, 1),
        };
        Self { geometry: *geometry, samples, channels, grad_channels }
    }

    /// Streams that the whole layer has, where a view of what is known has `known`.
    pub fn streams_in_all(&self, pass: Pass, known: usize) -> u64 {
        let Geometry::Conv2d(conv) = self.geometry else { return known as u64 };
        let (channels, all) = match pass {
            Pass::InputGrad => (self.grad_channels, conv.out_channels),
            Pass::Forward | Pass::WeightGrad => (self.channels, conv.in_channels),
        };
        // Exact: less than all channels are known only where each is a stream.
        known as u64 * u64::from(all) / channels as u64
    }

    /// Whether each sample meets weights of its own.
    pub fn weights_change_with_sample(&self) -> bool {
        matches!(self.geometry, Geometry::Matmul(_))
    }
}

/// Times one product of a layer's pass for the whole batch.
pub struct Timed {
    extent: LayerExtent,
    pass: Pass,
    gemm: Gemm,
    batch: u32,
    bits: u64,
    scope: Scope,
    array: Array,
    substitution: Substitution,
    memory: MemoryModel,
    model: Box<dyn ProductModel>,
    /// The product on an array with the multiply-accumulates of a unit for signatures as well, if there is one.
    equal_macs: Option<Box<dyn ProductModel>>,
}

/// The outcomes of a product's vectors as timing takes them.
#[derive(Clone, Copy)]
pub struct ProductOutcomes<'a> {
    /// Length of each stream's vectors.
    pub lengths: &'a [u64],
    /// Counts of each run, `[samples][streams]`.
    pub counts: &'a [Counts],
    /// Counts of each stream over all samples.
    pub sums: &'a [Counts],
    /// The same outcomes dealt to the array's parts, if the array asks for it ([`Timed::dealing`]).
    pub dealing: Option<&'a dyn Dealing>,
}

impl Timed {
    /// Product number `number` of a pass, as [`Geometry::gemms`] counts them.
    pub fn new(extent: LayerExtent, config: &Config, product: (Pass, usize), batch: u32) -> Self {
        Self::with_dataflow(&*config.dataflow(), extent, config, product, batch)
    }

    /// [`Timed::new`] on an array that the configuration has no name for.
    pub fn with_dataflow(
        dataflow: &dyn Dataflow,
        extent: LayerExtent,
        config: &Config,
        (pass, number): (Pass, usize),
        batch: u32,
    ) -> Self {
        let bits = config.rpq.signature_bits();
        let product = LayerProduct { geometry: extent.geometry, pass, number, batch, bits };
        Self {
            extent,
            pass,
            gemm: product.gemm(),
            batch,
            bits: u64::from(bits),
            scope: config.mcache.effective_scope(&extent.geometry),
            array: config.timing_array(),
            substitution: config.substitution(),
            memory: config.memory_model(),
            model: dataflow.model(&product),
            equal_macs: config.with_equal_macs().map(|equal| equal.dataflow().model(&product)),
        }
    }

    /// Where outcomes are dealt to the array's parts, if cycles depend on it.
    pub fn dealing(&self) -> Option<Box<dyn Dealing>> {
        self.model.dealing()
    }

    /// Cycles without reuse.
    pub fn baseline(&self) -> u64 {
        self.model.baseline()
    }

    /// Cycles without reuse on an array that has the multiply-accumulates of a unit for signatures as more columns; those
    /// of [`Timed::baseline`] without a unit.
    pub fn baseline_equal_macs(&self) -> u64 {
        self.equal_macs.as_ref().unwrap_or(&self.model).baseline()
    }

    /// Whether HITs or signatures take less time than they need on real PEs, so that cycles with reuse are a bound.
    pub fn is_bound(&self) -> bool {
        let has_free_signatures = self.array.signing == SigningUnit::Free && self.pass != Pass::WeightGrad;
        has_free_signatures || self.model.is_hit_a_bound()
    }

    /// Most results per cycle that the array takes from MCACHE; `None` if nothing limits them.
    pub fn peak_results(&self) -> Option<f64> {
        self.model.peak_results()
    }

    /// Multiply-accumulates that reuse spares: those that HITs skip, less the operations that take their place. A HIT
    /// adds its result to those of other streams, or to a group's gradient; `sign+rescale` multiplies it, and each
    /// element for a norm; `centred` adds a multiple of each filter's sum of weights to each result. An addition counts
    /// as a multiply-accumulate, because it takes a PE as long. Signatures, and additions for means and centroids, are
    /// not subtracted.
    pub fn macs_saved_net(&self, outcomes: ProductOutcomes) -> i64 {
        let work = self.work(outcomes, None);
        let is_added = self.pass == Pass::WeightGrad || work.merged_streams() > 1 || self.rescales();
        let operations = work.sum_streams(|stream| {
            // A result that is copied as it is saves its product, unless that is a single multiplication.
            if is_added || stream.length == 1 { stream.counts.hit * self.gemm.n } else { 0 }
        });
        work.macs_skipped() as i64 - operations as i64 - self.variant_macs(&work) as i64
    }

    fn rescales(&self) -> bool {
        self.substitution.variant == Variant::SignRescale
    }

    /// Multiplications for the vectors and all results of a variant, but for those of HITs.
    fn variant_macs(&self, work: &Work) -> u64 {
        let forms = self.pass != Pass::WeightGrad;
        match self.substitution.variant {
            Variant::SignRescale if forms => work.sum_streams(|stream| stream.counts.vectors() * stream.length),
            Variant::Centred => work.sum_streams(|stream| stream.counts.vectors() * self.gemm.n),
            Variant::Sign | Variant::SignMagnitude(_) | Variant::SignRescale => 0,
        }
    }

    /// Cycles with reuse, from the kept samples but `without`.
    ///
    /// # Panics
    /// If the array asks for dealt outcomes and there are none.
    pub fn mercury(&self, outcomes: ProductOutcomes, without: Option<usize>) -> MercuryCycles {
        let work = self.work(outcomes, without);
        let dealt = outcomes.dealing.map(|dealing| dealing.cycles(without));
        let cycles = self.model.mercury(&work, dealt);
        MercuryCycles { extra: cycles.extra + self.extra(&work), ..cycles }
    }

    /// What centroids and variants add, spread over the array without gaps: each HIT's elements are added
    /// to its group's sum, `array.accumulate_lanes` a cycle, before the products begin; for
    /// `sign+rescale` each vector has its norm (a multiplication an element; that of a reused result is
    /// pipelined with its copy); for `centred` its mean (an addition an element), and a
    /// multiplication with each filter's sum of weights. In a weight gradient the forward pass's norms,
    /// means and centroids are there, and only the mean's multiplications are new.
    fn extra(&self, work: &Work) -> u64 {
        let pes = self.array.rows * self.array.columns;
        let forms = self.pass != Pass::WeightGrad;
        let means = if forms && self.substitution.variant == Variant::Centred {
            work.sum_streams(|stream| stream.counts.vectors() * stream.length).div_ceil(self.array.accumulate_lanes)
        } else {
            0
        };
        let variant = means + self.variant_macs(work).div_ceil(pes);
        let centroids = match self.substitution.representative {
            Representative::Centroid if forms => {
                work.sum_streams(|stream| stream.counts.hit * stream.length).div_ceil(self.array.accumulate_lanes)
            }
            Representative::Centroid | Representative::First => 0,
        };
        variant + centroids
    }

    /// What the product moves without reuse.
    pub fn baseline_traffic(&self) -> Traffic {
        self.model.baseline_traffic(&self.memory)
    }

    /// What it moves with reuse, in so many cycles.
    pub fn traffic(&self, outcomes: ProductOutcomes, cycles: MercuryCycles) -> Traffic {
        let work = self.work(outcomes, None);
        let mut traffic = self.model.traffic(&self.memory, &work, cycles);
        traffic.accesses += self.extra_accesses(&work);
        traffic
    }

    /// What centroids and variants access: vectors come from the buffer a second time, elements are added
    /// to sums that lie there, or multiplied, and centroids are written. Left out: the division, and a
    /// second reading from DRAM where a scope does not fit in the buffer.
    fn extra_accesses(&self, work: &Work) -> Accesses {
        let forms = self.pass != Pass::WeightGrad;
        let elements = work.sum_streams(|stream| stream.counts.vectors() * stream.length);
        let mut accesses = Accesses::default();
        accesses.macs += self.variant_macs(work);
        if self.rescales() {
            // Of each HIT's results, or of its gradients.
            accesses.macs += work.hit_results();
        }
        if forms && matches!(self.substitution.variant, Variant::SignRescale | Variant::Centred) {
            accesses.buffer.similarity.reads += elements;
        }
        if forms && self.substitution.variant == Variant::Centred {
            accesses.adds += elements;
        }
        if self.substitution.representative == Representative::Centroid && forms {
            let hits = work.sum_streams(|stream| stream.counts.hit * stream.length);
            accesses.adds += hits;
            accesses.buffer.similarity.reads += 2 * hits;
            accesses.buffer.similarity.writes += hits + work.sum_streams(|stream| stream.counts.mau * stream.length);
        }
        accesses
    }

    /// The product's streams as timing sees them, for the whole batch and layer, from the counts of all
    /// kept samples or all but one.
    pub fn work(&self, ProductOutcomes { lengths, counts, sums, .. }: ProductOutcomes, without: Option<usize>) -> Work {
        let streams = lengths.len();
        let run = |sample: usize, stream: usize| counts[sample * streams + stream];
        let work = |stream: usize, counts| StreamWork { length: lengths[stream], counts };
        let in_all = self.extent.streams_in_all(self.pass, streams);
        // Where samples have weights of their own, each sample's vectors are streams of their own.
        let has_own_streams = self.extent.weights_change_with_sample();
        let scopes = if has_own_streams || self.scope == Scope::Batch { 1 } else { u64::from(self.batch) };
        let (streams, streams_in_all) = if has_own_streams {
            let kept = (0..self.extent.samples).filter(|&sample| Some(sample) != without);
            let pairs = kept.flat_map(|sample| (0..streams).map(move |stream| (sample, stream)));
            let streams = pairs.map(|(sample, stream)| work(stream, run(sample, stream))).collect();
            (streams, in_all * u64::from(self.batch))
        } else {
            let sum = |stream: usize| match without {
                Some(sample) => sums[stream] - run(sample, stream),
                None => sums[stream],
            };
            let samples = self.extent.samples - usize::from(without.is_some());
            let whole = |counts| scale(counts, u64::from(self.batch), samples as u64);
            let streams = (0..streams).map(|stream| work(stream, whole(sum(stream)))).collect();
            (streams, in_all)
        };
        Work { pass: self.pass, gemm: self.gemm, streams, streams_in_all, bits: self.bits, scopes }
    }
}

/// Cycles of a pass without reuse and with, from the vectors and outcomes of all its products, of a whole batch
/// of `samples`.
pub fn cycles(
    config: &Config,
    geometry: &Geometry,
    pass: Pass,
    samples: u32,
    products: &[(VectorView, &Outcomes)],
) -> (u64, MercuryCycles) {
    let extent = LayerExtent::whole(geometry, samples as usize);
    let (mut baseline, mut mercury) = (0, MercuryCycles::default());
    for (product, (view, outcomes)) in products.iter().enumerate() {
        let timed = Timed::new(extent, config, (pass, product), samples);
        let lengths: Vec<u64> = view.streams().iter().map(|stream| stream.length as u64).collect();
        let sums = sum_samples(outcomes.counts(), lengths.len());
        let mut dealing = timed.dealing();
        if let Some(dealing) = &mut dealing {
            dealing.add(view, outcomes);
        }
        let (counts, dealing) = (outcomes.counts(), dealing.as_deref());
        let outcomes = ProductOutcomes { lengths: &lengths, counts, sums: &sums, dealing };
        baseline += timed.baseline();
        mercury += timed.mercury(outcomes, None);
    }
    (baseline, mercury)
}

/// Counts of each stream over all samples, from those of runs, `[samples][streams]`.
pub fn sum_samples(counts: &[Counts], streams: usize) -> Vec<Counts> {
    let mut sums = vec![Counts::default(); streams];
    for sample in counts.chunks(streams.max(1)) {
        sums.iter_mut().zip(sample).for_each(|(sum, counts)| *sum += *counts);
    }
    sums
}

/// Counts of `samples` samples scaled to `batch`; rounded so that they add up.
fn scale(counts: Counts, batch: u64, samples: u64) -> Counts {
    let vectors = counts.vectors() * batch / samples;
    let hit = (counts.hit * batch / samples).min(vectors);
    let mau = (counts.mau * batch).div_ceil(samples).min(vectors - hit);
    Counts { hit, mau, mnu: vectors - hit - mau }
}
