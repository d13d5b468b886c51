//! Reads tensor files, with all checks that keep broken files from passing for data.

use crate::columns::{self, ColumnRefusal};
use crate::decode::{Decoder, Fault};
use crate::error::{Result, TraceError};
use crate::input;
use crate::pages::{self, PageLimits, Pages};
use crate::quiet;
pub use crate::tensor::Tensor;
use crate::tensor::TensorShape;
use arrow::datatypes::{DataType, Field, Fields};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use std::path::{Path, PathBuf};

/// Bytes of values per decoded batch, so few that the decoder's buffers stay in the CPU's cache and
/// the allocator reuses their pages.
const BATCH_BYTES: usize = 1 << 18;

/// Streams a tensor file as ranges of rows; [`TensorReader::next_rows`] returns a chosen number of
/// rows.
pub struct TensorReader {
    path: PathBuf,
    shape: TensorShape,
    rows: u64,
    /// `None` after the end or an error.
    reader: Option<Decoder>,
    seen: u64,
    last: Vec<u32>,
    /// Decoded rows; those from `taken` on were not returned yet.
    rest: Tensor,
    taken: usize,
}

impl TensorReader {
    /// Opens a file that must have `rows` rows of `shape`.
    pub fn open(path: &Path, shape: TensorShape, rows: u64) -> Result<Self> {
        let file = match input::open(path) {
            Err(TraceError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(TraceError::MissingTensor { path: path.to_owned() });
            }
            other => other?,
        };
        let metadata = pages::load(path, &file)?;
        let fields = metadata.schema().fields();
        check_schema(path, fields, &shape)?;
        let found = metadata.metadata().file_metadata().num_rows();
        if found != rows as i64 {
            let reason = format!(
                "the file has {found}, manifest.json says {rows}; write the rows that it lists, or copy the whole \
                 trace again"
            );
            return Err(TraceError::invalid(path, "number of rows", reason));
        }
        let limits = column_limits(&shape, rows);
        check_size(path, metadata.metadata(), limits.bytes, rows)?;
        let batch = (BATCH_BYTES / shape.row_bytes()).max(1);
        let pages = Pages::new(file, metadata.metadata().clone(), limits);
        let reader = quiet::decode(path, || Decoder::new(pages, fields, &shape, batch))?
            .map_err(|fault| describe(path, fault))?;
        let rest = Tensor::new(shape.clone());
        let path = path.to_owned();
        Ok(Self { path, shape, rows, reader: Some(reader), seen: 0, last: Vec::new(), rest, taken: 0 })
    }

    /// Reads all rows.
    pub fn read_all(mut self) -> Result<Tensor> {
        let rows = self.rows as usize;
        let all = self.next_rows(rows)?;
        // Some faults appear only at the end of the file.
        self.next().transpose()?;
        Ok(all)
    }

    /// Returns the next `rows` rows, or fewer at the end of the file.
    pub fn next_rows(&mut self, rows: usize) -> Result<Tensor> {
        let mut tensor = Tensor::new(self.shape.clone());
        // The caller may ask for more rows than there are.
        let values = (self.rows.min(rows as u64) as usize).saturating_mul(self.shape.width);
        tensor.values.try_reserve_exact(values).map_err(|_| {
            let reason =
                format!("{values} do not fit into memory; let the analyzer keep less of a layer, or capture less");
            TraceError::invalid(&self.path, "values", reason)
        })?;
        while tensor.rows() < rows {
            if self.taken == self.rest.rows() {
                let Some(part) = self.decode() else { break };
                (self.rest, self.taken) = (part?, 0);
            }
            let range = self.taken..self.rest.rows().min(self.taken + rows - tensor.rows());
            for (column, more) in tensor.keys.iter_mut().zip(&self.rest.keys) {
                column.extend_from_slice(&more[range.clone()]);
            }
            let width = self.shape.width;
            tensor.values.extend_from_slice(&self.rest.values[range.start * width..range.end * width]);
            self.taken = range.end;
        }
        Ok(tensor)
    }

    /// Checks the order of keys, the values and the number of rows.
    fn check(&mut self, part: Tensor) -> Result<Tensor> {
        let finite = all_finite(&part.values);
        for row in 0..part.rows() {
            let keys: Vec<u32> = part.keys.iter().map(|column| column[row]).collect();
            if !self.last.is_empty() && keys <= self.last {
                let names = self.shape.keys.join(", ");
                let reason = format!(
                    "row {} ({keys:?}) does not come after {:?}; write rows in ascending order of {names}",
                    self.seen, self.last
                );
                return Err(TraceError::invalid(&self.path, names, reason));
            }
            self.last = keys;
            if !finite && let Some(&value) = part.row(row).iter().find(|value| !value.is_finite()) {
                return Err(TraceError::NotFinite { path: self.path.clone(), row: self.seen, value });
            }
            self.seen += 1;
        }
        if self.seen > self.rows {
            return Err(TraceError::parquet(&self.path, format!("has more than its {} rows", self.rows)));
        }
        Ok(part)
    }
}

