//! Prints tables to stdout: one file per format.

mod csv;
mod json;
mod table;

use crate::error::Result;
use polars::prelude::DataFrame;

pub(crate) use json::json_value;
pub use table::{Align, text_table};

/// The format of the table on stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned text for reading.
    #[default]
    Table,
    /// JSON array with one object per row.
    Json,
    /// Comma-separated values with a header.
    Csv,
}

/// Encodes a frame in one format.
trait Exporter {
    fn export(&self, frame: &DataFrame) -> Result<Vec<u8>>;
}

/// Encodes a frame in a format.
pub fn encode(frame: &DataFrame, format: Format) -> Result<Vec<u8>> {
    let exporter: &dyn Exporter = match format {
        Format::Table => &table::Table,
        Format::Json => &json::Json,
        Format::Csv => &csv::Csv,
    };
    exporter.export(frame)
}
