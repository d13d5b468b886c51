//! Folds in closed form against loops over them, and against SCALE-Sim.

use super::*;
use crate::timing::memory::folds::Psums;
use proptest::prelude::*;

fn folds(name: DataflowName, memory: &Memory, size: [u64; 3], carried: bool) -> Folds {
    let [m, k, n] = size;
    let carried = if carried && name != DataflowName::OutputStationary { m * n } else { 0 };
    let operands = Operands { ifmap: [m * k; 2], filter: [k * n; 2], outputs: m * n, carried, merged: 1 };
    Folds::new(timing(name).stationary(), &ARRAY, memory, size, operands, 1)
}

fn small() -> impl Strategy<Value = Memory> {
    (1u32..100, prop_oneof![Just(0.0), 0.01f64..40.0], any::<bool>()).prop_map(|(buffer_kb, bandwidth, double)| {
        Memory { buffer_kb, dram_bytes_per_cycle: bandwidth, double_buffered: double, word_bytes: 2 }
    })
}

/// The words of every fold, from the sizes of its tiles alone.
fn looped(name: DataflowName, folds: &Folds, [m, k, n]: [u64; 3], carried: bool) -> Vec<[u64; 2]> {
    let tiles = |size: u64, tile: u64| -> Vec<u64> {
        (0..size.div_ceil(tile)).map(|fold| tile.min(size - fold * tile)).collect()
    };
    let (outer, inner) = match name {
        DataflowName::WeightStationary => (tiles(n, ARRAY.columns), tiles(k, ARRAY.rows)),
        DataflowName::OutputStationary => (tiles(n, ARRAY.columns), tiles(m, ARRAY.rows)),
        _ => (tiles(m, ARRAY.columns), tiles(k, ARRAY.rows)),
    };
    let kept = folds.kept();
    let spilled = kept.psums == Psums::Spilled;
    let mut words = Vec::new();
    for (o, &wide) in outer.iter().enumerate() {
        for (i, &high) in inner.iter().enumerate() {
            let (mut load, mut store) = (0, 0);
            match name {
                DataflowName::WeightStationary => {
                    load += high * wide;
                    load += if o == 0 || !kept.ifmap { m * high } else { 0 };
                }
                DataflowName::OutputStationary => {
                    load += if i == 0 || !kept.filter { k * wide } else { 0 };
                    load += if o == 0 || !kept.ifmap { high * k } else { 0 };
                    store += high * wide;
                }
                _ => {
                    load += high * wide;
                    load += if o == 0 || !kept.filter { high * n } else { 0 };
                }
            }
            if name != DataflowName::OutputStationary {
                let psums = if name == DataflowName::WeightStationary { m * wide } else { wide * n };
                let last = i + 1 == inner.len();
                store += match kept.psums {
                    Psums::Tiled(_) => spread(m * n, [o, i], [outer.as_slice(), &inner]),
                    _ if last || spilled => psums,
                    _ => 0,
                };
                load += if spilled && (i > 0 || carried) { psums } else { 0 };
            }
            words.push([load, store]);
        }
    }
    words
}

/// A fold's share of so many words: by the sizes of tiles, rounded down but for the last ones.
fn spread(words: u64, [o, i]: [usize; 2], [outer, inner]: [&[u64]; 2]) -> u64 {
    let share = |words: u64, tiles: &[u64], tile: usize| {
        let full = words * tiles[0] / tiles.iter().sum::<u64>();
        if tile + 1 < tiles.len() { full } else { words - full * (tiles.len() as u64 - 1) }
    };
    share(share(words, inner, i), outer, o)
}

/// Time of folds by the module's words.
fn time(memory: &Memory, cycles: u64, words: &[[u64; 2]]) -> u64 {
    if !memory.double_buffered {
        return words.iter().map(|&[load, store]| memory.transfer(load) + cycles + memory.transfer(store)).sum();
    }
    let mut time = memory.transfer(words[0][0]) + memory.transfer(words[words.len() - 1][1]);
    for fold in 0..words.len() {
        let next = words.get(fold + 1).map_or(0, |words| words[0]);
        let before = fold.checked_sub(1).map_or(0, |fold| words[fold][1]);
        time += cycles.max(memory.transfer(next + before));
    }
    time
}

