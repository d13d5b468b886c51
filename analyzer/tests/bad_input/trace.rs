//! Malformed traces, as the analyzer reads them; `trace/tests/bad_input` breaks each field of each
//! file.

use super::{Case, assert_report, link, pipe, replace, report, truncate};
use crate::common::place::Place;
use crate::common::{self, write_trace};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::DataType;
use mercury_trace::manifest::Sampling;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

const REPLAY: &str = "replay trace --out out";
const VERIFY: &str = "verify trace";

fn change_manifest(place: &Place, change: impl FnOnce(&mut Value)) {
    let path = place.path("trace/manifest.json");
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(path, manifest.to_string()).unwrap();
}

fn write(path: &Path, batches: impl IntoIterator<Item = RecordBatch>) {
    let mut batches = batches.into_iter().peekable();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_page_size_limit(4 << 20)
        .build();
    let schema = batches.peek().unwrap().schema();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema, Some(properties)).unwrap();
    batches.for_each(|batch| writer.write(&batch).unwrap());
    writer.close().unwrap();
}

/// Replaces a column of a table.
fn change_column(place: &Place, table: &str, name: &str, change: impl FnOnce(&ArrayRef) -> ArrayRef) {
    let path = place.path("trace").join(table);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap().build().unwrap();
    let batch = reader.map(Result::unwrap).next().unwrap();
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, array)| {
        let array = if field.name() == name { None } else { Some(Arc::clone(array)) };
        (field.name().clone(), array)
    });
    let changed = change(batch.column_by_name(name).unwrap());
    let columns: Vec<_> =
        columns.map(|(name, array)| (name, array.unwrap_or_else(|| Arc::clone(&changed)), false)).collect();
    write(&path, [RecordBatch::try_from_iter_with_nullable(columns).unwrap()]);
}

fn rename_first_layer(place: &Place, name: &str) {
    change_column(place, "layers.parquet", "name", |names| {
        let names = arrow::array::AsArray::as_string::<i32>(names);
        let all = names.iter().enumerate().map(|(row, known)| if row == 0 { name } else { known.unwrap() });
        Arc::new(StringArray::from_iter_values(all))
    });
}

/// Writes the trace again with one value replaced.
fn set_value(place: &Place, value: f32) {
    fs::remove_dir_all(place.path("trace")).unwrap();
    let with = |i: usize, salt| if i == 300 && salt == 40 { value } else { common::value(i, salt) };
    write_trace(&place.path("trace"), &Sampling::default(), with);
}

fn change_tensor(place: &Place, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(place.tensor()).unwrap();
    change(&mut bytes);
    fs::write(place.tensor(), bytes).unwrap();
}

const MANIFESTS: [Case; 14] = [
    ("empty", |place| truncate(&place.path("trace/manifest.json"), 0), REPLAY),
    ("truncated", |place| truncate(&place.path("trace/manifest.json"), 900), REPLAY),
    ("nested without end", |place| fs::write(place.path("trace/manifest.json"), "[".repeat(1 << 20)).unwrap(), REPLAY),
    ("a link to itself", |place| link(&place.path("trace/manifest.json"), "manifest.json"), REPLAY),
    ("a device", |place| link(&place.path("trace/manifest.json"), "/dev/zero"), REPLAY),
    ("a pipe", |place| pipe(&place.path("trace/manifest.json")), REPLAY),
    (
        "rows beyond 63 bits",
        |place| change_manifest(place, |m| m["captured"][0]["tensors"][0]["rows"] = json!(u64::MAX)),
        REPLAY,
    ),
    (
        "rows beyond 64 bits",
        |place| replace(&place.path("trace/manifest.json"), "\"rows\": 9", "\"rows\": 99999999999999999999"),
        REPLAY,
    ),
    (
        "width beyond 32 bits",
        |place| change_manifest(place, |m| m["captured"][0]["tensors"][0]["width"] = json!(1u64 << 32)),
        REPLAY,
    ),
    (
        "samples beyond the batch",
        |place| change_manifest(place, |m| m["captured"][0]["samples"] = json!([1, 2, u32::MAX])),
        REPLAY,
    ),
    (
        "a path as layer",
        |place| change_manifest(place, |m| m["captured"][0]["tensors"][0]["layer"] = json!("../../secret")),
        REPLAY,
    ),
    ("no checksum", |place| change_manifest(place, |m| m["captured"][0]["tensors"][0]["sha256"] = Value::Null), REPLAY),
    ("a number for text", |place| change_manifest(place, |m| m["model"]["name"] = json!(7)), REPLAY),
    ("steps without end", |place| change_manifest(place, |m| m["captured"][1]["step"] = json!(u64::MAX)), REPLAY),
];

#[test]
fn manifests() {
    assert_report("bad_manifests", &report(&MANIFESTS, Place::new));
}

