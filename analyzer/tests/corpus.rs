//! Runs the fuzz targets (`fuzz/`) on the seeds, and on the inputs that fuzzing found if there are
//! any.

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

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn list_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn seeds_and_found_inputs_do_not_panic() {
    let mut tried = 0;
    for (name, target) in TARGETS {
        let seeds = list_files(&fuzz_folder().join("seeds").join(name));
        assert!(seeds.len() > 1, "{name} has no seeds");
        for path in seeds.into_iter().chain(list_files(&fuzz_folder().join("corpus").join(name))) {
            target(&fs::read(path).unwrap());
            tried += 1;
        }
    }
    println!("figures: seeds and corpus: {tried} inputs, 0 panics");
}

/// Fuzzing must start from valid files, not from files that are refused at once.
#[test]
fn seeds_of_topologies_are_read() {
    for path in list_files(&fuzz_folder().join("seeds/topology")) {
        assert!(mercury_hardware::topology::read(&path).is_ok(), "{}", path.display());
    }
}

/// Truncates each seed and flips bits at many positions.
#[test]
fn damaged_seeds_do_not_panic() {
    let mut tried = 0;
    for (name, target) in TARGETS {
        for path in list_files(&fuzz_folder().join("seeds").join(name)) {
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

/// Tensors from other programs, with other codecs, types and pages, have the same contents.
#[test]
fn seeds_of_other_programs_have_equal_contents() {
    let seeds = fuzz_folder().join("seeds/tensor");
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
