//! Cycles and traffic of one product of a pass, by whichever dataflow the configuration has.

use crate::config::{Config, Substitution};
use crate::timing::memory::{Accesses, LayerProduct, MemoryModel, Traffic};
use crate::timing::rows::{Dealt, RowProduct};
use crate::timing::{Array, Dataflow, DataflowName, MercuryCycles, StreamWork, Work};
use mercury_reuse::config::{Representative, Variant};
use mercury_reuse::{Counts, Hitmap, VectorView};
use mercury_trace::geometry::{Gemm, Geometry, Pass};

/// A layer, and how much of it is known; that stands for the whole batch.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The layer.
    pub geometry: Geometry,
    /// Samples.
    pub samples: usize,
    /// Channels of X of a convolution.
    pub channels: usize,
    /// Channels of dY of a convolution.
    pub grad_channels: usize,
}

impl Known {
    /// Everything of so many samples.
    pub fn all(geometry: &Geometry, samples: usize) -> Self {
        let (channels, grad_channels) = match geometry {
            Geometry::Conv2d(conv) => (conv.in_channels as usize, conv.out_channels as usize),
            Geometry::Linear(_) | Geometry::Attention(_) => (1, 1),
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
        matches!(self.geometry, Geometry::Attention(_))
    }
}

/// One product of a layer's pass for the whole batch.
pub struct Timed {
    known: Known,
    pass: Pass,
    product: usize,
    gemm: Gemm,
    batch: u32,
    bits: u64,
    dataflow: DataflowName,
    array: Array,
    substitution: Substitution,
    memory: MemoryModel,
    model: Model,
}

enum Model {
    Products { dataflow: &'static dyn Dataflow, array: Array },
    Rows(Box<RowProduct>),
}

/// What became of a product's vectors.
#[derive(Clone, Copy)]
pub struct Outcomes<'a> {
    /// Length of each stream's vectors.
    pub lengths: &'a [u64],
    /// Counts of each run, `[samples][streams]`.
    pub counts: &'a [Counts],
    /// Of each stream, over all samples.
    pub sums: &'a [Counts],
    /// How they were dealt to PE sets, of a row-stationary array.
    pub dealt: Option<&'a Dealt>,
}

impl Timed {
    /// Product number `product` of a pass, as `Geometry::gemms` counts them.
    pub fn new(known: Known, config: &Config, (pass, product): (Pass, usize), batch: u32) -> Self {
        let geometry = &known.geometry;
        let gemm = geometry.gemms(pass, batch)[product];
        let bits = config.rpq.signature_bits();
        let model = if let Some(dataflow) = config.dataflow() {
            Model::Products { dataflow, array: config.timing_array() }
        } else {
            Model::Rows(Box::new(RowProduct::new(config.row_array(), geometry, pass, product, batch, bits)))
        };
        Self {
            known,
            pass,
            product,
            gemm,
            batch,
            bits: u64::from(bits),
            dataflow: config.array.dataflow,
            array: config.timing_array(),
            substitution: config.substitution(),
            memory: config.memory_model(),
            model,
        }
    }

    /// How a row-stationary array deals the outcomes of all samples to its PE sets; none of others.
    fn deal(&self, view: &VectorView, hitmap: &Hitmap) -> Option<Dealt> {
        let Model::Rows(product) = &self.model else { return None };
        let mut dealt = product.begin();
        dealt.add(&product.deal(view, hitmap));
        Some(dealt)
    }

    /// Cycles without reuse.
    pub fn baseline(&self) -> u64 {
        match &self.model {
            Model::Products { dataflow, array } => dataflow.product(array, self.gemm),
            Model::Rows(product) => product.baseline(),
        }
    }

    /// Cycles with reuse, from the kept samples but `without`.
    ///
    /// # Panics
    /// If the dataflow is row stationary and nothing was dealt.
    pub fn mercury(&self, outcomes: Outcomes, without: Option<usize>) -> MercuryCycles {
        let cycles = match &self.model {
            Model::Products { dataflow, array } => dataflow.mercury(array, &self.work(outcomes, without)),
            Model::Rows(product) => product.mercury(outcomes.dealt.expect("row stationary deals outcomes"), without),
        };
        let Substitution { variant, representative } = self.substitution;
        let plain = matches!(variant, Variant::Sign | Variant::SignMagnitude(_));
        if plain && representative == Representative::First {
            return cycles;
        }
        MercuryCycles { extra: self.extra(&self.work(outcomes, without)), ..cycles }
    }

    /// What centroids and variants add, spread over the array without gaps: each HIT's elements are added
    /// to its group's sum, `array.accumulate_lanes` a cycle, before the products begin; for
    /// `sign+rescale` each vector has its norm (a multiplication an element; that of a reused result is
    /// pipelined with its copy); for `centred` its mean (an addition an element), and a
    /// multiplication with each filter's sum of weights. In a weight gradient the forward pass's norms,
    /// means and centroids are there, and only the mean's multiplications are new.
    fn extra(&self, work: &Work) -> u64 {
        let sum = |of: &dyn Fn(&StreamWork) -> u64| work.scale(work.streams.iter().map(of).sum());
        let pes = self.array.rows * self.array.columns;
        let forms = self.pass != Pass::WeightGrad;
        let elements = |stream: &StreamWork| stream.counts.vectors() * stream.length;
        let variant = match self.substitution.variant {
            Variant::SignRescale if forms => sum(&elements).div_ceil(pes),
            Variant::Centred => {
                let means = if forms { sum(&elements).div_ceil(self.array.accumulate_lanes) } else { 0 };
                means + sum(&|stream| stream.counts.vectors() * self.gemm.n).div_ceil(pes)
            }
            Variant::Sign | Variant::SignMagnitude(_) | Variant::SignRescale => 0,
        };
        let centroids = match self.substitution.representative {
            Representative::Centroid if forms => {
                sum(&|stream| stream.counts.hit * stream.length).div_ceil(self.array.accumulate_lanes)
            }
            Representative::Centroid | Representative::First => 0,
        };
        variant + centroids
    }

