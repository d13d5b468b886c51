//! Reading tensor files back, with every check that keeps a broken file from being taken for data.

use crate::error::{Result, TraceError};
use crate::quiet;
use crate::tensor::{Dtype, TensorShape};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float16Type, Float32Type, UInt32Type};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Bytes of values decoded at a time.
const BATCH_BYTES: usize = 4 << 20;

/// Rows of a tensor file, or a run of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Key columns and row width.
    pub shape: TensorShape,
    /// One column for each key, `rows()` long.
    pub keys: Vec<Vec<u32>>,
    /// `rows() * shape.width` values, row by row.
    pub values: Vec<f32>,
}

impl Tensor {
    /// An empty tensor.
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

/// Streams a tensor file; each item is a run of rows.
pub struct TensorReader {
    path: PathBuf,
    shape: TensorShape,
    rows: u64,
    /// `None` after the end or an error.
    reader: Option<ParquetRecordBatchReader>,
    seen: u64,
    last: Vec<u32>,
}

impl TensorReader {
    /// Opens a file that must hold `rows` rows of `shape`.
    pub fn open(path: &Path, shape: TensorShape, rows: u64) -> Result<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(TraceError::MissingTensor { path: path.to_owned() });
            }
            other => other.map_err(TraceError::io(path))?,
        };
        let builder = quiet::decode(path, || ParquetRecordBatchReaderBuilder::try_new(file))?
            .map_err(|error| TraceError::parquet(path, error))?;
        check_schema(path, builder.schema(), &shape)?;
        let found = builder.metadata().file_metadata().num_rows();
        if found != rows as i64 {
            let reason = format!("the file has {found}, manifest.json says {rows}; copy the whole trace again");
            return Err(TraceError::invalid(path, "number of rows", reason));
        }
        let batch = (BATCH_BYTES / shape.row_bytes()).max(1);
        let reader = quiet::decode(path, || builder.with_batch_size(batch).build())?
            .map_err(|error| TraceError::parquet(path, error))?;
        let last = Vec::new();
        Ok(Self { path: path.to_owned(), shape, rows, reader: Some(reader), seen: 0, last })
    }

    /// Reads all rows.
    pub fn read_all(self) -> Result<Tensor> {
        let mut all = Tensor::new(self.shape.clone());
        for part in self {
            let part = part?;
            for (column, more) in all.keys.iter_mut().zip(part.keys) {
                column.extend(more);
            }
            all.values.extend(part.values);
        }
        Ok(all)
    }

    fn check(&mut self, batch: &RecordBatch) -> Result<Tensor> {
        let mut part = Tensor::new(self.shape.clone());
        for (index, column) in part.keys.iter_mut().enumerate() {
            column.extend_from_slice(batch.column(index).as_primitive::<UInt32Type>().values());
        }
        let lists = batch.column(self.shape.keys.len()).as_fixed_size_list();
        let count = lists.len() * self.shape.width;
        match self.shape.dtype {
            Dtype::F32 => {
                part.values.extend_from_slice(&lists.values().as_primitive::<Float32Type>().values()[..count]);
            }
            Dtype::F16 => {
                let values = lists.values().as_primitive::<Float16Type>();
                part.values.extend(values.values()[..count].iter().map(|value| value.to_f32()));
            }
        }
        for row in 0..part.rows() {
            let keys: Vec<u32> = part.keys.iter().map(|column| column[row]).collect();
            if !self.last.is_empty() && keys <= self.last {
                let reason = format!("row {} ({keys:?}) does not come after {:?}; capture anew", self.seen, self.last);
                return Err(TraceError::invalid(&self.path, self.shape.keys.join(", "), reason));
            }
            self.last = keys;
            if let Some(&value) = part.row(row).iter().find(|value| !value.is_finite()) {
                return Err(TraceError::NotFinite { path: self.path.clone(), row: self.seen, value });
            }
            self.seen += 1;
        }
        Ok(part)
    }
}

impl Iterator for TensorReader {
    type Item = Result<Tensor>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = self.reader.take()?;
        let path = self.path.clone();
        let part = match quiet::decode(&path, || reader.next()) {
            Err(error) => Err(error),
            Ok(Some(Err(error))) => Err(TraceError::parquet(&path, error)),
            Ok(Some(Ok(batch))) => self.check(&batch),
            Ok(None) if self.seen == self.rows => return None,
            Ok(None) => Err(TraceError::parquet(&path, format!("ends after {} of {} rows", self.seen, self.rows))),
        };
        if part.is_ok() {
            self.reader = Some(reader);
        }
        Some(part)
    }
}

/// The schema must be exactly the one that is written, so that nothing has to be guessed.
fn check_schema(path: &Path, found: &arrow::datatypes::Schema, shape: &TensorShape) -> Result<()> {
    let wanted = shape.schema();
    let remedy = "this is not the tensor file of that layer; copy the whole trace again, or capture anew";
    for (index, want) in wanted.fields().iter().enumerate() {
        let Some(have) = found.fields().get(index) else {
            return Err(TraceError::invalid(path, want.name(), format!("the column is missing; {remedy}")));
        };
        if have != want {
            let (have_type, want_type) = (have.data_type(), want.data_type());
            let reason = format!(
                "found column {} of type {have_type}, expected type {want_type}, no nulls; {remedy}",
                have.name()
            );
            return Err(TraceError::invalid(path, want.name(), reason));
        }
    }
    if let Some(extra) = found.fields().get(wanted.fields().len()) {
        return Err(TraceError::invalid(path, extra.name(), format!("the column is not expected; {remedy}")));
    }
    Ok(())
}
