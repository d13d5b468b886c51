//! `layers.parquet`: the model's layers in execution order.

use crate::error::{Result, TraceError};
use crate::geometry::{Attention, Conv2d, Geometry, Linear};
use crate::table::{self, Table};
use arrow::buffer::ScalarBuffer;
use std::collections::BTreeSet;
use std::path::Path;

/// The file's name within a trace.
pub const FILE_NAME: &str = "layers.parquet";

/// Most layers of a model.
const MAX_ROWS: i64 = 100_000;

/// A layer of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The module's name in the model, such as `features.0`.
    pub name: String,
    /// What it computes.
    pub geometry: Geometry,
    /// Whether training computes the gradient of its input: not where the input is the data itself.
    pub input_grad: bool,
}

/// Whether a name can be that of a layer: it becomes part of a path, so only letters, digits, `_`,
/// `-` and inner dots.
pub fn is_layer_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && name
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'))
}

/// Writes the layers of the trace in `dir`.
pub fn write(dir: &Path, layers: &[Layer]) -> Result<()> {
    let rows: Vec<Flat> = layers.iter().map(|layer| Flat::from(&layer.geometry)).collect();
    let column = |field: fn(&Flat) -> u32| table::u32s(rows.iter().map(field));
    table::write(
        &dir.join(FILE_NAME),
        vec![
            ("index", table::u32s(0..layers.len() as u32)),
            ("name", table::strings(layers.iter().map(|layer| layer.name.as_str()))),
            ("op", table::strings(layers.iter().map(|layer| layer.geometry.op()))),
            ("in_channels", column(|row| row.in_channels)),
            ("out_channels", column(|row| row.out_channels)),
            ("rows", column(|row| row.rows)),
            ("groups", column(|row| row.groups)),
            ("input_height", column(|row| row.input[0])),
            ("input_width", column(|row| row.input[1])),
            ("output_height", column(|row| row.output[0])),
            ("output_width", column(|row| row.output[1])),
            ("kernel_height", column(|row| row.kernel[0])),
            ("kernel_width", column(|row| row.kernel[1])),
            ("stride_height", column(|row| row.stride[0])),
            ("stride_width", column(|row| row.stride[1])),
            ("padding_height", column(|row| row.padding[0])),
            ("padding_width", column(|row| row.padding[1])),
            ("dilation_height", column(|row| row.dilation[0])),
            ("dilation_width", column(|row| row.dilation[1])),
            ("input_grad", table::bools(layers.iter().map(|layer| layer.input_grad))),
            ("macs", table::u64s(layers.iter().map(|layer| layer.geometry.macs()))),
        ],
    )
}

/// Reads the layers of the trace in `dir`, in execution order.
pub fn read(dir: &Path) -> Result<Vec<Layer>> {
    let path = dir.join(FILE_NAME);
    let table = Table::read(&path, MAX_ROWS)?;
    let input_grad = table.bool("input_grad")?;
    let (index, macs) = (table.u32("index")?, table.u64("macs")?);
    let (names, ops) = (table.string("name")?, table.string("op")?);
    let pair = |name: &str| -> Result<[ScalarBuffer<u32>; 2]> {
        Ok([table.u32(&format!("{name}_height"))?, table.u32(&format!("{name}_width"))?])
    };
    let [in_channels, out_channels, rows, groups] =
        ["in_channels", "out_channels", "rows", "groups"].map(|n| table.u32(n));
    let (in_channels, out_channels, rows, groups) = (in_channels?, out_channels?, rows?, groups?);
    let (input, output, kernel) = (pair("input")?, pair("output")?, pair("kernel")?);
    let (stride, padding, dilation) = (pair("stride")?, pair("padding")?, pair("dilation")?);
    let mut seen = BTreeSet::new();
    let mut layers = Vec::with_capacity(table.rows());
    for row in 0..table.rows() {
        let at = |columns: &[ScalarBuffer<u32>; 2]| columns.each_ref().map(|column| column[row]);
        let flat = Flat {
            in_channels: in_channels[row],
            out_channels: out_channels[row],
            rows: rows[row],
            groups: groups[row],
            input: at(&input),
            output: at(&output),
            kernel: at(&kernel),
            stride: at(&stride),
            padding: at(&padding),
            dilation: at(&dilation),
        };
        let name = names.value(row);
        if !is_layer_name(name) {
            let reason = format!("row {row} holds {name:?}; write letters, digits, _, - and inner dots, up to 200");
            return Err(table.invalid("name", reason));
        }
        if !seen.insert(name) {
            return Err(table.invalid("name", format!("{name:?} stands twice; give each layer a name of its own")));
        }
        let wrong = |reason: String| {
            let reason = format!("{reason}; correct row {row} (docs/formats.md says what it holds), or capture anew");
            TraceError::invalid(&path, format!("layer {name}"), reason)
        };
        let geometry = flat.geometry(ops.value(row)).map_err(wrong)?;
        if index[row] as usize != row {
            return Err(wrong(format!("index is {}, but must be {row}", index[row])));
        }
        if macs[row] != geometry.macs() {
            return Err(wrong(format!("macs is {}, but its geometry gives {}", macs[row], geometry.macs())));
        }
        layers.push(Layer { name: name.to_owned(), geometry, input_grad: input_grad.value(row) });
    }
    Ok(layers)
}

/// The columns of a row, shared by all operations: those that an operation has no use for are 1
/// (sizes, strides, groups) or 0 (padding).
#[derive(PartialEq)]
struct Flat {
    in_channels: u32,
    out_channels: u32,
    rows: u32,
    groups: u32,
    input: [u32; 2],
    output: [u32; 2],
    kernel: [u32; 2],
    stride: [u32; 2],
    padding: [u32; 2],
    dilation: [u32; 2],
}

impl From<&Geometry> for Flat {
    fn from(geometry: &Geometry) -> Self {
        let plain = Flat {
            in_channels: geometry.inputs(),
            out_channels: geometry.filters(),
            rows: 1,
            groups: 1,
            input: [1; 2],
            output: [1; 2],
            kernel: [1; 2],
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
        };
        match geometry {
            Geometry::Conv2d(conv) => Flat {
                groups: conv.groups,
                input: conv.input,
                output: conv.output(),
                kernel: conv.kernel,
                stride: conv.stride,
                padding: conv.padding,
                dilation: conv.dilation,
                ..plain
            },
            Geometry::Linear(linear) => Flat { rows: linear.rows, ..plain },
            Geometry::Attention(attention) => Flat { rows: attention.rows, groups: attention.heads, ..plain },
        }
    }
}

impl Flat {
    fn geometry(&self, op: &str) -> std::result::Result<Geometry, String> {
        let geometry = match op {
            "conv2d" => Geometry::Conv2d(Conv2d {
                in_channels: self.in_channels,
                out_channels: self.out_channels,
                input: self.input,
                kernel: self.kernel,
                stride: self.stride,
                padding: self.padding,
                dilation: self.dilation,
                groups: self.groups,
            }),
            "linear" => Geometry::Linear(Linear {
                rows: self.rows,
                in_features: self.in_channels,
                out_features: self.out_channels,
            }),
            "attention" => Geometry::Attention(Attention {
                heads: self.groups,
                rows: self.rows,
                inner: self.in_channels,
                columns: self.out_channels,
            }),
            other => return Err(format!("op {other:?} is not one of conv2d, linear, attention")),
        };
        geometry.validate()?;
        if Flat::from(&geometry) != *self {
            return Err("columns contradict each other (output size, or a column that the op does not use)".to_owned());
        }
        Ok(geometry)
    }
}
