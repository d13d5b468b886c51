//! Decodes the rows of tensor files.

use crate::columns::{self, ColumnRefusal};
use crate::pages::Pages;
use crate::tensor::{Dtype, Tensor, TensorShape};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, Field, Fields, Float16Type, Float32Type, UInt32Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{DataType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::reader::FileReader;

/// The reason why rows cannot be decoded.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The file is not a complete Parquet file.
    Parquet(ParquetError),
    /// A column does not fit the tensor.
    Column(ColumnRefusal),
}

impl From<ParquetError> for Fault {
    fn from(error: ParquetError) -> Self {
        Self::Parquet(error)
    }
}

impl From<arrow::error::ArrowError> for Fault {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Parquet(error.into())
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// Decodes the rows of a file in batches.
pub(crate) enum Decoder {
    /// Arrow's decoder, for columns of other writers and for f16. To Parquet, f16 values are bytes,
    /// each of which its column reader would allocate separately.
    Lists(Box<ParquetRecordBatchReader>),
    /// Our decoder of single columns, for files in the tracer's form.
    Leaves(Box<Leaves>),
}

impl Decoder {
    /// Decodes a file with the schema `fields` in batches of `rows` rows.
    pub fn new(pages: Pages, fields: &Fields, shape: &TensorShape, rows: usize) -> Result<Self> {
        if are_leaves(fields, shape) {
            return Ok(Self::Leaves(Box::new(Leaves { pages, rows, started: 0, group: None })));
        }
        Ok(Self::Lists(Box::new(pages.batches(rows)?)))
    }

    /// Returns the next rows, or `None` at the end; `first` is the number of the first row.
    pub fn next(&mut self, shape: &TensorShape, first: u64) -> Result<Option<Tensor>> {
        match self {
            Self::Lists(reader) => reader.next().map(|batch| convert_batch(&batch?, shape, first)).transpose(),
            Self::Leaves(leaves) => leaves.next(shape, first),
        }
    }
}

/// Whether keys are u32 and values are lists of f32, without nulls.
fn are_leaves(fields: &Fields, shape: &TensorShape) -> bool {
    let (keys, values) = fields.split_at(shape.keys.len());
    let are_keys = keys.iter().all(|key| *key.data_type() == ArrowType::UInt32 && !key.is_nullable());
    are_keys && values.iter().all(|values| are_f32_lists(values)) && shape.dtype == Dtype::F32
}

/// Whether a field has lists of f32, without nulls.
fn are_f32_lists(field: &Field) -> bool {
    match field.data_type() {
        ArrowType::List(element) => {
            !field.is_nullable() && !element.is_nullable() && *element.data_type() == ArrowType::Float32
        }
        _ => false,
    }
}

/// Converts a batch of any writer's columns.
fn convert_batch(batch: &RecordBatch, shape: &TensorShape, first: u64) -> Result<Tensor> {
    let mut part = Tensor::new(shape.clone());
    for ((name, column), found) in shape.keys.iter().zip(&mut part.keys).zip(batch.columns()) {
        let keys = columns::convert(found, &ArrowType::UInt32, first).map_err(|reason| refuse(name, reason))?;
        column.extend_from_slice(keys.as_primitive::<UInt32Type>().values());
    }
    let lists: &ListArray = batch.column(shape.keys.len()).as_list();
    let values = check_lists(lists, shape.width, first)?;
    match shape.dtype {
        Dtype::F32 => part.values.extend_from_slice(values.as_primitive::<Float32Type>().values()),
        Dtype::F16 => {
            part.values.extend(values.as_primitive::<Float16Type>().values().iter().map(|value| value.to_f32()));
        }
    }
    Ok(part)
}

/// Returns the values of lists, each of which must have `width` values without nulls.
fn check_lists(lists: &ListArray, width: usize, first: u64) -> Result<ArrayRef> {
    if let Some(row) = columns::first_null(lists) {
        let reason = format!("row {} is null; write {width} values in every row", first + row as u64);
        return Err(refuse("values", reason));
    }
    if let Some(row) = (0..lists.len()).find(|&row| lists.value_length(row) as usize != width) {
        return Err(wrong_length(first + row as u64, lists.value_length(row) as usize, width));
    }
    let begin = lists.value_offsets()[0] as usize;
    let values = lists.values().slice(begin, lists.len() * width);
    if let Some(index) = columns::first_null(&values) {
        let (row, place) = (first + (index / width) as u64, index % width);
        return Err(refuse("values", format!("row {row} has a null (value {place}); write finite numbers alone")));
    }
    Ok(values)
}

fn wrong_length(row: u64, found: usize, wanted: usize) -> Fault {
    let reason = format!(
        "row {row} has {found} values, but the layer's geometry gives {wanted}; write {wanted} in every row, or correct \
         layers.parquet"
    );
    refuse("values", reason)
}

fn refuse(column: &str, reason: String) -> Fault {
    Fault::Column(ColumnRefusal { column: column.to_owned(), reason })
}

/// Decodes f32 values directly into their destination, without Arrow's lists.
///
/// Parquet's levels show whether each row has the right number of values.
pub(crate) struct Leaves {
    pages: Pages,
    rows: usize,
    /// Number of row groups that were started.
    started: usize,
    group: Option<LeafGroup>,
}

/// The columns of a row group.
struct LeafGroup {
    /// Number of rows that are not decoded yet.
    left: usize,
    keys: Vec<LeafColumn<Int32Type>>,
    values: LeafColumn<FloatType>,
}

impl Leaves {
    fn next(&mut self, shape: &TensorShape, first: u64) -> Result<Option<Tensor>> {
        loop {
            match &mut self.group {
                Some(group) if group.left > 0 => return group.next(self.rows, shape, first).map(Some),
                Some(group) => group.end()?,
                None => (),
            }
            if self.started == self.pages.metadata().num_row_groups() {
                return Ok(None);
            }
            self.group = Some(self.start_group(self.started, shape)?);
            self.started += 1;
        }
    }

