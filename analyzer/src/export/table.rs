//! Text tables: aligned columns without lines.

use super::Exporter;
use crate::error::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table as ComfyTable, presets};
use polars::prelude::{AnyValue, DataFrame};

pub(super) struct Table;

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// Lays out a text table. Every line ends with a newline.
pub fn text_table(columns: &[(&str, Align)], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = ComfyTable::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(name, _)| *name));
    table.add_rows(rows);
    for (index, (_, align)) in columns.iter().enumerate() {
        if let (Align::Right, Some(column)) = (align, table.column_mut(index)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

impl Exporter for Table {
    fn export(&self, frame: &DataFrame) -> Result<Vec<u8>> {
        let columns: Vec<(&str, Align)> = frame
            .columns()
            .iter()
            .map(|column| {
                let align = if column.dtype().is_primitive_numeric() { Align::Right } else { Align::Left };
                (column.name().as_str(), align)
            })
            .collect();
        let row = |index: usize| {
            frame.columns().iter().map(|column| format_cell(&column.get(index).unwrap_or(AnyValue::Null))).collect()
        };
        Ok(text_table(&columns, (0..frame.height()).map(row)).into_bytes())
    }
}

fn format_cell(value: &AnyValue) -> String {
    match value {
        AnyValue::Null => "-".to_owned(),
        AnyValue::Float64(value) => format!("{value:.4}"),
        AnyValue::String(text) => (*text).to_owned(),
        other => other.to_string(),
    }
}
