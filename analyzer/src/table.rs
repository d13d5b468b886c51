//! Reads and writes tables of results: polars' data frames as Parquet files.
//!
//! The reader and writer are those of trace tables. Unlike polars', this reader does not trust the
//! sizes that a damaged file states, and this writer starts no threads.

use crate::error::{AnalyzerError, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, NullArray, RecordBatch,
    RecordBatchOptions, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{
    self as arrow_types, ArrowPrimitiveType, DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema,
};
use mercury_trace::atomic::Unsynced;
use mercury_trace::checksum::Checksums;
use mercury_trace::table::{Batches, encode};
use polars::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum number of rows in a table: a sweep of a million configurations over a hundred layers.
const MAX_ROWS: i64 = 100_000_000;
const AGAIN: &str = "run the command that wrote it again";

/// Rows per Arrow batch: a text column of a batch holds at most 2 GiB.
const ROWS: usize = 1 << 20;

/// Writes a table as one of `files`.
pub fn write(files: &mut Unsynced, path: PathBuf, frame: &DataFrame) -> Result<()> {
    let firsts = (0..frame.height().max(1)).step_by(ROWS);
    let batches: Vec<RecordBatch> =
        firsts.map(|first| to_batch(&frame.slice(first as i64, ROWS))).collect::<PolarsResult<_>>()?;
    // Encoded in memory first, so that a full disk gives an error that names the file.
    let bytes = encode(&path, &batches, concat!("mercury-analyzer ", env!("CARGO_PKG_VERSION")))?;
    Ok(files.write(path, &bytes)?)
}

/// Compares a file with the checksums of its folder, if it has any; earlier versions wrote none.
///
/// # Errors
/// If the checksums differ.
pub fn check_sum(dir: &Path, name: &str) -> Result<()> {
    Ok(Checksums::read(dir)?.map_or(Ok(()), |sums| sums.check(dir, name))?)
}

/// Reads a table after [`check_sum`].
pub fn read_checked(dir: &Path, name: &str) -> Result<DataFrame> {
    check_sum(dir, name)?;
    read(&dir.join(name))
}

/// Reads a table without comparing checksums.
pub fn read(path: &Path) -> Result<DataFrame> {
    let batch = Batches::open(path, MAX_ROWS, AGAIN)?.concat(AGAIN)?;
    to_frame(&batch).map_err(|error| AnalyzerError::Table { path: path.to_owned(), error })
}

/// Checks that a table can be read, one batch at a time.
pub fn check(path: &Path) -> Result<()> {
    for batch in Batches::open(path, MAX_ROWS, AGAIN)? {
        to_frame(&batch?).map_err(|error| AnalyzerError::Table { path: path.to_owned(), error })?;
    }
    Ok(())
}

fn to_batch(frame: &DataFrame) -> PolarsResult<RecordBatch> {
    let columns: Vec<ArrayRef> = frame.columns().iter().map(to_array).collect::<PolarsResult<_>>()?;
    let named = frame.columns().iter().zip(&columns);
    let fields: Vec<ArrowField> = named
        .map(|(column, values)| ArrowField::new(column.name().as_str(), values.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(frame.height()));
    let batch = RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), columns, &options);
    Ok(batch.expect("the columns of a data frame have equal lengths"))
}

fn to_array(column: &Column) -> PolarsResult<ArrayRef> {
    Ok(match column.dtype() {
        DataType::Boolean => Arc::new(column.bool()?.iter().collect::<BooleanArray>()),
        DataType::Int32 => Arc::new(column.i32()?.iter().collect::<Int32Array>()),
        DataType::Int64 => Arc::new(column.i64()?.iter().collect::<Int64Array>()),
        DataType::UInt32 => Arc::new(column.u32()?.iter().collect::<UInt32Array>()),
        DataType::UInt64 => Arc::new(column.u64()?.iter().collect::<UInt64Array>()),
        DataType::Float32 => Arc::new(column.f32()?.iter().collect::<Float32Array>()),
        DataType::Float64 => Arc::new(column.f64()?.iter().collect::<Float64Array>()),
        DataType::String => Arc::new(column.str()?.iter().collect::<StringArray>()),
        DataType::Null => Arc::new(NullArray::new(column.len())),
        other => polars_bail!(SchemaMismatch: "column {} holds {other}, which tables of results do not", column.name()),
    })
}

