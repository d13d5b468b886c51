//! Writes the fuzz seeds that our own programs produce into fuzz/seeds:
//! `cargo run --release -p mercury-analyzer --example write_seeds`.

#[path = "../../fuzz/inputs/traces.rs"]
mod traces;

use anyhow::Result;
use clap::Parser;
use mercury_analyzer::cli::Cli;
use mercury_trace::manifest::SCHEMA_VERSION;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;
use std::fs;
use std::path::{Path, PathBuf};

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// Runs `mercury-analyzer replay`.
fn run_replay(trace: &Path, arguments: &[&str]) -> Result<()> {
    let trace = trace.to_string_lossy();
    let words = ["mercury-analyzer", "replay", &trace].into_iter().chain(arguments.iter().copied());
    Cli::parse_from(words).run_on_terminal()?;
    Ok(())
}

/// Page and encoding options that our tensor writer does not use, but other writers may.
fn list_foreign_properties() -> [(&'static str, WriterPropertiesBuilder); 4] {
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

/// Rewrites the table in a file with other properties, and returns the bytes.
fn rewrite(path: &Path, properties: WriterPropertiesBuilder) -> Result<Vec<u8>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path)?)?;
    let (schema, mut bytes) = (reader.schema().clone(), Vec::new());
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties.build()))?;
    for batch in reader.build()? {
        writer.write(&batch?)?;
    }
    writer.close()?;
    Ok(bytes)
}

/// Writes a seed of a fuzz target.
fn write_seed(target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let folder = fuzz_folder().join("seeds").join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), bytes)?)
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    traces::write_trace(&at("trace"));
    let all = ["--errors", "all", "--with", "bounds"];
    let results = at("results").to_string_lossy().into_owned();
    let part = at("part").to_string_lossy().into_owned();
    run_replay(&at("trace"), &[&all[..], &["--out", results.as_str(), "--quiet", "--format", "csv"]].concat())?;
    run_replay(&at("trace"), &[&all[..], &["--partition", "1/1", "--out", part.as_str()]].concat())?;
    let file = |name: &str| fs::read(at(name));
    write_seed("manifest", "whole", &file("trace/manifest.json")?)?;
    let newest = format!("\"schema_version\": {SCHEMA_VERSION}");
    let old = String::from_utf8(file("trace/manifest.json")?)?.replace(&newest, "\"schema_version\": 1");
    write_seed("manifest", "version-1", old.as_bytes())?;
    write_seed("tensor", "whole", &file(&format!("trace/{}", traces::TENSOR))?)?;
    write_seed("tensor", "of-another-layer", &file(&format!("trace/{}", traces::TENSOR.replace("conv", "fc")))?)?;
    for (name, properties) in list_foreign_properties() {
        write_seed("tensor", name, &rewrite(&at("trace").join(traces::TENSOR), properties)?)?;
    }
    let results = ["results/layers.parquet", "results/run.json", "results/SHA256SUMS", "part/partition.json"];
    for (which, name) in (0..).zip(results) {
        write_seed("results", &name.replace(['/', '.'], "-"), &[&[which], file(name)?.as_slice()].concat())?;
    }
    for preset in ["mercury", "patch-os", "deep-reuse", "trec"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../hardware/presets/{preset}.toml"));
        write_seed("configuration", preset, &fs::read(path)?)?;
    }
    write_seed(
        "topology",
        "convolutions",
        b"Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,Batch Size,\n\
          Conv1,224,224,11,11,3,96,4,8,\nConv2DP,27,27,5,5,96,256,1,\n",
    )?;
    write_seed("topology", "products", b"Layer,M,N,K\nFC6,1,4096,9216\nFC7,1,4096,4096\n")?;
    write_seed("topology", "no-header", b"FC6,1,4096,9216,2:4\r\nFC7,1,4096,4096\r\n")
}
