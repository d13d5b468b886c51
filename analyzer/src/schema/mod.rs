//! Schema of results: every column of their tables and every field of `run.json`, each defined once.
//!
//! Writers take names and types from here, and [`TableSpec::frame`] refuses a table with other columns. Readers check
//! and read tables by the same definitions. `docs/formats.md` lists the columns for users; `tests/schema.rs` compares
//! it with this module.

/// Defines a table: its file, and its columns in the order in which they are written. The comment above a column
/// becomes its `doc`.
macro_rules! table {
    (
        $(#[$about:meta])*
        $file:literal:
        $($(#[doc = $doc:literal])+ $name:ident = $spec:expr;)+
    ) => {
        $(
            $(#[doc = $doc])+
            pub const $name: $crate::schema::ColumnSpec = $spec.described(concat!($($doc),+).trim_ascii());
        )+

        $(#[$about])*
        pub const TABLE: $crate::schema::TableSpec =
            $crate::schema::TableSpec { file: $file, columns: &[$($name),+] };
    };
}

pub mod angles;
pub mod choices;
pub mod configurations;
pub mod designs;
pub mod frontier;
pub mod layers;
pub mod models;
pub mod run;

use crate::error::{AnalyzerError, REPLAY_AGAIN, Result};
use crate::layer_settings::format_setting;
use polars::prelude::*;
use serde::Serialize;
use std::path::Path;

/// Version of the files of results.
pub const VERSION: u32 = 1;

/// Type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Whole numbers of at least 0.
    U64,
    /// Whole numbers.
    I64,
    /// Floating-point numbers.
    F64,
    /// True or false.
    Bool,
    /// Text.
    Text,
}

impl ColumnType {
    /// The type's name in `docs/formats.md`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
            Self::Bool => "bool",
            Self::Text => "string",
        }
    }

    /// The type as polars has it.
    fn dtype(self) -> DataType {
        match self {
            Self::U64 => DataType::UInt64,
            Self::I64 => DataType::Int64,
            Self::F64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Text => DataType::String,
        }
    }

    /// Whether a column of a file may have this type instead. Other programs choose other widths of numbers, and no
    /// type at all if every value is null.
    fn accepts(self, found: &DataType) -> bool {
        match self {
            Self::U64 | Self::I64 | Self::F64 => found.is_primitive_numeric() || *found == DataType::Null,
            Self::Bool | Self::Text => *found == self.dtype(),
        }
    }

    /// The values' name in messages.
    fn noun(self) -> &'static str {
        match self {
            Self::U64 | Self::I64 | Self::F64 => "numbers",
            Self::Bool => "true or false",
            Self::Text => "text",
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Its name in the file.
    pub name: &'static str,
    /// Type of its values.
    pub kind: ColumnType,
    /// Whether a row may lack a value.
    pub nullable: bool,
    /// Unit of its values; empty if they have none.
    pub unit: &'static str,
    /// What it holds, in a sentence.
    pub doc: &'static str,
}

impl ColumnSpec {
    const fn new(name: &'static str, kind: ColumnType, unit: &'static str) -> Self {
        Self { name, kind, nullable: false, unit, doc: "" }
    }

    const fn u64(name: &'static str, unit: &'static str) -> Self {
        Self::new(name, ColumnType::U64, unit)
    }

    const fn i64(name: &'static str, unit: &'static str) -> Self {
        Self::new(name, ColumnType::I64, unit)
    }

    const fn f64(name: &'static str, unit: &'static str) -> Self {
        Self::new(name, ColumnType::F64, unit)
    }

    const fn bool(name: &'static str) -> Self {
        Self::new(name, ColumnType::Bool, "")
    }

    const fn text(name: &'static str) -> Self {
        Self::new(name, ColumnType::Text, "")
    }

    /// The same column, of which rows may lack a value.
    const fn nullable(self) -> Self {
        Self { nullable: true, ..self }
    }

    /// The same column with this meaning.
    const fn described(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }

    /// Builds the column from a whole number of each row, or `None` for null.
    pub fn build_u64s<R, V: Into<Option<u64>>>(&self, rows: &[R], value: impl Fn(&R) -> V) -> Column {
        let values: Vec<Option<u64>> = rows.iter().map(|row| value(row).into()).collect();
        Column::new(self.name.into(), values)
    }

    /// Builds the column from a whole number of each row, of either sign.
    pub fn build_i64s<R>(&self, rows: &[R], value: impl Fn(&R) -> i64) -> Column {
        let values: Vec<i64> = rows.iter().map(value).collect();
        Column::new(self.name.into(), values)
    }

    /// Builds the column from a number of each row, or `None` for null.
    pub fn build_f64s<R, V: Into<Option<f64>>>(&self, rows: &[R], value: impl Fn(&R) -> V) -> Column {
        let values: Vec<Option<f64>> = rows.iter().map(|row| value(row).into()).collect();
        Column::new(self.name.into(), values)
    }

    /// Builds the column from a truth of each row.
    pub fn build_bools<R>(&self, rows: &[R], value: impl Fn(&R) -> bool) -> Column {
        let values: Vec<bool> = rows.iter().map(value).collect();
        Column::new(self.name.into(), values)
    }

    /// Builds the column from a text of each row.
    pub fn build_texts<R>(&self, rows: &[R], value: impl Fn(&R) -> &str) -> Column {
        let values: Vec<&str> = rows.iter().map(value).collect();
        Column::new(self.name.into(), values)
    }

    /// Builds the column from a setting of each row, as a configuration file has it without quotes.
    pub fn build_settings<R, S: Serialize>(&self, rows: &[R], value: impl Fn(&R) -> S) -> Column {
        let texts: Vec<String> = rows.iter().map(|row| format_setting(&value(row))).collect();
        Column::new(self.name.into(), texts)
    }

    /// Reads the column of a table as whole numbers; null if a value is none.
    ///
    /// # Errors
    /// If the table has no such column, or one of another type; [`check`] refuses such a table by name.
    pub fn read_u64s(&self, frame: &DataFrame) -> PolarsResult<Vec<Option<u64>>> {
        let column = frame.column(self.name)?.cast(&DataType::UInt64)?;
        Ok(column.u64()?.iter().collect())
    }

    /// Reads the column of a table as whole numbers of either sign.
    ///
    /// # Errors
    /// As of [`ColumnSpec::read_u64s`].
    pub fn read_i64s(&self, frame: &DataFrame) -> PolarsResult<Vec<Option<i64>>> {
        let column = frame.column(self.name)?.cast(&DataType::Int64)?;
        Ok(column.i64()?.iter().collect())
    }

    /// Reads the column of a table as floating-point numbers.
    ///
    /// # Errors
    /// As of [`ColumnSpec::read_u64s`].
    pub fn read_f64s(&self, frame: &DataFrame) -> PolarsResult<Vec<Option<f64>>> {
        let column = frame.column(self.name)?.cast(&DataType::Float64)?;
        Ok(column.f64()?.iter().collect())
    }

    /// Reads the column of a table as truths.
    ///
    /// # Errors
    /// As of [`ColumnSpec::read_u64s`].
    pub fn read_bools(&self, frame: &DataFrame) -> PolarsResult<Vec<Option<bool>>> {
        Ok(frame.column(self.name)?.bool()?.iter().collect())
    }

    /// Reads the column of a table as texts.
    ///
    /// # Errors
    /// As of [`ColumnSpec::read_u64s`].
    pub fn read_texts(&self, frame: &DataFrame) -> PolarsResult<Vec<Option<String>>> {
        let texts = frame.column(self.name)?.str()?;
        Ok(texts.iter().map(|text| text.map(str::to_owned)).collect())
    }
}

/// A table of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSpec {
    /// Its file's name.
    pub file: &'static str,
    /// Its columns, in the order in which they are written.
    pub columns: &'static [ColumnSpec],
}

impl TableSpec {
    /// Whether the table has a column of this name.
    pub fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    /// Puts columns into a table of so many rows.
    ///
    /// # Errors
    /// If the columns are not those of the table, or not in its order.
    pub fn frame(&self, rows: usize, columns: Vec<Column>) -> PolarsResult<DataFrame> {
        self.verify(&columns)?;
        DataFrame::new(rows, columns)
    }

    /// Refuses columns that are not those of the table, in its order.
    ///
    /// # Errors
    /// If names, types or their number differ, or values are missing from a column that cannot be null.
    pub fn verify(&self, columns: &[Column]) -> PolarsResult<()> {
        let fail = |reason: String| Err(PolarsError::SchemaMismatch(format!("{}: {reason}", self.file).into()));
        if columns.len() != self.columns.len() {
            return fail(format!("has {} columns, but its schema has {}", columns.len(), self.columns.len()));
        }
        for (column, spec) in columns.iter().zip(self.columns) {
            if column.name().as_str() != spec.name || *column.dtype() != spec.kind.dtype() {
                let (found, expected) = (column.dtype(), spec.kind.name());
                return fail(format!("has {}: {found}, but its schema has {}: {expected}", column.name(), spec.name));
            }
            if !spec.nullable && column.null_count() > 0 {
                return fail(format!("column {} lacks values, which its schema does not allow", spec.name));
            }
        }
        Ok(())
    }
}

/// Refuses a table that lacks one of these columns, or has one with values of another kind. More columns are fine.
///
/// # Errors
/// The error names file, column and remedy.
pub fn check(frame: &DataFrame, path: &Path, columns: &[ColumnSpec]) -> Result<()> {
    for spec in columns {
        let fail = |reason: String| Err(AnalyzerError::results(path, &format!("column {}", spec.name), reason));
        let Ok(column) = frame.column(spec.name) else {
            return fail(format!("is missing; {REPLAY_AGAIN}"));
        };
        if !spec.kind.accepts(column.dtype()) {
            return fail(format!("holds {}, not {}; {REPLAY_AGAIN}", column.dtype(), spec.kind.noun()));
        }
    }
    Ok(())
}
