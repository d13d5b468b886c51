//! Tests with other writers' tensor files: any sizes of row groups and pages, versions and
//! encodings.

use arrow::array::{ArrayRef, FixedSizeListArray, Float16Array, Float32Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use half::f16;
use mercury_trace::TraceError;
use mercury_trace::read::TensorReader;
use mercury_trace::tensor::{Dtype, TensorShape};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, CompressionCodec, Encoding, ZstdLevel};
use parquet::file::metadata::{
    ColumnChunkMetaDataBuilder, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter,
    RowGroupMetaData,
};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn shape(width: usize, dtype: Dtype) -> TensorShape {
    TensorShape { keys: &["sample", "channel"], width, dtype }
}

/// Creates numbers that f16 can represent, with repetitions for dictionaries.
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 61) as f32 / 8.0 - 3.0).collect()
}

/// Writes rows with two keys each.
fn write(path: &Path, rows: usize, shape: &TensorShape, properties: WriterProperties) {
    write_as(path, rows, shape, properties, false);
}

/// Writes rows with two keys each; columns may be nullable.
fn write_as(path: &Path, rows: usize, shape: &TensorShape, properties: WriterProperties, is_nullable: bool) {
    let values = values(rows * shape.width);
    let (kind, values): (_, ArrayRef) = match shape.dtype {
        Dtype::F32 => (DataType::Float32, Arc::new(Float32Array::from(values))),
        Dtype::F16 => {
            (DataType::Float16, Arc::new(Float16Array::from_iter_values(values.into_iter().map(f16::from_f32))))
        }
    };
    let element = Arc::new(Field::new("element", kind, is_nullable));
    let lists = FixedSizeListArray::new(element, shape.width as i32, values, None);
    let keys = |key: fn(u32) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values((0..rows as u32).map(key))) };
    let columns = [("sample", keys(|row| row / 3)), ("channel", keys(|row| row % 3)), ("values", Arc::new(lists))];
    let schema = Schema::new(
        columns.each_ref().map(|(name, array)| Field::new(*name, array.data_type().clone(), is_nullable)).to_vec(),
    );
    let batch = RecordBatch::try_new(Arc::new(schema), columns.map(|(_, array)| array).to_vec()).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_read_from_any_groups_and_pages(
        rows in 1usize..200, width in 1usize..40, half: bool, second: bool, is_nullable: bool,
        (group, page, batch) in (1usize..90, 1usize..400, 1usize..100),
        encoding in prop::option::of(prop::sample::select(vec![Encoding::PLAIN, Encoding::BYTE_STREAM_SPLIT])),
        codec in prop::sample::select(vec![
            Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default()), Compression::LZ4,
            Compression::LZ4_RAW,
        ]),
        at_a_time in 1usize..70,
    ) {
        let shape = shape(width, if half { Dtype::F16 } else { Dtype::F32 });
        let leaf = ColumnPath::new(["values", "list", "element"].map(String::from).to_vec());
        let mut properties = WriterProperties::builder()
            .set_writer_version(if second { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 })
            .set_compression(codec)
            .set_max_row_group_row_count(Some(group))
            .set_data_page_row_count_limit(page)
            .set_write_batch_size(batch);
        // Otherwise, values have a dictionary.
        if let Some(encoding) = encoding {
            properties = properties.set_column_dictionary_enabled(leaf.clone(), false).set_column_encoding(leaf, encoding);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.parquet");
        write_as(&path, rows, &shape, properties.build(), is_nullable);

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

/// Reads a file's metadata and the bytes before them.
fn split_file(path: &Path) -> (ParquetMetaData, Vec<u8>) {
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(&fs::File::open(path).unwrap())
        .unwrap();
    (metadata, fs::read(path).unwrap())
}

/// Writes a file of these pages and metadata with another row group.
fn join_file(path: &Path, metadata: ParquetMetaData, group: RowGroupMetaData, mut pages: Vec<u8>) {
    let metadata = metadata.into_builder().set_row_groups(vec![group]).set_page_index(None).build();
    // The builder counts the file's rows again.
    ParquetMetaDataWriter::new(&mut pages, &metadata).finish().unwrap();
    fs::write(path, pages).unwrap();
}

/// A data page of version 1 without values: its header (Thrift's compact protocol: type 0; 8 bytes,
/// compressed 8; 0 values, encodings PLAIN, RLE, RLE), and empty repetition and definition levels.
const EMPTY: [u8; 25] = [
    0x15, 0x00, 0x15, 0x10, 0x15, 0x10, 0x2c, 0x15, 0x00, 0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x00, 0x00, //
    0, 0, 0, 0, 0, 0, 0, 0,
];

/// Other writers put pages without values anywhere among other pages.
#[test]
fn pages_without_values_are_skipped() {
    let (rows, width) = (12, 5);
    for (dtype, is_nullable) in [(Dtype::F32, false), (Dtype::F32, true), (Dtype::F16, false)] {
        let (folder, shape) = (tempfile::tempdir().unwrap(), shape(width, dtype));
        let path = folder.path().join("input.parquet");
        let properties = WriterProperties::builder().set_dictionary_enabled(false).set_data_page_row_count_limit(1);
        write_as(&path, rows, &shape, properties.set_write_batch_size(1).build(), is_nullable);
        let (metadata, bytes) = split_file(&path);
        let index = metadata.page_index_for_row_group(0).page_locations(2).unwrap().clone();
        assert_eq!(index.len(), rows, "a page a row");
        let chunk = metadata.row_group(0).column(2).clone();
        let (begin, length) = chunk.byte_range();
        let end = (begin + length) as usize;

        let mut pages = bytes[..begin as usize].to_vec();
        for (number, page) in index.iter().enumerate() {
            let next = index.get(number + 1).map_or(end, |next| next.offset as usize);
            // Two such pages are between two rows.
            (0..number % 3).for_each(|_| pages.extend(EMPTY));
            pages.extend(&bytes[page.offset as usize..next]);
        }
        pages.extend(EMPTY);
        let longer = (pages.len() - end) as i64;
        assert_eq!(longer, EMPTY.len() as i64 * 13);
        let (compressed, uncompressed) = (chunk.compressed_size() + longer, chunk.uncompressed_size() + longer);
        let chunk = chunk.into_builder().set_total_compressed_size(compressed);
        let chunk = without_index(chunk.set_total_uncompressed_size(uncompressed)).build().unwrap();
        let group = metadata.row_group(0).clone();
        let columns = group.columns()[..2].iter().map(|key| without_index(key.clone().into_builder()).build().unwrap());
        let columns = columns.chain([chunk]).collect();
        let group = group.into_builder().set_column_metadata(columns).build().unwrap();
        join_file(&path, metadata, group, pages);

        let found = TensorReader::open(&path, shape, rows as u64).unwrap().read_all().unwrap();
        assert_eq!(found.values, values(rows * width), "{dtype:?}, nullable: {is_nullable}");
        assert_eq!(found.keys[1], (0..rows as u32).map(|row| row % 3).collect::<Vec<_>>());
    }
}

fn without_index(chunk: ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder {
    let chunk = chunk.set_offset_index_offset(None).set_offset_index_length(None);
    chunk.set_column_index_offset(None).set_column_index_length(None)
}

/// The pages of a group have one row more than the metadata of group and file.
#[test]
fn rows_beyond_the_metadata_are_refused() {
    for is_nullable in [false, true] {
        let (rows, shape) = (12, shape(5, Dtype::F32));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.parquet");
        write_as(&path, rows, &shape, WriterProperties::builder().build(), is_nullable);
        let (metadata, mut bytes) = split_file(&path);
        let footer = u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap()) as usize;
        let group = metadata.row_group(0).clone().into_builder().set_num_rows(rows as i64 - 1).build().unwrap();
        bytes.truncate(bytes.len() - 8 - footer);
        join_file(&path, metadata, group, bytes);

        let error = TensorReader::open(&path, shape, rows as u64 - 1).unwrap().read_all().unwrap_err();
        assert!(matches!(error, TraceError::Parquet { .. }), "{error:?}");
        assert!(error.to_string().contains("pages have more values than its rows can have"), "{error}");
    }
}

/// A file with an unsupported codec is refused before its pages are unpacked.
#[test]
fn an_unsupported_codec_is_named() {
    let (rows, shape) = (3, shape(5, Dtype::F32));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.parquet");
    write(&path, rows, &shape, WriterProperties::builder().build());
    let (metadata, bytes) = split_file(&path);
    let group = metadata.row_group(0).clone();
    let columns = group.columns().iter().map(|chunk| {
        without_index(chunk.clone().into_builder().set_compression_codec(CompressionCodec::LZO)).build().unwrap()
    });
    let columns = columns.collect();
    let group = group.into_builder().set_column_metadata(columns).build().unwrap();
    join_file(&path, metadata, group, bytes);

    let Err(error) = TensorReader::open(&path, shape, rows as u64) else { panic!("reads LZO") };
    let says = "sample: is compressed by LZO, which is not supported; write the file with zstd or snappy";
    assert_eq!(error.to_string(), format!("{}: {says}", path.display()));
}
