//! `cycles`: the baseline cycles of the layers in a topology file.

use super::console::Console;
use crate::error::AnalyzerError;
use crate::export::Format;
use crate::timing::{Array, DataflowName, MAX_ARRAY, SigningUnit, folded_dataflow};
use crate::topology;
use anyhow::Result;
use clap::Args;
use mercury_hardware::HardwareError;
use polars::prelude::{Column, DataFrame};
use std::path::PathBuf;

/// Time the layers of a SCALE-Sim topology file on an array, without reuse and without stalls.
///
/// Row-stationary arrays are not offered: their timing depends on the planes of a convolution,
/// which a matrix product does not describe. `replay` times them.
///
/// Columns m, k and n are the sizes of one matrix product. A depth-wise layer has one product per
/// channel, and its cycles are the sum over all of them.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: mercury-analyzer cycles --topology alexnet.csv --array 12x14 --dataflow ws --format csv"
)]
pub struct Cycles {
    /// Topology file (CSV) of convolutions or of matrix products M, N, K.
    #[arg(long, value_name = "FILE")]
    topology: PathBuf,
    /// Array size, rows x columns.
    #[arg(long, value_name = "RxC", default_value = "12x14")]
    array: String,
    /// Dataflow of the array.
    #[arg(long, value_enum, default_value_t = DataflowName::WeightStationary)]
    dataflow: DataflowName,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Cycles {
    /// Times the layers and prints the table.
    pub fn run(self, console: Console) -> Result<()> {
        let (rows, columns) = parse_array(&self.array)?;
        let array = Array { rows, columns, accumulate_lanes: columns, read_ports: 1, signing: SigningUnit::Array };
        let dataflow = folded_dataflow(self.dataflow).expect("the flag offers no row-stationary one");
        let topology = topology::read(&self.topology)?;
        if let Some(order) = topology.assumed_order {
            console.note(format!("{}: has no header; the columns are read as {order}", self.topology.display()));
        }
        for column in &topology.not_applied {
            console.warn(format!("{}: column {column:?} does not change the cycles", self.topology.display()));
        }
        for column in &topology.not_read {
            console.warn(format!("{}: column {column:?} is not read", self.topology.display()));
        }
        let layers = topology.layers;
        let cycles = layers
            .iter()
            .map(|layer| {
                dataflow.checked_product(&array, layer.gemm).ok_or_else(|| HardwareError::Topology {
                    path: self.topology.clone(),
                    line: layer.line,
                    reason: format!("takes more than {} cycles on an array of {}", u64::MAX, self.array),
                })
            })
            .collect::<Result<Vec<u64>, HardwareError>>()?;
        let utilization: Vec<f64> = layers
            .iter()
            .zip(&cycles)
            .map(|(layer, &cycles)| layer.gemm.macs() as f64 / (cycles as f64 * (rows * columns) as f64))
            .collect();
        let column = |name: &str, value: fn(&topology::TopologyLayer) -> u64| {
            Column::new(name.into(), layers.iter().map(value).collect::<Vec<_>>())
        };
        let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        let frame = DataFrame::new(
            layers.len(),
            vec![
                Column::new("layer".into(), names),
                column("m", |layer| layer.gemm.m),
                column("k", |layer| layer.gemm.k),
                column("n", |layer| layer.gemm.n),
                Column::new("cycles".into(), cycles),
                Column::new("utilization".into(), utilization),
            ],
        )?;
        console.print_table(&frame, self.format)
    }
}

fn parse_array(text: &str) -> Result<(u64, u64), AnalyzerError> {
    text.split_once('x')
        .and_then(|(rows, columns)| Some((rows.parse().ok()?, columns.parse().ok()?)))
        .filter(|(rows, columns)| [rows, columns].iter().all(|size| (1..=u64::from(MAX_ARRAY)).contains(*size)))
        .ok_or_else(|| AnalyzerError::Flag {
            flag: "--array",
            reason: format!("{text:?} is not rows x columns, each from 1 to {MAX_ARRAY}, such as 12x14"),
        })
}
