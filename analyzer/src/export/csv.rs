//! CSV: comma-separated values with a header.

use super::Exporter;
use crate::error::Result;
use polars::prelude::{CsvWriter, DataFrame, SerWriter};

pub(super) struct Csv;

impl Exporter for Csv {
    fn export(&self, frame: &mut DataFrame) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        CsvWriter::new(&mut text).finish(frame)?;
        Ok(text)
    }
}
