//! Replays what is fuzzed (`fuzz/`) on the seeds, and on what fuzzing found where that is there.

#[path = "../../fuzz/inputs/analyzer.rs"]
mod analyzer;
#[path = "../../fuzz/inputs/hardware.rs"]
mod hardware;
#[path = "../../fuzz/inputs/traces.rs"]
mod traces;

use mercury_trace::Trace;
use mercury_trace::tensor::TensorKind;
use std::fs;
use std::path::{Path, PathBuf};

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 5] = [
    ("manifest", traces::manifest),
    ("tensor", traces::tensor),
    ("topology", hardware::topology),
    ("configuration", hardware::configuration),
    ("results", analyzer::results),
];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn seeds_and_what_was_found_do_no_harm() {
    let mut tried = 0;
    for (name, target) in TARGETS {
        let seeds = files(&fuzz().join("seeds").join(name));
        assert!(seeds.len() > 1, "{name} has no seeds");
        for path in seeds.into_iter().chain(files(&fuzz().join("corpus").join(name))) {
            target(&fs::read(path).unwrap());
            tried += 1;
        }
    }
    println!("figures: seeds and corpus: {tried} inputs, 0 panics");
}

/// Fuzzing starts from files that are read, not from files that are refused at once.
#[test]
fn seeds_of_topologies_are_read() {
    for path in files(&fuzz().join("seeds/topology")) {
        assert!(mercury_hardware::topology::read(&path).is_ok(), "{}", path.display());
    }
}

/// Each seed cut off anywhere, and with any byte another.
#[test]
fn seeds_that_are_damaged_do_no_harm() {
    let mut tried = 0;
    for (name, target) in TARGETS {
        for path in files(&fuzz().join("seeds").join(name)) {
            let seed = fs::read(path).unwrap();
            for at in (0..seed.len()).step_by(seed.len() / 50 + 1) {
                target(&seed[..at]);
                for flip in [1, 0x80, 0xff] {
                    let mut bytes = seed.clone();
                    bytes[at] ^= flip;
                    target(&bytes);
                }
                tried += 4;
            }
        }
    }
    println!("figures: damaged seeds: {tried} inputs, 0 panics");
}

/// A tensor as other programs wrote it holds the same, whatever its codec, types and pages.
#[test]
fn seeds_of_other_programs_hold_the_same() {
    let seeds = fuzz().join("seeds/tensor");
    let dir = tempfile::tempdir().unwrap();
    traces::write_trace(dir.path());
    let read = |name: &str| {
        traces::write(&dir.path().join(traces::TENSOR), &fs::read(seeds.join(name)).unwrap());
        let trace = Trace::open(dir.path()).unwrap();
        trace.tensor(&trace.manifest().captured[0], &trace.layers()[0], TensorKind::Input).unwrap()
    };
    let expected = read("whole");
    assert!(expected.values.iter().any(|value| value.to_bits() != expected.values[0].to_bits()));
    for name in [
        "polars",
        "pyarrow-brotli-second-version",
        "pyarrow-gzip",
        "pyarrow-lz4-pages-without-values",
        "pyarrow-signed-lists",
    ] {
        assert_eq!(read(name), expected, "{name}");
    }
}
