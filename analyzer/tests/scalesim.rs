//! Compares `cycles` with SCALE-Sim, an independent implementation.
//! `hardware/tests/reference/scalesim.py` wrote the reference `scalesim.csv`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The inputs of one call of `cycles`: topology, dataflow, array.
type Run = (&'static str, &'static str, String);

/// The reference: cycles by layer of each run.
fn read_reference() -> BTreeMap<Run, Vec<(&'static str, u64)>> {
    let mut runs = BTreeMap::new();
    for line in include_str!("../../hardware/tests/reference/scalesim.csv").lines().skip(1) {
        let [topology, dataflow, rows, columns, layer, cycles] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("six columns: {line}");
        };
        let layers: &mut Vec<_> = runs.entry((topology, dataflow, format!("{rows}x{columns}"))).or_default();
        layers.push((layer, cycles.parse().unwrap()));
    }
    runs
}

fn run_cycles((topology, dataflow, array): &Run) -> Vec<(String, u64)> {
    let topology =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../hardware/tests/reference").join(topology).with_extension("csv");
    let output = Command::new(env!("CARGO_BIN_EXE_mercury-analyzer"))
        .args(["cycles", "--array", array, "--dataflow", dataflow, "--format", "csv", "--topology"])
        .arg(topology)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut table = csv::Reader::from_reader(output.stdout.as_slice());
    let headers = table.headers().unwrap().clone();
    let column = |name| headers.iter().position(|header| header == name).unwrap();
    let (layer, cycles) = (column("layer"), column("cycles"));
    table.records().map(Result::unwrap).map(|row| (row[layer].to_owned(), row[cycles].parse().unwrap())).collect()
}

/// SCALE-Sim reports the index of the last cycle: one less than the number of cycles, for any
/// number of folds.
#[test]
fn equals_scalesim() {
    let runs = read_reference();
    assert_eq!(runs.len(), 27, "three topologies on three arrays with three dataflows");
    for (run, expected) in runs {
        let expected: Vec<_> = expected.into_iter().map(|(layer, last)| (layer.to_owned(), last + 1)).collect();
        assert_eq!(run_cycles(&run), expected, "{run:?}");
    }
}
