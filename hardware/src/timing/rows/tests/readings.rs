//! Readings of the hardware, each compared with a simulation round by round.

use super::*;
use crate::timing::DealtCycles;
use crate::timing::row_stationary::{RowCounts, Schedule, ScopeWork};
use mercury_reuse::Outcome;
use mercury_reuse::config::Channels;
use proptest::prelude::*;

/// What one lane works on: a channel of a vector.
#[derive(Clone, Copy)]
struct Lane {
    sample: usize,
    stream: usize,
    number: usize,
    is_last: bool,
}

/// By the definition: each row dealt to a PE set, each HIT and signature counted, round by round. `channels` are those
/// of each stream, `columns` the positions of a row.
pub(super) fn simulate(product: &RowProduct, outcomes: &Outcomes, columns: usize, channels: &[usize]) -> DealtCycles {
    let (model, mapping, layout) = (product.array, product.mapping(), outcomes.layout());
    let mut schedule = Schedule::new(model.discipline, mapping.sets() as usize, mapping.filters_per_set());
    let (mut array, mut signed) = (0, 0);
    let mut sum = DealtCycles::default();
    for sample in 0..layout.samples {
        let lane = |(stream, &count): (usize, &usize)| {
            (0..count).map(move |number| Lane { sample, stream, number, is_last: number + 1 == count })
        };
        let lanes: Vec<Lane> = channels.iter().enumerate().flat_map(lane).collect();
        for lanes in lanes.chunks(mapping.choice().channel_lanes as usize) {
            let before = schedule.timeline().cycles;
            let (scope, hits) = deal(product, outcomes, columns, lanes);
            schedule.scope(&scope);
            let compute = schedule.timeline().cycles - before;
            let results = hits * mapping.shape().filters;
            // A weight gradient takes no results.
            let is_bounded = model.results_per_cycle > 0 && product.product.pass != Pass::WeightGrad;
            let delivery = if is_bounded { results.div_ceil(model.results_per_cycle) } else { 0 };
            let taps = mapping.shape().taps();
            let macs = (lanes.len() * layout.positions) as u64 * taps * u64::from(product.product.bits);
            // The weight gradient has the forward pass's signatures.
            let macs = if product.product.pass == Pass::WeightGrad { 0 } else { macs };
            // The unit begins to sign when the array takes the signatures of the round before.
            let begin = array.max(signed + model.signing.cycles(macs));
            sum.signature += begin - array;
            sum.compute += compute;
            sum.delivery += delivery.saturating_sub(compute);
            (signed, array) = (begin, begin + compute.max(delivery));
        }
    }
    sum
}

/// The work of a round, and the HITs that take results.
fn deal(product: &RowProduct, outcomes: &Outcomes, columns: usize, lanes: &[Lane]) -> (ScopeWork, u64) {
    let (mapping, layout) = (product.mapping(), outcomes.layout());
    let (strip, rows) = (mapping.choice().strip as usize, layout.positions / columns);
    let cost = mapping.row_cost(product.array.hit_cycles);
    let first = |lane: Lane| (lane.sample * layout.streams + lane.stream) * layout.positions;
    let is_hit = |vector: usize| matches!(outcomes.outcome(vector), Outcome::Hit(_));
    let mut scope = ScopeWork { work: vec![0; mapping.sets() as usize], reuses: Vec::new() };
    let (mut hits, mut sets) = (0, Vec::new());
    for (number, &lane) in lanes.iter().enumerate() {
        let (mut own, mut busy) = (Vec::new(), vec![(0, 0); strip]);
        for row in 0..rows {
            let vectors = first(lane) + row * columns..first(lane) + (row + 1) * columns;
            let hit = vectors.filter(|&vector| is_hit(vector)).count() as u64;
            let mut cycles = cost.row(RowCounts { computed: columns as u64 - hit, hit: 0 });
            if lane.is_last {
                cycles += cost.hit.multiply_rounding_up(hit);
                hits += hit;
            }
            let column = match product.array.dealing {
                DealingRule::Static => row % strip,
                DealingRule::Dynamic => (0..strip).min_by_key(|&column| busy[column]).unwrap(),
            };
            busy[column] = (busy[column].0 + cycles, busy[column].1 + 1);
            scope.work[number * strip + column] += cycles;
            own.push(number * strip + column);
        }
        sets.push(own);
        if lane.is_last && product.product.pass != Pass::WeightGrad {
            for vector in (first(lane)..first(lane) + layout.positions).filter(|&vector| is_hit(vector)) {
                let row = |vector: usize| (vector - first(lane)) / columns;
                let set = sets[number][row(vector)];
                for earlier in &sets[number - lane.number.min(number)..=number] {
                    let from = earlier[row(outcomes.representative(vector))];
                    scope.reuses.extend((set != from).then_some((set as u32, from as u32)));
                }
            }
        }
    }
    (scope, hits)
}

