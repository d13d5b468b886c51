//! Reads and writes whole small tables (`layers.parquet`, `steps.parquet`, results).

use crate::atomic;
use crate::columns;
use crate::error::{Result, TraceError};
use crate::input;
use crate::pages::{self, PageLimits, Pages};
use crate::quiet;
use crate::tensor::failed_write;
use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, SchemaRef, UInt32Type, UInt64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum bytes of a table in memory, far above any run's or model's. A small file can claim more
/// than any memory, because repeated values compress without bound.
const MAX_BYTES: usize = 1 << 30;

/// Rows per decoded batch.
const BATCH_ROWS: usize = 256;

/// Reads a Parquet table in batches. A fault of the file is an error that names it, never a panic.
pub struct Batches {
    path: PathBuf,
    schema: SchemaRef,
    reader: ParquetRecordBatchReader,
}

impl Batches {
    /// Opens a table of at most `most_rows` rows; `again` is the remedy for an implausible one.
    pub fn open(path: &Path, most_rows: i64, again: &str) -> Result<Self> {
        let parquet = |error: ParquetError| TraceError::parquet(path, error);
        let file = input::open(path)?;
        let metadata = pages::load(path, &file)?;
        let rows = metadata.metadata().file_metadata().num_rows();
        if !(0..=most_rows).contains(&rows) {
            return Err(TraceError::invalid(path, "number of rows", format!("{rows} is not believable; {again}")));
        }
        // Tables have no list columns; those that other programs add may have any length.
        let limits = PageLimits { list_values: u64::MAX, bytes: MAX_BYTES as u64 };
        let pages = Pages::new(file, metadata.metadata().clone(), limits);
        let reader = quiet::decode(path, || pages.batches(BATCH_ROWS))?.map_err(parquet)?;
        Ok(Self { path: path.to_owned(), schema: metadata.schema().clone(), reader })
    }

    /// Reads all rows as one batch.
    pub fn concat(mut self, again: &str) -> Result<RecordBatch> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        for batch in &mut self {
            let batch = batch?;
            bytes += batch.get_array_memory_size();
            if bytes > MAX_BYTES {
                let reason = format!("more than {MAX_BYTES} bytes are not believable; {again}");
                return Err(TraceError::invalid(&self.path, "values", reason));
            }
            batches.push(batch);
        }
        concat_batches(&self.schema, &batches).map_err(|error| TraceError::parquet(&self.path, error))
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        match quiet::decode(&self.path, || self.reader.next()) {
            Ok(batch) => batch.map(|batch| batch.map_err(|error| TraceError::parquet(&self.path, error))),
            Err(error) => Some(Err(error)),
        }
    }
}

/// A table that was read; columns are accessed by name and type.
pub(crate) struct Table {
    path: PathBuf,
    batch: RecordBatch,
}

impl Table {
    /// Reads a table of at most `most_rows` rows.
    pub(crate) fn read(path: &Path, most_rows: i64) -> Result<Self> {
        const AGAIN: &str = "copy it again, or make it anew";
        let batches = match Batches::open(path, most_rows, AGAIN) {
            Err(TraceError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(TraceError::MissingTable { path: path.to_owned() });
            }
            other => other?,
        };
        Ok(Self { path: path.to_owned(), batch: batches.concat(AGAIN)? })
    }

    pub(crate) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    pub(crate) fn invalid(&self, field: &str, reason: impl Into<String>) -> TraceError {
        TraceError::invalid(&self.path, field, reason)
    }

    /// Whether there is a column of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.batch.column_by_name(name).is_some()
    }

    fn column(&self, name: &str, wanted: &DataType) -> Result<ArrayRef> {
        let column = self.batch.column_by_name(name).ok_or_else(|| {
            let reason = format!("the column is missing; write it as {}", columns::describe(wanted));
            self.invalid(name, reason)
        })?;
        columns::convert(column, wanted, 0).map_err(|reason| self.invalid(name, reason))
    }

    pub(crate) fn u32(&self, name: &str) -> Result<ScalarBuffer<u32>> {
        Ok(self.column(name, &DataType::UInt32)?.as_primitive::<UInt32Type>().values().clone())
    }

    pub(crate) fn u64(&self, name: &str) -> Result<ScalarBuffer<u64>> {
        Ok(self.column(name, &DataType::UInt64)?.as_primitive::<UInt64Type>().values().clone())
    }

    pub(crate) fn f64(&self, name: &str) -> Result<ScalarBuffer<f64>> {
        Ok(self.column(name, &DataType::Float64)?.as_primitive::<Float64Type>().values().clone())
    }

    pub(crate) fn bool(&self, name: &str) -> Result<BooleanArray> {
        Ok(self.column(name, &DataType::Boolean)?.as_boolean().clone())
    }

    pub(crate) fn string(&self, name: &str) -> Result<StringArray> {
        Ok(self.column(name, &DataType::Utf8)?.as_string().clone())
    }
}

/// Creates a column for [`write`].
pub(crate) fn u32s(values: impl IntoIterator<Item = u32>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(values))
}

pub(crate) fn u64s(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

pub(crate) fn f64s(values: impl IntoIterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

pub(crate) fn bools(values: impl IntoIterator<Item = bool>) -> ArrayRef {
    Arc::new(values.into_iter().map(Some).collect::<BooleanArray>())
}

pub(crate) fn strings<'a>(values: impl IntoIterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// Atomically replaces the file at `path` by a table of these columns.
pub(crate) fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) -> Result<()> {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, false)))
            .expect("columns of a table are of one length");
    let bytes = encode(path, &[batch], concat!("mercury-trace ", env!("CARGO_PKG_VERSION")))?;
    atomic::write(path, |file| file.write_all(&bytes)).map_err(TraceError::io(path))
}

/// Encodes rows, in at least one batch, as the bytes of the Parquet file `path`.
///
/// Snappy compresses them: after encoding, little is left to compress, so that starting Zstandard
/// for each column does not pay.
pub fn encode(path: &Path, batches: &[RecordBatch], created_by: &str) -> Result<Vec<u8>> {
    let properties =
        WriterProperties::builder().set_created_by(created_by.to_owned()).set_compression(Compression::SNAPPY).build();
    let write = |bytes: &mut Vec<u8>| {
        let mut writer = ArrowWriter::try_new(bytes, batches[0].schema(), Some(properties))?;
        batches.iter().try_for_each(|batch| writer.write(batch))?;
        writer.close()
    };
    let mut bytes = Vec::new();
    write(&mut bytes).map_err(|error| failed_write(path, error))?;
    Ok(bytes)
}
