//! Every broken input is refused with an error that names the file, the field and the remedy.

mod common;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, RecordBatch,
};
use arrow::array::{StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use common::{ATTENTION, CONV, FC, KINDS, keys, manifest, sampling, small};
use mercury_trace::tensor::{TensorKind, TensorShape, TensorWriter};
use mercury_trace::{Trace, TraceError, TraceWriter};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an error can tell its reader to do.
const REMEDIES: [&str; 6] = [
    "capture anew",
    "copy it again",
    "copy the whole trace again",
    "give the folder",
    "update it",
    "choose another folder",
];

/// Checks that an error names `path` and each of `parts`, and a remedy.
#[track_caller]
fn assert_says(error: &TraceError, path: &Path, parts: &[&str]) {
    let text = error.to_string();
    assert!(text.starts_with(&format!("{}: ", path.display())), "{text:?} does not start with {}", path.display());
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    assert!(REMEDIES.iter().any(|remedy| text.contains(remedy)), "{text:?} names no remedy");
}

/// Checks that `error` is [`TraceError::Invalid`] for this file and field, and says `parts`.
#[track_caller]
fn assert_invalid(error: &TraceError, path: &Path, field: &str, parts: &[&str]) {
    assert!(matches!(error, TraceError::Invalid { field: found, .. } if found == field), "field {field}: {error:?}");
    assert_says(error, path, &[&[field], parts].concat());
}

#[track_caller]
fn assert_parquet(error: &TraceError, path: &Path) {
    assert!(matches!(error, TraceError::Parquet { .. }), "{error:?}");
    assert_says(error, path, &["not a readable Parquet file", "may be truncated"]);
}

#[track_caller]
fn open_error(dir: &Path) -> TraceError {
    Trace::open(dir).expect_err("the trace is broken")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A small trace whose manifest was changed, and where that is.
fn with_manifest(change: impl FnOnce(&mut Value)) -> (tempfile::TempDir, PathBuf) {
    let dir = small();
    let path = dir.path().join("manifest.json");
    let mut manifest = read_json(&path);
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
    (dir, path)
}

/// The columns of a Parquet file.
fn read_columns(path: &Path) -> Vec<(Field, ArrayRef)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    let batch = arrow::compute::concat_batches(&schema, &batches).unwrap();
    schema.fields().iter().map(|field| field.as_ref().clone()).zip(batch.columns().to_vec()).collect()
}

/// Replaces a Parquet file by one of these columns.
fn write_columns(path: &Path, columns: Vec<(Field, ArrayRef)>) {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn column(name: &str, array: ArrayRef) -> (Field, ArrayRef) {
    (Field::new(name, array.data_type().clone(), array.null_count() > 0), array)
}

/// A small trace in which one column of `layers.parquet` was changed.
fn with_layers_column(name: &str, change: impl FnOnce(&ArrayRef) -> Option<ArrayRef>) -> (tempfile::TempDir, PathBuf) {
    let dir = small();
    let path = dir.path().join("layers.parquet");
    let mut columns = read_columns(&path);
    let index = columns.iter().position(|(field, _)| field.name() == name).unwrap();
    match change(&columns[index].1) {
        Some(array) => columns[index] = column(name, array),
        None => drop(columns.remove(index)),
    }
    write_columns(&path, columns);
    (dir, path)
}

/// A small trace in which a number of the layers, by row, was changed.
fn with_layer_numbers(name: &str, change: &[(usize, u32)]) -> (tempfile::TempDir, PathBuf) {
    with_layers_column(name, |column| {
        let mut numbers = column.as_primitive::<UInt32Type>().values().to_vec();
        for &(row, number) in change {
            numbers[row] = number;
        }
        Some(Arc::new(UInt32Array::from(numbers)))
    })
}

fn with_layer_names(names: [&str; 3]) -> (tempfile::TempDir, PathBuf) {
    with_layers_column("name", |_| Some(Arc::new(StringArray::from(names.to_vec()))))
}

/// A small trace, and one tensor of its first captured step.
struct Tensor {
    dir: tempfile::TempDir,
    trace: Trace,
    layer: usize,
    kind: TensorKind,
    path: PathBuf,
}

impl Tensor {
    fn of(layer: &str, kind: TensorKind) -> Self {
        let dir = small();
        let trace = Trace::open(dir.path()).unwrap();
        let path = trace.path(&trace.manifest().captured[0], layer, kind);
        let layer = trace.layers().iter().position(|l| l.name == layer).unwrap();
        Self { dir, trace, layer, kind, path }
    }

    fn shape(&self) -> TensorShape {
        TensorShape::of(&self.trace.layers()[self.layer].geometry, self.kind)
    }

    fn keys(&self) -> Vec<Vec<u32>> {
        keys(&self.trace.layers()[self.layer], self.kind, &[1, 3], &sampling())
    }

    fn read(&self) -> Result<mercury_trace::read::Tensor, TraceError> {
        self.trace.tensor(&self.trace.manifest().captured[0], &self.trace.layers()[self.layer], self.kind)
    }

    #[track_caller]
    fn error(&self) -> TraceError {
        Trace::open(self.dir.path()).expect("opening reads no tensors");
        self.read().expect_err("the file is broken")
    }

    /// Replaces the file by one that holds rows of these keys; `value` gives the values of each row.
    fn rewrite(&self, keys: &[Vec<u32>], value: impl Fn(usize) -> f32) {
        let shape = self.shape();
        let width = shape.width;
        let mut writer = TensorWriter::create(&self.path, shape, &[]).unwrap();
        for (row, keys) in keys.iter().enumerate() {
            writer.push(keys, &vec![value(row); width]).unwrap();
        }
        writer.finish().unwrap();
    }

    /// Replaces a column of the file.
    fn replace(&self, index: usize, with: impl FnOnce(&ArrayRef) -> (Field, ArrayRef)) {
        let mut columns = read_columns(&self.path);
        columns[index] = with(&columns[index].1);
        write_columns(&self.path, columns);
    }
}

/// Lengths to cut a file of `whole` bytes to: its first and last few, and some between.
fn lengths(whole: usize) -> impl Iterator<Item = usize> {
    (0..whole).filter(move |length| *length < 16 || *length + 16 > whole || length % 13 == 0)
}

/// Reads everything that the trace lists.
fn read_everything(trace: &Trace) -> Result<(), TraceError> {
    trace.steps()?;
    for step in &trace.manifest().captured {
        for file in &step.tensors {
            let layer = trace.layers().iter().find(|layer| layer.name == file.layer).unwrap();
            trace.tensor(step, layer, file.kind)?;
        }
    }
    Ok(())
}

/// `rows` lists of `width`.
fn lists(width: usize, rows: usize, nullable: bool) -> ArrayRef {
    let element = Arc::new(Field::new("element", DataType::Float32, nullable));
    let values = Arc::new(Float32Array::from(vec![0.5; width * rows]));
    Arc::new(FixedSizeListArray::new(element, width as i32, values, None))
}

#[test]
fn the_small_trace_is_whole() {
    let dir = small();
    let trace = Trace::open(dir.path()).unwrap();
    read_everything(&trace).unwrap();
    assert_eq!(trace.manifest().captured.iter().map(|step| step.tensors.len()).collect::<Vec<_>>(), [9, 9]);
}

#[test]
fn a_folder_without_a_manifest_is_not_a_trace() {
    let dir = small();
    fs::remove_file(dir.path().join("manifest.json")).unwrap();
    let file = dir.path().join("steps.parquet");
    for path in [dir.path(), &dir.path().join("nowhere"), &file] {
        let error = open_error(path);
        assert!(matches!(error, TraceError::NotATrace { .. }), "{error:?}");
        assert_says(&error, path, &["no manifest.json", "mercury-tracer capture --out"]);
    }
}

#[test]
fn a_manifest_that_is_not_json() {
    let dir = small();
    let path = dir.path().join("manifest.json");
    let whole = fs::read(&path).unwrap();
    let broken: [&[u8]; 7] =
        [b"", b"{", b"schema_version = 1", b"[]", b"null", b"{\"schema_version\": -1}", &whole[..whole.len() / 2]];
    for text in broken {
        fs::write(&path, text).unwrap();
        assert_invalid(&open_error(dir.path()), &path, "manifest", &["line"]);
    }
    fs::write(&path, b"\xff\xfe{\x00").unwrap();
    assert_invalid(&open_error(dir.path()), &path, "manifest", &["UTF-8"]);
}

#[test]
fn a_manifest_that_lacks_a_key_or_has_another_type_there() {
    let required = [
        ("", "schema_version created_by model dataset seed training versions device sampling captured complete"),
        ("/model", "name parameters input classes"),
        ("/dataset", "name train_samples validation_samples"),
        ("/training", "steps batch_size learning_rate momentum weight_decay"),
        ("/sampling", "channels grad_channels filters"),
        ("/captured/1", "step samples dataset_indices tensors"),
        ("/captured/1/tensors/8", "layer kind rows width bytes"),
    ];
    let dir = small();
    let path = dir.path().join("manifest.json");
    let whole = read_json(&path);
    for (parent, keys) in required {
        for key in keys.split(' ') {
            let mut manifest = whole.clone();
            let removed = manifest.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
            assert!(removed.is_some(), "{parent}/{key}");
            fs::write(&path, manifest.to_string()).unwrap();
            assert_invalid(&open_error(dir.path()), &path, "manifest", &[&format!("missing field `{key}`")]);
            let mut manifest = whole.clone();
            manifest.pointer_mut(parent).unwrap()[key] = if key == "complete" { json!(0) } else { json!(false) };
            fs::write(&path, manifest.to_string()).unwrap();
            assert_invalid(&open_error(dir.path()), &path, "manifest", &["invalid type"]);
        }
    }
}

#[test]
fn a_manifest_of_a_newer_schema() {
    // The rest of it may be unlike anything known today.
    for text in [r#"{"schema_version": 2}"#, r#"{"schema_version": 2, "captured": "elsewhere"}"#] {
        let dir = small();
        let path = dir.path().join("manifest.json");
        fs::write(&path, text).unwrap();
        let error = open_error(dir.path());
        assert!(matches!(error, TraceError::NewerSchema { found: 2, known: 1, .. }), "{error:?}");
        assert_says(&error, &path, &["schema_version is 2", "up to 1", "update it"]);
    }
}

#[test]
fn a_missing_table() {
    let dir = small();
    let trace = Trace::open(dir.path()).unwrap();
    let steps = dir.path().join("steps.parquet");
    fs::remove_file(&steps).unwrap();
    let error = trace.steps().unwrap_err();
    assert!(matches!(error, TraceError::MissingTensor { .. }), "{error:?}");
    assert_says(&error, &steps, &["missing"]);
    let layers = dir.path().join("layers.parquet");
    fs::remove_file(&layers).unwrap();
    let error = open_error(dir.path());
    assert!(matches!(error, TraceError::MissingTensor { .. }), "{error:?}");
    assert_says(&error, &layers, &["missing"]);
}

#[test]
fn a_table_that_is_not_whole_parquet() {
    let dir = small();
    let trace = Trace::open(dir.path()).unwrap();
    let paths = ["layers.parquet", "steps.parquet"].map(|name| dir.path().join(name));
    for path in &paths {
        let whole = fs::read(path).unwrap();
        let read =
            || if path.ends_with("layers.parquet") { open_error(dir.path()) } else { trace.steps().unwrap_err() };
        for length in lengths(whole.len()) {
            fs::write(path, &whole[..length]).unwrap();
            assert_parquet(&read(), path);
        }
        fs::write(path, "index,name\n0,features.0\n").unwrap();
        assert_parquet(&read(), path);
        fs::write(path, &whole).unwrap();
    }
}

#[test]
fn a_table_without_a_column() {
    let columns = "name op in_channels out_channels rows groups input_height input_width output_height output_width \
        kernel_height kernel_width stride_height stride_width padding_height padding_width dilation_height \
        dilation_width input_grad";
    for name in columns.split_whitespace() {
        let (dir, path) = with_layers_column(name, |_| None);
        assert_invalid(&open_error(dir.path()), &path, name, &["missing"]);
    }
    for name in ["step", "epoch", "loss", "accuracy", "learning_rate", "seconds", "captured"] {
        let dir = small();
        let path = dir.path().join("steps.parquet");
        let columns = read_columns(&path).into_iter().filter(|(field, _)| field.name() != name).collect();
        write_columns(&path, columns);
        assert_invalid(&Trace::open(dir.path()).unwrap().steps().unwrap_err(), &path, name, &["missing"]);
    }
}

#[test]
fn a_table_with_a_column_of_another_type() {
    let others: [(&str, ArrayRef, &[&str]); 5] = [
        ("in_channels", Arc::new(UInt64Array::from(vec![4, 7, 4])), &["UInt64", "UInt32"]),
        ("in_channels", Arc::new(UInt32Array::from(vec![Some(4), None, Some(4)])), &["null"]),
        ("name", Arc::new(UInt32Array::from(vec![0, 1, 2])), &["UInt32", "Utf8"]),
        ("op", Arc::new(Float64Array::from(vec![0.0; 3])), &["Float64", "Utf8"]),
        ("input_grad", Arc::new(UInt32Array::from(vec![0, 1, 1])), &["UInt32", "Boolean"]),
    ];
    for (name, array, parts) in others {
        let (dir, path) = with_layers_column(name, |_| Some(array));
        assert_invalid(&open_error(dir.path()), &path, name, parts);
    }
    let dir = small();
    let path = dir.path().join("steps.parquet");
    let mut columns = read_columns(&path);
    columns[2] = column("loss", Arc::new(BooleanArray::from(vec![true; 6])));
    write_columns(&path, columns);
    let error = Trace::open(dir.path()).unwrap().steps().unwrap_err();
    assert_invalid(&error, &path, "loss", &["Boolean", "Float64"]);
}

#[test]
fn a_layer_name_that_is_none() {
    let long = "x".repeat(201);
    let names =
        ["../x", "..", ".", "", "/etc", "a/b", "a\\b", ".hidden", "a.", "a..b", "a b", "a\0b", "é", "a=b", &long];
    for name in names {
        let (dir, path) = with_layer_names([CONV, name, ATTENTION]);
        assert_invalid(&open_error(dir.path()), &path, "name", &[&format!("{name:?}")]);
    }
    let (dir, path) = with_layer_names([CONV, FC, CONV]);
    assert_invalid(&open_error(dir.path()), &path, "name", &[CONV, "twice"]);
}

#[test]
fn a_layer_that_cannot_be() {
    let cases: &[(&str, usize, u32, &str)] = &[
        ("in_channels", 0, 0, "in_channels is 0"),
        ("out_channels", 0, 0, "out_channels is 0"),
        ("groups", 0, 0, "groups is 0"),
        ("groups", 0, 3, "groups is 3, which must divide in_channels (4)"),
        ("in_channels", 0, (1 << 24) + 2, "in_channels is 16777218"),
        ("in_channels", 0, u32::MAX, "in_channels is 4294967295"),
        ("input_height", 0, 0, "input is 0"),
        ("kernel_width", 0, 0, "kernel is 0"),
        ("kernel_height", 0, 8, "kernel reaches over 8 elements, but the padded input has 7"),
        ("kernel_height", 0, u32::MAX, "kernel is 4294967295"),
        ("stride_width", 0, 0, "stride is 0"),
        ("padding_height", 0, u32::MAX, "padding is 4294967295"),
        ("dilation_height", 0, 0, "dilation is 0"),
        ("dilation_height", 0, 1 << 24, "kernel reaches over 33554433"),
        ("output_height", 0, 4, "output size"),
        ("output_width", 0, 0, "output size"),
        ("rows", 0, 2, "contradict"),
        ("rows", 1, 0, "rows is 0"),
        ("in_channels", 1, 0, "in_features is 0"),
        ("out_channels", 1, 0, "out_features is 0"),
        ("groups", 1, 2, "contradict"),
        ("kernel_width", 1, 3, "contradict"),
        ("padding_width", 1, 1, "contradict"),
        ("groups", 2, 0, "heads is 0"),
        ("rows", 2, 0, "rows is 0"),
        ("in_channels", 2, 0, "inner is 0"),
        ("out_channels", 2, 0, "columns is 0"),
        ("input_height", 2, 3, "contradict"),
    ];
    for &(name, row, number, says) in cases {
        let (dir, path) = with_layer_numbers(name, &[(row, number)]);
        let layer = [CONV, FC, ATTENTION][row];
        assert_invalid(&open_error(dir.path()), &path, &format!("layer {layer}"), &[says]);
    }
    let ops = ["conv3d", "linear", "attention"];
    let (dir, path) = with_layers_column("op", |_| Some(Arc::new(StringArray::from(ops.to_vec()))));
    assert_invalid(&open_error(dir.path()), &path, "layer features.0", &["conv3d", "conv2d, linear, attention"]);
}

/// Each dimension is possible, their products are not: rows of 2^48 values, filters of 2^64.
#[test]
fn a_layer_too_large_to_be_stored() {
    const SIDE: u32 = 1 << 24;
    let dir = small();
    let path = dir.path().join("layers.parquet");
    let mut columns = read_columns(&path);
    let changes = [
        ("in_channels", SIDE),
        ("groups", 1),
        ("input_height", SIDE),
        ("input_width", SIDE),
        ("kernel_height", 1 << 20),
        ("kernel_width", 1 << 20),
        ("stride_height", SIDE),
        ("stride_width", SIDE),
        ("padding_height", 0),
        ("dilation_width", 1),
        ("output_height", 1),
        ("output_width", 1),
    ];
    for (name, number) in changes {
        let (_, array) = columns.iter_mut().find(|(field, _)| field.name() == name).unwrap();
        let mut numbers = array.as_primitive::<UInt32Type>().values().to_vec();
        numbers[0] = number;
        *array = Arc::new(UInt32Array::from(numbers));
    }
    write_columns(&path, columns);
    assert_invalid(&open_error(dir.path()), &path, "layer features.0", &["values"]);
}

#[test]
fn a_manifest_that_lists_a_tensor_of_an_unknown_layer() {
    let (dir, path) = with_manifest(|m| m["captured"][1]["tensors"][3]["layer"] = json!("../fc"));
    let says = ["\"../fc\"", "not in layers.parquet"];
    assert_invalid(&open_error(dir.path()), &path, "captured step 5", &says);
}

#[test]
fn a_manifest_that_lists_a_tensor_of_another_kind() {
    let (dir, path) = with_manifest(|m| m["captured"][1]["tensors"][3]["kind"] = json!("bias"));
    assert_invalid(&open_error(dir.path()), &path, "manifest", &["bias", "grad_output"]);
}

#[test]
fn a_manifest_that_lists_a_tensor_twice() {
    let (dir, path) = with_manifest(|m| m["captured"][0]["tensors"][1] = m["captured"][0]["tensors"][0].clone());
    assert_invalid(&open_error(dir.path()), &path, "captured step 0", &["input", CONV, "twice"]);
}

#[test]
fn a_manifest_whose_rows_or_width_are_not_those_of_the_geometry() {
    for (key, number) in [("rows", json!(3)), ("rows", json!(u64::MAX)), ("width", json!(0)), ("width", json!(21))] {
        let (dir, path) = with_manifest(|m| m["captured"][0]["tensors"][0][key] = number.clone());
        let says = ["input", CONV, "4 of 20", &number.to_string()];
        assert_invalid(&open_error(dir.path()), &path, "captured step 0", &says);
    }
}

#[test]
fn a_manifest_whose_samples_are_not_of_the_batch() {
    for samples in [json!([3, 1]), json!([1, 1]), json!([1, 4]), json!([]), json!([1])] {
        let (dir, path) = with_manifest(|m| m["captured"][1]["samples"] = samples);
        let says = ["samples", "ascend", "batch_size"];
        assert_invalid(&open_error(dir.path()), &path, "captured step 5", &says);
    }
    let (dir, path) = with_manifest(|m| m["captured"][1]["dataset_indices"] = json!([42, 17, 1]));
    assert_invalid(&open_error(dir.path()), &path, "captured step 5", &["one dataset index each"]);
}

#[test]
fn a_manifest_whose_steps_do_not_ascend() {
    for step in [json!(0), json!(5)] {
        let (dir, path) = with_manifest(|m| {
            m["captured"][0]["step"] = json!(5);
            m["captured"][1]["step"] = step;
        });
        assert_invalid(&open_error(dir.path()), &path, "captured", &["ascend"]);
    }
}

#[test]
fn a_manifest_that_kept_what_the_layer_does_not_have() {
    for map in ["channels", "grad_channels", "filters"] {
        for kept in [json!([]), json!([1, 0]), json!([2, 2]), json!([0, 6])] {
            let (dir, path) = with_manifest(|m| m["sampling"][map][CONV] = kept);
            assert_invalid(&open_error(dir.path()), &path, &format!("sampling.{map}"), &[CONV, "ascend"]);
        }
        let (dir, path) = with_manifest(|m| m["sampling"][map]["classifier.6"] = json!([0]));
        let says = ["classifier.6", "not in layers.parquet"];
        assert_invalid(&open_error(dir.path()), &path, &format!("sampling.{map}"), &says);
    }
}

/// The tensors of an attention product, and X and dY of a linear layer, are always kept whole.
#[test]
fn a_manifest_that_samples_what_is_kept_whole() {
    let cases = [("channels", FC), ("grad_channels", FC)];
    let attention = ["channels", "grad_channels", "filters"].map(|map| (map, ATTENTION));
    for (map, layer) in cases.into_iter().chain(attention) {
        let (dir, path) = with_manifest(|m| m["sampling"][map][layer] = json!([0, 2]));
        assert_invalid(&open_error(dir.path()), &path, &format!("sampling.{map}"), &[layer, "whole"]);
    }
}

#[test]
fn a_missing_tensor() {
    let tensor = Tensor::of(FC, TensorKind::Weight);
    fs::remove_file(&tensor.path).unwrap();
    let error = tensor.error();
    assert!(matches!(error, TraceError::MissingTensor { .. }), "{error:?}");
    assert_says(&error, &tensor.path, &["layer=fc/weight.parquet", "missing", "manifest.json lists it"]);
}

#[test]
fn a_tensor_that_was_not_captured() {
    let (dir, path) = with_manifest(|m| drop(m["captured"][0]["tensors"].as_array_mut().unwrap().remove(2)));
    let trace = Trace::open(dir.path()).unwrap();
    let error = trace.tensor(&trace.manifest().captured[0], &trace.layers()[0], TensorKind::Weight).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    for part in ["captured step 0", "weight of layer features.0", "capture it, or leave the layer out"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_truncated_tensor() {
    for (layer, kind) in [(CONV, TensorKind::Input), (ATTENTION, TensorKind::Weight)] {
        let tensor = Tensor::of(layer, kind);
        let whole = fs::read(&tensor.path).unwrap();
        for length in lengths(whole.len()) {
            fs::write(&tensor.path, &whole[..length]).unwrap();
            assert_parquet(&tensor.error(), &tensor.path);
        }
    }
}

/// The footer is whole and agrees with the manifest, but pages are gone: a hole in a sparse copy.
#[test]
fn a_tensor_with_a_hole() {
    let tensor = Tensor::of(CONV, TensorKind::Input);
    let whole = fs::read(&tensor.path).unwrap();
    let footer = u32::from_le_bytes(whole[whole.len() - 8..][..4].try_into().unwrap()) as usize + 8;
    let mut holed = whole.clone();
    holed[4..whole.len() - footer].fill(0);
    fs::write(&tensor.path, holed).unwrap();
    assert_parquet(&tensor.error(), &tensor.path);
}

/// Whoever skips over errors must come to an end: the Parquet reader repeats its own for ever.
#[test]
fn a_reader_ends_with_its_first_error() {
    let tensor = Tensor::of(CONV, TensorKind::Input);
    let step = &tensor.trace.manifest().captured[0];
    let items = || {
        let reader = tensor.trace.reader(step, &tensor.trace.layers()[tensor.layer], tensor.kind).unwrap();
        reader.take(10).map(|item| item.is_ok()).collect::<Vec<bool>>()
    };
    assert_eq!(items(), [true]);
    let mut damaged = fs::read(&tensor.path).unwrap();
    damaged[4..200].fill(0);
    fs::write(&tensor.path, damaged).unwrap();
    assert_eq!(items(), [false]);
    tensor.rewrite(&tensor.keys(), |row| if row == 1 { f32::NAN } else { 0.5 });
    assert_eq!(items(), [false]);
}

/// Parquet pages carry no checksum, so a changed value may pass; what must not happen is a panic,
/// a read without end, or a tensor of another shape than the manifest's.
#[test]
fn a_tensor_or_table_with_any_byte_changed() {
    let tensor = Tensor::of(CONV, TensorKind::Input);
    let whole = fs::read(&tensor.path).unwrap();
    let expected = tensor.read().unwrap();
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] ^= [0xff, 0x01, 0x80][index % 3];
        fs::write(&tensor.path, bytes).unwrap();
        if let Ok(found) = tensor.read() {
            assert_eq!((&found.shape, &found.keys), (&expected.shape, &expected.keys));
            assert_eq!(found.values.len(), expected.values.len());
        }
    }
    let dir = tensor.dir.path();
    for name in ["layers.parquet", "steps.parquet"] {
        let path = dir.join(name);
        let whole = fs::read(&path).unwrap();
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 0xff;
            fs::write(&path, bytes).unwrap();
            // Either answer will do.
            let _ = Trace::open(dir).map(|trace| trace.steps());
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn another_parquet_file_in_the_place_of_a_tensor() {
    let tensor = Tensor::of(CONV, TensorKind::Input);
    fs::copy(tensor.dir.path().join("steps.parquet"), &tensor.path).unwrap();
    assert_invalid(&tensor.error(), &tensor.path, "sample", &["column step", "UInt64", "UInt32"]);

    let other = Tensor::of(CONV, TensorKind::Weight);
    fs::copy(&other.path, &tensor.path).unwrap();
    assert_invalid(&tensor.error(), &tensor.path, "sample", &["column filter"]);

    let tensor = Tensor::of(FC, TensorKind::Input);
    let mut columns = read_columns(&tensor.path);
    columns.pop();
    write_columns(&tensor.path, columns.clone());
    assert_invalid(&tensor.error(), &tensor.path, "values", &["missing"]);
}

#[test]
fn a_tensor_with_a_column_too_many() {
    let tensor = Tensor::of(CONV, TensorKind::Input);
    let mut columns = read_columns(&tensor.path);
    columns.push(column("extra", Arc::new(UInt32Array::from(vec![0; 4]))));
    write_columns(&tensor.path, columns);
    assert_invalid(&tensor.error(), &tensor.path, "extra", &["not the tensor file"]);
}

#[test]
fn a_tensor_with_a_column_of_another_type() {
    let tensor = Tensor::of(CONV, TensorKind::Input);
    tensor.replace(0, |_| column("sample", Arc::new(UInt64Array::from(vec![1, 1, 3, 3]))));
    assert_invalid(&tensor.error(), &tensor.path, "sample", &["UInt64", "UInt32"]);

    tensor.rewrite(&tensor.keys(), |_| 0.5);
    tensor.replace(1, |_| column("channel", Arc::new(UInt32Array::from(vec![Some(1), None, Some(1), Some(3)]))));
    assert_invalid(&tensor.error(), &tensor.path, "channel", &["no nulls"]);

    tensor.rewrite(&tensor.keys(), |_| 0.5);
    tensor.replace(2, |_| column("values", lists(21, 4, false)));
    assert_invalid(&tensor.error(), &tensor.path, "values", &["21", "20"]);

    tensor.replace(2, |_| column("values", lists(20, 4, true)));
    assert_invalid(&tensor.error(), &tensor.path, "values", &["no nulls"]);

    tensor.replace(2, |_| (Field::new("values", lists(20, 0, false).data_type().clone(), true), lists(20, 4, false)));
    assert_invalid(&tensor.error(), &tensor.path, "values", &["no nulls"]);

    tensor.replace(2, |_| {
        let element = Arc::new(Field::new("element", DataType::Float64, false));
        let values = Arc::new(Float64Array::from(vec![0.5; 80]));
        column("values", Arc::new(FixedSizeListArray::new(element, 20, values, None)))
    });
    assert_invalid(&tensor.error(), &tensor.path, "values", &["Float64", "Float32"]);

    tensor.replace(2, |_| column("values", Arc::new(Float32Array::from(vec![0.5; 4]))));
    assert_invalid(&tensor.error(), &tensor.path, "values", &["FixedSizeList"]);
}

#[test]
fn a_tensor_of_another_number_of_rows() {
    for (layer, kind) in [(CONV, TensorKind::GradOutput), (FC, TensorKind::Input), (ATTENTION, TensorKind::Input)] {
        let tensor = Tensor::of(layer, kind);
        let whole = tensor.keys();
        let more = [whole.as_slice(), &[vec![9; whole[0].len()]]].concat();
        for keys in [&whole[..0], &whole[..whole.len() - 1], &more] {
            tensor.rewrite(keys, |_| 0.5);
            let says = [format!("the file has {}", keys.len()), format!("manifest.json says {}", whole.len())];
            assert_invalid(&tensor.error(), &tensor.path, "number of rows", &[&says[0], &says[1]]);
        }
    }
}

#[test]
fn a_tensor_of_other_keys_than_the_manifests() {
    for layer in [CONV, FC, ATTENTION] {
        for kind in KINDS {
            let tensor = Tensor::of(layer, kind);
            let names = tensor.shape().keys;
            for key in 0..names.len() {
                // The last of the rows' keys becomes one that ascends still, but was not kept.
                let mut keys = tensor.keys();
                let last = keys.iter().map(|keys| keys[key]).max().unwrap();
                for row in keys.iter_mut().filter(|row| row[key] == last) {
                    row[key] += 7;
                }
                tensor.rewrite(&keys, |_| 0.5);
                assert_invalid(&tensor.error(), &tensor.path, names[key], &["keys", "manifest.json"]);
            }
            tensor.rewrite(&tensor.keys(), |_| 0.5);
            tensor.read().unwrap();
        }
    }
}

#[test]
fn a_tensor_whose_keys_do_not_ascend() {
    let tensor = Tensor::of(CONV, TensorKind::Input);
    let keys = tensor.keys();
    let mut swapped = keys.clone();
    swapped.swap(1, 2);
    let mut twice = keys.clone();
    twice[2] = keys[1].clone();
    for (keys, says) in [(swapped, "row 2 ([1, 3]) does not come after [3, 1]"), (twice, "row 2 ([1, 3])")] {
        tensor.rewrite(&keys, |_| 0.5);
        assert_invalid(&tensor.error(), &tensor.path, "sample, channel", &[says]);
    }
}

/// The order is checked across the parts in which a file is streamed, too.
#[test]
fn keys_that_do_not_ascend_from_one_part_to_the_next() {
    use mercury_trace::geometry::{Geometry, Linear};
    let shape = TensorShape::of(
        &Geometry::Linear(Linear { rows: 1, in_features: 1 << 20, out_features: 1 }),
        TensorKind::Input,
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input.parquet");
    let values = vec![0.5; shape.width];
    let mut writer = TensorWriter::create(&path, shape.clone(), &[]).unwrap();
    for sample in [0, 1, 1] {
        writer.push(&[sample, 0], &values).unwrap();
    }
    writer.finish().unwrap();
    let mut reader = mercury_trace::read::TensorReader::open(&path, shape, 3).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().keys, [[0], [0]]);
    assert_eq!(reader.next().unwrap().unwrap().keys, [[1], [0]]);
    assert_invalid(&reader.next().unwrap().unwrap_err(), &path, "sample, row", &["row 2 ([1, 0])"]);
}

#[test]
fn values_that_are_not_finite() {
    let tensor = Tensor::of(ATTENTION, TensorKind::GradOutput);
    for (bad, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf"), (-f32::NAN, "NaN")] {
        for at in [0, 4, tensor.keys().len() - 1] {
            tensor.rewrite(&tensor.keys(), |row| if row == at { bad } else { f32::MAX });
            let error = tensor.error();
            assert!(matches!(error, TraceError::NotFinite { row, .. } if row == at as u64), "{error:?}");
            let row = format!("row {at} holds {name};");
            assert_says(&error, &tensor.path, &["values", &row, "diverged", "leave the step out"]);
        }
    }
}

#[test]
fn an_output_folder_that_is_not_empty() {
    let dir = small();
    let before = read_json(&dir.path().join("manifest.json"));
    for leftover in ["manifest.json", ".hidden"] {
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join(leftover), "").unwrap();
        for path in [dir.path(), other.path()] {
            let Err(error) = TraceWriter::create(path, manifest(4, sampling()), common::layers()) else {
                panic!("overwrites {}", path.display());
            };
            assert!(matches!(error, TraceError::NotEmpty { .. }), "{error:?}");
            assert_says(&error, path, &["not empty", "choose another folder or remove it"]);
        }
    }
    assert_eq!(read_json(&dir.path().join("manifest.json")), before);
    read_everything(&Trace::open(dir.path()).unwrap()).unwrap();
}

/// What the operating system refuses is told in its words.
#[test]
fn an_output_folder_that_cannot_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    for path in [file.join("trace"), file.clone()] {
        let Err(error) = TraceWriter::create(&path, manifest(4, sampling()), common::layers()) else {
            panic!("writes to {}", path.display());
        };
        assert!(matches!(error, TraceError::Io { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}: ", path.display())), "{text}");
        assert!(text.contains("Not a directory") || text.contains("exists"), "{text}");
        // A report of the whole chain of causes must not say the same twice.
        assert!(std::error::Error::source(&error).is_none_or(|cause| !text.contains(&cause.to_string())), "{error:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}