    /// What the product moves without reuse.
    pub fn baseline_traffic(&self) -> Traffic {
        self.memory.baseline(&self.layer_product(), self.baseline())
    }

    /// What it moves with reuse, in so many cycles.
    pub fn traffic(&self, outcomes: Outcomes, cycles: MercuryCycles) -> Traffic {
        let work = self.work(outcomes, None);
        let mut traffic = self.memory.mercury(&self.layer_product(), &work, cycles);
        traffic.accesses += self.extra_accesses(&work);
        traffic
    }

    /// What centroids and variants access: vectors come from the buffer a second time, elements are added
    /// to sums that lie there, or multiplied, and centroids are written. Left out: the division, and a
    /// second reading from DRAM where a scope does not fit in the buffer.
    fn extra_accesses(&self, work: &Work) -> Accesses {
        let sum = |of: &dyn Fn(&StreamWork) -> u64| work.scale(work.streams.iter().map(of).sum());
        let forms = self.pass != Pass::WeightGrad;
        let elements = sum(&|stream| stream.counts.vectors() * stream.length);
        let mut accesses = Accesses::default();
        match self.substitution.variant {
            Variant::SignRescale if forms => {
                accesses.macs += elements;
                accesses.buffer.similarity.reads += elements;
            }
            Variant::Centred => {
                if forms {
                    accesses.adds += elements;
                    accesses.buffer.similarity.reads += elements;
                }
                accesses.macs += sum(&|stream| stream.counts.vectors() * self.gemm.n);
            }
            Variant::Sign | Variant::SignMagnitude(_) | Variant::SignRescale => (),
        }
        if self.substitution.representative == Representative::Centroid && forms {
            let hits = sum(&|stream| stream.counts.hit * stream.length);
            accesses.adds += hits;
            accesses.buffer.similarity.reads += 2 * hits;
            accesses.buffer.similarity.writes += hits + sum(&|stream| stream.counts.mau * stream.length);
        }
        accesses
    }

    fn layer_product(&self) -> LayerProduct {
        let geometry = &self.known.geometry;
        match &self.model {
            Model::Products { .. } => {
                LayerProduct::of_products(self.dataflow, geometry, self.pass, self.product, self.batch)
            }
            Model::Rows(rows) => LayerProduct::of_rows(rows, geometry, self.pass, self.product, self.batch),
        }
    }

    /// The product's streams as timing sees them, for the whole batch and layer, from the counts of all
    /// kept samples or all but one.
    pub fn work(&self, Outcomes { lengths, counts, sums, .. }: Outcomes, without: Option<usize>) -> Work {
        let streams = lengths.len();
        let run = |sample: usize, stream: usize| counts[sample * streams + stream];
        let work = |stream: usize, counts| StreamWork { length: lengths[stream], counts };
        let in_all = self.known.streams_in_all(self.pass, streams);
        let (streams, streams_in_all) = if self.known.weights_change_with_sample() {
            // Each sample's vectors meet weights of their own: a stream for each.
            let kept = (0..self.known.samples).filter(|&sample| Some(sample) != without);
            let pairs = kept.flat_map(|sample| (0..streams).map(move |stream| (sample, stream)));
            let streams = pairs.map(|(sample, stream)| work(stream, run(sample, stream))).collect();
            (streams, in_all * u64::from(self.batch))
        } else {
            let sum = |stream: usize| match without {
                Some(sample) => sums[stream] - run(sample, stream),
                None => sums[stream],
            };
            let samples = self.known.samples - usize::from(without.is_some());
            let whole = |counts| scale(counts, u64::from(self.batch), samples as u64);
            let streams = (0..streams).map(|stream| work(stream, whole(sum(stream)))).collect();
            (streams, in_all)
        };
        Work { pass: self.pass, gemm: self.gemm, streams, streams_in_all, bits: self.bits }
    }
}

/// Cycles of a pass without reuse and with, from the vectors and outcomes of all its products, of a whole batch
/// of `samples`.
pub fn cycles(
    config: &Config,
    geometry: &Geometry,
    pass: Pass,
    samples: u32,
    products: &[(VectorView, &Hitmap)],
) -> (u64, MercuryCycles) {
    let known = Known::all(geometry, samples as usize);
    let (mut baseline, mut mercury) = (0, MercuryCycles::default());
    for (product, (view, hitmap)) in products.iter().enumerate() {
        let timed = Timed::new(known, config, (pass, product), samples);
        let lengths: Vec<u64> = view.streams().iter().map(|stream| stream.length as u64).collect();
        let sums = sums(hitmap.counts(), lengths.len());
        let dealt = timed.deal(view, hitmap);
        let outcomes = Outcomes { lengths: &lengths, counts: hitmap.counts(), sums: &sums, dealt: dealt.as_ref() };
        baseline += timed.baseline();
        mercury += timed.mercury(outcomes, None);
    }
    (baseline, mercury)
}

/// Counts of each stream over all samples, from those of runs, `[samples][streams]`.
pub fn sums(counts: &[Counts], streams: usize) -> Vec<Counts> {
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
