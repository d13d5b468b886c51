//! Row-stationary cycles of a layer's pass: its mapping, and its Hitmap dealt to PE sets.

use super::MercuryCycles;
use super::row_stationary::{Discipline, Mapping, PeArray, RowCounts, Schedule, ScopeWork, Shape};
use mercury_reuse::{Hitmap, Outcome, VectorView};
use mercury_trace::geometry::{Geometry, Pass};
use std::cell::OnceCell;

/// A row-stationary array and how its PE sets wait for each other.
#[derive(Debug, Clone, Copy)]
pub struct RowArray {
    /// The array.
    pub array: PeArray,
    /// Cycles of a HIT.
    pub hit_cycles: u64,
    /// When a PE set may begin its next filter.
    pub discipline: Discipline,
    /// Whether a fully connected layer's MCACHE is flushed after each sample.
    pub per_sample: bool,
}

/// One product of a layer's pass, for the whole batch.
pub struct RowProduct<'a> {
    model: &'a RowArray,
    geometry: Geometry,
    pass: Pass,
    product: usize,
    batch: Mapping,
    bits: u32,
    /// Of a convolution, the rounds of each sample, dealt when they are first asked for.
    rounds: OnceCell<Vec<Vec<ScopeWork>>>,
}

impl<'a> RowProduct<'a> {
    /// The product of this number, as [`Geometry::gemms`] counts them.
    pub fn new(model: &'a RowArray, geometry: &Geometry, pass: Pass, product: usize, batch: u32, bits: u32) -> Self {
        let shape = Shape::of_layer(geometry, pass, batch, model.per_sample)[product];
        let batch = Mapping::new(&shape, &model.array);
        Self { model, geometry: *geometry, pass, product, batch, bits, rounds: OnceCell::new() }
    }

    /// Cycles of the baseline.
    pub fn baseline(&self) -> u64 {
        self.batch.baseline().total()
    }

    /// Cycles with reuse, from the outcomes of the kept samples but `without`.
    ///
    /// What was kept stands for the batch: rounds of a convolution in proportion to their number, a
    /// matrix product by what its kept vectors gain over their own baseline.
    pub fn mercury(&self, view: &VectorView, hitmap: &Hitmap, without: Option<usize>) -> MercuryCycles {
        let layout = hitmap.layout();
        let samples: Vec<usize> = (0..layout.samples).filter(|&sample| Some(sample) != without).collect();
        let baseline = self.batch.baseline();
        let compute = if let Geometry::Conv2d(_) = self.geometry {
            let dealt = self.rounds.get_or_init(|| self.convolution_rounds(view, hitmap));
            let rounds = || samples.iter().flat_map(|&sample| &dealt[sample]);
            scale(self.schedule(&self.batch, rounds()), self.batch.rounds(), rounds().count() as u64)
        } else {
            let kept = Shape::of_layer(&self.geometry, self.pass, samples.len() as u32, self.model.per_sample);
            let kept = Mapping::new(&kept[self.product], &self.model.array);
            let rounds = self.product_rounds(&kept, hitmap, &samples);
            scale(self.schedule(&kept, rounds.iter()), baseline.compute, kept.baseline().compute)
        };
        let signature = match self.pass {
            Pass::WeightGrad => 0,
            _ => {
                Mapping::new(&self.batch.shape().signatures(u64::from(self.bits)), &self.model.array).baseline().total()
            }
        };
        MercuryCycles {
            signature,
            compute: compute + baseline.overhead(),
            stall: baseline.network.saturating_sub(compute),
        }
    }

