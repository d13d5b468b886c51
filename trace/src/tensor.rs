//! Tensor files: one row of values and keys per channel plane, operand row or filter.

use crate::atomic;
use crate::checksum::HashingWriter;
use crate::error::{Result, TraceError};
use crate::geometry::Geometry;
pub use crate::kind::TensorKind;
use arrow::array::{ArrayRef, FixedSizeListArray, Float16Array, Float32Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::NamedTempFile;

/// Maximum bytes of values in a row group.
pub const ROW_GROUP_BYTES: usize = 128 << 20;

/// Bytes of values that are collected before they are encoded.
const BATCH_BYTES: usize = 4 << 20;

/// The data type of stored values; in memory, values are f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 binary32, as computed.
    #[default]
    F32,
    /// IEEE 754 binary16, rounded to nearest, with 11 bits of precision. Values below 6e-8 become
    /// 0, values above 65504 are refused.
    F16,
}

impl Dtype {
    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 => 2,
        }
    }

    pub(crate) fn arrow(self) -> DataType {
        match self {
            Dtype::F32 => DataType::Float32,
            Dtype::F16 => DataType::Float16,
        }
    }

    fn array(self, values: Vec<f32>) -> ArrayRef {
        match self {
            Dtype::F32 => Arc::new(Float32Array::from(values)),
            Dtype::F16 => Arc::new(Float16Array::from_iter_values(values.into_iter().map(f16::from_f32))),
        }
    }
}

/// Key columns, row width and data type of a tensor file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorShape {
    /// Names of the `u32` key columns, outermost first; rows are in their ascending order.
    pub keys: &'static [&'static str],
    /// Values in a row.
    pub width: usize,
    /// The data type of values.
    pub dtype: Dtype,
}

impl TensorShape {
    /// Returns the shape of one of a layer's files.
    pub fn from_geometry(geometry: &Geometry, kind: TensorKind, dtype: Dtype) -> Self {
        let area = |[rows, columns]: [u32; 2]| rows as usize * columns as usize;
        let (keys, width): (&[&str], usize) = match (geometry, kind) {
            (Geometry::Conv2d(conv), TensorKind::Input) => (&["sample", "channel"], area(conv.input)),
            (Geometry::Conv2d(conv), TensorKind::GradOutput) => (&["sample", "channel"], area(conv.output())),
            (Geometry::Linear(linear), TensorKind::Input) => (&["sample", "row"], linear.in_features as usize),
            (Geometry::Linear(linear), TensorKind::GradOutput) => (&["sample", "row"], linear.out_features as usize),
            (Geometry::Matmul(a), TensorKind::Input) => (&["sample", "head", "row"], a.inner as usize),
            (Geometry::Matmul(a), TensorKind::GradOutput) => (&["sample", "head", "row"], a.columns as usize),
            (Geometry::Matmul(a), TensorKind::Weight) => (&["sample", "head", "filter"], a.inner as usize),
            (_, TensorKind::Weight) => (&["filter"], geometry.filter_length()),
        };
        Self { keys, width, dtype }
    }

    pub(crate) fn schema(&self) -> Schema {
        let mut fields: Vec<Field> = self.keys.iter().map(|key| Field::new(*key, DataType::UInt32, false)).collect();
        fields.push(Field::new("values", self.values(), false));
        Schema::new(fields)
    }

    /// The Arrow type of a row's values.
    pub(crate) fn values(&self) -> DataType {
        DataType::FixedSizeList(self.element(), self.width as i32)
    }

    /// Bytes of values in a row.
    pub fn row_bytes(&self) -> usize {
        self.width * self.dtype.bytes()
    }

    fn element(&self) -> Arc<Field> {
        Arc::new(Field::new("element", self.dtype.arrow(), false))
    }
}

/// A tensor file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Number of rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

/// Writes one tensor file, which appears under its name when [`TensorWriter::finish`] succeeds.
///
/// It needs memory for one encoded row group, at most [`ROW_GROUP_BYTES`] before compression.
pub struct TensorWriter {
    path: PathBuf,
    shape: TensorShape,
    keys: Vec<Vec<u32>>,
    values: Vec<f32>,
    rows: u64,
    writer: ArrowWriter<HashingWriter<File>>,
    file: NamedTempFile,
}

