//! CSV: comma-separated values with a header.

use super::Exporter;
use super::json::json_value;
use crate::error::Result;
use polars::prelude::{AnyValue, DataFrame};
use serde_json::Value;

pub(super) struct Csv;

const MEMORY: &str = "memory takes all that is written";

impl Exporter for Csv {
    fn export(&self, frame: &DataFrame) -> Result<Vec<u8>> {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        writer.write_record(frame.columns().iter().map(|column| column.name().as_str())).expect(MEMORY);
        for row in 0..frame.height() {
            for column in frame.columns() {
                writer.write_field(field(&column.get(row)?)).expect(MEMORY);
            }
            writer.write_record(None::<&[u8]>).expect(MEMORY);
        }
        Ok(writer.into_inner().expect(MEMORY))
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
        Value::String(text) => text,
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::*;

    #[test]
    fn fields_are_quoted_where_they_need_it() {
        let frame = df!(
            "text" => [Some("a"), Some(""), None, Some("b, \"c\"")],
            "count" => [Some(1u64), None, Some(3), Some(4)],
            "share" => [Some(0.5), Some(1.0), Some(f64::NEG_INFINITY), None],
        )
        .unwrap();
        let text = String::from_utf8(Csv.export(&frame).unwrap()).unwrap();
        assert_eq!(text, "text,count,share\na,1,0.5\n,,1.0\n,3,-inf\n\"b, \"\"c\"\"\",4,\n");
        assert_eq!(Csv.export(&frame.slice(0, 0)).unwrap(), b"text,count,share\n");
    }
}
