//! CSV: comma-separated values with a header.

use super::Exporter;
use super::json::json_value;
use crate::error::Result;
use polars::prelude::{AnyValue, DataFrame};
use serde_json::Value;

pub(super) struct Csv;

impl Exporter for Csv {
    fn export(&self, frame: &DataFrame) -> Result<Vec<u8>> {
        let names: Vec<String> = frame.columns().iter().map(|column| quote(column.name().as_str())).collect();
        let mut lines = vec![names.join(",")];
        for row in 0..frame.height() {
            let mut fields = Vec::with_capacity(names.len());
            for column in frame.columns() {
                fields.push(field(&column.get(row)?));
            }
            lines.push(fields.join(","));
        }
        Ok((lines.join("\n") + "\n").into_bytes())
    }
}

/// A cell; empty if it is null.
fn field(cell: &AnyValue) -> String {
    if let AnyValue::Float64(value) = cell
        && !value.is_finite()
    {
        // NaN, inf or -inf, which JSON lacks.
        return value.to_string();
    }
    match json_value(cell) {
        Value::Null => String::new(),
        Value::String(text) => quote(&text),
        value => value.to_string(),
    }
}

/// A text with quotation marks where it needs them, and where it is empty: an empty field is null.
fn quote(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::*;

    #[test]
    fn fields_are_quoted_where_they_need_it_and_null_is_empty() {
        let frame = df!(
            "text" => [Some("a"), Some(""), None, Some("b, \"c\"")],
            "count" => [Some(1u64), None, Some(3), Some(4)],
            "share" => [Some(0.5), Some(1.0), Some(f64::NEG_INFINITY), None],
        )
        .unwrap();
        let text = String::from_utf8(Csv.export(&frame).unwrap()).unwrap();
        assert_eq!(text, "text,count,share\na,1,0.5\n\"\",,1.0\n,3,-inf\n\"b, \"\"c\"\"\",4,\n");
        assert_eq!(Csv.export(&frame.slice(0, 0)).unwrap(), b"text,count,share\n");
    }
}
