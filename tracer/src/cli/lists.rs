//! `models` and `datasets`: list all models and data sets.

use crate::datasets::{DATASETS, Task};
use crate::models::{MODELS, Outline};
use anyhow::Result;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use std::io::Write;

/// List the models.
///
/// Parameters, MACs of a forward pass and captured layers are those for the published input, with
/// 1000 classes (auxiliary heads included) or a vocabulary of 37000.
#[derive(Debug, Clone, Copy, Args)]
#[command(after_help = "Example: mercury-tracer models")]
pub struct Models {}

impl Models {
    /// Prints the table.
    pub fn run() -> Result<()> {
        let mut table = create_table(&["model", "input", "parameters", "MACs", "layers", "reference"]);
        for model in MODELS {
            let Outline { layers, parameters, .. } = model.outline(&model.task)?;
            let macs: u64 = layers.iter().map(|layer| layer.geometry.macs()).sum();
            table.add_row([
                model.name.to_owned(),
                format_input(&model.task),
                format!("{:.1} M", parameters as f64 / 1e6),
                format!("{:.2} G", macs as f64 / 1e9),
                layers.len().to_string(),
                model.reference.to_owned(),
            ]);
        }
        print(&table)
    }
}

/// List the data sets; `python3 data/fetch.py NAME` downloads one.
#[derive(Debug, Clone, Copy, Args)]
#[command(after_help = "Example: mercury-tracer datasets")]
pub struct Datasets {}

impl Datasets {
    /// Prints the table.
    pub fn run() -> Result<()> {
        let mut table = create_table(&["dataset", "samples", "reference"]);
        for dataset in DATASETS {
            table.add_row([dataset.name, dataset.kind, dataset.reference]);
        }
        print(&table)
    }
}

fn format_input(task: &Task) -> String {
    match task {
        Task::Images { channels, size: [rows, columns], .. } => format!("{channels} x {rows} x {columns}"),
        Task::Text { source, target, .. } => format!("{source} + {target} tokens"),
    }
}

fn create_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for index in 1..header.len() - 1 {
        table.column_mut(index).expect("the header has this column").set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn print(table: &Table) -> Result<()> {
    writeln!(std::io::stdout(), "{}", table.trim_fmt())?;
    Ok(())
}
