//! Tests that Parquet files of other programs give the same trace: Parquet's types count, not the
//! writer's Arrow types. `notebooks/tests/test_written_elsewhere.py` runs such programs.

mod common;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use common::{KINDS, small};
use mercury_trace::evaluations::{self, Evaluation};
use mercury_trace::geometry::Pass;
use mercury_trace::measurements::{LossChange, Measurement, Measurements};
use mercury_trace::read::Tensor;
use mercury_trace::{Trace, TraceError};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TABLES: [&str; 5] =
    ["layers.parquet", "steps.parquet", "evaluations.parquet", "measurements.parquet", "loss_changes.parquet"];

/// Creates the small trace with a row in each table.
fn create_trace() -> tempfile::TempDir {
    let dir = small();
    let evaluation = Evaluation { steps_done: 6, metric: "top1".into(), value: 0.5, samples: 10 };
    evaluations::write(dir.path(), &[evaluation]).unwrap();
    let layer = Measurement {
        step: 5,
        configuration: "mercury".into(),
        layer: common::CONV.into(),
        pass: Pass::InputGrad,
        signature_bits: 20,
        hit: 3,
        mau: 2,
        mnu: 1,
        output_error: 0.25,
        output_cosine: f64::NAN,
        output_norm_ratio: f64::INFINITY,
        baseline_cycles: 100,
        mercury_cycles: 80,
    };
    let step = LossChange {
        step: 5,
        configuration: "mercury".into(),
        signature_bits: 20,
        loss: 2.5,
        loss_change: -0.125,
        gradient_error: 0.5,
        gradient_cosine: 0.75,
        gradient_norm_ratio: 1.5,
    };
    Measurements { layers: vec![layer], steps: vec![step] }.write(dir.path()).unwrap();
    dir
}

/// Reads everything in a trace, in a form that can compare NaN.
fn read_contents(dir: &Path) -> Result<(String, Vec<Tensor>), TraceError> {
    let trace = Trace::open(dir)?;
    let tables =
        format!("{:?} {:?} {:?} {:?}", trace.layers(), trace.steps()?, trace.evaluations()?, trace.measurements()?);
    let steps = &trace.manifest().captured;
    let tensors = steps.iter().flat_map(|step| step.tensors.iter().map(move |file| (step, file)));
    let read = tensors.map(|(step, file)| {
        let layer = trace.layers().iter().find(|layer| layer.name == file.layer).unwrap();
        trace.tensor(step, layer, file.kind)
    });
    Ok((tables, read.collect::<Result<_, _>>()?))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let trace = Trace::open(dir).unwrap();
    let mut files: Vec<PathBuf> = TABLES.iter().map(|name| dir.join(name)).collect();
    for step in &trace.manifest().captured {
        for layer in trace.layers() {
            files.extend(KINDS.map(|kind| trace.path(step, &layer.name, kind)));
        }
    }
    files
}

/// A way to write a file: its columns, and whether it includes the Arrow schema.
struct WritingStyle {
    what: &'static str,
    change: fn(&Field, &ArrayRef) -> (Field, ArrayRef),
    properties: WriterProperties,
    arrow_schema: bool,
}

