//! Tests of tables that are damaged, or describe impossible layers.

use crate::common::{ATTENTION, CONV, FC, small};
use crate::{
    assert_invalid, assert_parquet, assert_says, column, open_error, overwrite, read_columns, sample_lengths,
    write_columns,
};
use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::UInt32Type;
use mercury_trace::{Trace, TraceError};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// Creates a small trace with a changed column of `layers.parquet`.
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

/// Creates a small trace with changed numbers of layers, by row.
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

#[test]
fn a_missing_table() {
    let dir = small();
    let trace = Trace::open(dir.path()).unwrap();
    let steps = dir.path().join("steps.parquet");
    fs::remove_file(&steps).unwrap();
    let error = trace.steps().unwrap_err();
    assert!(matches!(error, TraceError::MissingTable { .. }), "{error:?}");
    assert_says(&error, &steps, &["missing"]);
    let layers = dir.path().join("layers.parquet");
    fs::remove_file(&layers).unwrap();
    let error = open_error(dir.path());
    assert!(matches!(error, TraceError::MissingTable { .. }), "{error:?}");
    assert_says(&error, &layers, &["missing"]);
}

#[test]
fn a_damaged_table() {
    let dir = small();
    let trace = Trace::open(dir.path()).unwrap();
    let paths = ["layers.parquet", "steps.parquet"].map(|name| dir.path().join(name));
    for path in &paths {
        let whole = fs::read(path).unwrap();
        let read =
            || if path.ends_with("layers.parquet") { open_error(dir.path()) } else { trace.steps().unwrap_err() };
        for length in sample_lengths(whole.len()) {
            overwrite(path, &whole[..length]);
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
    let others: [(&str, ArrayRef, &[&str]); 7] = [
        ("in_channels", Arc::new(UInt64Array::from(vec![4, 1 << 32, 4])), &["row 1 holds 4294967296", "not a u32"]),
        ("macs", Arc::new(Int64Array::from(vec![4, 7, -1])), &["row 2 holds -1", "not a u64"]),
        ("in_channels", Arc::new(UInt32Array::from(vec![Some(4), None, Some(4)])), &["row 1 is null"]),
        ("name", Arc::new(UInt32Array::from(vec![0, 1, 2])), &["holds u32", "string", "pa.string()", "pl.String"]),
        ("op", Arc::new(Float64Array::from(vec![0.0; 3])), &["holds f64", "string"]),
        ("op", Arc::new(BinaryArray::from_vec(vec![b"linear", b"\xff", b"linear"])), &["row 1 holds ff", "UTF-8"]),
        ("input_grad", Arc::new(UInt32Array::from(vec![0, 1, 1])), &["holds u32", "bool", "pa.bool_()", "pl.Boolean"]),
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
    assert_invalid(&error, &path, "loss", &["holds bool", "f64", "pl.Float64"]);
}

#[test]
fn an_invalid_layer_name() {
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
fn an_impossible_layer() {
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
    let ops = ["conv3d", "linear", "matmul"];
    let (dir, path) = with_layers_column("op", |_| Some(Arc::new(StringArray::from(ops.to_vec()))));
    assert_invalid(&open_error(dir.path()), &path, "layer features.0", &["conv3d", "conv2d, linear, matmul"]);
}

/// Each dimension is possible, but not their products: planes of 2^48 values, filters of 2^64
/// values.
#[test]
fn a_layer_too_large_to_be_stored() {
    const SIDE: u32 = 1 << 24;
    for (in_channels, kernel) in [(1, 1), (SIDE, 1 << 20)] {
        let changes = [
            ("in_channels", in_channels),
            ("out_channels", 1),
            ("groups", 1),
            ("input_height", SIDE),
            ("input_width", SIDE),
            ("kernel_height", kernel),
            ("kernel_width", kernel),
            ("stride_height", SIDE),
            ("stride_width", SIDE),
            ("padding_height", 0),
            ("dilation_width", 1),
            ("output_height", 1),
            ("output_width", 1),
        ];
        let dir = small();
        let path = dir.path().join("layers.parquet");
        let mut columns = read_columns(&path);
        for (name, number) in changes {
            let (_, array) = columns.iter_mut().find(|(field, _)| field.name() == name).unwrap();
            let mut numbers = array.as_primitive::<UInt32Type>().values().to_vec();
            numbers[0] = number;
            *array = Arc::new(UInt32Array::from(numbers));
        }
        write_columns(&path, columns);
        assert_invalid(&open_error(dir.path()), &path, "layer features.0", &["more than"]);
    }
}