const TABLES: [Case; 13] = [
    ("layers: empty", |place| truncate(&place.path("trace/layers.parquet"), 0), REPLAY),
    ("layers: truncated in the footer", |place| truncate(&place.path("trace/layers.parquet"), 3000), REPLAY),
    ("layers: missing", |place| fs::remove_file(place.path("trace/layers.parquet")).unwrap(), REPLAY),
    ("layers: a path that leaves the trace", |place| rename_first_layer(place, "../../secret"), REPLAY),
    ("layers: a path from the root", |place| rename_first_layer(place, "/etc/passwd"), REPLAY),
    ("layers: a name with a zero byte", |place| rename_first_layer(place, "a\0b"), REPLAY),
    ("layers: a name of another layer", |place| rename_first_layer(place, "features.3"), REPLAY),
    (
        "layers: more channels than any",
        |place| {
            change_column(place, "layers.parquet", "in_channels", |old| {
                Arc::new(UInt32Array::from(vec![u32::MAX; old.len()]))
            });
        },
        REPLAY,
    ),
    (
        "layers: numbers of another type",
        |place| {
            change_column(place, "layers.parquet", "groups", |old| {
                arrow::compute::cast(old, &DataType::Float64).unwrap()
            });
        },
        REPLAY,
    ),
    (
        "steps: that do not ascend",
        |place| change_column(place, "steps.parquet", "step", |old| Arc::new(UInt64Array::from(vec![3; old.len()]))),
        REPLAY,
    ),
    ("steps: a decompression bomb", |place| many_steps(&place.path("trace/steps.parquet")), REPLAY),
    ("evaluations: a decompression bomb", long_words, VERIFY),
    ("a table that is a link to itself", |place| link(&place.path("trace/steps.parquet"), "steps.parquet"), REPLAY),
];

/// Writes eleven million rows that compress to some kilobytes.
fn many_steps(path: &Path) {
    let batch =
        RecordBatch::try_from_iter([("step", Arc::new(UInt64Array::from(vec![7; 1_100_000])) as ArrayRef)]).unwrap();
    write(path, (0..10).map(|_| batch.clone()));
    assert!(fs::metadata(path).unwrap().len() < 100_000);
}

/// Writes twelve hundred rows of a megabyte each, which compress to some kilobytes. The trace is
/// marked as incomplete, because tables of incomplete traces have no checksums.
fn long_words(place: &Place) {
    change_manifest(place, |manifest| manifest["complete"] = json!(false));
    let path = &place.path("trace/evaluations.parquet");
    let word = "a".repeat(1 << 20);
    let columns: [(&str, ArrayRef); 4] = [
        ("steps_done", Arc::new(UInt64Array::from(vec![1; 200]))),
        ("metric", Arc::new(StringArray::from(vec![word.as_str(); 200]))),
        ("value", Arc::new(Float64Array::from(vec![1.0; 200]))),
        ("samples", Arc::new(UInt64Array::from(vec![1; 200]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    write(path, (0..6).map(|_| batch.clone()));
    assert!(fs::metadata(path).unwrap().len() < 20_000);
}

#[test]
fn tables() {
    assert_report("bad_tables", &report(&TABLES, Place::new));
}

const TENSORS: [Case; 16] = [
    ("empty", |place| truncate(&place.tensor(), 0), REPLAY),
    ("magic numbers alone", |place| fs::write(place.tensor(), "PAR1PAR1").unwrap(), REPLAY),
    ("truncated in the first page", |place| truncate(&place.tensor(), 40), REPLAY),
    ("truncated in the footer", |place| change_tensor(place, |bytes| bytes.truncate(bytes.len() - 9)), REPLAY),
    (
        "a footer longer than the file",
        |place| {
            change_tensor(place, |bytes| {
                let length = bytes.len() - 8;
                bytes[length..length + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            });
        },
        REPLAY,
    ),
    ("bytes of zero for pages", |place| change_tensor(place, |bytes| bytes[4..400].fill(0)), REPLAY),
    ("of another step", other_step, REPLAY),
    ("of another layer", other_layer, REPLAY),
    ("not a number", |place| set_value(place, f32::NAN), REPLAY),
    ("infinite", |place| set_value(place, f32::INFINITY), REPLAY),
    ("minus infinite", |place| set_value(place, f32::NEG_INFINITY), REPLAY),
    ("a link to itself", |place| link(&place.tensor(), "input.parquet"), REPLAY),
    ("a device", |place| link(&place.tensor(), "/dev/zero"), REPLAY),
    ("a folder of links in a circle", circle, REPLAY),
    ("a flipped bit, to verify", |place| change_tensor(place, |bytes| bytes[60] ^= 4), VERIFY),
    ("more bytes than were written, to verify", |place| change_tensor(place, |bytes| bytes.push(0)), VERIFY),
];

/// Replaces a tensor by one with another number of rows.
fn other_step(place: &Place) {
    let other = Sampling { channels: [("features.3".to_owned(), vec![0, 1])].into(), ..Sampling::default() };
    write_trace(&place.path("other"), &other, common::value);
    fs::copy(place.path("other/tensors/step=000000/layer=features.3/input.parquet"), place.tensor()).unwrap();
    fs::remove_dir_all(place.path("other")).unwrap();
}

fn other_layer(place: &Place) {
    fs::copy(place.path("trace/tensors/step=000010/layer=features.0/input.parquet"), place.tensor()).unwrap();
}

fn circle(place: &Place) {
    let folder = place.path("trace/tensors/step=000010");
    fs::remove_dir_all(&folder).unwrap();
    symlink("step=000011", &folder).unwrap();
    symlink("step=000010", folder.with_file_name("step=000011")).unwrap();
}

#[test]
fn tensors() {
    assert_report("bad_tensors", &report(&TENSORS, Place::new));
}

/// The smallest and largest finite numbers are valid input.
#[test]
fn denormals_and_the_largest_numbers_are_numbers() {
    for value in [f32::from_bits(1), -f32::from_bits(0x007f_ffff), f32::MIN_POSITIVE, f32::MAX, -f32::MAX, -0.0] {
        let place = Place::new();
        set_value(&place, value);
        place.stdout(REPLAY);
        place.stdout("verify out");
        // Stored results of units must represent them, too.
        place.stdout("replay trace --partition 1/1 --out part");
        place.stdout("merge part --out merged");
        assert_eq!(common::place::files(&place.path("merged")), common::place::files(&place.path("out")));
    }
}
