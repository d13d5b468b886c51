//! Replays what is fuzzed (`fuzz/`) on the seeds, and on what fuzzing found where that is there.

#[path = "../../fuzz/inputs/analyzer.rs"]
mod analyzer;
#[path = "../../fuzz/inputs/hardware.rs"]
mod hardware;
#[path = "../../fuzz/inputs/traces.rs"]
mod traces;

use mercury_trace::Trace;
use mercury_trace::tensor::TensorKind;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    assert!(expected.values.iter().any(|value| *value != expected.values[0]));
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

/// Pages and encodings of tensors that our writer does not use, but others may.
fn as_others_may_write() -> [(&'static str, WriterPropertiesBuilder); 4] {
    let properties = || WriterProperties::builder().set_compression(Compression::UNCOMPRESSED);
    let plain = || properties().set_dictionary_enabled(false);
    [
        ("dictionary", properties()),
        ("second-version-dictionary", properties().set_writer_version(WriterVersion::PARQUET_2_0)),
        (
            "second-version-small-pages-zstd",
            plain()
                .set_writer_version(WriterVersion::PARQUET_2_0)
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_data_page_row_count_limit(2)
                .set_write_batch_size(1),
        ),
        (
            "stream-split-small-groups",
            plain()
                .set_column_encoding(
                    ColumnPath::from(vec!["values".into(), "list".into(), "element".into()]),
                    Encoding::BYTE_STREAM_SPLIT,
                )
                .set_max_row_group_row_count(Some(2)),
        ),
    ]
}

/// The table of a file, written with other properties.
fn rewritten(path: &Path, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let (schema, mut bytes) = (reader.schema().clone(), Vec::new());
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties.build())).unwrap();
    reader.build().unwrap().for_each(|batch| writer.write(&batch.unwrap()).unwrap());
    writer.close().unwrap();
    bytes
}

/// Writes the seeds that the programs themselves write.
#[test]
#[ignore = "writes to fuzz/seeds"]
fn write_seeds() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    traces::write_trace(&at("trace"));
    let run = |arguments: &str| {
        let words = arguments.split_whitespace();
        let status = Command::new(env!("CARGO_BIN_EXE_mercury-analyzer")).args(words).current_dir(dir.path()).status();
        assert!(status.unwrap().success(), "{arguments}");
    };
    run("replay trace --out results --format csv");
    run("replay trace --partition 1/1 --out part");
    let keep = |target: &str, name: &str, bytes: &[u8]| {
        let folder = fuzz().join("seeds").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    let file = |name: &str| fs::read(at(name)).unwrap();
    keep("manifest", "whole", &file("trace/manifest.json"));
    let old = String::from_utf8(file("trace/manifest.json"))
        .unwrap()
        .replace("\"schema_version\": 2", "\"schema_version\": 1");
    keep("manifest", "version-1", old.as_bytes());
    keep("tensor", "whole", &file(&format!("trace/{}", traces::TENSOR)));
    keep("tensor", "of-another-layer", &file(&format!("trace/{}", traces::TENSOR.replace("conv", "fc"))));
    for (name, properties) in as_others_may_write() {
        keep("tensor", name, &rewritten(&at("trace").join(traces::TENSOR), properties));
    }
    let results = ["results/layers.parquet", "results/run.json", "results/SHA256SUMS", "part/partition.json"];
    for (which, name) in (0..).zip(results) {
        keep("results", &name.replace(['/', '.'], "-"), &[&[which], file(name).as_slice()].concat());
    }
    for preset in ["mercury", "patch-os", "deep-reuse", "trec"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../hardware/presets/{preset}.toml"));
        keep("configuration", preset, &fs::read(path).unwrap());
    }
    keep(
        "topology",
        "convolutions",
        b"Layer,H,W,R,S,C,N,stride,\nConv1,224,224,11,11,3,96,4,\nConv2DP,27,27,5,5,96,256,1,\n",
    );
    keep("topology", "products", b"Layer,M,N,K\nFC6,1,4096,9216\nFC7,1,4096,4096\n");
}
