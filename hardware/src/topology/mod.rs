//! The topology files of SCALE-Sim: a header row, then one layer per row, fields separated by
//! commas.
//!
//! Columns may be in any order, because their names in the header identify them (see `header.rs`).
//! A file without a header is read in the order of SCALE-Sim. A convolution has no padding: its
//! output height is ceil((H - filter height + stride) / stride). As in SCALE-Sim, a convolution
//! whose name contains `DP` is depth-wise: one product per channel. A batch size multiplies m.
//!
//! The format has no quoting. SCALE-Sim splits each line at its commas, and so does this reader.

mod header;

use crate::error::{HardwareError, Result};
use header::{Column, Header, Key};
use mercury_trace::geometry::Gemm;
use mercury_trace::input;
use std::path::Path;

/// The name of a layer and its dense product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyLayer {
    /// The name.
    pub name: String,
    /// The product for the whole batch.
    pub gemm: Gemm,
    /// The line of the file, counted from 1 as an editor counts lines.
    pub line: u64,
}

/// The content of a topology file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The layers, in the file's order; at least one.
    pub layers: Vec<TopologyLayer>,
    /// The assumed order of columns, for a file without a header.
    pub assumed_order: Option<&'static str>,
    /// Columns with values that the timing model does not apply, such as sparsity.
    pub not_applied: Vec<String>,
    /// Columns with unknown names that hold text.
    pub not_read: Vec<String>,
}

/// Most bytes of a topology file, far above the size for any model.
const MAX_BYTES: u64 = 64 << 20;

/// Most multiply-accumulates of a layer. Below this, adding rows and columns of an array to a size
/// does not overflow.
const MAX_MACS: u128 = i64::MAX as u128;

/// The reason why a row cannot be read.
type Reason = String;

/// Reads a topology file.
///
/// # Errors
/// If the file cannot be read, or is not valid. The error names the file and the line.
pub fn read(path: &Path) -> Result<Topology> {
    let fail = |line, reason: Reason| HardwareError::Topology { path: path.to_owned(), line, reason };
    let bytes = input::read(path, MAX_BYTES)?;
    let text = decode(&bytes).map_err(|line| fail(line, "is not UTF-8 text".to_owned()))?;
    let mut rows = Vec::new();
    for (line, text) in numbered_lines(text) {
        let fields = split(text);
        if !fields.is_empty() {
            check_separators(&fields).map_err(|reason| fail(line, reason))?;
            rows.push((line, fields));
        }
    }
    let Some((first_line, first)) = rows.first() else {
        return Err(fail(1, "the file holds no layers".to_owned()));
    };
    let header = if Header::is_missing(first) { Header::scale_sim_order(first) } else { Header::from_names(first) };
    let header = header.map_err(|reason| fail(*first_line, reason))?;
    let layer_rows = if header.assumed_order().is_some() { &rows[..] } else { &rows[1..] };
    if layer_rows.is_empty() {
        return Err(fail(*first_line, "the file holds no layers, only a header".to_owned()));
    }
    let mut layers = Vec::with_capacity(layer_rows.len());
    for (line, fields) in layer_rows {
        layers.push(read_layer(&header, fields, *line).map_err(|reason| fail(*line, reason))?);
    }
    let is_filled =
        |index: usize| layer_rows.iter().any(|(_, fields)| fields.get(index).is_some_and(|field| !field.is_empty()));
    let filled = |meaning| -> Vec<String> {
        header.find_columns(meaning).filter(|(index, _)| is_filled(*index)).map(|(_, title)| title.to_owned()).collect()
    };
    Ok(Topology {
        layers,
        assumed_order: header.assumed_order(),
        not_applied: filled(Column::NotApplied),
        not_read: filled(Column::Unknown),
    })
}

/// Decodes UTF-8 text and removes a byte order mark. The error is the line of the first byte that
/// is not text.
fn decode(bytes: &[u8]) -> std::result::Result<&str, u64> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let line_at = |end: usize| numbered_lines(&String::from_utf8_lossy(&bytes[..end])).count() as u64;
    if let Some(zero) = bytes.iter().position(|&byte| byte == 0) {
        return Err(line_at(zero));
    }
    std::str::from_utf8(bytes).map_err(|error| line_at(error.valid_up_to()))
}

/// Numbers the lines from 1, as an editor does. Lines end with LF, CR LF or CR.
fn numbered_lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    let mut rest = Some(text);
    let lines = std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let ending = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&text[end + ending..]);
        Some(&text[..end])
    });
    (1..).zip(lines)
}

/// Splits a line into its fields, without empty ones at the end.
fn split(line: &str) -> Vec<&str> {
    let mut fields: Vec<&str> = line.split(',').map(str::trim).collect();
    while fields.last().is_some_and(|field| field.is_empty()) {
        fields.pop();
    }
    fields
}

/// Refuses a row with only one field; the error names the probable cause.
fn check_separators(fields: &[&str]) -> std::result::Result<(), Reason> {
    let [field] = fields else { return Ok(()) };
    let wrong = [('\t', "tabs"), (';', "semicolons")].into_iter().find(|(separator, _)| field.contains(*separator));
    Err(match wrong {
        Some((_, separators)) => format!("fields are separated by {separators}; separate them by commas"),
        None => format!(
            "{} stands alone: a title, or a layer without sizes. Remove the line; apart from the header, each \
             line describes one layer",
            quote(field)
        ),
    })
}

/// Quotes a field for messages, and shortens it.
fn quote(field: &str) -> String {
    const MAX_CHARS: usize = 40;
    match field.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{:?}…", &field[..end]),
        None => format!("{field:?}"),
    }
}

