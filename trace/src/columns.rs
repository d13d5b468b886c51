//! Converts columns of other programs' files to the types of docs/formats.md.
//!
//! Parquet's own types count; the Arrow schema that some writers add is ignored.

use arrow::array::{Array, ArrayRef, new_empty_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use parquet::basic::Compression;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

/// A column that cannot be converted: its name, and the reason with the remedy.
#[derive(Debug)]
pub(crate) struct ColumnRefusal {
    pub column: String,
    pub reason: String,
}

/// Checks that a column can be converted, if its values fit: numbers of any width, and bytes as
/// text.
pub(crate) fn check_type(found: &DataType, wanted: &DataType) -> Result<(), String> {
    let fits = match wanted {
        DataType::UInt32 | DataType::UInt64 => found.is_integer(),
        DataType::Float64 => found.is_floating(),
        DataType::Utf8 => matches!(found, DataType::Utf8 | DataType::Binary),
        other => found == other,
    };
    if fits { Ok(()) } else { Err(format!("holds {}, but {}", name(found), must_hold(wanted))) }
}

/// Converts a column to the type `wanted` without nulls; errors count rows from `first`.
pub(crate) fn convert(column: &ArrayRef, wanted: &DataType, first: u64) -> Result<ArrayRef, String> {
    if column.is_empty() {
        // Writers that infer types have none for a column without values.
        return Ok(new_empty_array(wanted));
    }
    check_type(column.data_type(), wanted)?;
    if let Some(row) = first_null(column) {
        let row = first + row as u64;
        return Err(format!("row {row} is null; write a value ({}) in every row", name(wanted)));
    }
    if column.data_type() == wanted {
        return Ok(ArrayRef::clone(column));
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let converted = cast_with_options(column, wanted, &options).map_err(|error| error.to_string())?;
    match first_null(&converted) {
        None => Ok(converted),
        Some(row) => {
            let value = array_value_to_string(column, row).map_err(|error| error.to_string())?;
            let row = first + row as u64;
            Err(format!("row {row} holds {value}, which is not a {}; write {}", name(wanted), describe_values(wanted)))
        }
    }
}

/// Finds the first null row.
pub(crate) fn first_null(column: &dyn Array) -> Option<usize> {
    let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0)?;
    (0..column.len()).find(|&row| nulls.is_null(row))
}

/// Returns a type's name in docs/formats.md.
pub(crate) fn name(kind: &DataType) -> String {
    let name = match kind {
        DataType::Boolean => "bool",
        DataType::Int8 => "i8",
        DataType::Int16 => "i16",
        DataType::Int32 => "i32",
        DataType::Int64 => "i64",
        DataType::UInt8 => "u8",
        DataType::UInt16 => "u16",
        DataType::UInt32 => "u32",
        DataType::UInt64 => "u64",
        DataType::Float16 => "f16",
        DataType::Float32 => "f32",
        DataType::Float64 => "f64",
        DataType::Utf8 => "string",
        DataType::Null => "nulls alone",
        DataType::List(element) => return format!("lists of {}", name(element.data_type())),
        other => return other.to_string(),
    };
    name.to_owned()
}

/// Describes the remedy for a column of another type.
pub(crate) fn must_hold(wanted: &DataType) -> String {
    format!("must hold {}; cast it and write the file again", describe(wanted))
}

/// Describes a type by its name here and in other libraries.
pub(crate) fn describe(wanted: &DataType) -> String {
    if let DataType::FixedSizeList(element, width) = wanted {
        let [pyarrow, polars] = names_elsewhere(element.data_type());
        return format!(
            "lists of {width} {} each (pyarrow: pa.list_(pa.{pyarrow}, {width}), polars: pl.Array(pl.{polars}, {width}))",
            name(element.data_type())
        );
    }
    let [pyarrow, polars] = names_elsewhere(wanted);
    format!("{} (pyarrow: pa.{pyarrow}, polars: pl.{polars})", name(wanted))
}

fn names_elsewhere(kind: &DataType) -> [&'static str; 2] {
    match kind {
        DataType::Boolean => ["bool_()", "Boolean"],
        DataType::UInt32 => ["uint32()", "UInt32"],
        DataType::UInt64 => ["uint64()", "UInt64"],
        DataType::Float16 => ["float16()", "Float16"],
        DataType::Float32 => ["float32()", "Float32"],
        DataType::Float64 => ["float64()", "Float64"],
        _ => ["string()", "String"],
    }
}

/// Describes the values of a type.
fn describe_values(kind: &DataType) -> String {
    match kind {
        DataType::UInt32 => format!("a number from 0 to {}", u32::MAX),
        DataType::UInt64 => format!("a number from 0 to {}", u64::MAX),
        _ => "text in UTF-8".to_owned(),
    }
}

/// Refuses a file with an unsupported codec, which would otherwise pass for a damaged file.
pub(crate) fn check_codecs(metadata: &ParquetMetaData) -> Result<(), ColumnRefusal> {
    let mut chunks = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    match chunks.find(|chunk| chunk.compression() == Compression::LZO) {
        None => Ok(()),
        Some(chunk) => Err(ColumnRefusal {
            column: chunk.column_path().string(),
            reason: "is compressed by LZO, which is not supported; write the file with zstd or snappy".to_owned(),
        }),
    }
}
