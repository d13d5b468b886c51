//! Tests: by hand, against loops over folds, against SCALE-Sim.

mod folds;
mod reuse;
mod rows;

use super::*;
use crate::timing::SigningUnit;
use crate::timing::row_stationary::PeArray;
use crate::timing::{DataflowName, FoldedDataflow, StreamWork, Work, folded_dataflow};
use mercury_reuse::Counts;
use mercury_trace::geometry::{Geometry, Linear};

const ARRAY: Array = Array { rows: 12, columns: 14, accumulate_lanes: 14, read_ports: 1, signing: SigningUnit::Array };

const ALL: [DataflowName; 3] =
    [DataflowName::OutputStationary, DataflowName::WeightStationary, DataflowName::InputStationary];

fn model(memory: Memory) -> MemoryModel {
    MemoryModel { memory, array: ARRAY, signatures: Signatures { width: 20, sparse: false, kept: true } }
}

fn timing(name: DataflowName) -> &'static dyn FoldedDataflow {
    folded_dataflow(name).unwrap()
}

fn stream(length: u64, [hit, mau, mnu]: [u64; 3]) -> StreamWork {
    StreamWork { length, counts: Counts { hit, mau, mnu } }
}

#[test]
fn wrong_values_are_named() {
    assert_eq!(Memory::default().validate(), Ok(()));
    assert_eq!(Energy::default().validate(), Ok(()));
    let memory = |change: fn(&mut Memory)| {
        let mut memory = Memory::default();
        change(&mut memory);
        memory.validate().unwrap_err()
    };
    assert!(memory(|m| m.word_bytes = 0).starts_with("memory.word_bytes: is 0"));
    assert!(memory(|m| m.buffer_kb = 0).starts_with("memory.buffer_kb: is 0"));
    for wrong in [-1.0, f64::NAN, f64::INFINITY, 1e-9] {
        let error = Memory { dram_bytes_per_cycle: wrong, ..Memory::default() }.validate().unwrap_err();
        assert!(error.starts_with("memory.dram_bytes_per_cycle"), "{error}");
    }
    assert!(Energy { dram: -1.0, ..Energy::default() }.validate().unwrap_err().starts_with("energy.dram: is -1"));
    assert!(Energy { mcache: Some(f64::NAN), ..Energy::default() }.validate().unwrap_err().contains("energy.mcache"));
}

#[test]
fn energy_by_hand() {
    let mut accesses = Accesses { macs: 10, adds: 3, register: 40, neighbour: 20, mcache: 5, ..Accesses::default() };
    accesses.buffer.ifmap.reads = 4;
    accesses.buffer.psum_reads = 2;
    accesses.dram.ofmap.writes = 1;
    let table = Energy::default();
    assert_eq!(accesses.energy(&table).to_bits(), (10.0 + 3.0 + 40.0 + 40.0 + 36.0 + 200.0 + 30.0f64).to_bits());
    let table = Energy { mcache: Some(2.0), ..table };
    assert_eq!(accesses.energy(&table).to_bits(), 339.0f64.to_bits());
}

#[test]
fn transfers_round_up() {
    let memory = Memory::default();
    assert_eq!([0, 1, 8, 9].map(|words| memory.transfer(words)), [0, 1, 1, 2]);
    let slow = Memory { dram_bytes_per_cycle: 0.1, ..Memory::default() };
    assert_eq!(slow.transfer(3), 60);
    let unlimited = Memory { dram_bytes_per_cycle: 0.0, ..Memory::default() };
    assert_eq!(unlimited.transfer(u64::MAX), 0);
    assert_eq!(memory.kept_words(), 108 * 1024 / 4);
}

/// By hand: 2 x 2 folds of 136 cycles, all operands of which the buffer holds, 8 words a cycle.
#[test]
fn weight_stationary_by_hand() {
    let gemm = Gemm { m: 100, k: 18, n: 20, count: 1 };
    let name = DataflowName::WeightStationary;
    let product = ProductWords::from_gemm(Pass::Forward, gemm);
    let found = model(Memory::default()).dense_folds(timing(name), &product, 4 * 136);
    let Accesses { macs, adds, buffer, dram, .. } = found.accesses;
    assert_eq!((macs, adds), (36_000, 2_000));
    assert_eq!(buffer.ifmap, Words { reads: 2 * 1800, writes: 1800 });
    assert_eq!(buffer.filter, Words { reads: 360, writes: 360 });
    assert_eq!(buffer.ofmap, Words { reads: 2000, writes: 2 * 2000 });
    assert_eq!(buffer.psum_reads, 2000);
    assert_eq!((dram.ifmap.reads, dram.filter.reads, dram.ofmap.writes, dram.psum_reads), (1800, 360, 2000, 0));
    // 1368 words first; before the last fold 36 words and the results of the first 14 filters are 44
    // cycles longer than its 136; 600 words last.
    assert_eq!(found.stall, 171 + 44 + 75);
    // In turn: 1368, 684, 72 and 36 words in, 1400 and 600 out.
    let in_turn = Memory { double_buffered: false, ..Memory::default() };
    assert_eq!(model(in_turn).dense_folds(timing(name), &product, 4 * 136).stall, 171 + 86 + 9 + 5 + 175 + 75);
}

