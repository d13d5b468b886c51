//! Row stationary.

use super::*;
use crate::timing::row_stationary::{DealingRule, Discipline, HitCycles};
use crate::timing::rows::{RowArray, RowProduct};
use crate::timing::tests::conv;
use crate::timing::{MercuryCycles, ProductModel, SigningUnit};
use mercury_trace::geometry::Geometry;
use proptest::prelude::*;

fn array() -> RowArray {
    RowArray {
        array: PeArray::default(),
        hit_cycles: HitCycles::ONE,
        dealing: DealingRule::Static,
        results_per_cycle: 0,
        signing: SigningUnit::Array,
        discipline: Discipline::Synchronous,
        per_sample: false,
    }
}

fn product(geometry: &Geometry, pass: Pass, batch: u32) -> (RowProduct, ProductWords) {
    let product = LayerProduct { geometry: *geometry, pass, number: 0, batch, bits: 20 };
    (RowProduct::new(array(), &product), ProductWords::new(&product))
}

/// KB to and from DRAM of AlexNet's convolutions, batch 4, as Eyeriss ran them.
#[test]
fn alexnet_on_eyeriss() {
    let layers = [
        conv(3, 96, 227, 11, 4, 0, 1),
        conv(96, 256, 27, 5, 1, 2, 2),
        conv(256, 384, 13, 3, 1, 1, 1),
        conv(384, 384, 13, 3, 1, 1, 2),
        conv(384, 256, 13, 3, 1, 1, 2),
    ];
    let model = model(Memory::default());
    let mut kilobytes = Vec::new();
    for layer in layers {
        let (product, _) = product(&Geometry::Conv2d(layer), Pass::Forward, 4);
        let Traffic { accesses, stall } = product.baseline_traffic(&model);
        // At 3.2 GB/s computing hides it all.
        assert_eq!(stall, 0);
        kilobytes.push(accesses.dram.total() * 2 / 1000);
        let energy = accesses.energy(&Energy::default()) / accesses.macs as f64;
        assert!((6.0..7.0).contains(&energy), "{energy} of a multiply-accumulate for each");
    }
    assert_eq!(kilobytes, [6078, 6045, 5053, 3919, 2613]);
    // The docs compare the sum with Eyeriss's 15.4 MB of compressed words.
    assert_eq!(kilobytes.iter().sum::<u64>(), 23_708);
}

/// By hand: 2 channels of 5 x 5, 3 filters of 3 x 3, one sample.
#[test]
fn a_small_convolution_by_hand() {
    let geometry = Geometry::Conv2d(conv(2, 3, 5, 3, 1, 0, 1));
    let (product, words) = product(&geometry, Pass::Forward, 1);
    let Traffic { accesses, stall } = product.baseline_traffic(&model(Memory::default()));
    assert_eq!(accesses.macs, 9 * 9 * 2 * 3);
    assert_eq!(accesses.register, 4 * accesses.macs);
    assert_eq!(accesses.neighbour, 9 * 2 * 3 * 2);
    // Planes and filters once, and the 27 outputs: 131 words, 17 cycles that computing hides.
    assert_eq!((accesses.dram.ifmap.reads, accesses.dram.filter.reads, accesses.dram.ofmap.writes), (50, 54, 27));
    assert_eq!(stall, 0);
    let slow = Memory { dram_bytes_per_cycle: 0.5, ..Memory::default() };
    assert_eq!(product.baseline_traffic(&model(slow)).stall, 131 * 4 - product.baseline());
    let work = Work {
        pass: Pass::Forward,
        gemm: words.gemm,
        streams: vec![stream(9, [3, 6, 0]), stream(9, [9, 0, 0])],
        streams_in_all: 2,
        bits: 20,
        scopes: 1,
    };
    let found = product.traffic(&model(Memory::default()), &work, MercuryCycles::default()).accesses;
    assert_eq!(found.macs, 6 * 9 * 3 + 18 * 9 * 20);
    assert_eq!(found.adds, 12 * 3);
    assert_eq!(found.neighbour, 6 * 3 * 2 + 18 * 20 * 2);
    assert_eq!(found.dram.filter.reads, 54 + 180);
    assert_eq!(found.dram.similarity.writes, 2 * 18);
    assert_eq!(found.mcache, 18 + 6 + 6 * 3 + 12 * 3);
    assert_eq!(found.buffer.ofmap, accesses.buffer.ofmap);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Without hits and signatures, the baseline and the look-ups.
    #[test]
    fn without_reuse_look_ups_are_added(
        channels in 1u32..6, filters in 1u32..40, input in 3u32..20, kernel in 1u32..4, batch in 1u32..4,
    ) {
        let geometry = Geometry::Conv2d(conv(channels, filters, input, kernel, 1, 0, 1));
        let mut model = model(Memory::default());
        model.signatures.width = 0;
        for pass in [Pass::Forward, Pass::WeightGrad] {
            let (product, words) = product(&geometry, pass, batch);
            let baseline = product.baseline_traffic(&model);
            let vectors = if pass == Pass::Forward { words.gemm.m } else { words.gemm.k };
            let streams = vec![stream(u64::from(kernel * kernel), [0, vectors, 0]); channels as usize];
            let work = Work { pass, gemm: words.gemm, streams, streams_in_all: u64::from(channels), bits: 0, scopes: 1 };
            let cycles = MercuryCycles { compute: product.baseline(), ..MercuryCycles::default() };
            let mut found = product.traffic(&model, &work, cycles);
            found.accesses.mcache = 0;
            found.accesses.buffer.similarity = Words::default();
            prop_assert_eq!(found, baseline);
            let memory = Memory { dram_bytes_per_cycle: 0.0, ..Memory::default() };
            let unlimited = MemoryModel { memory, ..model.clone() };
            prop_assert_eq!(product.traffic(&unlimited, &work, MercuryCycles::default()).stall, 0);
        }
    }
}