/// Vectors of up to `channels` channels of the test's convolution, with these signatures in a small cache.
fn look_up(values: &[f32], channels: u32, signature: impl Fn(usize) -> u64) -> (VectorView<'_>, Outcomes) {
    let conv = conv();
    let [height, width] = conv.input;
    let planes = Planes { values, samples: SAMPLES, channels: conv.in_channels as usize, height, width };
    let granularity = Granularity::ChannelPatch(Channels::Count(channels));
    let view = VectorView::new(planes, conv.windows(Pass::Forward)[0], 1, granularity);
    let signatures: Vec<u64> = (0..view.layout().vectors()).map(signature).collect();
    // With sets that fill, so that all outcomes are there.
    let cache = McacheConfig { entries: 32, ways: 2, ..McacheConfig::default() };
    let outcomes = Outcomes::look_up(view.layout(), &signatures, &cache, Scope::Channel);
    (view, outcomes)
}

fn values() -> Vec<f32> {
    vec![0.5; SAMPLES * 6 * 13 * 11]
}

/// The channels of each stream: the last has what is left of six.
fn list_channels(view: &VectorView) -> Vec<usize> {
    view.streams().iter().map(|stream| stream.length / 9).collect()
}

fn deal_and_time(product: &RowProduct, view: &VectorView, outcomes: &Outcomes) -> DealtCycles {
    let mut dealing = product.dealing().unwrap();
    dealing.add(view, outcomes);
    dealing.cycles(None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rounds_take_the_longest_of_computing_delivering_and_signing(
        distinct in 1u64..200,
        salt: u64,
        versions in 1u64..5,
        rows in 3u64..15,
        columns in 1u64..16,
        channels in 1u32..7,
        hit_cycles in prop::sample::select(vec!["1", "column", "0", "2/7", "3"]),
        is_dynamic: bool,
        results_per_cycle in prop::sample::select(vec![0, 1, 3, 20, 168]),
        macs_per_cycle in prop::sample::select(vec![0, 14, 100, 1000]),
        is_forward: bool,
    ) {
        let discipline = Discipline::Asynchronous { versions, banks: 2 };
        let array = PeArray { rows, columns, network_bound: false, ..PeArray::default() };
        let model = RowArray {
            array,
            hit_cycles: hit_cycles.parse().unwrap(),
            dealing: if is_dynamic { DealingRule::Dynamic } else { DealingRule::Static },
            results_per_cycle,
            signing: match macs_per_cycle {
                0 => SigningUnit::Free,
                macs_per_cycle => SigningUnit::Dedicated { macs_per_cycle },
            },
            ..array_of(discipline)
        };
        let pass = if is_forward { Pass::Forward } else { Pass::WeightGrad };
        let product = product(model, Geometry::Conv2d(conv()), pass);
        let values = values();
        let signature = |vector: usize| (vector as u64 ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) % distinct;
        let (view, outcomes) = look_up(&values, channels, signature);
        let found = deal_and_time(&product, &view, &outcomes);
        prop_assert_eq!(found, simulate(&product, &outcomes, 11, &list_channels(&view)));
    }

    /// Without HITs and with free signatures, vectors of any number of channels take the baseline's time.
    #[test]
    fn channels_of_a_vector_share_the_array_as_in_the_baseline(
        channels in 1u32..8, rows in 3u64..15, columns in 1u64..16, is_dynamic: bool, versions in 1u64..5,
    ) {
        let array = PeArray { rows, columns, network_bound: false, ..PeArray::default() };
        let model = RowArray {
            array,
            hit_cycles: HitCycles::Column,
            dealing: if is_dynamic { DealingRule::Dynamic } else { DealingRule::Static },
            results_per_cycle: 1,
            signing: SigningUnit::Free,
            ..array_of(Discipline::Asynchronous { versions, banks: 2 })
        };
        let product = product(model, Geometry::Conv2d(conv()), Pass::Forward);
        let values = values();
        let (view, outcomes) = look_up(&values, channels, |vector| vector as u64);
        let computed = DealtCycles { compute: product.mapping().baseline().compute, ..DealtCycles::default() };
        prop_assert_eq!(deal_and_time(&product, &view, &outcomes), computed);
    }
}

/// Rows that each have a set are not dealt anew, and still share diagonals of the ifmap.
#[test]
fn dynamic_dealing_changes_nothing_with_one_row_per_set() {
    let array = PeArray { rows: 3, columns: 13, network_bound: false, ..PeArray::default() };
    let fixed = RowArray {
        array,
        hit_cycles: "0".parse().unwrap(),
        ..array_of(Discipline::Asynchronous { versions: 2, banks: 2 })
    };
    let dynamic = RowArray { dealing: DealingRule::Dynamic, ..fixed };
    let values = values();
    let (view, outcomes) = look_up(&values, 1, |vector| vector as u64 % 50);
    let [fixed, dynamic] = [fixed, dynamic].map(|model| product(model, Geometry::Conv2d(conv()), Pass::Forward));
    assert_eq!(fixed.mapping().strips(), 1);
    assert_eq!(deal_and_time(&fixed, &view, &outcomes), deal_and_time(&dynamic, &view, &outcomes));
    assert_eq!(dynamic.dealt_mapping(), fixed.mapping);
}

/// Two strips of 7 rows: dealt dynamically, each row reads 3 rows of the ifmap.
#[test]
fn rows_that_are_dealt_dynamically_share_no_diagonals() {
    let array = PeArray { rows: 3, columns: 7, network_bound: false, ..PeArray::default() };
    let model = RowArray { array, ..array_of(Discipline::Synchronous) };
    let dynamic = product(RowArray { dealing: DealingRule::Dynamic, ..model }, Geometry::Conv2d(conv()), Pass::Forward);
    assert_eq!(dynamic.mapping().choice().strip, 7);
    let (shared, own) = (dynamic.mapping().ifmap_loads(), dynamic.dealt_mapping().ifmap_loads());
    assert_eq!(shared * 21, own * 9);
}

#[test]
fn hits_below_what_a_column_needs_are_a_bound() {
    let model = array_of(Discipline::Synchronous);
    let is_bound = |hit_cycles: &str| {
        let model = RowArray { hit_cycles: hit_cycles.parse().unwrap(), ..model };
        product(model, Geometry::Conv2d(conv()), Pass::Forward).is_hit_a_bound()
    };
    assert_eq!(["1", "1/3", "column", "0.33", "0"].map(is_bound), [false, false, false, true, true]);
    let peak = |hit_cycles: &str, results_per_cycle| {
        let model = RowArray { hit_cycles: hit_cycles.parse().unwrap(), results_per_cycle, ..model };
        product(model, Geometry::Conv2d(conv()), Pass::Forward).peak_results()
    };
    let mapping = product(model, Geometry::Conv2d(conv()), Pass::Forward);
    let pes = mapping.mapping().active_pes() as f64;
    assert_eq!([peak("1", 0), peak("column", 0)], [Some(pes / 3.0), Some(pes)]);
    assert_eq!([peak("column", 40), peak("0", 40), peak("0", 0)], [Some(40.0), Some(40.0), None]);
}
