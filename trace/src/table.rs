//! Small tables (`layers.parquet`, `steps.parquet`), read and written whole.

use crate::atomic;
use crate::error::{Result, TraceError};
use crate::quiet;
use crate::tensor::failed_write;
use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, UInt32Type, UInt64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most rows of a table that is read whole: far above any training run or model.
const MAX_ROWS: i64 = 100_000_000;

/// A table being read; columns are taken by name and type.
pub(crate) struct Table {
    path: PathBuf,
    batch: RecordBatch,
}

impl Table {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(TraceError::MissingTable { path: path.to_owned() });
            }
            other => other.map_err(TraceError::io(path))?,
        };
        let parquet = |error: ParquetError| TraceError::parquet(path, error);
        let builder = quiet::decode(path, || ParquetRecordBatchReaderBuilder::try_new(file))?.map_err(parquet)?;
        let rows = builder.metadata().file_metadata().num_rows();
        if !(0..=MAX_ROWS).contains(&rows) {
            return Err(TraceError::invalid(path, "number of rows", format!("{rows} is not believable; capture anew")));
        }
        let schema = builder.schema().clone();
        let read = || builder.build()?.collect::<std::result::Result<Vec<_>, _>>().map_err(Into::into);
        let batches = quiet::decode(path, read)?.map_err(parquet)?;
        let batch = concat_batches(&schema, &batches).map_err(|error| TraceError::parquet(path, error))?;
        Ok(Self { path: path.to_owned(), batch })
    }

    pub(crate) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    pub(crate) fn invalid(&self, field: &str, reason: impl Into<String>) -> TraceError {
        TraceError::invalid(&self.path, field, reason)
    }

    fn column(&self, name: &str, wanted: &DataType) -> Result<&ArrayRef> {
        let column = self.batch.column_by_name(name).ok_or_else(|| {
            self.invalid(name, "the column is missing; this is not a file of a trace: copy it again, or capture anew")
        })?;
        if column.data_type() != wanted {
            return Err(self.invalid(
                name,
                format!("is of type {}, expected {wanted}; copy it again, or capture anew", column.data_type()),
            ));
        }
        if column.null_count() > 0 {
            return Err(self.invalid(name, "holds nulls; copy it again, or capture anew"));
        }
        Ok(column)
    }

    pub(crate) fn u32(&self, name: &str) -> Result<&[u32]> {
        Ok(self.column(name, &DataType::UInt32)?.as_primitive::<UInt32Type>().values())
    }

    pub(crate) fn u64(&self, name: &str) -> Result<&[u64]> {
        Ok(self.column(name, &DataType::UInt64)?.as_primitive::<UInt64Type>().values())
    }

    pub(crate) fn f64(&self, name: &str) -> Result<&[f64]> {
        Ok(self.column(name, &DataType::Float64)?.as_primitive::<Float64Type>().values())
    }

    pub(crate) fn bool(&self, name: &str) -> Result<&BooleanArray> {
        Ok(self.column(name, &DataType::Boolean)?.as_boolean())
    }

    pub(crate) fn string(&self, name: &str) -> Result<&StringArray> {
        Ok(self.column(name, &DataType::Utf8)?.as_string())
    }
}

/// Columns for [`write`].
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

/// Replaces the file at `path` by a table of these columns, atomically.
pub(crate) fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) -> Result<()> {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, false)))
            .expect("columns of a table are of one length");
    let file = atomic::begin(path).map_err(TraceError::io(path))?;
    let handle = file.as_file().try_clone().map_err(TraceError::io(path))?;
    let properties = WriterProperties::builder()
        .set_created_by(concat!("mercury-trace ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a zstd level")))
        .build();
    let mut writer = ArrowWriter::try_new(handle, batch.schema(), Some(properties))
        .map_err(|error| TraceError::parquet(path, error))?;
    writer.write(&batch).map_err(|error| failed_write(path, error))?;
    writer.close().map_err(|error| failed_write(path, error))?;
    atomic::commit(file, path).map_err(TraceError::io(path))
}
