//! Rows of a tensor file, decoded.

use crate::input::Source;
use crate::read::Tensor;
use crate::tensor::{Dtype, TensorShape};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float16Type, UInt32Type};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{FloatType, Int32Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::RowGroupReader;
use parquet::file::serialized_reader::SerializedRowGroupReader;
use std::sync::Arc;

/// Decodes the rows of a file some at a time.
pub(crate) enum Decoder {
    /// As Arrow does.
    Lists(Box<ParquetRecordBatchReader>),
    /// Column by column.
    Leaves(Leaves),
}

impl Decoder {
    /// Of a file whose schema was checked, `rows` rows at a time.
    pub fn new(source: Source, metadata: ArrowReaderMetadata, dtype: Dtype, rows: usize) -> Result<Self> {
        match dtype {
            Dtype::F32 => Ok(Self::Leaves(Leaves::new(source, metadata.metadata(), rows))),
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
fn of_lists(batch: &arrow::array::RecordBatch, shape: &TensorShape) -> Tensor {
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
    rows: usize,
    /// Row groups that were begun.
    begun: usize,
    group: Option<Group>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

/// A row group's columns.
struct Group {
    /// Rows that were not decoded yet.
    left: usize,
    keys: Vec<ColumnReaderImpl<Int32Type>>,
    values: ColumnReaderImpl<FloatType>,
    /// Levels of a value that is there, and of one that continues a row.
    levels: [i16; 2],
}

impl Leaves {
    fn new(source: Source, metadata: &Arc<ParquetMetaData>, rows: usize) -> Self {
        let (definitions, repetitions) = Default::default();
        let (source, metadata) = (Arc::new(source), Arc::clone(metadata));
        Self { source, metadata, rows, begun: 0, group: None, definitions, repetitions }
    }

    fn next(&mut self, shape: &TensorShape) -> Result<Option<Tensor>> {
        loop {
            if let Some(group) = &mut self.group {
                if group.left > 0 {
                    return self.rows(shape).map(Some);
                }
                if group.values.skip_records(1)? > 0 {
                    return Err(ParquetError::General("pages have more rows than their group".to_owned()));
                }
            }
            if self.begun == self.metadata.num_row_groups() {
                return Ok(None);
            }
            self.group = Some(self.begin(self.begun, shape.keys.len())?);
            self.begun += 1;
        }
    }

    fn begin(&self, number: usize, keys: usize) -> Result<Group> {
        let (group, index) = (self.metadata.row_group(number), self.metadata.page_index_for_row_group(number));
        let properties = Arc::new(ReaderProperties::builder().build());
        let reader = SerializedRowGroupReader::new(Arc::clone(&self.source), group, index, properties)?;
        let key = |column| reader.get_column_reader(column).map(get_typed_column_reader);
        let description = group.column(keys).column_descr();
        Ok(Group {
            left: usize::try_from(group.num_rows())?,
            keys: (0..keys).map(key).collect::<Result<_>>()?,
            values: get_typed_column_reader(reader.get_column_reader(keys)?),
            levels: [description.max_def_level(), description.max_rep_level()],
        })
    }

    /// The next rows of a group that has some left.
    fn rows(&mut self, shape: &TensorShape) -> Result<Tensor> {
        let Self { group, definitions, repetitions, .. } = self;
        let group = group.as_mut().expect("the caller has looked");
        let rows = group.left.min(self.rows);
        let mut part = Tensor::new(shape.clone());
        let mut keys = Vec::with_capacity(rows);
        for (reader, column) in group.keys.iter_mut().zip(&mut part.keys) {
            keys.clear();
            reader.read_records(rows, None, None, &mut keys)?;
            column.extend(keys.iter().map(|&key| key.cast_unsigned()));
        }
        definitions.clear();
        repetitions.clear();
        part.values.reserve_exact(rows * shape.width);
        group.values.read_records(rows, Some(definitions), Some(repetitions), &mut part.values)?;
        let whole = part.keys.iter().all(|column| column.len() == rows)
            && part.values.len() == rows * shape.width
            && are_rows(definitions, repetitions, group.levels, shape.width);
        if !whole {
            let reason = format!("a row has other than {} values, or a column too few rows", shape.width);
            return Err(ParquetError::General(reason));
        }
        group.left -= rows;
        Ok(part)
    }
}

/// Whether these are the levels of whole rows of so many values, all of them there.
fn are_rows(definitions: &[i16], repetitions: &[i16], [there, continued]: [i16; 2], width: usize) -> bool {
    // Without a branch for each.
    let all = |levels: &[i16], level: i16| levels.iter().fold(0, |other, &found| other | (found ^ level)) == 0;
    let mut rows = repetitions.chunks(width);
    all(definitions, there)
        && definitions.len() == repetitions.len()
        && rows.all(|row| row.len() == width && row[0] == 0 && all(&row[1..], continued))
}

#[cfg(test)]
mod tests {
    use super::are_rows;

    #[test]
    fn rows_begin_where_they_should_and_have_all_their_values() {
        assert!(are_rows(&[1; 6], &[0, 1, 1, 0, 1, 1], [1, 1], 3));
        assert!(are_rows(&[1; 2], &[0, 0], [1, 1], 1));
        assert!(are_rows(&[], &[], [1, 1], 3));
        for (definitions, repetitions) in [
            ([1; 6], [0, 1, 1, 1, 1, 1]),
            ([1; 6], [0, 1, 0, 1, 1, 1]),
            ([1; 6], [1, 1, 1, 0, 1, 1]),
            ([1, 1, 0, 1, 1, 1], [0, 1, 1, 0, 1, 1]),
        ] {
            assert!(!are_rows(&definitions, &repetitions, [1, 1], 3));
        }
        assert!(!are_rows(&[1; 5], &[0, 1, 1, 0, 1], [1, 1], 3), "a row is cut short");
    }
}
