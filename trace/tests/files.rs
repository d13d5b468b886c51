//! Tests of a tensor's Parquet file: metadata, encodings, row groups, batches.

mod common;

use common::{CONV, manifest, small, step, value};
use mercury_trace::geometry::{Geometry, Linear};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{CapturedStep, Sampling};
use mercury_trace::tensor::{ROW_GROUP_BYTES, TensorKind};
use mercury_trace::{Trace, TraceWriter};
use parquet::basic::{Compression, Encoding};
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use std::collections::BTreeMap;
use std::fs::File;

#[test]
fn metadata_describe_the_file() {
    let dir = small();
    let trace = Trace::open(dir.path()).unwrap();
    let captured = &trace.manifest().captured[1];
    let path = trace.path(captured, CONV, TensorKind::GradOutput);
    assert_eq!(path, dir.path().join("tensors/step=000005/layer=features.0/grad_output.parquet"));
    let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let metadata = file.metadata().file_metadata();
    let pairs = metadata.key_value_metadata().unwrap().iter().map(|pair| (pair.key.as_str(), pair.value.as_deref()));
    let mercury: BTreeMap<&str, Option<&str>> = pairs.filter(|(key, _)| key.starts_with("mercury.")).collect();
    let expected = [
        ("mercury.kind", Some("grad_output")),
        ("mercury.layer", Some("features.0")),
        ("mercury.op", Some("conv2d")),
        ("mercury.schema_version", Some("3")),
        ("mercury.step", Some("5")),
    ];
    assert_eq!(mercury, BTreeMap::from(expected));
    let values = file.metadata().row_group(0).column(2);
    assert_eq!(values.column_path().string(), "values.list.element");
    assert!(values.encodings().any(|encoding| encoding == Encoding::BYTE_STREAM_SPLIT));
    assert!(values.dictionary_page_offset().is_none());
    assert!(matches!(values.compression(), Compression::ZSTD(_)));
}

/// Rows are as wide as in VGG's first fully connected layer. Parquet limits row groups by rows, and
/// a million such rows would take 100 GB.
#[test]
fn large_tensors_are_cut_into_row_groups_and_batches() {
    const WIDTH: usize = 25_088;
    const ROWS: usize = 1_500;
    let geometry = Geometry::Linear(Linear { rows: 1, in_features: WIDTH as u32, out_features: 1 });
    let layers = vec![Layer { name: "classifier.0".into(), geometry, input_grad: true, weight_grad: true }];
    let samples: Vec<u32> = (0..ROWS as u32).collect();
    // Row `i` has the `WIDTH` values from the `i`th on.
    let values: Vec<f32> = (0..(WIDTH + ROWS) as u64).map(|index| value(3, index)).collect();
    let row = |i: usize| &values[i..i + WIDTH];

    let dir = tempfile::tempdir().unwrap();
    let mut writer = TraceWriter::create(dir.path(), manifest(ROWS as u32, Sampling::default()), &layers).unwrap();
    let rows = samples.iter().map(|&sample| ([sample, 0], row(sample as usize)));
    let tensors = vec![writer.files().write(0, &layers[0], TensorKind::Input, rows).unwrap()];
    let dataset_indices = vec![0; ROWS];
    writer.commit(CapturedStep { step: 0, samples, dataset_indices, tensors }, &[step(0)]).unwrap();

    let trace = Trace::open(dir.path()).unwrap();
    let captured = &trace.manifest().captured[0];
    let layer = &trace.layers()[0];
    let path = trace.path(captured, &layer.name, TensorKind::Input);
    let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let groups: Vec<usize> = file.metadata().row_groups().iter().map(|group| group.num_rows() as usize).collect();
    assert_eq!(groups, [ROW_GROUP_BYTES / (4 * WIDTH), ROWS - ROW_GROUP_BYTES / (4 * WIDTH)]);
    assert!(groups.iter().all(|rows| rows * WIDTH * 4 <= ROW_GROUP_BYTES));

    let (mut parts, mut seen) = (0, 0);
    for part in trace.reader(captured, layer, TensorKind::Input).unwrap() {
        let part = part.unwrap();
        parts += 1;
        assert!(size_of_val(part.values.as_slice()) <= 4 << 20, "streamed in small parts");
        for index in 0..part.rows() {
            assert_eq!([part.keys[0][index], part.keys[1][index]], [seen as u32, 0]);
            assert!(part.row(index).iter().zip(row(seen)).all(|(a, b)| a.to_bits() == b.to_bits()), "row {seen}");
            seen += 1;
        }
    }
    assert_eq!(seen, ROWS);
    assert!(parts > 30, "{parts} parts");
}