/// Ifmap, filter and ofmap accesses of the buffer by the formulas.
fn formulas(name: DataflowName, array: &Array, [m, k, n]: [u64; 3]) -> [u64; 3] {
    let (r, c) = (array.rows, array.columns);
    match name {
        DataflowName::WeightStationary => [n.div_ceil(c) * m * k, k * n, k.div_ceil(r) * m * n],
        DataflowName::OutputStationary => [n.div_ceil(c) * m * k, m.div_ceil(r) * k * n, m * n],
        _ => [m * k, m.div_ceil(c) * k * n, k.div_ceil(r) * m * n],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn closed_form_is_the_loop(
        m in 1u64..3000, k in 1u64..200, n in 1u64..200, count in 1u64..6, cycles in 0u64..2000,
        memory in small(), carried: bool,
    ) {
        for name in ALL {
            let mut folds = folds(name, &memory, [m, k, n], carried);
            folds.cycles = cycles;
            let [outer, inner] = folds.count();
            let words: Vec<_> = (0..outer * inner).map(|fold| folds.fold(fold / inner, fold % inner)).collect();
            let carries = carried && name != DataflowName::OutputStationary;
            prop_assert_eq!(&words, &looped(name, &folds, [m, k, n], carries));
            // Traffic is the sum of the folds'.
            let dram = folds.dram();
            let loads: u64 = words.iter().map(|words| words[0]).sum();
            let stores: u64 = words.iter().map(|words| words[1]).sum();
            prop_assert_eq!(dram.ifmap.reads + dram.filter.reads + dram.psum_reads, loads);
            prop_assert_eq!(dram.ofmap.writes, stores);
            // Time, of one product and of several.
            let mut roofline = Roofline::new(&memory);
            roofline.repeat(count, |roofline| roofline.product(&folds));
            let all: Vec<_> = (0..count).flat_map(|_| words.iter().copied()).collect();
            prop_assert_eq!(roofline.stall(), time(&memory, cycles, &all) - cycles * all.len() as u64);
        }
    }

    #[test]
    fn shares_of_folds_add_up(
        m in 1u64..3000, k in 1u64..200, n in 1u64..200, memory in small(),
        ifmap in [0u64..9999, 0u64..9999], filter in [0u64..9999, 0u64..9999], outputs in 0u64..9999,
    ) {
        for name in ALL {
            let operands = Operands { ifmap, filter, outputs, carried: 0, merged: 1 };
            let folds = Folds::new(timing(name).stationary(), &ARRAY, &memory, [m, k, n], operands, 1);
            let [outer, inner] = folds.count();
            let words: Vec<_> = (0..outer * inner).map(|fold| folds.fold(fold / inner, fold % inner)).collect();
            let dram = folds.dram();
            let loads: u64 = words.iter().map(|words| words[0]).sum();
            prop_assert_eq!(dram.ifmap.reads + dram.filter.reads + dram.psum_reads, loads);
            prop_assert_eq!(dram.ofmap.writes, words.iter().map(|w| w[1]).sum::<u64>());
            let mut roofline = Roofline::new(&memory);
            roofline.product(&folds);
            prop_assert_eq!(roofline.stall(), time(&memory, 1, &words) - words.len() as u64);
        }
    }

    #[test]
    fn what_is_kept_fits(m in 1u64..3000, k in 1u64..500, n in 1u64..500, memory in small()) {
        for name in ALL {
            let folds = folds(name, &memory, [m, k, n], false);
            let all_again = Memory { buffer_kb: 1, word_bytes: 64, ..memory.clone() };
            let least = self::folds(name, &all_again, [m, k, n], false);
            prop_assert!(folds.dram().total() <= least.dram().total());
            let unlimited = Memory { buffer_kb: 1 << 20, ..memory.clone() };
            let once = self::folds(name, &unlimited, [m, k, n], false);
            prop_assert_eq!(once.dram().total(), m * k + k * n + m * n);
            prop_assert!(folds.dram().total() >= once.dram().total());
        }
    }

    #[test]
    fn accesses_are_the_formulas(m in 1u64..2000, k in 1u64..300, n in 1u64..300) {
        let memory = Memory { buffer_kb: 1 << 12, ..Memory::default() };
        for name in ALL {
            let found = folds(name, &memory, [m, k, n], false).accesses();
            let buffer = found.buffer;
            prop_assert_eq!([buffer.ifmap.reads, buffer.filter.reads, buffer.ofmap.writes],
                formulas(name, &ARRAY, [m, k, n]));
            prop_assert_eq!(buffer.psum_reads, buffer.ofmap.writes - m * n);
            prop_assert_eq!(found.macs, m * k * n);
        }
    }

    #[test]
    fn unlimited_bandwidth_never_stalls(m in 1u64..2000, k in 1u64..300, n in 1u64..300, hit in 0u64..=100) {
        let memory = Memory { dram_bytes_per_cycle: 0.0, buffer_kb: 4, ..Memory::default() };
        let hit = m * hit / 100;
        for (name, double_buffered) in ALL.into_iter().flat_map(|name| [(name, false), (name, true)]) {
            let model = model(Memory { double_buffered, ..memory.clone() });
            let gemm = Gemm { m, k, n, count: 1 };
            let product = ProductWords::from_gemm(Pass::Forward, gemm);
            let compute = timing(name).product(&ARRAY, gemm);
            prop_assert_eq!(model.dense_folds(timing(name), &product, compute).stall, 0);
            let streams = vec![stream(k, [hit, m - hit, 0])];
            let work = Work { pass: Pass::Forward, gemm, streams, streams_in_all: 1, bits: 20, scopes: 1 };
            prop_assert_eq!(model.reused_folds(timing(name), &product, &work).stall, 0);
        }
    }
}

#[test]
fn tall_products_run_in_tiles() {
    // Partial sums of 14 filters are 1.4 million words, those of 576 x 14 filters stay.
    let found = folds(DataflowName::WeightStationary, &Memory::default(), [100_352, 576, 128], false);
    // 27648 words hold 1974 rows of 14, 576 of which are filters.
    assert_eq!(found.kept().psums, Psums::Tiled(100_352_u64.div_ceil(27_648 / 14 - 576)));
    assert_eq!(found.dram().psum_reads, 0);
    assert_eq!(found.accesses().buffer.filter.reads, 72 * 576 * 128);
}

/// The SRAM accesses of `reference/accesses.csv`, written by `reference/scalesim.py --accesses`. Output stationary,
/// SCALE-Sim 3.0.0 counts R + C ofmap writes too many for each fold (it adds the sizes of the array
/// once more, where its two other dataflows do not), which are taken off here.
#[test]
fn equals_scalesim() {
    let reference = include_str!("../../../../tests/reference/accesses.csv");
    let memory = Memory { buffer_kb: 3 << 10, ..Memory::default() };
    let mut lines = 0;
    for line in reference.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let name = match fields[0] {
            "ws" => DataflowName::WeightStationary,
            "os" => DataflowName::OutputStationary,
            _ => DataflowName::InputStationary,
        };
        let number = |index: usize| fields[index].parse::<u64>().unwrap();
        let array = Array { rows: number(1), columns: number(2), ..ARRAY };
        let [m, k, n] = [number(4), number(5), number(6)];
        let model = MemoryModel { array, ..model(memory.clone()) };
        let gemm = Gemm { m, k, n, count: 1 };
        let compute = timing(name).product(&array, gemm);
        let buffer =
            model.dense_folds(timing(name), &ProductWords::from_gemm(Pass::Forward, gemm), compute).accesses.buffer;
        let found = [buffer.ifmap.reads, buffer.filter.reads, buffer.ofmap.writes];
        let folds = m.div_ceil(array.rows) * n.div_ceil(array.columns);
        let too_many = if name == DataflowName::OutputStationary { folds * (array.rows + array.columns) } else { 0 };
        assert_eq!(found, [number(7), number(8), number(9) - too_many], "{line}");
        lines += 1;
    }
    assert_eq!(lines, 54);
}
