//! Cycles of one product of a pass, by whichever dataflow the configuration has.

use crate::config::Config;
use crate::operand::LayerData;
use crate::timing::rows::{RowArray, RowProduct};
use crate::timing::{Array, Dataflow, MercuryCycles, StreamWork, Work};
use mercury_reuse::{Counts, Hitmap, VectorView};
use mercury_trace::geometry::{Gemm, Pass};

/// One product of a layer's pass for the whole batch.
pub struct Timed<'a> {
    data: &'a LayerData,
    pass: Pass,
    gemm: Gemm,
    batch: u32,
    bits: u64,
    model: Model<'a>,
}

enum Model<'a> {
    Products { dataflow: &'static dyn Dataflow, array: Array },
    Rows(Box<RowProduct<'a>>),
}

/// A product's vectors and what became of them.
#[derive(Clone, Copy)]
pub struct Outcomes<'a> {
    /// The vectors.
    pub view: &'a VectorView<'a>,
    /// Counts of each run, `[samples][streams]`.
    pub counts: &'a [Counts],
    /// Each vector's outcome: what a row-stationary array needs to know.
    pub hitmap: Option<&'a Hitmap>,
}

impl<'a> Timed<'a> {
    /// Product number `product` of a pass, as `Geometry::gemms` counts them.
    pub fn new(
        data: &'a LayerData,
        config: &Config,
        row_array: &'a RowArray,
        (pass, product): (Pass, usize),
        batch: u32,
    ) -> Self {
        let gemm = data.layer.geometry.gemms(pass, batch)[product];
        let bits = config.rpq.signature_bits();
        let model = if let Some(dataflow) = config.dataflow() {
            Model::Products { dataflow, array: config.timing_array() }
        } else {
            Model::Rows(Box::new(RowProduct::new(row_array, &data.layer.geometry, pass, product, batch, bits)))
        };
        Self { data, pass, gemm, batch, bits: u64::from(bits), model }
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
    /// If the dataflow is row stationary and there is no Hitmap.
    pub fn mercury(&self, outcomes: Outcomes, without: Option<usize>) -> MercuryCycles {
        match &self.model {
            Model::Products { dataflow, array } => dataflow.mercury(array, &self.work(outcomes, without)),
            Model::Rows(product) => {
                product.mercury(outcomes.view, outcomes.hitmap.expect("row stationary has a Hitmap"), without)
            }
        }
    }

    /// The product's streams as timing sees them, for the whole batch and layer, from the counts of all
    /// kept samples or all but one.
    pub fn work(&self, Outcomes { view, counts, .. }: Outcomes, without: Option<usize>) -> Work {
        let layout = view.layout();
        let kept: Vec<usize> = (0..layout.samples).filter(|&sample| Some(sample) != without).collect();
        let run = |sample: usize, stream: usize| counts[sample * layout.streams + stream];
        let work = |stream: usize, counts| StreamWork { length: view.streams()[stream].length as u64, counts };
        let in_all = self.data.streams_in_all(self.pass, layout.streams);
        let (streams, streams_in_all) = if self.data.weights_change_with_sample() {
            // Each sample's vectors meet weights of their own: a stream for each.
            let pairs = kept.iter().flat_map(|&sample| (0..layout.streams).map(move |stream| (sample, stream)));
            let streams = pairs.map(|(sample, stream)| work(stream, run(sample, stream))).collect();
            (streams, in_all * u64::from(self.batch))
        } else {
            let sum = |stream| kept.iter().map(|&sample| run(sample, stream)).sum();
            let whole = |counts| scale(counts, u64::from(self.batch), kept.len() as u64);
            let streams = (0..layout.streams).map(|stream| work(stream, whole(sum(stream)))).collect();
            (streams, in_all)
        };
        Work { pass: self.pass, gemm: self.gemm, streams, streams_in_all, bits: self.bits }
    }
}

/// Counts of `samples` samples scaled to `batch`; rounded so that they add up.
fn scale(counts: Counts, batch: u64, samples: u64) -> Counts {
    let vectors = counts.vectors() * batch / samples;
    let hit = (counts.hit * batch / samples).min(vectors);
    let mau = (counts.mau * batch).div_ceil(samples).min(vectors - hit);
    Counts { hit, mau, mnu: vectors - hit - mau }
}
