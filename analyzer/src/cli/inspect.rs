//! `inspect`: the contents of a trace.

use super::console::Console;
use crate::export::Format;
use anyhow::Result;
use clap::Args;
use mercury_trace::Trace;
use mercury_trace::geometry::{Geometry, Matmul};
use mercury_trace::manifest::Model;
use mercury_trace::tensor::TensorKind;
use polars::prelude::{Column, DataFrame};
use std::path::PathBuf;

/// Show what a trace holds: model, training, captured steps, layers.
///
/// JSON and CSV contain only the table of layers.
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer inspect trace --format csv")]
pub struct Inspect {
    /// Folder of the trace.
    trace: PathBuf,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Inspect {
    /// Prints the headline and the table of layers.
    pub fn run(self, console: Console) -> Result<()> {
        let trace = Trace::open(&self.trace)?;
        if self.format == Format::Table {
            console.print(&describe_trace(&trace)?)?;
        }
        console.print_table(&tabulate_layers(&trace)?, self.format)
    }
}

fn describe_trace(trace: &Trace) -> Result<String> {
    let manifest = trace.manifest();
    let steps = trace.steps()?;
    let (model, training) = (&manifest.model, &manifest.training);
    let captured: Vec<String> = manifest.captured.iter().map(|step| step.step.to_string()).collect();
    let samples = manifest.captured.first().map_or(0, |step| step.samples.len());
    let framework = manifest.framework.iter().map(|framework| format!(", {} {}", framework.name, framework.version));
    let mut text = format!(
        "{} ({}) on {}, seed {}, {}{}\n",
        model.name,
        describe_model(model),
        manifest.dataset.name,
        manifest.seed,
        manifest.device,
        framework.collect::<String>()
    );
    if let Some(label) = &manifest.label {
        text += &format!("label: {label}\n");
    }
    if let Some(command) = &manifest.command {
        text += &format!("captured by: {command}\n");
    }
    // Other programs may not know the number of steps before the end.
    let planned = if training.steps > 0 { format!(" of {}", training.steps) } else { String::new() };
    text += &format!(
        "trained {}{planned} steps of {} samples{}\n",
        steps.len(),
        training.batch_size,
        if manifest.complete { "" } else { " (not complete)" }
    );
    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        text += &if first.loss.is_nan() || last.loss.is_nan() {
            "training loss not logged; signatures do not grow without it\n".to_owned()
        } else {
            format!("training loss {:.3} at step {}, {:.3} at step {}\n", first.loss, first.step, last.loss, last.step)
        };
    }
    if let Some(accuracy) = training.validation_accuracy {
        text += &format!("validation accuracy {:.1} %\n", 100.0 * accuracy);
    }
    text += &match captured.as_slice() {
        [] => "no step captured\n\n".to_owned(),
        captured => format!("captured steps {}, {samples} samples of each\n\n", captured.join(", ")),
    };
    Ok(text)
}

/// The number of parameters, and the size of an input if it is known.
fn describe_model(model: &Model) -> String {
    let parameters = match model.parameters {
        0..100_000 => format!("{} parameters", model.parameters),
        many => format!("{:.1} M parameters", many as f64 / 1e6),
    };
    let sizes: Vec<String> = model.input.iter().map(u32::to_string).collect();
    if sizes.is_empty() { parameters } else { format!("{parameters}, input {}", sizes.join(" x ")) }
}

fn tabulate_layers(trace: &Trace) -> Result<DataFrame> {
    let layers = trace.layers();
    let captured = &trace.manifest().captured;
    let bytes = |name: &str| {
        let files = captured.iter().flat_map(|step| &step.tensors).filter(|file| file.layer == name);
        files.map(|file| file.bytes).sum::<u64>()
    };
    let kept = |kind: TensorKind| layers.iter().map(|layer| trace.kept(layer, kind).len() as u64).collect::<Vec<_>>();
    let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    let ops: Vec<&str> = layers.iter().map(|layer| layer.geometry.op()).collect();
    let shapes: Vec<String> = layers.iter().map(|layer| describe_shape(&layer.geometry)).collect();
    Ok(DataFrame::new(
        layers.len(),
        vec![
            Column::new("layer".into(), names),
            Column::new("op".into(), ops),
            Column::new("geometry".into(), shapes),
            Column::new("macs".into(), layers.iter().map(|layer| layer.geometry.macs()).collect::<Vec<_>>()),
            Column::new("kept_channels".into(), kept(TensorKind::Input)),
            Column::new("kept_filters".into(), kept(TensorKind::Weight)),
            Column::new("bytes".into(), layers.iter().map(|layer| bytes(&layer.name)).collect::<Vec<_>>()),
        ],
    )?)
}

/// The sizes of both axes, as one number if they are equal.
fn format_sides([height, width]: [u32; 2]) -> String {
    if height == width { height.to_string() } else { format!("{height}x{width}") }
}

fn describe_shape(geometry: &Geometry) -> String {
    match geometry {
        Geometry::Conv2d(conv) => {
            let [[height, width], [kernel_height, kernel_width]] = [conv.input, conv.kernel];
            let mut text =
                format!("{}x{height}x{width} * {}x{kernel_height}x{kernel_width}", conv.in_channels, conv.out_channels);
            if conv.stride != [1, 1] {
                text += &format!(" /{}", format_sides(conv.stride));
            }
            if conv.padding != [0, 0] {
                text += &format!(" padded by {}", format_sides(conv.padding));
            }
            if conv.dilation != [1, 1] {
                text += &format!(" dilated by {}", format_sides(conv.dilation));
            }
            if conv.groups > 1 {
                text += &format!(" in {} groups", conv.groups);
            }
            text
        }
        Geometry::Linear(linear) => format!("{}x{} * {}", linear.rows, linear.in_features, linear.out_features),
        Geometry::Matmul(Matmul { heads: 1, rows, inner, columns }) => format!("{rows}x{inner} * {columns}"),
        Geometry::Matmul(a) => format!("{} x ({}x{} * {})", a.heads, a.rows, a.inner, a.columns),
    }
}
