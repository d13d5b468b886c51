use super::*;
use mercury_reuse::config::Granularity;
use mercury_trace::geometry::Conv2d;
use proptest::prelude::*;

const ARRAY: Array = Array { rows: 12, columns: 14, accumulate_lanes: 14, read_ports: 1, signing: SigningUnit::Array };

const ALL: [DataflowName; 3] =
    [DataflowName::OutputStationary, DataflowName::WeightStationary, DataflowName::InputStationary];

fn work(pass: Pass, gemm: Gemm, length: u64, streams: &[(u64, u64)]) -> Work {
    let stream = |&(hit, mau): &(u64, u64)| StreamWork { length, counts: Counts { hit, mau, mnu: 0 } };
    let streams: Vec<_> = streams.iter().map(stream).collect();
    let streams_in_all = streams.len() as u64;
    Work { pass, gemm, streams, streams_in_all, bits: 20, scopes: 1 }
}

/// A convolution with square inputs and kernels.
pub fn conv(channels: u32, filters: u32, input: u32, kernel: u32, stride: u32, padding: u32, groups: u32) -> Conv2d {
    Conv2d {
        in_channels: channels,
        out_channels: filters,
        input: [input; 2],
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [1; 2],
        groups,
    }
}

#[test]
fn dense_products_take_their_folds() {
    let cycles = |name| folded_dataflow(name).unwrap().dense(&ARRAY, 100, 30, 50);
    // os: 9 x 4 folds of 12 + 14 + 30 - 2; ws: 3 x 4 of 24 + 14 + 100 - 2; is: 3 x 8 of 24 + 14 + 50 - 2.
    assert_eq!(ALL.map(cycles), [36 * 54, 12 * 136, 24 * 86]);
}

#[test]
fn weight_stationary_by_hand() {
    // Two channels of 3 x 3 patches, 20 filters, 100 vectors each: 60 and 100 of them hit.
    let gemm = Gemm { m: 100, k: 18, n: 20, count: 1 };
    let work = work(Pass::Forward, gemm, 9, &[(60, 40), (100, 0)]);
    let model = folded_dataflow(DataflowName::WeightStationary).unwrap();
    assert_eq!(model.product(&ARRAY, gemm), 2 * 2 * (36 + 100));
    let cycles = model.mercury(&ARRAY, &work);
    // 20 bits are two folds of columns, each with all vectors, for each channel.
    assert_eq!(cycles.signature, 2 * 2 * (36 + 100));
    // First channel: two folds of 36 + 40 hide the 60 copies each. Second: nothing to compute, so
    // its 2 x 100 copies are waited for.
    assert_eq!(cycles.compute, 2 * 76);
    assert_eq!(cycles.stall, 2 * 100);
}

#[test]
fn output_stationary_weight_gradient_by_hand() {
    let gemm = Gemm { m: 18, k: 100, n: 20, count: 1 };
    let work = work(Pass::WeightGrad, gemm, 18, &[(95, 5)]);
    let cycles = folded_dataflow(DataflowName::OutputStationary).unwrap().mercury(&ARRAY, &work);
    // No signatures; 2 x 2 folds of 12 + 14 + 5 - 2; 95 x 20 additions by 14 lanes are 136 cycles.
    assert_eq!(cycles, MercuryCycles { signature: 0, compute: 4 * 29, stall: 136 - 116, extra: 0 });
}

#[test]
fn captured_channels_stand_for_the_others() {
    let gemm = Gemm { m: 100, k: 36, n: 20, count: 1 };
    let mut sampled = work(Pass::Forward, gemm, 9, &[(60, 40), (60, 40)]);
    sampled.streams_in_all = 4;
    let full = work(Pass::Forward, gemm, 9, &[(60, 40); 4]);
    let model = folded_dataflow(DataflowName::WeightStationary).unwrap();
    assert_eq!(model.mercury(&ARRAY, &sampled), model.mercury(&ARRAY, &full));
}

#[test]
fn summing_dataflows_refuse_part_vectors() {
    for name in [DataflowName::OutputStationary, DataflowName::InputStationary] {
        assert!(folded_dataflow(name).unwrap().check(Granularity::Patch).is_ok());
        assert!(
            folded_dataflow(name).unwrap().check(Granularity::CHANNEL_PATCH).unwrap_err().contains("set it to patch")
        );
        assert!(folded_dataflow(name).unwrap().check(Granularity::SubVector(8)).is_err());
    }
}

proptest! {
    /// With whole vectors and no hit, products take what the baseline takes; every hit can only
    /// shorten computing; stalls never exceed the copies.
    #[test]
    fn hits_shorten_computing(m in 1u64..400, k in 1u64..100, n in 1u64..100, hit_share in 0u64..=100) {
        let hit = m * hit_share / 100;
        for name in ALL {
            let model = folded_dataflow(name).unwrap();
            for (pass, gemm) in [
                (Pass::Forward, Gemm { m, k, n, count: 1 }),
                (Pass::WeightGrad, Gemm { m: k, k: m, n, count: 1 }),
            ] {
                let none = work(pass, gemm, k, &[(0, m)]);
                let some = work(pass, gemm, k, &[(hit, m - hit)]);
                let baseline = model.product(&ARRAY, gemm);
                let (without, with) = (model.mercury(&ARRAY, &none), model.mercury(&ARRAY, &some));
                prop_assert_eq!((without.compute, without.stall), (baseline, 0));
                prop_assert!(with.compute <= baseline);
                prop_assert!(with.stall <= hit * n.div_ceil(ARRAY.columns) + hit * n);
                prop_assert_eq!(with.signature, without.signature);
            }
        }
    }
}
