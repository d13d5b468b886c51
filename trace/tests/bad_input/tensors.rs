//! Tests of tensor files that are damaged, or differ from the manifest.

use crate::common::{ATTENTION, CONV, FC, KINDS, keys, sampling, small};
use crate::manifest::with_manifest;
use crate::{
    assert_invalid, assert_parquet, assert_says, column, overwrite, read_columns, sample_lengths, write_columns,
};
use arrow::array::{
    Array, ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Float64Array, ListArray, UInt32Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use half::f16;
use mercury_trace::geometry::{Geometry, Linear};
use mercury_trace::read;
use mercury_trace::tensor::{Dtype, TensorKind, TensorShape, TensorWriter};
use mercury_trace::{Trace, TraceError};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// A small trace, and a tensor of its first captured step.
struct TestTensor {
    dir: tempfile::TempDir,
    trace: Trace,
    layer: usize,
    kind: TensorKind,
    path: PathBuf,
}

impl TestTensor {
    fn new(layer: &str, kind: TensorKind) -> Self {
        let dir = small();
        let trace = Trace::open(dir.path()).unwrap();
        let path = trace.path(&trace.manifest().captured[0], layer, kind);
        let layer = trace.layers().iter().position(|l| l.name == layer).unwrap();
        Self { dir, trace, layer, kind, path }
    }

    fn shape(&self) -> TensorShape {
        TensorShape::from_geometry(&self.trace.layers()[self.layer].geometry, self.kind, Dtype::F32)
    }

    fn keys(&self) -> Vec<Vec<u32>> {
        keys(&self.trace.layers()[self.layer], self.kind, &[1, 3], &sampling())
    }

    fn read(&self) -> Result<read::Tensor, TraceError> {
        self.trace.tensor(&self.trace.manifest().captured[0], &self.trace.layers()[self.layer], self.kind)
    }

    #[track_caller]
    fn error(&self) -> TraceError {
        Trace::open(self.dir.path()).expect("opening reads no tensors");
        self.read().expect_err("the file is broken")
    }

    /// Replaces the file by rows with these keys; `value` computes the values of each row.
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

/// Creates `rows` lists of `width` values.
fn lists(width: usize, rows: usize, nullable: bool) -> ArrayRef {
    let element = Arc::new(Field::new("element", DataType::Float32, nullable));
    let values = Arc::new(Float32Array::from(vec![0.5; width * rows]));
    Arc::new(FixedSizeListArray::new(element, width as i32, values, None))
}

#[test]
fn a_missing_tensor() {
    let tensor = TestTensor::new(FC, TensorKind::Weight);
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
        let tensor = TestTensor::new(layer, kind);
        let whole = fs::read(&tensor.path).unwrap();
        for length in sample_lengths(whole.len()) {
            overwrite(&tensor.path, &whole[..length]);
            assert_parquet(&tensor.error(), &tensor.path);
        }
    }
}

/// The footer agrees with the manifest, but pages are missing, as in a sparse copy.
#[test]
fn a_tensor_with_a_hole() {
    let tensor = TestTensor::new(CONV, TensorKind::Input);
    let whole = fs::read(&tensor.path).unwrap();
    let footer = u32::from_le_bytes(whole[whole.len() - 8..][..4].try_into().unwrap()) as usize + 8;
    let mut holed = whole.clone();
    holed[4..whole.len() - footer].fill(0);
    fs::write(&tensor.path, holed).unwrap();
    assert_parquet(&tensor.error(), &tensor.path);
}

/// A caller that ignores errors must reach an end, although the Parquet reader repeats its error
/// forever.
#[test]
fn a_reader_ends_with_its_first_error() {
    let tensor = TestTensor::new(CONV, TensorKind::Input);
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

/// Parquet pages have no checksum, so a changed value may pass. But reading must not panic, must
/// end, and must give a tensor of the manifest's shape.
#[test]
fn a_tensor_or_table_with_any_byte_changed() {
    let tensor = TestTensor::new(CONV, TensorKind::Input);
    let whole = fs::read(&tensor.path).unwrap();
    let expected = tensor.read().unwrap();
    for index in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[index] ^= [0xff, 0x01, 0x80][index % 3];
        overwrite(&tensor.path, &bytes);
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
            overwrite(&path, &bytes);
            // Both results are fine.
            let _ = Trace::open(dir).map(|trace| trace.steps());
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn another_parquet_file_in_the_place_of_a_tensor() {
    let tensor = TestTensor::new(CONV, TensorKind::Input);
    fs::copy(tensor.dir.path().join("steps.parquet"), &tensor.path).unwrap();
    assert_invalid(&tensor.error(), &tensor.path, "sample", &["column step", "sample, channel, values, in this order"]);

    let other = TestTensor::new(CONV, TensorKind::Weight);
    fs::copy(&other.path, &tensor.path).unwrap();
    assert_invalid(&tensor.error(), &tensor.path, "sample", &["column filter"]);

    let tensor = TestTensor::new(FC, TensorKind::Input);
    let mut columns = read_columns(&tensor.path);
    columns.pop();
    write_columns(&tensor.path, columns.clone());
    assert_invalid(&tensor.error(), &tensor.path, "values", &["missing"]);
}

#[test]
fn a_tensor_with_a_column_too_many() {
    let tensor = TestTensor::new(CONV, TensorKind::Input);
    let mut columns = read_columns(&tensor.path);
    columns.push(column("extra", Arc::new(UInt32Array::from(vec![0; 4]))));
    write_columns(&tensor.path, columns);
    assert_invalid(&tensor.error(), &tensor.path, "extra", &["not expected", "sample, channel, values, in this order"]);
}

#[test]
fn a_tensor_with_a_column_of_another_type() {
    let tensor = TestTensor::new(CONV, TensorKind::Input);
    tensor.replace(0, |_| column("sample", Arc::new(Float64Array::from(vec![1.0, 1.0, 3.0, 3.0]))));
    assert_invalid(&tensor.error(), &tensor.path, "sample", &["holds f64", "u32", "pa.uint32()", "pl.UInt32"]);

    tensor.rewrite(&tensor.keys(), |_| 0.5);
    tensor.replace(0, |_| column("sample", Arc::new(UInt64Array::from(vec![1, 1, 3, 1 << 32]))));
    assert_invalid(&tensor.error(), &tensor.path, "sample", &["row 3 holds 4294967296"]);

    tensor.rewrite(&tensor.keys(), |_| 0.5);
    tensor.replace(1, |_| column("channel", Arc::new(UInt32Array::from(vec![Some(1), None, Some(1), Some(3)]))));
    assert_invalid(&tensor.error(), &tensor.path, "channel", &["row 1 is null"]);

    tensor.rewrite(&tensor.keys(), |_| 0.5);
    tensor.replace(2, |_| column("values", lists(21, 4, false)));
    assert_invalid(&tensor.error(), &tensor.path, "values", &["row 0 has 21 values", "20"]);

    tensor.replace(2, |_| {
        let element = Arc::new(Field::new("element", DataType::Float64, false));
        let values = Arc::new(Float64Array::from(vec![0.5; 80]));
        column("values", Arc::new(FixedSizeListArray::new(element, 20, values, None)))
    });
    assert_invalid(&tensor.error(), &tensor.path, "values", &["lists of f64", "lists of 20 f32 each"]);

    tensor.replace(2, |_| {
        let values = Float16Array::from(vec![f16::from_f32(0.5); 80]);
        let element = Arc::new(Field::new("element", DataType::Float16, false));
        column("values", Arc::new(FixedSizeListArray::new(element, 20, Arc::new(values), None)))
    });
    assert_invalid(&tensor.error(), &tensor.path, "values", &["lists of f16", "sampling.dtype", "says f32"]);

    tensor.replace(2, |_| column("values", Arc::new(Float32Array::from(vec![0.5; 4]))));
    assert_invalid(&tensor.error(), &tensor.path, "values", &["holds f32", "lists of 20 f32 each"]);
}

/// Creates lists of these lengths; `nulls` marks null lists.
fn create_lists(lengths: [usize; 4], nulls: Option<NullBuffer>, values: Vec<Option<f32>>) -> ListArray {
    let is_nullable = nulls.is_some() || values.iter().any(Option::is_none);
    let element = Arc::new(Field::new("item", DataType::Float32, is_nullable));
    ListArray::new(element, OffsetBuffer::from_lengths(lengths), Arc::new(Float32Array::from(values)), nulls)
}

/// Arrow decodes nullable columns; our decoder reads the others.
#[test]
fn a_tensor_with_rows_of_different_lengths() {
    let tensor = TestTensor::new(CONV, TensorKind::Input);
    for (lengths, row, found) in [
        ([20, 19, 21, 20], 1, 19),
        ([20, 20, 20, 19], 3, 19),
        ([20, 20, 39, 0], 2, 39),
        ([20, 20, 40, 0], 2, 40),
        ([0, 40, 20, 20], 0, 0),
    ] {
        for is_nullable in [false, true] {
            tensor.rewrite(&tensor.keys(), |_| 0.5);
            let rows = create_lists(lengths, None, vec![Some(0.5); lengths.iter().sum()]);
            tensor.replace(2, |_| (Field::new("values", rows.data_type().clone(), is_nullable), Arc::new(rows)));
            let says = format!("row {row} has {found} values, but the layer's geometry gives 20");
            assert_invalid(&tensor.error(), &tensor.path, "values", &[&says]);
        }
    }
}

#[test]
fn a_tensor_with_nulls_among_its_values() {
    let tensor = TestTensor::new(CONV, TensorKind::Input);
    let nulls = NullBuffer::from(vec![true, true, false, true]);
    let row = create_lists([20, 20, 0, 20], Some(nulls), vec![Some(0.5); 60]);
    let mut values = vec![Some(0.5); 80];
    values[65] = None;
    let value = create_lists([20; 4], None, values);
    for (rows, says) in [(row, "row 2 is null"), (value, "row 3 has a null (value 5)")] {
        tensor.replace(2, |_| column("values", Arc::new(rows)));
        assert_invalid(&tensor.error(), &tensor.path, "values", &[says]);
    }
}

/// One of four rows has a million values.
#[test]
fn a_tensor_with_an_endless_row() {
    let tensor = TestTensor::new(CONV, TensorKind::Input);
    for is_nullable in [false, true] {
        tensor.rewrite(&tensor.keys(), |_| 0.5);
        let rows = create_lists([20, 4 << 20, 20, 20], None, vec![Some(0.5); (4 << 20) + 60]);
        tensor.replace(2, |_| (Field::new("values", rows.data_type().clone(), is_nullable), Arc::new(rows)));
        let error = tensor.error();
        assert_parquet(&error, &tensor.path);
        assert_says(&error, &tensor.path, &["its pages have more values than its rows can have"]);
    }
}

#[test]
fn a_tensor_of_another_number_of_rows() {
    for (layer, kind) in [(CONV, TensorKind::GradOutput), (FC, TensorKind::Input), (ATTENTION, TensorKind::Input)] {
        let tensor = TestTensor::new(layer, kind);
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
fn a_tensor_with_other_keys_than_the_manifest() {
    for layer in [CONV, FC, ATTENTION] {
        for kind in KINDS {
            let tensor = TestTensor::new(layer, kind);
            let names = tensor.shape().keys;
            for key in 0..names.len() {
                // The last row's key still ascends, but was not kept.
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
    let tensor = TestTensor::new(CONV, TensorKind::Input);
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

/// The order of keys is checked across the parts of a streamed file, too.
#[test]
fn keys_that_do_not_ascend_across_parts() {
    let shape = TensorShape::from_geometry(
        &Geometry::Linear(Linear { rows: 1, in_features: 1 << 20, out_features: 1 }),
        TensorKind::Input,
        Dtype::F32,
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input.parquet");
    let values = vec![0.5; shape.width];
    let mut writer = TensorWriter::create(&path, shape.clone(), &[]).unwrap();
    for sample in [0, 1, 1] {
        writer.push(&[sample, 0], &values).unwrap();
    }
    writer.finish().unwrap();
    let mut reader = read::TensorReader::open(&path, shape, 3).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().keys, [[0], [0]]);
    assert_eq!(reader.next().unwrap().unwrap().keys, [[1], [0]]);
    assert_invalid(&reader.next().unwrap().unwrap_err(), &path, "sample, row", &["row 2 ([1, 0])"]);
}

#[test]
fn values_that_are_not_finite() {
    let tensor = TestTensor::new(ATTENTION, TensorKind::GradOutput);
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