    fn schedule<'r>(&self, mapping: &Mapping, rounds: impl Iterator<Item = &'r ScopeWork>) -> u64 {
        let mut schedule = Schedule::new(self.model.discipline, mapping.sets() as usize, mapping.filters_per_set());
        for round in rounds {
            schedule.scope(round);
        }
        schedule.timeline().cycles
    }

    /// Consecutive channels of a sample are on the array at once.
    fn convolution_rounds(&self, view: &VectorView, hitmap: &Hitmap) -> Vec<Vec<ScopeWork>> {
        let layout = hitmap.layout();
        let row_length = view.windows().x.positions as usize;
        let lanes = self.batch.choice().channel_lanes as usize;
        let of_sample = |sample: usize| {
            let run = |stream: usize| {
                let first = (sample * layout.streams + stream) * layout.positions;
                self.run(hitmap, first..first + layout.positions, row_length)
            };
            let runs: Vec<Run> = (0..layout.streams).map(run).collect();
            runs.chunks(lanes).map(|lanes| self.deal(&self.batch, lanes)).collect()
        };
        (0..layout.samples).map(of_sample).collect()
    }

    /// A plane is one head of a sample, a sample's rows, or the rows of all samples.
    fn product_rounds(&self, mapping: &Mapping, hitmap: &Hitmap, samples: &[usize]) -> Vec<ScopeWork> {
        let layout = hitmap.layout();
        let of_sample = layout.streams * layout.positions;
        let row_length = mapping.shape().output[1] as usize;
        let planes: Vec<Vec<usize>> = match self.geometry {
            Geometry::Linear(_) if !self.model.per_sample => {
                vec![samples.iter().flat_map(|&sample| sample * of_sample..(sample + 1) * of_sample).collect()]
            }
            _ => samples
                .iter()
                .flat_map(|&sample| {
                    (0..layout.streams).map(move |stream| {
                        let first = sample * of_sample + stream * layout.positions;
                        (first..first + layout.positions).collect()
                    })
                })
                .collect(),
        };
        let lanes = mapping.choice().channel_lanes as usize;
        let runs: Vec<Run> = planes.into_iter().map(|plane| self.run(hitmap, plane, row_length)).collect();
        runs.chunks(lanes.max(1)).map(|lanes| self.deal(mapping, lanes)).collect()
    }

    /// Outcomes of a plane by output row, and which rows reuse from which.
    fn run(&self, hitmap: &Hitmap, vectors: impl IntoIterator<Item = usize>, row_length: usize) -> Run {
        let vectors: Vec<usize> = vectors.into_iter().collect();
        let mut run = Run { rows: vec![RowCounts::default(); vectors.len().div_ceil(row_length)], reuses: Vec::new() };
        for (place, &vector) in vectors.iter().enumerate() {
            let row = place / row_length;
            let Outcome::Hit(representative) = hitmap.outcome(vector) else {
                run.rows[row].computed += 1;
                continue;
            };
            run.rows[row].hit += 1;
            // What an earlier scope computed is there already, and additions of gradients wait for nobody.
            if self.pass != Pass::WeightGrad
                && let Ok(from) = vectors.binary_search(&(representative as usize))
            {
                run.reuses.push((row as u32, (from / row_length) as u32));
            }
        }
        run.reuses.sort_unstable();
        run.reuses.dedup();
        run
    }

    fn deal(&self, mapping: &Mapping, lanes: &[Run]) -> ScopeWork {
        let rows: Vec<&[RowCounts]> = lanes.iter().map(|run| run.rows.as_slice()).collect();
        let reuses: Vec<(u32, u32, u32)> = (0..)
            .zip(lanes)
            .flat_map(|(lane, run)| run.reuses.iter().map(move |&(row, from)| (lane, row, from)))
            .collect();
        mapping.deal(&rows, mapping.row_cost(self.model.hit_cycles), &reuses)
    }
}

/// One scope's outcomes.
struct Run {
    rows: Vec<RowCounts>,
    /// (row, row of the representative), each once.
    reuses: Vec<(u32, u32)>,
}

