//! `models` and `datasets`: what there is.

use crate::datasets::DATASETS;
use crate::models::{self, MODELS};
use anyhow::Result;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use std::io::Write;
use tch::{Device, nn};

/// List the models: parameters and MACs at the input size they were published for, 1000 classes.
#[derive(Debug, Clone, Copy, Args)]
pub struct Models {}

impl Models {
    /// Prints the table.
    pub fn run() -> Result<()> {
        let mut table = table(&["model", "input", "parameters", "MACs", "layers", "reference"]);
        for model in MODELS {
            let variables = nn::VarStore::new(Device::Cpu);
            let built = tch::no_grad(|| model.build(&variables.root(), model.input[0], 1000));
            let layers = models::layers(built.as_ref(), model.input, Device::Cpu);
            let macs: u64 = layers.iter().map(|layer| layer.geometry.macs()).sum();
            let [channels, rows, columns] = model.input;
            table.add_row([
                model.name.to_owned(),
                format!("{channels} x {rows} x {columns}"),
                format!("{:.1} M", models::parameters(&variables) as f64 / 1e6),
                format!("{:.2} G", macs as f64 / 1e9),
                layers.len().to_string(),
                model.reference.to_owned(),
            ]);
        }
        print(&table)
    }
}

/// List the data sets; `python3 data/fetch.py NAME` fetches one.
#[derive(Debug, Clone, Copy, Args)]
pub struct Datasets {}

impl Datasets {
    /// Prints the table.
    pub fn run() -> Result<()> {
        let mut table = table(&["dataset", "image", "classes", "reference"]);
        for dataset in DATASETS {
            let [channels, rows, columns] = dataset.input;
            table.add_row([
                dataset.name.to_owned(),
                format!("{channels} x {rows} x {columns}"),
                dataset.classes.to_string(),
                dataset.reference.to_owned(),
            ]);
        }
        print(&table)
    }
}

fn table(header: &[&str]) -> Table {
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