impl Iterator for TensorReader {
    type Item = Result<Tensor>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.rows() - self.taken;
        if rest > 0 { Some(self.next_rows(rest)) } else { self.decode() }
    }
}

impl TensorReader {
    /// Decodes the next rows.
    fn decode(&mut self) -> Option<Result<Tensor>> {
        let mut reader = self.reader.take()?;
        let path = self.path.clone();
        let part = match quiet::decode(&path, || reader.next(&self.shape, self.seen)) {
            Err(error) => Err(error),
            Ok(Err(fault)) => Err(describe(&path, fault)),
            Ok(Ok(Some(part))) => self.check(part),
            Ok(Ok(None)) if self.seen == self.rows => return None,
            Ok(Ok(None)) => Err(TraceError::parquet(&path, format!("ends after {} of {} rows", self.seen, self.rows))),
        };
        if part.is_ok() {
            self.reader = Some(reader);
        }
        Some(part)
    }
}

/// Computes the limits of a column: twice the need of its rows, plus a constant.
///
/// Other writers may need more for page headers, levels and dictionaries. A row that is too long
/// must pass, so that the error names the row, not the page.
fn column_limits(shape: &TensorShape, rows: u64) -> PageLimits {
    let row = shape.row_bytes() + shape.keys.len() * size_of::<u32>();
    let twice = |each: usize| rows.saturating_mul(2 * each as u64).saturating_add(1 << 20);
    PageLimits { list_values: twice(shape.width), bytes: twice(row) }
}

/// Refuses a file that claims more memory than its rows can need.
fn check_size(path: &Path, metadata: &ParquetMetaData, most: u64, rows: u64) -> Result<()> {
    let claimed: i128 = metadata
        .row_groups()
        .iter()
        .flat_map(RowGroupMetaData::columns)
        .map(|column| i128::from(column.uncompressed_size()))
        .sum();
    if (0..=i128::from(most)).contains(&claimed) {
        return Ok(());
    }
    let reason = format!(
        "are {claimed} bytes, more than {rows} rows can have; write them in larger pages, or copy the whole trace again"
    );
    Err(TraceError::invalid(path, "pages", reason))
}

fn describe(path: &Path, fault: Fault) -> TraceError {
    match fault {
        Fault::Parquet(error) => TraceError::parquet(path, error),
        Fault::Column(ColumnRefusal { column, reason }) => TraceError::invalid(path, column, reason),
    }
}

/// Whether all values are finite, as they almost always are; the loop has no branches.
fn all_finite(values: &[f32]) -> bool {
    let largest = values.iter().fold(0, |largest, value| (value.to_bits() & (u32::MAX >> 1)).max(largest));
    largest < f32::INFINITY.to_bits()
}

/// Checks the columns: names and order must be exact; types may be any that hold the same values.
fn check_schema(path: &Path, found: &Fields, shape: &TensorShape) -> Result<()> {
    let wanted: Vec<&str> = shape.keys.iter().copied().chain(["values"]).collect();
    for index in 0..wanted.len().max(found.len()) {
        let (field, reason) = match (wanted.get(index), found.get(index)) {
            (Some(want), Some(have)) if *want == have.name().as_str() => continue,
            (Some(want), Some(have)) => (*want, format!("found column {} in its place", have.name())),
            (Some(want), None) => (*want, "the column is missing".to_owned()),
            (None, have) => (have.map_or("", |have| have.name().as_str()), "the column is not expected".to_owned()),
        };
        let names = wanted.join(", ");
        let reason = format!(
            "{reason}: the layer's tensor file has {names}, in this order; write it so, or copy the whole trace again"
        );
        return Err(TraceError::invalid(path, field, reason));
    }
    let (values, keys) = found.split_last().expect("there is a column of values");
    let invalid = |field: &Field, reason| TraceError::invalid(path, field.name(), reason);
    for key in keys {
        columns::check_type(key.data_type(), &DataType::UInt32).map_err(|reason| invalid(key, reason))?;
    }
    check_values(values.data_type(), shape).map_err(|reason| invalid(values, reason))
}

fn check_values(found: &DataType, shape: &TensorShape) -> std::result::Result<(), String> {
    let wanted = shape.dtype.arrow();
    let name = shape.dtype.name();
    match found {
        DataType::List(element) if *element.data_type() == wanted => Ok(()),
        DataType::List(element) if matches!(element.data_type(), DataType::Float16 | DataType::Float32) => {
            let found = columns::name(element.data_type());
            Err(format!(
                "holds lists of {found}, but sampling.dtype of manifest.json says {name}; write {name}, or {found} there"
            ))
        }
        _ => Err(format!("holds {}, but {}", columns::name(found), columns::must_hold(&shape.values()))),
    }
}