fn scale(cycles: u64, all: u64, fed: u64) -> u64 {
    (u128::from(cycles) * u128::from(all) / u128::from(fed.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use mercury_reuse::config::{Granularity, McacheConfig, Scope};
    use mercury_reuse::{Layout, Planes};
    use mercury_trace::geometry::{Attention, Conv2d, Linear};

    const SAMPLES: usize = 3;

    fn array(discipline: Discipline) -> RowArray {
        let array = PeArray { network_bound: false, ..PeArray::default() };
        RowArray { array, hit_cycles: 1, discipline, per_sample: false }
    }

    fn conv() -> Conv2d {
        Conv2d {
            in_channels: 6,
            out_channels: 20,
            input: [13, 11],
            kernel: [3, 3],
            stride: [1; 2],
            padding: [1; 2],
            dilation: [1; 2],
            groups: 1,
        }
    }

    /// A pass of a layer whose vectors have these signatures, by vector.
    fn mercury(
        geometry: Geometry,
        pass: Pass,
        model: &RowArray,
        signature: impl Fn(Layout, usize) -> u64,
        without: Option<usize>,
    ) -> (u64, MercuryCycles) {
        let row = match geometry {
            Geometry::Conv2d(conv) => conv.in_channels * conv.input[0] * conv.input[1],
            Geometry::Linear(linear) => linear.rows * linear.in_features,
            Geometry::Attention(attention) => attention.heads * attention.rows * attention.inner,
        };
        let values = vec![0.5; SAMPLES * row as usize];
        let view = match geometry {
            Geometry::Conv2d(conv) => {
                let [height, width] = conv.input;
                let (channels, values) = (conv.in_channels as usize, values.as_slice());
                let planes = Planes { values, samples: SAMPLES, channels, height, width };
                VectorView::new(planes, conv.windows(pass)[0], 1, Granularity::ChannelPatch)
            }
            Geometry::Linear(l) => {
                VectorView::of_rows(&values, SAMPLES, 1, l.rows, l.in_features, Granularity::ChannelPatch)
            }
            Geometry::Attention(a) => {
                VectorView::of_rows(&values, SAMPLES, a.heads as usize, a.rows, a.inner, Granularity::ChannelPatch)
            }
        };
        let layout = view.layout();
        let signatures: Vec<u64> = (0..layout.vectors()).map(|vector| signature(layout, vector)).collect();
        let cache = McacheConfig { entries: 1 << 14, ways: 1 << 14, ..McacheConfig::default() };
        let scope = if matches!(geometry, Geometry::Linear(_)) { Scope::Batch } else { Scope::Channel };
        let hitmap = Hitmap::new(layout, &signatures, &cache, scope);
        let product = RowProduct::new(model, &geometry, pass, 0, SAMPLES as u32, 20);
        (product.baseline(), product.mercury(&view, &hitmap, without))
    }

    fn geometries() -> [Geometry; 3] {
        [
            Geometry::Conv2d(conv()),
            Geometry::Linear(Linear { rows: 7, in_features: 40, out_features: 30 }),
            Geometry::Attention(Attention { heads: 2, rows: 9, inner: 16, columns: 9 }),
        ]
    }

    #[test]
    fn without_a_hit_computing_takes_the_baselines_time() {
        for discipline in [Discipline::Synchronous, Discipline::Asynchronous { versions: 4, banks: 2 }] {
            for (geometry, pass) in
                geometries().into_iter().flat_map(|g| [Pass::Forward, Pass::WeightGrad].map(|p| (g, p)))
            {
                let (baseline, found) = mercury(geometry, pass, &array(discipline), |_, vector| vector as u64, None);
                assert_eq!(found.compute, baseline, "{geometry:?} {pass}");
                assert_eq!(found.signature > 0, pass == Pass::Forward);
            }
        }
    }

    #[test]
    fn hits_save_time_and_no_more_than_there_is() {
        let model = array(Discipline::Asynchronous { versions: 4, banks: 2 });
        for geometry in geometries() {
            let half = |layout: Layout, vector: usize| (vector % layout.positions / 2) as u64;
            let (baseline, halved) = mercury(geometry, Pass::Forward, &model, half, None);
            let (_, same) = mercury(geometry, Pass::Forward, &model, |_, _| 1, None);
            assert!(same.compute < halved.compute && halved.compute < baseline, "{geometry:?}");
            // A hit takes a cycle, a computed position k_w at least.
            assert!(same.compute * 16 > baseline / 3, "{geometry:?}");
        }
    }

    #[test]
    fn a_sample_that_is_left_out_stands_for_nothing() {
        let model = array(Discipline::Synchronous);
        let geometry = Geometry::Conv2d(conv());
        // The last sample alone has hits.
        let last = |layout: Layout, vector: usize| {
            let of_sample = layout.streams * layout.positions;
            if vector / of_sample == SAMPLES - 1 { 1 } else { vector as u64 + 2 }
        };
        let (baseline, without) = mercury(geometry, Pass::Forward, &model, last, Some(SAMPLES - 1));
        assert_eq!(without.compute, baseline);
        let (_, alone) = mercury(geometry, Pass::Forward, &model, last, Some(0));
        let (_, all) = mercury(geometry, Pass::Forward, &model, last, None);
        assert!(alone.compute < all.compute && all.compute < baseline);
    }

    /// By hand: a plane of one row, 4 positions, one of them a hit, one channel and one filter.
    #[test]
    fn a_row_costs_its_positions() {
        let model = array(Discipline::Synchronous);
        let one = Conv2d { in_channels: 1, out_channels: 1, input: [3, 6], padding: [0; 2], ..conv() };
        let geometry = Geometry::Conv2d(one);
        let (baseline, none) = mercury(geometry, Pass::Forward, &model, |_, vector| vector as u64, None);
        let (_, found) = mercury(geometry, Pass::Forward, &model, |_, vector| (vector % 4).max(1) as u64, None);
        assert_eq!(none.compute, baseline);
        // Three samples, in each a hit of 1 cycle in place of the kernel's 3.
        assert_eq!(none.compute - found.compute, 3 * 2);
    }
}
