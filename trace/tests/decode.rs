//! Tensor files as others may write them: any sizes of row groups and pages, versions and encodings.

use arrow::array::{ArrayRef, FixedSizeListArray, Float16Array, Float32Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use half::f16;
use mercury_trace::TraceError;
use mercury_trace::read::TensorReader;
use mercury_trace::tensor::{Dtype, TensorShape};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn shape(width: usize, dtype: Dtype) -> TensorShape {
    TensorShape { keys: &["sample", "channel"], width, dtype }
}

/// Numbers that f16 holds, with repetitions, which a dictionary can make use of.
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 61) as f32 / 8.0 - 3.0).collect()
}

/// Writes so many rows, of two keys each.
fn write(path: &Path, rows: usize, shape: &TensorShape, properties: WriterProperties) {
    let values = values(rows * shape.width);
    let (kind, values): (_, ArrayRef) = match shape.dtype {
        Dtype::F32 => (DataType::Float32, Arc::new(Float32Array::from(values))),
        Dtype::F16 => {
            (DataType::Float16, Arc::new(Float16Array::from_iter_values(values.into_iter().map(f16::from_f32))))
        }
    };
    let element = Arc::new(Field::new("element", kind, false));
    let lists = FixedSizeListArray::new(element, shape.width as i32, values, None);
    let keys = |key: fn(u32) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values((0..rows as u32).map(key))) };
    let columns = [("sample", keys(|row| row / 3)), ("channel", keys(|row| row % 3)), ("values", Arc::new(lists))];
    let schema = Schema::new(
        columns.each_ref().map(|(name, array)| Field::new(*name, array.data_type().clone(), false)).to_vec(),
    );
    let batch = RecordBatch::try_new(Arc::new(schema), columns.map(|(_, array)| array).to_vec()).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_file_is_cut_into_its_rows_are_read(
        rows in 1usize..200, width in 1usize..40, half: bool, second: bool,
        (group, page, batch) in (1usize..90, 1usize..400, 1usize..100),
        encoding in prop::option::of(prop::sample::select(vec![Encoding::PLAIN, Encoding::BYTE_STREAM_SPLIT])),
        compressed: bool, at_a_time in 1usize..70,
    ) {
        let shape = shape(width, if half { Dtype::F16 } else { Dtype::F32 });
        let leaf = ColumnPath::new(["values", "list", "element"].map(String::from).to_vec());
        let mut properties = WriterProperties::builder()
            .set_writer_version(if second { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 })
            .set_compression(if compressed { Compression::ZSTD(ZstdLevel::default()) } else { Compression::UNCOMPRESSED })
            .set_max_row_group_row_count(Some(group))
            .set_data_page_row_count_limit(page)
            .set_write_batch_size(batch);
        // Else by a dictionary.
        if let Some(encoding) = encoding {
            properties = properties.set_column_dictionary_enabled(leaf.clone(), false).set_column_encoding(leaf, encoding);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.parquet");
        write(&path, rows, &shape, properties.build());

        let mut reader = TensorReader::open(&path, shape.clone(), rows as u64).unwrap();
        let (mut keys, mut found) = (Vec::new(), Vec::new());
        while keys.len() < rows {
            let part = reader.next_rows(at_a_time).unwrap();
            keys.extend((0..part.rows()).map(|row| [part.keys[0][row], part.keys[1][row]]));
            found.extend(part.values);
        }
        prop_assert!(reader.next().is_none());
        prop_assert_eq!(keys, (0..rows as u32).map(|row| [row / 3, row % 3]).collect::<Vec<_>>());
        prop_assert_eq!(found, values(rows * width));
    }
}

/// A group whose pages have one row more than its metadata, and the file's, say.
#[test]
fn rows_that_the_metadata_do_not_count_are_refused() {
    let (rows, folder, shape) = (12, tempfile::tempdir().unwrap(), shape(5, Dtype::F32));
    let path = folder.path().join("input.parquet");
    write(&path, rows, &shape, WriterProperties::builder().build());
    let mut bytes = fs::read(&path).unwrap();
    let footer = u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap()) as usize;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&fs::File::open(&path).unwrap()).unwrap();
    let group = metadata.row_group(0).clone().into_builder().set_num_rows(rows as i64 - 1).build().unwrap();
    let metadata = metadata.into_builder().set_row_groups(vec![group]).build();
    bytes.truncate(bytes.len() - 8 - footer);
    // It counts the file's rows anew.
    ParquetMetaDataWriter::new(&mut bytes, &metadata).finish().unwrap();
    fs::write(&path, bytes).unwrap();

    let error = TensorReader::open(&path, shape, rows as u64 - 1).unwrap().read_all().unwrap_err();
    assert!(matches!(error, TraceError::Parquet { .. }), "{error:?}");
    assert!(error.to_string().contains("pages have more values than rows"), "{error}");
}
