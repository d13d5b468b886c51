//! `layers.parquet`: the model's layers in execution order.

use crate::error::{Result, TraceError};
use crate::geometry::{Conv2d, Geometry, Linear, Matmul, Pass};
use crate::table::{self, Table};
use arrow::buffer::ScalarBuffer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// The file's name in a trace.
pub const FILE_NAME: &str = "layers.parquet";

/// Maximum number of layers of a model.
const MAX_ROWS: i64 = 100_000;

/// A layer of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// The module's name in the model, such as `features.0`.
    pub name: String,
    /// The layer's operation and sizes.
    pub geometry: Geometry,
    /// Whether training computes the input gradient; not if nothing before the layer is trained, such as the first
    /// layer's.
    pub input_grad: bool,
    /// Whether training computes the weight gradient; not if the weights are frozen.
    pub weight_grad: bool,
}

impl Layer {
    /// Whether training computes a pass of the layer.
    pub fn trains(&self, pass: Pass) -> bool {
        match pass {
            Pass::Forward => true,
            Pass::InputGrad => self.input_grad,
            Pass::WeightGrad => self.weight_grad,
        }
    }

    /// Whether training computes one of the gradients.
    pub fn has_gradient(&self) -> bool {
        self.input_grad || self.weight_grad
    }
}

/// Whether a layer may have this name: only letters, digits, `_`, `-` and inner dots, because it
/// becomes part of a path.
pub fn is_layer_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && name
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'))
}

/// Writes the layers of the trace in `dir`.
pub fn write(dir: &Path, layers: &[Layer]) -> Result<()> {
    let rows: Vec<LayerRow> = layers.iter().map(|layer| LayerRow::from(&layer.geometry)).collect();
    let column = |field: fn(&LayerRow) -> u32| table::u32s(rows.iter().map(field));
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
            ("weight_grad", table::bools(layers.iter().map(|layer| layer.weight_grad))),
            ("macs", table::u64s(layers.iter().map(|layer| layer.geometry.macs()))),
        ],
    )
}

/// Reads the layers of the trace in `dir`, in execution order.
pub fn read(dir: &Path) -> Result<Vec<Layer>> {
    let path = dir.join(FILE_NAME);
    let table = Table::read(&path, MAX_ROWS)?;
    let input_grad = table.bool("input_grad")?;
    // Before version 3, no layer was frozen.
    let weight_grad = if table.has("weight_grad") { Some(table.bool("weight_grad")?) } else { None };
    let index = table.u32("index")?;
    let macs = table.u64("macs")?;
    let names = table.string("name")?;
    let ops = table.string("op")?;
    let pair = |name: &str| -> Result<[ScalarBuffer<u32>; 2]> {
        Ok([table.u32(&format!("{name}_height"))?, table.u32(&format!("{name}_width"))?])
    };
    let in_channels = table.u32("in_channels")?;
    let out_channels = table.u32("out_channels")?;
    let rows = table.u32("rows")?;
    let groups = table.u32("groups")?;
    let [input, output, kernel] = [pair("input")?, pair("output")?, pair("kernel")?];
    let [stride, padding, dilation] = [pair("stride")?, pair("padding")?, pair("dilation")?];
    let mut seen = BTreeSet::new();
    let mut layers = Vec::with_capacity(table.rows());
    for row in 0..table.rows() {
        let at = |columns: &[ScalarBuffer<u32>; 2]| columns.each_ref().map(|column| column[row]);
        let flat = LayerRow {
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
            return Err(table.invalid("name", format!("{name:?} occurs twice; give each layer its own name")));
        }
        let wrong = |reason: String| {
            let reason = format!("{reason}; correct row {row} (docs/formats.md describes it), or capture anew");
            TraceError::invalid(&path, format!("layer {name}"), reason)
        };
        let geometry = flat.geometry(ops.value(row)).map_err(wrong)?;
        if index[row] as usize != row {
            return Err(wrong(format!("index is {}, but must be {row}", index[row])));
        }
        if macs[row] != geometry.macs() {
            return Err(wrong(format!("macs is {}, but its geometry gives {}", macs[row], geometry.macs())));
        }
        layers.push(Layer {
            name: name.to_owned(),
            geometry,
            input_grad: input_grad.value(row),
            weight_grad: weight_grad.as_ref().is_none_or(|column| column.value(row)),
        });
    }
    Ok(layers)
}

/// A row of the table, with the columns of all operations.
///
/// Columns that an operation does not use are 1 (sizes, strides, groups) or 0 (padding).
#[derive(PartialEq)]
struct LayerRow {
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

impl From<&Geometry> for LayerRow {
    fn from(geometry: &Geometry) -> Self {
        let plain = LayerRow {
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
            Geometry::Conv2d(conv) => LayerRow {
                groups: conv.groups,
                input: conv.input,
                output: conv.output(),
                kernel: conv.kernel,
                stride: conv.stride,
                padding: conv.padding,
                dilation: conv.dilation,
                ..plain
            },
            Geometry::Linear(linear) => LayerRow { rows: linear.rows, ..plain },
            Geometry::Matmul(matmul) => LayerRow { rows: matmul.rows, groups: matmul.heads, ..plain },
        }
    }
}

impl LayerRow {
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
            // Until version 2, the name was `attention`.
            "matmul" | "attention" => Geometry::Matmul(Matmul {
                heads: self.groups,
                rows: self.rows,
                inner: self.in_channels,
                columns: self.out_channels,
            }),
            other => return Err(format!("op {other:?} is not one of conv2d, linear, matmul")),
        };
        geometry.validate()?;
        if LayerRow::from(&geometry) != *self {
            return Err("columns contradict each other (output size, or a column that the op does not use)".to_owned());
        }
        Ok(geometry)
    }
}