    fn start_group(&self, number: usize, shape: &TensorShape) -> Result<LeafGroup> {
        let keys = shape.keys.len();
        Ok(LeafGroup {
            left: usize::try_from(self.pages.metadata().row_group(number).num_rows()).map_err(ParquetError::from)?,
            keys: (0..keys).map(|column| LeafColumn::new(&self.pages, number, column, 1)).collect::<Result<_>>()?,
            values: LeafColumn::new(&self.pages, number, keys, shape.width)?,
        })
    }
}

impl LeafGroup {
    /// Decodes the next rows; the group must have some left.
    fn next(&mut self, most: usize, shape: &TensorShape, first: u64) -> Result<Tensor> {
        let rows = self.left.min(most);
        let mut part = Tensor::new(shape.clone());
        let mut numbers = Vec::new();
        for (reader, column) in self.keys.iter_mut().zip(&mut part.keys) {
            numbers.clear();
            reader.read(rows, &mut numbers, first)?;
            column.extend(numbers.iter().map(|number| number.cast_unsigned()));
        }
        self.values.read(rows, &mut part.values, first)?;
        self.left -= rows;
        Ok(part)
    }

    /// Refuses rows after the group's last.
    fn end(&mut self) -> Result<()> {
        self.keys.iter_mut().try_for_each(LeafColumn::end)?;
        self.values.end()
    }
}

/// A column without nulls, with the same number of values in each row.
struct LeafColumn<T: DataType> {
    name: String,
    /// Number of values per row.
    width: usize,
    reader: ColumnReaderImpl<T>,
    /// Definition level of a value that exists.
    defined: i16,
    /// Repetition level of a value that continues a row.
    continued: i16,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

impl<T: DataType> LeafColumn<T> {
    fn new(pages: &Pages, group: usize, column: usize, width: usize) -> Result<Self> {
        let description = pages.metadata().row_group(group).column(column).column_descr_ptr();
        Ok(Self {
            name: description.path().string(),
            width,
            defined: description.max_def_level(),
            continued: description.max_rep_level(),
            reader: ColumnReaderImpl::new(description, pages.column(group, column)?),
            definitions: Vec::new(),
            repetitions: Vec::new(),
        })
    }

    /// Appends the values of the next `rows` rows.
    fn read(&mut self, rows: usize, values: &mut Vec<T::T>, first: u64) -> Result<()> {
        let count = rows * self.width;
        values.try_reserve_exact(count).map_err(|_| self.wrong(&format!("{count} values do not fit into memory")))?;
        self.definitions.clear();
        self.repetitions.clear();
        let (found, read, _) =
            self.reader.read_records(rows, Some(&mut self.definitions), Some(&mut self.repetitions), values)?;
        if found != rows {
            return Err(self.wrong(&format!("ends after {found} of {rows} rows")));
        }
        if read != count || !self.are_rows() {
            return Err(self.find_wrong_row(first));
        }
        Ok(())
    }

    /// Whether the levels are those of complete rows. A column without lists has no levels.
    fn are_rows(&self) -> bool {
        // The fold has no branches.
        let all = |levels: &[i16], level: i16| levels.iter().fold(0, |other, &found| other | (found ^ level)) == 0;
        let mut rows = self.repetitions.chunks(self.width);
        all(&self.definitions, self.defined)
            && rows.all(|row| row.len() == self.width && row[0] == 0 && all(&row[1..], self.continued))
    }

    /// Describes the first row of another length.
    fn find_wrong_row(&self, first: u64) -> Fault {
        let mut lengths: Vec<usize> = Vec::new();
        for (&repetition, &definition) in self.repetitions.iter().zip(&self.definitions) {
            let is_defined = usize::from(definition == self.defined);
            match lengths.last_mut() {
                Some(length) if repetition > 0 => *length += is_defined,
                _ => lengths.push(is_defined),
            }
        }
        match lengths.iter().position(|&length| length != self.width) {
            Some(row) => wrong_length(first + row as u64, lengths[row], self.width),
            None => self.wrong("has values without rows"),
        }
    }

    /// Refuses values after the last row.
    fn end(&mut self) -> Result<()> {
        let mut beyond = Vec::new();
        self.definitions.clear();
        let read =
            self.reader.read_records(1, Some(&mut self.definitions), Some(&mut self.repetitions), &mut beyond)?;
        if read == (0, 0, 0) { Ok(()) } else { Err(self.wrong("has more rows than its group")) }
    }

    fn wrong(&self, reason: &str) -> Fault {
        ParquetError::General(format!("column {} {reason}", self.name)).into()
    }
}