/// By hand, output stationary: 100 vectors of which 60 hit and 30 are inserted.
#[test]
fn reuse_by_hand() {
    let gemm = Gemm { m: 100, k: 18, n: 20, count: 1 };
    let name = DataflowName::OutputStationary;
    let product = ProductWords::from_gemm(Pass::Forward, gemm);
    let work = Work {
        pass: Pass::Forward,
        gemm,
        streams: vec![stream(18, [60, 30, 10])],
        streams_in_all: 1,
        bits: 20,
        scopes: 1,
    };
    let model = model(Memory::default());
    let Accesses { macs, adds, buffer, dram, mcache, .. } = model.reused_folds(timing(name), &product, &work).accesses;
    assert_eq!((macs, adds), (100 * 18 * 20 + 40 * 18 * 20, 0));
    // Bits and filters are two folds of columns each; 100 vectors 9 of rows, 40 are 4.
    assert_eq!(buffer.ifmap, Words { reads: 2 * 1800 + 2 * 720, writes: 1800 });
    assert_eq!(buffer.filter, Words { reads: 9 * 360 + 4 * 360, writes: 360 + 360 });
    assert_eq!(buffer.ofmap, Words { reads: 2000, writes: 2000 });
    // Signatures of 3 bytes take 2 words, the Hitmap 13; it is read for each fold of filters.
    assert_eq!(buffer.similarity, Words { reads: 200 + 200 + 2 * 13, writes: 200 + 13 });
    assert_eq!((dram.ifmap.reads, dram.filter.reads, dram.ofmap.writes), (1800, 720, 2000));
    assert_eq!(dram.similarity, Words { reads: 0, writes: 200 });
    assert_eq!(mcache, 100 + 30 + 30 * 20 + 60 * 20);
    // The weight gradient of the same layer: 18 x 40 x 20, 60 x 20 additions.
    let gemm = Gemm { m: 18, k: 100, n: 20, count: 1 };
    let product = ProductWords::from_gemm(Pass::WeightGrad, gemm);
    let work = Work { pass: Pass::WeightGrad, gemm, ..work };
    let Accesses { macs, adds, buffer, dram, mcache, .. } = model.reused_folds(timing(name), &product, &work).accesses;
    assert_eq!((macs, adds, mcache), (18 * 40 * 20, 60 * 20, 130));
    assert_eq!((dram.ifmap.reads, dram.filter.reads, dram.ofmap.writes), (40 * 18, 2000, 360));
    assert_eq!(dram.similarity, Words { reads: 200, writes: 0 });
    // A HIT's gradients are read and joined to a sum that is read and written.
    assert_eq!(buffer.filter, Words { reads: 2 * 800 + 2 * 1200, writes: 2000 + 1200 });
}

/// Two channels add to the same results: the second's are read back, computed or copied.
#[test]
fn channels_merge_by_hand() {
    let gemm = Gemm { m: 100, k: 18, n: 14, count: 1 };
    let name = DataflowName::WeightStationary;
    let product = ProductWords::from_gemm(Pass::Forward, gemm);
    let streams = vec![stream(9, [60, 40, 0]), stream(9, [100, 0, 0])];
    let work = Work { pass: Pass::Forward, gemm, streams, streams_in_all: 2, bits: 14, scopes: 1 };
    let found = model(Memory::default()).reused_folds(timing(name), &product, &work);
    let Accesses { macs, adds, buffer, dram, .. } = found.accesses;
    assert_eq!(macs, 2 * 100 * 9 * 14 + 40 * 9 * 14);
    assert_eq!((adds, buffer.psum_reads), (1400, 1400));
    assert_eq!(buffer.ofmap, Words { reads: 1400, writes: 2 * 1400 });
    assert_eq!((dram.ifmap.reads, dram.ofmap.writes), (1800, 1400));
    // The projection once for both; the second channel's filters are not needed.
    assert_eq!(dram.filter.reads, 9 * 14 + 9 * 14);
}

#[test]
fn eyerisss_split_is_the_default() {
    let array = PeArray::default();
    assert_eq!(Memory::default().pe_array(array), array);
    let half = Memory { buffer_kb: 54, ..Memory::default() };
    assert_eq!(half.pe_array(array).buffer_words, array.buffer_words / 2);
}

/// 2^40 multiply-accumulates a sample and 2^20 samples are the most that a trace may hold.
#[test]
fn the_largest_layers_do_not_overflow() {
    for (rows, in_features, out_features) in
        [(1 << 16, 1 << 12, 1 << 12), (1, 1 << 20, 1 << 20), (1 << 20, 1 << 10, 1 << 10)]
    {
        let layer = Geometry::Linear(Linear { rows, in_features, out_features });
        layer.validate().unwrap();
        let model = model(Memory { dram_bytes_per_cycle: 1.0, ..Memory::default() });
        for (name, pass) in ALL.into_iter().flat_map(|name| Pass::ALL.map(|pass| (name, pass))) {
            let product =
                ProductWords::new(&LayerProduct { geometry: layer, pass, number: 0, batch: 1 << 20, bits: 20 });
            let gemm = product.gemm;
            let found = model.dense_folds(timing(name), &product, timing(name).product(&ARRAY, gemm));
            assert_eq!(found.accesses.macs, 1 << 60);
            assert!(found.accesses.dram.total() >= gemm.m * gemm.k + gemm.k * gemm.n + gemm.m * gemm.n);
            let (vectors, length) = if pass == Pass::WeightGrad { (gemm.k, gemm.m) } else { (gemm.m, gemm.k) };
            let streams = vec![stream(length, [vectors / 2, vectors / 2, 0])];
            let work = Work { pass, gemm, streams, streams_in_all: 1, bits: 20, scopes: 1 };
            let reused = model.reused_folds(timing(name), &product, &work);
            assert!(reused.accesses.energy(&Energy::default()) > 0.0);
        }
    }
}