/// Whether a field is a finite number of any kind.
fn is_number(field: &str) -> bool {
    field.parse::<f64>().is_ok_and(f64::is_finite)
}

fn read_layer(header: &Header, fields: &[&str], line: u64) -> std::result::Result<TopologyLayer, Reason> {
    let (in_columns, trailing) = fields.split_at(fields.len().min(header.columns.len()));
    if let Some(number) = trailing.iter().find(|field| is_number(field)) {
        return Err(format!(
            "has {} fields where {} has {}, and {} is no remark; give each number a column, and write decimals \
             and thousands without commas",
            fields.len(),
            header.origin(),
            header.columns.len(),
            quote(number)
        ));
    }
    let mut name = "";
    let mut sizes = Sizes::default();
    for ((column, title), field) in header.columns.iter().zip(&header.titles).zip(in_columns) {
        if matches!(column, Column::Name | Column::Size(_)) && field.contains('\t') {
            return Err(format!("{title} is {}: a tab stands where a comma is missing", quote(field)));
        }
        match column {
            Column::Name => name = field,
            Column::Size(key) if !field.is_empty() => sizes.set(*key, title, field)?,
            Column::Fixed { value, remedy } if !field.is_empty() && field.parse() != Ok(*value) => {
                let field = quote(field);
                return Err(format!("{title} is {field}, where only {value} can be timed; {remedy}"));
            }
            Column::Unknown if field.contains(|c: char| c.is_ascii_digit()) || field.parse::<f64>().is_ok() => {
                return Err(format!(
                    "column {title:?} holds {}, and whether it changes the layer's work is not known; remove the \
                     column, or give it a name from docs/formats.md (a column called \"Remark\" is passed over)",
                    quote(field)
                ));
            }
            _ => {}
        }
    }
    if name.is_empty() {
        return Err("the layer has no name".to_owned());
    }
    let gemm = if header.is_product() { sizes.to_product()? } else { sizes.to_convolution(name.contains("DP"))? };
    Ok(TopologyLayer { name: name.to_owned(), gemm, line })
}

/// The sizes of a row, by [`Key`].
#[derive(Default)]
struct Sizes([Option<u64>; Key::ALL.len()]);

impl Sizes {
    fn set(&mut self, key: Key, title: &str, field: &str) -> std::result::Result<(), Reason> {
        let number = field.parse().ok().filter(|&number: &u64| (1..=i64::MAX as u64).contains(&number));
        let Some(number) = number else {
            return Err(format!("{title} is {}, not a whole number from 1 to {}", quote(field), i64::MAX));
        };
        self.0[key as usize] = Some(number);
        Ok(())
    }

    fn get(&self, key: Key) -> std::result::Result<u64, Reason> {
        self.0[key as usize].ok_or_else(|| format!("has no value for {}", key.title()))
    }

    fn optional(&self, key: Key) -> Option<u64> {
        self.0[key as usize]
    }

    fn batch(&self) -> u64 {
        self.optional(Key::Batch).unwrap_or(1)
    }

    fn to_product(&self) -> std::result::Result<Gemm, Reason> {
        let rows = u128::from(self.get(Key::M)?) * u128::from(self.batch());
        make_gemm(rows, self.get(Key::K)?.into(), self.get(Key::N)?, 1)
    }

    fn to_convolution(&self, depth_wise: bool) -> std::result::Result<Gemm, Reason> {
        let stride = self.optional(Key::Stride);
        let strides = (self.optional(Key::StrideHeight).or(stride), self.optional(Key::StrideWidth).or(stride));
        let (Some(stride_height), Some(stride_width)) = strides else {
            return Err(format!("has no value for {}", Key::Stride.title()));
        };
        let height = compute_output_size(self.get(Key::IfmapHeight)?, self.get(Key::FilterHeight)?, stride_height);
        let width = compute_output_size(self.get(Key::IfmapWidth)?, self.get(Key::FilterWidth)?, stride_width);
        let (Some(height), Some(width)) = (height, width) else {
            return Err(format!(
                "a filter of {} x {} does not fit an ifmap of {} x {} (there is no padding: give the padded size)",
                self.get(Key::FilterHeight)?,
                self.get(Key::FilterWidth)?,
                self.get(Key::IfmapHeight)?,
                self.get(Key::IfmapWidth)?
            ));
        };
        let channels = self.get(Key::Channels)?;
        let (count, depth) = if depth_wise { (channels, 1) } else { (1, channels) };
        let area = u128::from(self.get(Key::FilterHeight)?) * u128::from(self.get(Key::FilterWidth)?);
        let length = area.saturating_mul(depth.into());
        let positions = (u128::from(height) * u128::from(width)).saturating_mul(self.batch().into());
        make_gemm(positions, length, self.get(Key::Filters)?, count)
    }
}

/// Computes the number of output positions along one axis; `None` if the filter does not fit.
fn compute_output_size(size: u64, filter: u64, stride: u64) -> Option<u64> {
    Some(size.checked_sub(filter)?.div_ceil(stride) + 1)
}

/// Makes a product. An error if it has more than [`MAX_MACS`] multiply-accumulates.
fn make_gemm(m: u128, k: u128, n: u64, count: u64) -> std::result::Result<Gemm, Reason> {
    let macs = [k, n.into(), count.into()].iter().try_fold(m, |product, &size| product.checked_mul(size));
    match macs {
        Some(macs) if macs <= MAX_MACS => Ok(Gemm { m: m as u64, k: k as u64, n, count }),
        _ => Err(format!("has more than {MAX_MACS} multiply-accumulates, whose cycles may not fit 64 bits")),
    }
}

#[cfg(test)]
mod tests;
