use super::super::SigningUnit;
use super::*;
use crate::timing::row_stationary::{DealingRule, Discipline, HitCycles};
use mercury_reuse::config::McacheConfig;
use mercury_reuse::{Layout, Outcomes, Planes, VectorView};
use mercury_trace::geometry::{Conv2d, Gemm, Geometry, Linear, Matmul, Pass};

const SAMPLES: usize = 3;

fn array_of(discipline: Discipline) -> RowArray {
    let array = PeArray { network_bound: false, ..PeArray::default() };
    RowArray {
        array,
        hit_cycles: HitCycles::ONE,
        dealing: DealingRule::Static,
        results_per_cycle: 0,
        signing: SigningUnit::Array,
        discipline,
        per_sample: false,
    }
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

mod readings;

/// A pass of a layer whose vectors have these signatures, by vector.
fn mercury(
    geometry: Geometry,
    pass: Pass,
    model: &RowArray,
    signature: impl Fn(Layout, usize) -> u64,
    without: Option<usize>,
) -> (u64, MercuryCycles) {
    let cache = McacheConfig { entries: 1 << 14, ways: 1 << 14, ..McacheConfig::default() };
    mercury_with(&cache, geometry, pass, model, signature, without)
}

fn mercury_with(
    cache: &McacheConfig,
    geometry: Geometry,
    pass: Pass,
    model: &RowArray,
    signature: impl Fn(Layout, usize) -> u64,
    without: Option<usize>,
) -> (u64, MercuryCycles) {
    let row = match geometry {
        Geometry::Conv2d(conv) => conv.in_channels * conv.input[0] * conv.input[1],
        Geometry::Linear(linear) => linear.rows * linear.in_features,
        Geometry::Matmul(matmul) => matmul.heads * matmul.rows * matmul.inner,
    };
    let values = vec![0.5; SAMPLES * row as usize];
    let view = match geometry {
        Geometry::Conv2d(conv) => {
            let [height, width] = conv.input;
            let (channels, values) = (conv.in_channels as usize, values.as_slice());
            let planes = Planes { values, samples: SAMPLES, channels, height, width };
            VectorView::new(planes, conv.windows(pass)[0], 1, Granularity::CHANNEL_PATCH)
        }
        Geometry::Linear(l) => {
            VectorView::from_rows(&values, SAMPLES, 1, l.rows, l.in_features, Granularity::CHANNEL_PATCH)
        }
        Geometry::Matmul(a) => {
            VectorView::from_rows(&values, SAMPLES, a.heads as usize, a.rows, a.inner, Granularity::CHANNEL_PATCH)
        }
    };
    let layout = view.layout();
    let signatures: Vec<u64> = (0..layout.vectors()).map(|vector| signature(layout, vector)).collect();
    let scope = if matches!(geometry, Geometry::Linear(_)) { Scope::Batch } else { Scope::Channel };
    let outcomes = Outcomes::look_up(layout, &signatures, cache, scope);
    let product = product(*model, geometry, pass);
    let mut dealing = product.dealing().expect("outcomes are dealt to PE sets");
    dealing.add(&view, &outcomes);
    // Cycles depend on what was dealt alone.
    let gemm = Gemm { m: 0, k: 0, n: 0, count: 0 };
    let work = Work { pass, gemm, streams: Vec::new(), streams_in_all: 0, bits: 20, scopes: 1 };
    (product.baseline(), product.mercury(&work, Some(dealing.cycles(without))))
}

fn product(model: RowArray, geometry: Geometry, pass: Pass) -> RowProduct {
    RowProduct::new(model, &LayerProduct { geometry, pass, number: 0, batch: SAMPLES as u32, bits: 20 })
}

fn geometries() -> [Geometry; 4] {
    // A 1-D convolution has one row.
    let one_row = Conv2d { input: [1, 40], kernel: [1, 5], padding: [0, 2], ..conv() };
    [
        Geometry::Conv2d(conv()),
        Geometry::Conv2d(one_row),
        Geometry::Linear(Linear { rows: 7, in_features: 40, out_features: 30 }),
        Geometry::Matmul(Matmul { heads: 2, rows: 9, inner: 16, columns: 9 }),
    ]
}

#[test]
fn without_a_hit_computing_takes_the_baselines_time() {
    for discipline in [Discipline::Synchronous, Discipline::Asynchronous { versions: 4, banks: 2 }] {
        for (geometry, pass) in geometries().into_iter().flat_map(|g| [Pass::Forward, Pass::WeightGrad].map(|p| (g, p)))
        {
            let (baseline, found) = mercury(geometry, pass, &array_of(discipline), |_, vector| vector as u64, None);
            assert_eq!(found.compute, baseline, "{geometry:?} {pass}");
            assert_eq!(found.signature > 0, pass == Pass::Forward);
        }
    }
}

#[test]
fn hits_save_time_and_no_more_than_there_is() {
    let model = array_of(Discipline::Asynchronous { versions: 4, banks: 2 });
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
    let model = array_of(Discipline::Synchronous);
    let geometry = Geometry::Conv2d(conv());
    // The last sample alone has hits.
    let last = |layout: Layout, vector: usize| {
        let sample_length = layout.streams * layout.positions;
        if vector / sample_length == SAMPLES - 1 { 1 } else { vector as u64 + 2 }
    };
    let (baseline, without) = mercury(geometry, Pass::Forward, &model, last, Some(SAMPLES - 1));
    assert_eq!(without.compute, baseline);
    let (_, alone) = mercury(geometry, Pass::Forward, &model, last, Some(0));
    let (_, all) = mercury(geometry, Pass::Forward, &model, last, None);
    assert!(alone.compute < all.compute && all.compute < baseline);
}

/// Of a matrix product the others are dealt anew: as if they had been alone.
#[test]
fn a_sample_of_a_matrix_product_is_left_out() {
    let mut gains = 0;
    for per_sample in [false, true] {
        let model = RowArray { per_sample, ..array_of(Discipline::Asynchronous { versions: 4, banks: 2 }) };
        for geometry in &geometries()[1..] {
            // The middle sample has hits on its own vectors alone, the others none.
            let middle = |layout: Layout, vector: usize| {
                let sample_length = layout.streams * layout.positions;
                if vector / sample_length == 1 { 1 } else { vector as u64 + 2 }
            };
            let (baseline, without) = mercury(*geometry, Pass::Forward, &model, middle, Some(1));
            assert_eq!(without.compute, baseline, "{geometry:?}");
            let (_, with) = mercury(*geometry, Pass::Forward, &model, middle, None);
            let (_, others) = mercury(*geometry, Pass::Forward, &model, middle, Some(0));
            // Sets that wait for others may hide what the hits save, but not turn it around.
            assert!(others.compute <= with.compute && with.compute <= baseline, "{geometry:?}");
            gains += u32::from(others.compute < with.compute && with.compute < baseline);
        }
    }
    assert!(gains > 0);
}

/// By hand: a plane of one row, 4 positions, one of them a hit, one channel and one filter.
#[test]
fn a_row_costs_its_positions() {
    let model = array_of(Discipline::Synchronous);
    let one = Conv2d { in_channels: 1, out_channels: 1, input: [3, 6], padding: [0; 2], ..conv() };
    let geometry = Geometry::Conv2d(one);
    let (baseline, none) = mercury(geometry, Pass::Forward, &model, |_, vector| vector as u64, None);
    let (_, found) = mercury(geometry, Pass::Forward, &model, |_, vector| (vector % 4).max(1) as u64, None);
    assert_eq!(none.compute, baseline);
    // Three samples, in each a hit of 1 cycle in place of the kernel's 3.
    assert_eq!(none.compute - found.compute, 3 * 2);
}

/// Columns have a bit each in one word or in several.
#[test]
fn outcomes_are_dealt_to_strips_of_any_length() {
    let strips = [20, 64, 90].map(|height| {
        let array = PeArray { rows: 3, columns: height.into(), network_bound: false, ..PeArray::default() };
        let model = RowArray { array, ..array_of(Discipline::Asynchronous { versions: 3, banks: 2 }) };
        // One channel and filter: nothing but a long strip fills the array.
        let geometry = Geometry::Conv2d(Conv2d { input: [height, 5], in_channels: 1, out_channels: 1, ..conv() });
        let signature = |_: Layout, vector: usize| (vector as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) % 90;
        let cache = McacheConfig { entries: 64, ways: 4, ..McacheConfig::default() };
        let layout = Layout { samples: SAMPLES, streams: 1, positions: height as usize * 5 };
        let signatures: Vec<u64> = (0..layout.vectors()).map(|vector| signature(layout, vector)).collect();
        let outcomes = Outcomes::look_up(layout, &signatures, &cache, Scope::Channel);
        let (_, found) = mercury_with(&cache, geometry, Pass::Forward, &model, signature, None);
        let product = product(model, geometry, Pass::Forward);
        let naive = readings::simulate(&product, &outcomes, 5, &[1]);
        assert_eq!(found.compute, naive.compute + product.mapping().baseline().overhead());
        product.mapping().choice().strip
    });
    assert_eq!(strips, [20, 64, 90]);
}
