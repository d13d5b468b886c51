//! What reuse changes, and what it does not.

use super::*;
use mercury_trace::geometry::{Conv2d, Geometry};
use proptest::prelude::*;

fn products(m: u64, k: u64, n: u64, count: u64) -> [(Pass, Gemm); 2] {
    [(Pass::Forward, Gemm { m, k, n, count }), (Pass::WeightGrad, Gemm { m: k, k: m, n, count })]
}

fn memory() -> impl Strategy<Value = Memory> {
    (1u32..60, 0.1f64..40.0, any::<bool>()).prop_map(|(buffer_kb, bandwidth, double_buffered)| Memory {
        buffer_kb,
        dram_bytes_per_cycle: bandwidth,
        double_buffered,
        word_bytes: 2,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Without hits and signatures, the baseline and the look-ups.
    #[test]
    fn without_reuse_look_ups_are_added(
        m in 1u64..400, k in 1u64..150, n in 1u64..150, count in 1u64..5, memory in memory(),
    ) {
        let mut model = model(memory);
        model.signatures.width = 0;
        for (name, (pass, gemm)) in ALL.into_iter().flat_map(|name| products(m, k, n, count).map(|p| (name, p))) {
            let product = ProductWords::from_gemm(pass, gemm);
            let baseline = model.dense_folds(timing(name), &product, timing(name).product(&ARRAY, gemm));
            let streams = vec![stream(k, [0, m, 0]); count as usize];
            let work = Work { pass, gemm, streams, streams_in_all: count, bits: 0, scopes: 1 };
            let mut found = model.reused_folds(timing(name), &product, &work);
            let written = if pass == Pass::Forward { m * n } else { 0 };
            prop_assert_eq!(found.accesses.mcache, count * (2 * m + written));
            prop_assert_eq!(found.accesses.buffer.similarity.writes, count * (2 * m).div_ceil(16));
            found.accesses.mcache = 0;
            found.accesses.buffer.similarity = Words::default();
            prop_assert_eq!(found, baseline, "{:?} {}", name, pass);
        }
    }

    /// More hits mean no more of anything but copies, additions and MCACHE. (Not so at the buffer:
    /// where less comes from DRAM if the buffer keeps something else, the array may read more of it.)
    #[test]
    fn hits_save_traffic(m in 2u64..400, k in 1u64..150, n in 1u64..150, hit in 0u64..100, memory in memory()) {
        let model = model(memory);
        let hit = m * hit / 100;
        for (name, (pass, gemm)) in ALL.into_iter().flat_map(|name| products(m, k, n, 1).map(|p| (name, p))) {
            let product = ProductWords::from_gemm(pass, gemm);
            let of = |hit: u64| {
                let streams = vec![stream(k, [hit, m - hit, 0])];
                let work = Work { pass, gemm, streams, streams_in_all: 1, bits: 20, scopes: 1 };
                model.reused_folds(timing(name), &product, &work).accesses
            };
            let (none, some) = (of(0), of(hit));
            prop_assert!(some.macs + hit * k * n == none.macs);
            prop_assert!(some.dram.total() <= none.dram.total());
            prop_assert!(some.adds <= none.adds + hit * n);
        }
    }

    /// Captured streams stand for the others.
    #[test]
    fn traffic_scales_with_streams(m in 1u64..300, hit in 0u64..=100, n in 1u64..100, memory in memory()) {
        let model = model(Memory { dram_bytes_per_cycle: 0.0, ..memory });
        let hit = m * hit / 100;
        let gemm = Gemm { m, k: 9 * 8, n, count: 1 };
        let name = DataflowName::WeightStationary;
        let product = ProductWords::from_gemm(Pass::Forward, gemm);
        let of = |captured: usize| {
            let streams = vec![stream(9, [hit, m - hit, 0]); captured];
            let work = Work { pass: Pass::Forward, gemm, streams, streams_in_all: 8, bits: 20, scopes: 1 };
            model.reused_folds(timing(name), &product, &work)
        };
        prop_assert_eq!(of(2), of(8));
    }
}

#[test]
fn a_convolution_reads_its_planes_and_not_their_im2col() {
    let conv = Conv2d {
        in_channels: 4,
        out_channels: 28,
        input: [10, 10],
        kernel: [3, 3],
        stride: [1; 2],
        padding: [1; 2],
        dilation: [1; 2],
        groups: 1,
    };
    let name = DataflowName::OutputStationary;
    let geometry = Geometry::Conv2d(conv);
    let product = ProductWords::new(&LayerProduct { geometry, pass: Pass::Forward, number: 0, batch: 2, bits: 20 });
    assert_eq!(product.ifmap_words, 2 * 4 * 12 * 12);
    let model = model(Memory::default());
    let compute = timing(name).product(&ARRAY, product.gemm);
    let accesses = model.dense_folds(timing(name), &product, compute).accesses;
    assert_eq!(accesses.dram.ifmap.reads, 2 * 4 * 144);
    assert_eq!(accesses.buffer.ifmap.reads, 2 * 200 * 36);
}
