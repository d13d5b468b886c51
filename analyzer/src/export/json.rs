//! JSON: an array with one object per row.

use super::Exporter;
use crate::error::Result;
use polars::prelude::{AnyValue, DataFrame};
use serde_json::Value;

pub(super) struct Json;

impl Exporter for Json {
    fn export(&self, frame: &DataFrame) -> Result<Vec<u8>> {
        let names: Vec<String> =
            frame.columns().iter().map(|column| Value::from(column.name().as_str()).to_string()).collect();
        let mut objects = Vec::with_capacity(frame.height());
        for row in 0..frame.height() {
            let mut fields = Vec::with_capacity(names.len());
            for (name, column) in names.iter().zip(frame.columns()) {
                fields.push(format!("{name}:{}", json_value(&column.get(row)?)));
            }
            objects.push(format!("{{{}}}", fields.join(",")));
        }
        Ok(format!("[{}]\n", objects.join(",")).into_bytes())
    }
}

/// A cell as JSON; null also for numbers that JSON lacks (NaN and infinities).
pub(crate) fn json_value(cell: &AnyValue) -> Value {
    match cell {
        AnyValue::Boolean(value) => (*value).into(),
        AnyValue::Int32(value) => (*value).into(),
        AnyValue::Int64(value) => (*value).into(),
        AnyValue::UInt32(value) => (*value).into(),
        AnyValue::UInt64(value) => (*value).into(),
        AnyValue::Float32(value) => (*value).into(),
        AnyValue::Float64(value) => (*value).into(),
        // No table of results has other types.
        other => other.get_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::*;

    #[test]
    fn rows_are_objects_with_columns_in_order() {
        let frame = df!(
            "text" => [Some("a \"b\"\n"), None],
            "count" => [Some(u64::MAX), None],
            "share" => [Some(1.0), Some(f64::NAN)],
            "truth" => [true, false],
        )
        .unwrap();
        let text = String::from_utf8(Json.export(&frame).unwrap()).unwrap();
        assert_eq!(
            text,
            "[{\"text\":\"a \\\"b\\\"\\n\",\"count\":18446744073709551615,\"share\":1.0,\"truth\":true},\
             {\"text\":null,\"count\":null,\"share\":null,\"truth\":false}]\n"
        );
        assert_eq!(Json.export(&frame.slice(0, 0)).unwrap(), b"[]\n");
    }
}
