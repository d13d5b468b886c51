//! JSON: an array with one object per row.

use super::Exporter;
use crate::error::Result;
use polars::prelude::{DataFrame, JsonFormat, JsonWriter, SerWriter};

pub(super) struct Json;

impl Exporter for Json {
    fn export(&self, frame: &mut DataFrame) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        JsonWriter::new(&mut text).with_json_format(JsonFormat::Json).finish(frame)?;
        text.push(b'\n');
        Ok(text)
    }
}
