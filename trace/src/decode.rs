//! Rows of a tensor file, decoded.

use crate::input::Source;
use crate::read::Tensor;
use crate::tensor::{Dtype, TensorShape};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float16Type, UInt32Type};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{DataType, FloatType, Int32Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{ReaderProperties, ReaderPropertiesPtr};
use parquet::file::reader::{ChunkReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedRowGroupReader;
use std::sync::Arc;

/// Decodes the rows of a file some at a time.
pub(crate) enum Decoder {
    /// As Arrow does: values in f16 are bytes to Parquet, whose columns give each an allocation of its own.
    Lists(Box<ParquetRecordBatchReader>),
    /// Column by column.
    Leaves(Box<Leaves>),
}

impl Decoder {
    /// Of a file whose schema was checked, `rows` rows at a time.
    pub fn new(source: Source, metadata: ArrowReaderMetadata, dtype: Dtype, rows: usize) -> Result<Self> {
        match dtype {
            Dtype::F32 => Ok(Self::Leaves(Box::new(Leaves::new(source, metadata.metadata(), rows)))),
            Dtype::F16 => {
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source, metadata);
                Ok(Self::Lists(Box::new(builder.with_batch_size(rows).build()?)))
            }
        }
    }

    /// The next rows, of which there are none at the end.
    pub fn next(&mut self, shape: &TensorShape) -> Result<Option<Tensor>> {
        match self {
            Self::Lists(reader) => reader.next().map(|batch| Ok(of_lists(&batch?, shape))).transpose(),
            Self::Leaves(leaves) => leaves.next(shape),
        }
    }
}

/// Rows with values in f16.
fn of_lists(batch: &RecordBatch, shape: &TensorShape) -> Tensor {
    let mut part = Tensor::new(shape.clone());
    for (index, column) in part.keys.iter_mut().enumerate() {
        column.extend_from_slice(batch.column(index).as_primitive::<UInt32Type>().values());
    }
    let lists = batch.column(shape.keys.len()).as_fixed_size_list();
    let values = &lists.values().as_primitive::<Float16Type>().values()[..lists.len() * shape.width];
    part.values.extend(values.iter().map(|value| value.to_f32()));
    part
}

/// Rows with values in f32, of which no lists are made: values go straight to where they stay, and that each row
/// has as many as it must is seen from whole runs of levels.
pub(crate) struct Leaves {
    source: Arc<Source>,
    metadata: Arc<ParquetMetaData>,
    properties: ReaderPropertiesPtr,
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
    fn new(source: Source, metadata: &Arc<ParquetMetaData>, rows: usize) -> Self {
        let properties = Arc::new(ReaderProperties::builder().build());
        Self { source: Arc::new(source), metadata: Arc::clone(metadata), properties, rows, begun: 0, group: None }
    }

    fn next(&mut self, shape: &TensorShape) -> Result<Option<Tensor>> {
        loop {
            match &mut self.group {
                Some(group) if group.left > 0 => return group.next(self.rows, shape).map(Some),
                Some(group) => group.end()?,
                None => (),
            }
            if self.begun == self.metadata.num_row_groups() {
                return Ok(None);
            }
            self.group = Some(self.begin(self.begun, shape)?);
            self.begun += 1;
        }
    }

    fn begin(&self, number: usize, shape: &TensorShape) -> Result<Group> {
        let (group, index) = (self.metadata.row_group(number), self.metadata.page_index_for_row_group(number));
        let reader =
            SerializedRowGroupReader::new(Arc::clone(&self.source), group, index, Arc::clone(&self.properties))?;
        let keys = shape.keys.len();
        Ok(Group {
            left: usize::try_from(group.num_rows())?,
            keys: (0..keys).map(|column| Column::new(&reader, column, 1)).collect::<Result<_>>()?,
            values: Column::new(&reader, keys, shape.width)?,
        })
    }
}

impl Group {
    /// The next rows, of which some are left.
    fn next(&mut self, most: usize, shape: &TensorShape) -> Result<Tensor> {
        let rows = self.left.min(most);
        let (mut part, mut numbers) = (Tensor::new(shape.clone()), Vec::new());
        for (reader, column) in self.keys.iter_mut().zip(&mut part.keys) {
            numbers.clear();
            reader.read(rows, &mut numbers)?;
            column.extend(numbers.iter().map(|number| number.cast_unsigned()));
        }
        self.values.read(rows, &mut part.values)?;
        self.left -= rows;
        Ok(part)
    }

    /// Refuses rows beyond the group's.
    fn end(&mut self) -> Result<()> {
        self.keys.iter_mut().try_for_each(Column::end)?;
        self.values.end()
    }
}

/// A column whose rows have a value each, or lists of as many.
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
    fn new<R: ChunkReader + 'static>(
        reader: &SerializedRowGroupReader<R>,
        column: usize,
        width: usize,
    ) -> Result<Self> {
        let description = reader.metadata().column(column).column_descr_ptr();
        let values = (reader.metadata().num_rows().unsigned_abs()).saturating_mul(width as u64);
        let pages = Limited { pages: reader.get_column_page_reader(column)?, values };
        Ok(Self {
            name: description.path().string(),
            width,
            there: description.max_def_level(),
            continued: description.max_rep_level(),
            reader: ColumnReaderImpl::new(description, Box::new(pages)),
            definitions: Vec::new(),
            repetitions: Vec::new(),
        })
    }

    /// Appends the values of so many rows.
    fn read(&mut self, rows: usize, values: &mut Vec<T::T>) -> Result<()> {
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
            return Err(self.wrong(&format!("has rows of other than {} values", self.width)));
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

    /// Refuses what comes after the last row.
    fn end(&mut self) -> Result<()> {
        let mut beyond = Vec::new();
        self.definitions.clear();
        let read =
            self.reader.read_records(1, Some(&mut self.definitions), Some(&mut self.repetitions), &mut beyond)?;
        if read == (0, 0, 0) { Ok(()) } else { Err(self.wrong("has more rows than its group")) }
    }

    fn wrong(&self, reason: &str) -> ParquetError {
        ParquetError::General(format!("column {} {reason}", self.name))
    }
}

/// The pages of a column that has no more than so many values: a page of a few bytes can claim billions.
struct Limited {
    pages: Box<dyn PageReader>,
    values: u64,
}

impl PageReader for Limited {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = page.as_ref().filter(|page| page.is_data_page()) {
            let left = self.values.checked_sub(u64::from(page.num_values()));
            self.values = left.ok_or_else(|| ParquetError::General("pages have more values than rows".to_owned()))?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

impl Iterator for Limited {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