fn rewrite(path: &Path, way: &WritingStyle) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let batch = arrow::compute::concat_batches(&schema, &batches).unwrap();
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) =
        schema.fields().iter().zip(batch.columns()).map(|(field, column)| (way.change)(field, column)).unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let options =
        ArrowWriterOptions::new().with_skip_arrow_metadata(!way.arrow_schema).with_properties(way.properties.clone());
    let mut writer = ArrowWriter::try_new_with_options(File::create(path).unwrap(), batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Converts a column to another, nullable type.
fn nullable(field: &Field, column: &ArrayRef, kind: &DataType) -> (Field, ArrayRef) {
    (Field::new(field.name(), kind.clone(), true), cast(column, kind).unwrap())
}

fn unchanged(field: &Field, column: &ArrayRef) -> (Field, ArrayRef) {
    (field.clone(), Arc::clone(column))
}

fn declared_nullable(field: &Field, column: &ArrayRef) -> (Field, ArrayRef) {
    nullable(field, column, field.data_type())
}

fn element(name: &str, kind: DataType) -> Arc<Field> {
    Arc::new(Field::new(name, kind, true))
}

/// Converts a column as polars does: large text and lists, signed integers.
fn large_and_signed(field: &Field, column: &ArrayRef) -> (Field, ArrayRef) {
    match field.data_type() {
        DataType::Utf8 => nullable(field, column, &DataType::LargeUtf8),
        DataType::UInt32 | DataType::UInt64 => nullable(field, column, &DataType::Int64),
        DataType::FixedSizeList(..) => {
            nullable(field, column, &DataType::LargeList(element("item", DataType::Float32)))
        }
        _ => declared_nullable(field, column),
    }
}

/// Converts a column to views and dictionaries, the narrowest integers, and half-width floats if
/// these suffice.
fn views_and_narrow(field: &Field, column: &ArrayRef) -> (Field, ArrayRef) {
    match field.data_type() {
        DataType::Utf8 => nullable(field, column, &DataType::Utf8View),
        DataType::UInt32 => nullable(field, column, &DataType::UInt16),
        DataType::UInt64 => nullable(field, column, &DataType::Int32),
        DataType::Float64 if field.name() == "value" => nullable(field, column, &DataType::Float32),
        DataType::FixedSizeList(..) => {
            let lists: ArrayRef = cast(column, &DataType::List(element("element", DataType::Float32))).unwrap();
            (Field::new(field.name(), lists.data_type().clone(), false), lists)
        }
        _ => unchanged(field, column),
    }
}

fn dictionaries(field: &Field, column: &ArrayRef) -> (Field, ArrayRef) {
    match field.data_type() {
        DataType::Utf8 | DataType::UInt32 => {
            let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(field.data_type().clone()));
            nullable(field, column, &kind)
        }
        _ => unchanged(field, column),
    }
}

fn bytes(field: &Field, column: &ArrayRef) -> (Field, ArrayRef) {
    match field.data_type() {
        DataType::Utf8 => nullable(field, column, &DataType::Binary),
        _ => unchanged(field, column),
    }
}

/// Adds metadata and ids, as Iceberg and Spark do.
fn with_metadata(field: &Field, column: &ArrayRef) -> (Field, ArrayRef) {
    let metadata =
        HashMap::from([("PARQUET:field_id".to_owned(), "7".to_owned()), ("unit".to_owned(), "1".to_owned())]);
    (field.clone().with_metadata(metadata), Arc::clone(column))
}

fn ways() -> Vec<WritingStyle> {
    let properties = WriterProperties::builder;
    let plain = || properties().build();
    let small_pages =
        || properties().set_data_page_size_limit(64).set_write_batch_size(1).set_dictionary_enabled(false);
    let second = || small_pages().set_writer_version(WriterVersion::PARQUET_2_0);
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let way = |what, change, properties, arrow_schema| WritingStyle { what, change, properties, arrow_schema };
    vec![
        way("nullable", declared_nullable, plain(), true),
        way("nullable, in small pages", declared_nullable, small_pages().build(), false),
        way("no Arrow schema", unchanged, plain(), false),
        way("large and signed", large_and_signed, plain(), true),
        way("large and signed, in small pages of the second version", large_and_signed, second().build(), false),
        way("views and narrow", views_and_narrow, plain(), true),
        way("dictionaries", dictionaries, plain(), true),
        way("bytes", bytes, plain(), true),
        way("metadata", with_metadata, plain(), true),
        way("LZ4", unchanged, properties().set_compression(Compression::LZ4).build(), true),
        way("raw LZ4", declared_nullable, second().set_compression(Compression::LZ4_RAW).build(), true),
        way("Zstandard", large_and_signed, small_pages().set_compression(zstd).build(), true),
        way("small groups", large_and_signed, properties().set_max_row_group_row_count(Some(1)).build(), true),
    ]
}

#[test]
fn all_writing_styles_give_the_same_trace() {
    let expected = read_contents(create_trace().path()).unwrap();
    assert!(expected.0.contains("top1") && expected.0.contains("InputGrad") && expected.1.len() == 18);
    for way in ways() {
        let dir = create_trace();
        for path in files(dir.path()) {
            rewrite(&path, &way);
        }
        assert_eq!(read_contents(dir.path()).unwrap(), expected, "{}", way.what);
    }
}

/// Writers that infer types have none for an empty table.
#[test]
fn a_table_without_rows_may_have_columns_of_any_type() {
    let dir = small();
    let untyped = WritingStyle {
        what: "untyped",
        change: |field, column| {
            assert!(column.is_empty());
            (Field::new(field.name(), DataType::Null, true), new_null_array(&DataType::Null, 0))
        },
        properties: WriterProperties::builder().build(),
        arrow_schema: true,
    };
    rewrite(&dir.path().join("evaluations.parquet"), &untyped);
    assert_eq!(Trace::open(dir.path()).unwrap().evaluations().unwrap(), []);
}