fn to_frame(batch: &RecordBatch) -> PolarsResult<DataFrame> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, values)| to_column(field.name(), values)).collect::<PolarsResult<Vec<_>>>()?;
    DataFrame::new(batch.num_rows(), columns)
}

fn to_column(name: &str, values: &ArrayRef) -> PolarsResult<Column> {
    fn convert_numbers<A: ArrowPrimitiveType, P>(name: PlSmallStr, values: &ArrayRef) -> Column
    where
        P: PolarsNumericType<Native = A::Native>,
        ChunkedArray<P>: IntoSeries,
        A::Native: polars::prelude::NumericNative,
    {
        ChunkedArray::<P>::from_iter_options(name, values.as_primitive::<A>().iter()).into_series().into()
    }
    let short = PlSmallStr::from(name);
    Ok(match values.data_type() {
        ArrowType::Boolean => BooleanChunked::from_iter_options(short, values.as_boolean().iter()).into_series().into(),
        ArrowType::Int32 => convert_numbers::<arrow_types::Int32Type, Int32Type>(short, values),
        ArrowType::Int64 => convert_numbers::<arrow_types::Int64Type, Int64Type>(short, values),
        ArrowType::UInt32 => convert_numbers::<arrow_types::UInt32Type, UInt32Type>(short, values),
        ArrowType::UInt64 => convert_numbers::<arrow_types::UInt64Type, UInt64Type>(short, values),
        ArrowType::Float32 => convert_numbers::<arrow_types::Float32Type, Float32Type>(short, values),
        ArrowType::Float64 => convert_numbers::<arrow_types::Float64Type, Float64Type>(short, values),
        ArrowType::Utf8 => convert_texts(short, values.as_string::<i32>().iter()),
        ArrowType::LargeUtf8 => convert_texts(short, values.as_string::<i64>().iter()),
        ArrowType::Utf8View => convert_texts(short, values.as_string_view().iter()),
        ArrowType::Null => Series::new_null(short, values.len()).into(),
        other => polars_bail!(SchemaMismatch: "column {name} holds {other}, which tables of results do not"),
    })
}

fn convert_texts<'a>(name: PlSmallStr, values: impl Iterator<Item = Option<&'a str>>) -> Column {
    StringChunked::from_iter_options(name, values).into_series().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::BinaryArray;
    use parquet::arrow::ArrowWriter;
    use std::fs::File;

    #[test]
    fn tables_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.parquet");
        let whole = df!(
            "truth" => [Some(true), None, Some(false)],
            "int" => [Some(-1i32), None, Some(i32::MAX)],
            "long" => [i64::MIN, 0, 7],
            "count" => [0u32, 1, u32::MAX],
            "large" => [Some(u64::MAX), Some(1), None],
            "float" => [0.5f32, -0.0, f32::MAX],
            "double" => [Some(1e-300), Some(f64::INFINITY), None],
            "text" => [Some("a"), None, Some("")],
        )
        .unwrap();
        let mut nothing = whole.clone();
        nothing.with_column(Series::new_null("nothing".into(), 3).into()).unwrap();
        for frame in [&whole, &nothing, &whole.slice(0, 0), &whole.head(Some(1))] {
            write(&mut Unsynced::default(), path.clone(), frame).unwrap();
            check(&path).unwrap();
            let found = read(&path).unwrap();
            assert_eq!(found.schema(), frame.schema());
            assert!(found.equals_missing(frame), "{found} {frame}");
        }
    }

    #[test]
    fn columns_of_other_types_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.parquet");
        let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"a"]));
        let batch = RecordBatch::try_from_iter([("bytes", bytes)]).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        for error in [read(&path).unwrap_err(), check(&path).unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains("table.parquet") && text.contains("column bytes holds"), "{text}");
        }
        let error =
            write(&mut Unsynced::default(), path, &df!("bytes" => [b"a".as_slice()]).unwrap()).unwrap_err().to_string();
        assert!(error.contains("column bytes holds"), "{error}");
    }
}
