//! Rows of a tensor file, decoded.

use crate::columns::{self, Refusal};
use crate::pages::Pages;
use crate::tensor::{Dtype, Tensor, TensorShape};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, Fields, Float16Type, Float32Type, UInt32Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{DataType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::reader::FileReader;

/// Why rows cannot be decoded.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The file is not (whole) Parquet.
    Parquet(ParquetError),
    /// A column is not as a tensor's must be.
    Column(Refusal),
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

/// Decodes the rows of a file some at a time.
pub(crate) enum Decoder {
    /// As Arrow does, which knows every way to write a column. Values in f16 are among these: they are bytes to Parquet,
    /// whose columns give each an allocation of its own.
    Lists(Box<ParquetRecordBatchReader>),
    /// Column by column, of files that are as the tracer writes them.
    Leaves(Box<Leaves>),
}

impl Decoder {
    /// Decodes `rows` rows at a time of a file whose schema is `fields`.
    pub fn new(pages: Pages, fields: &Fields, shape: &TensorShape, rows: usize) -> Result<Self> {
        if are_leaves(fields, shape) {
            return Ok(Self::Leaves(Box::new(Leaves { pages, rows, begun: 0, group: None })));
        }
        Ok(Self::Lists(Box::new(pages.batches(rows)?)))
    }

    /// The next rows, of which there are none at the end; `first` is the number of the first of them.
    pub fn next(&mut self, shape: &TensorShape, first: u64) -> Result<Option<Tensor>> {
        match self {
            Self::Lists(reader) => reader.next().map(|batch| take_lists(&batch?, shape, first)).transpose(),
            Self::Leaves(leaves) => leaves.next(shape, first),
        }
    }
}

/// Whether keys are u32 and values lists of f32, none of which can be null.
fn are_leaves(fields: &Fields, shape: &TensorShape) -> bool {
    let (keys, values) = fields.split_at(shape.keys.len());
    let are_keys = keys.iter().all(|key| *key.data_type() == ArrowType::UInt32 && !key.is_nullable());
    let are_values = values.iter().all(|values| match values.data_type() {
        ArrowType::List(element) => {
            !values.is_nullable() && !element.is_nullable() && *element.data_type() == ArrowType::Float32
        }
        _ => false,
    });
    are_keys && are_values && shape.dtype == Dtype::F32
}

/// Rows of any writer's columns.
fn take_lists(batch: &RecordBatch, shape: &TensorShape, first: u64) -> Result<Tensor> {
    let mut part = Tensor::new(shape.clone());
    for ((name, column), found) in shape.keys.iter().zip(&mut part.keys).zip(batch.columns()) {
        let keys = columns::take(found, &ArrowType::UInt32, first).map_err(|reason| refuse(name, reason))?;
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

/// The values of lists that all have `width` of them, none of which is null.
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
    Fault::Column(Refusal { column: column.to_owned(), reason })
}

/// Rows with values in f32, of which no lists are made: values go straight to where they stay, and that each row
/// has as many as it must is seen from whole runs of levels.
pub(crate) struct Leaves {
    pages: Pages,
    rows: usize,
    /// Row groups that were begun.
    begun: usize,
    group: Option<Group>,
}

/// A row group's columns.
struct Group {
    /// Rows that were not decoded yet.
    left: usize,
    keys: Vec<Column<Int32Type>>,
    values: Column<FloatType>,
}

impl Leaves {
    fn next(&mut self, shape: &TensorShape, first: u64) -> Result<Option<Tensor>> {
        loop {
            match &mut self.group {
                Some(group) if group.left > 0 => return group.next(self.rows, shape, first).map(Some),
                Some(group) => group.end()?,
                None => (),
            }
            if self.begun == self.pages.metadata().num_row_groups() {
                return Ok(None);
            }
            self.group = Some(self.begin(self.begun, shape)?);
            self.begun += 1;
        }
    }

    fn begin(&self, number: usize, shape: &TensorShape) -> Result<Group> {
        let keys = shape.keys.len();
        Ok(Group {
            left: usize::try_from(self.pages.metadata().row_group(number).num_rows()).map_err(ParquetError::from)?,
            keys: (0..keys).map(|column| Column::new(&self.pages, number, column, 1)).collect::<Result<_>>()?,
            values: Column::new(&self.pages, number, keys, shape.width)?,
        })
    }
}

impl Group {
    /// The next rows, of which some are left.
    fn next(&mut self, most: usize, shape: &TensorShape, first: u64) -> Result<Tensor> {
        let rows = self.left.min(most);
        let (mut part, mut numbers) = (Tensor::new(shape.clone()), Vec::new());
        for (reader, column) in self.keys.iter_mut().zip(&mut part.keys) {
            numbers.clear();
            reader.read(rows, &mut numbers, first)?;
            column.extend(numbers.iter().map(|number| number.cast_unsigned()));
        }
        self.values.read(rows, &mut part.values, first)?;
        self.left -= rows;
        Ok(part)
    }

    /// Refuses rows beyond the group's.
    fn end(&mut self) -> Result<()> {
        self.keys.iter_mut().try_for_each(Column::end)?;
        self.values.end()
    }
}

/// A column whose rows have a value each, or lists of as many. None can be null.
struct Column<T: DataType> {
    name: String,
    /// Values of a row.
    width: usize,
    reader: ColumnReaderImpl<T>,
    /// Levels of a value that is there, and of one that continues a row.
    there: i16,
    continued: i16,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

impl<T: DataType> Column<T> {
    fn new(pages: &Pages, group: usize, column: usize, width: usize) -> Result<Self> {
        let description = pages.metadata().row_group(group).column(column).column_descr_ptr();
        Ok(Self {
            name: description.path().string(),
            width,
            there: description.max_def_level(),
            continued: description.max_rep_level(),
            reader: ColumnReaderImpl::new(description, pages.column(group, column)?),
            definitions: Vec::new(),
            repetitions: Vec::new(),
        })
    }

    /// Appends the values of so many rows.
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

    /// Whether the levels are those of whole rows, all of whose values are there. A column without lists has none.
    fn are_rows(&self) -> bool {
        // Without a branch for each.
        let all = |levels: &[i16], level: i16| levels.iter().fold(0, |other, &found| other | (found ^ level)) == 0;
        let mut rows = self.repetitions.chunks(self.width);
        all(&self.definitions, self.there)
            && rows.all(|row| row.len() == self.width && row[0] == 0 && all(&row[1..], self.continued))
    }

    /// The first row of another length.
    fn find_wrong_row(&self, first: u64) -> Fault {
        let mut lengths: Vec<usize> = Vec::new();
        for (&repetition, &definition) in self.repetitions.iter().zip(&self.definitions) {
            let is_there = usize::from(definition == self.there);
            match lengths.last_mut() {
                Some(length) if repetition > 0 => *length += is_there,
                _ => lengths.push(is_there),
            }
        }
        match lengths.iter().position(|&length| length != self.width) {
            Some(row) => wrong_length(first + row as u64, lengths[row], self.width),
            None => self.wrong("has values without rows"),
        }
    }

    /// Refuses what comes after the last row.
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