impl TensorWriter {
    /// Starts the file at `path`; `metadata` becomes the file's `mercury.*` key-value metadata.
    pub fn create(path: &Path, shape: TensorShape, metadata: &[(&str, String)]) -> Result<Self> {
        let file = atomic::begin(path).map_err(TraceError::io(path))?;
        let handle = file.as_file().try_clone().map_err(TraceError::io(path))?;
        // Neighbouring floats have similar exponents, so they compress well when split by byte.
        let leaf = ColumnPath::new(["values", "list", "element"].map(String::from).to_vec());
        let metadata = metadata.iter().map(|(key, value)| KeyValue::new(format!("mercury.{key}"), value.clone()));
        let properties = WriterProperties::builder()
            .set_created_by(concat!("mercury-trace ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a zstd level")))
            .set_column_dictionary_enabled(leaf.clone(), false)
            .set_column_encoding(leaf, Encoding::BYTE_STREAM_SPLIT)
            .set_max_row_group_row_count(Some((ROW_GROUP_BYTES / shape.row_bytes()).max(1)))
            .set_key_value_metadata(Some(metadata.collect()))
            .build();
        let writer = ArrowWriter::try_new(HashingWriter::new(handle), Arc::new(shape.schema()), Some(properties))
            .map_err(|error| TraceError::parquet(path, error))?;
        let keys = vec![Vec::new(); shape.keys.len()];
        Ok(Self { path: path.to_owned(), shape, keys, values: Vec::new(), rows: 0, writer, file })
    }

    /// Appends a row.
    ///
    /// # Panics
    /// If the number of keys or values does not match the shape.
    pub fn push(&mut self, keys: &[u32], values: &[f32]) -> Result<()> {
        assert_eq!((keys.len(), values.len()), (self.keys.len(), self.shape.width), "row of another shape");
        if self.shape.dtype == Dtype::F16
            && let Some(&value) = values.iter().find(|value| value.is_finite() && !f16::from_f32(**value).is_finite())
        {
            return Err(TraceError::F16Range { path: self.path.clone(), row: self.rows, value });
        }
        for (column, &key) in self.keys.iter_mut().zip(keys) {
            column.push(key);
        }
        self.values.extend_from_slice(values);
        self.rows += 1;
        if size_of_val(self.values.as_slice()) >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        for column in &mut self.keys {
            columns.push(Arc::new(UInt32Array::from(std::mem::take(column))));
        }
        let values = self.shape.dtype.array(std::mem::take(&mut self.values));
        columns.push(Arc::new(FixedSizeListArray::new(self.shape.element(), self.shape.width as i32, values, None)));
        let batch = RecordBatch::try_new(Arc::new(self.shape.schema()), columns).expect("columns follow the schema");
        self.writer.write(&batch).map_err(|error| failed_write(&self.path, error))
    }

    /// Writes the remaining rows, syncs and renames the file.
    pub fn finish(mut self) -> Result<Written> {
        if !self.values.is_empty() {
            self.flush()?;
        }
        let written = self.writer.into_inner().map_err(|error| failed_write(&self.path, error))?;
        let bytes = self.file.as_file().metadata().map_err(TraceError::io(&self.path))?.len();
        atomic::commit(self.file, &self.path).map_err(TraceError::io(&self.path))?;
        Ok(Written { rows: self.rows, bytes, sha256: written.finish() })
    }
}

/// Converts an encoder's error while writing to an I/O error, because the cause is almost always
/// the disk.
pub(crate) fn failed_write(path: &Path, error: parquet::errors::ParquetError) -> TraceError {
    let error = match error {
        parquet::errors::ParquetError::External(inner) => {
            inner.downcast().map_or_else(std::io::Error::other, |error: Box<std::io::Error>| *error)
        }
        other => std::io::Error::other(other),
    };
    TraceError::Io { path: path.to_owned(), error }
}

/// All rows of a tensor file, or a range of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Key columns and row width.
    pub shape: TensorShape,
    /// One column per key, each `rows()` long.
    pub keys: Vec<Vec<u32>>,
    /// `rows() * shape.width` values, row by row.
    pub values: Vec<f32>,
}

impl Tensor {
    /// Creates an empty tensor.
    pub fn new(shape: TensorShape) -> Self {
        Self { keys: vec![Vec::new(); shape.keys.len()], shape, values: Vec::new() }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.keys[0].len()
    }

    /// The values of row `index`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.shape.width..][..self.shape.width]
    }

    /// The distinct values of key column `key`, ascending.
    pub fn distinct(&self, key: usize) -> Vec<u32> {
        let mut distinct = self.keys[key].clone();
        distinct.sort_unstable();
        distinct.dedup();
        distinct
    }
}
