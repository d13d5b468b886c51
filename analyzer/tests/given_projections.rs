//! Projections from files in every command that signs vectors.

mod common;

use arrow::record_batch::RecordBatch;
use common::place::Place;
use mercury_reuse::config::Rpq;
use mercury_reuse::{Projection, list_vector_lengths};
use mercury_trace::Trace;
use mercury_trace::geometry::Pass;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn golden(trace: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(trace)
}

/// Writes the matrices that a seed draws for all vectors of a trace, with 24 columns.
fn write_drawn(path: &Path, trace: &Path, granularity: &str, seed: u64) {
    let trace = Trace::open(trace).unwrap();
    let mut lengths = BTreeSet::new();
    for layer in trace.layers() {
        for pass in [Pass::Forward, Pass::InputGrad] {
            lengths.append(&mut list_vector_lengths(&layer.geometry, pass, granularity.parse().unwrap()));
        }
    }
    let rpq = Rpq { bits: 24, seed, ..Rpq::default() };
    let transpose = |length: usize| {
        let drawn = Projection::from_rpq(&rpq, length);
        let values = (0..length).flat_map(|element| (0..24).map(|bit| drawn.row(bit)[element]).collect::<Vec<_>>());
        values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()
    };
    let tensors: Vec<(usize, Vec<u8>)> = lengths.into_iter().map(|length| (length, transpose(length))).collect();
    let views = tensors
        .iter()
        .map(|(length, bytes)| (format!("R{length}"), TensorView::new(Dtype::F32, vec![*length, 24], bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, &None).unwrap()).unwrap();
}

fn read_table(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// Names of the columns that differ between two tables.
fn list_differences(one: &Path, other: &Path) -> Vec<String> {
    let (one, other) = (read_table(one), read_table(other));
    assert_eq!(one.schema(), other.schema());
    assert!(one.num_rows() > 0);
    let schema = one.schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    names.enumerate().filter(|&(at, _)| one.column(at) != other.column(at)).map(|(_, name)| name).collect()
}

#[test]
fn a_replay_by_a_file_of_the_drawn_matrices_is_the_drawn_one() {
    let place = Place::new();
    for (trace, preset, granularity) in [
        ("vgg13", "mercury", "channel-patch"),
        ("mobilenet", "mercury", "channel-patch"),
        ("text", "mercury", "channel-patch"),
        ("vgg13", "patch-os", "patch"),
    ] {
        let trace = golden(trace);
        write_drawn(&place.path("R.safetensors"), &trace, granularity, 7);
        let flags = format!("{} --preset {preset} --bits.max 24 --with bounds", trace.display());
        place.stdout(&format!("replay {flags} --rpq.seed 7 --out drawn"));
        place.stdout(&format!("replay {flags} --rpq.seed 7 --rpq.projection file:R.safetensors --out given"));
        let differences =
            |table: &str| list_differences(&place.path("drawn").join(table), &place.path("given").join(table));
        assert_eq!(differences("layers.parquet"), ["projection"], "{}", trace.display());
        for table in ["models.parquet", "angles.parquet"] {
            assert_eq!(differences(table), [""; 0], "{table} of {}", trace.display());
        }
        for folder in ["drawn", "given"] {
            fs::remove_dir_all(place.path(folder)).unwrap();
        }
    }
}

#[test]
fn other_commands_take_files_too() {
    let place = Place::new();
    write_drawn(&place.path("one.safetensors"), &place.path("trace"), "channel-patch", 7);
    write_drawn(&place.path("two.safetensors"), &place.path("trace"), "channel-patch", 8);
    let file = "--bits.patience 0 --rpq.projection file:one.safetensors";
    let drawn = "--bits.patience 0 --rpq.seed 7";
    for (folder, projection) in [("given.parquet", file), ("drawn.parquet", drawn)] {
        place.stdout(&format!("vectors trace --layer features.3 --pass input-grad {projection} --out {folder}"));
    }
    assert_eq!(list_differences(&place.path("given.parquet"), &place.path("drawn.parquet")), [""; 0]);
    place.stdout("projection --length 9 --bits 12 --entries file:one.safetensors --out given.parquet");
    place.stdout("projection --length 9 --bits 12 --seed 7 --out drawn.parquet");
    assert_eq!(list_differences(&place.path("given.parquet"), &place.path("drawn.parquet")), [""; 0]);

    let drop_names = |text: String| text.lines().map(|line| line.replace("one.safetensors", "")).collect::<Vec<_>>();
    let given = drop_names(place.stdout(&format!("ladder trace {file} --errors none --format csv")));
    assert_eq!(given, drop_names(place.stdout(&format!("ladder trace {drawn} --errors none --format csv"))));

    let columns = "--format csv --errors none --bits.patience 0";
    place.stdout(&format!("sweep trace {columns} --set rpq.seed=7,8 --out seeds"));
    place.stdout(&format!(
        "sweep trace {columns} --set rpq.projection=file:one.safetensors,file:two.safetensors --out files"
    ));
    let differences = list_differences(&place.path("seeds/layers.parquet"), &place.path("files/layers.parquet"));
    assert_eq!(differences, ["projection", "seed"]);

    let axes = "--per-layer rpq.projection=file:one.safetensors,file:two.safetensors --per-layer rpq.bits=8,16";
    let search = format!("search trace --preset mercury-skip --rpq.unit free {axes} --bound layer-error<=1 --folds 0");
    place.stdout(&format!("{search} --out search"));
    let best = fs::read_to_string(place.path("search/best.toml")).unwrap();
    assert!(best.contains(".safetensors#"), "{best}");
    place.stdout("replay trace --config search/best.toml --out best");
}

#[test]
fn results_name_the_file_and_its_content() {
    let place = Place::new();
    let folder = place.path("settings");
    fs::create_dir(&folder).unwrap();
    write_drawn(&folder.join("R.safetensors"), &place.path("trace"), "channel-patch", 7);
    fs::write(folder.join("my.toml"), "[rpq]\nprojection = \"file:R.safetensors\"\n[bits]\nmax = 24\n").unwrap();
    let flags = "trace --config settings/my.toml --errors none";
    place.stdout(&format!("replay {flags} --out one"));
    let run = fs::read_to_string(place.path("one/run.json")).unwrap();
    let start = format!("file:{}#", folder.canonicalize().unwrap().join("R.safetensors").display());
    let found = run.find(&start).unwrap_or_else(|| panic!("{start} is not in {run}"));
    let hash = &run[found + start.len()..][..16];

    // The printed configuration names the content, and is refused when it has changed.
    fs::write(place.path("shown.toml"), place.stdout("config show --config settings/my.toml")).unwrap();
    place.stdout("config check shown.toml");
    let sweep = format!("sweep {flags} --set rpq.bits=8,12 --out sweep");
    place.stdout(&sweep);
    write_drawn(&folder.join("R.safetensors"), &place.path("trace"), "channel-patch", 8);
    let error = place.error("config check shown.toml");
    assert!(error.contains(&format!("but {hash} is configured; restore the file, or remove the hash")), "{error}");

    // Work by the old content does not go on by the new one.
    let error = place.error(&sweep);
    assert!(error.contains("sweep holds another sweep (of another trace"), "{error}");
    place.stdout(&format!("replay {flags} --out two"));
    assert!(!fs::read_to_string(place.path("two/run.json")).unwrap().contains(hash));
}

#[test]
fn partitions_by_a_file_merge() {
    let place = Place::new();
    write_drawn(&place.path("R.safetensors"), &place.path("trace"), "channel-patch", 7);
    let flags = "replay trace --errors none --bits.max 24 --rpq.projection file:R.safetensors";
    for number in [1, 2] {
        place.stdout(&format!("{flags} --partition {number}/2 --out part-{number}"));
    }
    place.stdout("merge part-1 part-2 --out merged");
    place.stdout(&format!("{flags} --out whole"));
    let table = |folder: &str| fs::read(place.path(folder).join("layers.parquet")).unwrap();
    assert!(table("merged") == table("whole"));
}

#[test]
fn what_does_not_go_with_a_file_is_refused() {
    let place = Place::new();
    write_drawn(&place.path("R.safetensors"), &place.path("trace"), "channel-patch", 7);
    fs::write(place.path("words"), "words").unwrap();
    let file = "--rpq.projection file:R.safetensors";
    let place_name = place.path("").canonicalize().unwrap().display().to_string();
    let cases = [
        "replay trace --rpq.projection file: --out out".to_owned(),
        "replay trace --rpq.projection file:nonesuch --out out".to_owned(),
        "replay trace --rpq.projection file:words --out out".to_owned(),
        format!("replay trace {file} --rpq.bits 25 --out out"),
        format!("replay trace {file} --seeds 3 --out out"),
        format!("sweep trace {file} --seeds 3 --set rpq.bits=8,9 --out out"),
        format!("sweep trace {file} --set rpq.seed=1,2 --out out"),
        format!("search trace {file} --seeds 3 --bound layer-error<=0.4 --out out"),
        format!("ladder trace {file} --seeds 3"),
        format!("replay trace {file} --preset patch-os --out out"),
        format!("vectors trace {file} --preset patch-os --layer features.0 --out out"),
        "projection --length 8 --entries file:R.safetensors --out out".to_owned(),
        "projection --length 9 --bits 25 --entries file:R.safetensors --out out".to_owned(),
        "projection --length 9 --entries normal --out out".to_owned(),
    ];
    let report: Vec<String> = cases.iter().map(|case| format!("$ {case}\n{}", place.error(case))).collect();
    insta::assert_snapshot!(report.join("\n").replace(&place_name, "DIR/").replace("DIR//", "DIR/"));
    assert!(!place.path("out").exists());
}
