//! `evaluate`: validation of a checkpoint, with and without reuse.

use super::arguments::DataFlags;
use super::model::SizeFlags;
use super::{device, reuse};
use crate::datasets::DatasetSpec;
use crate::error::TracerError;
use crate::evaluate::Evaluator;
use crate::models::ModelSpec;
use crate::pretrained::{self, Fresh};
use crate::reuse::{Named, Off, Override, Session};
use crate::tap::{Plain, Tap};
use crate::weights::Weights;
use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use mercury_cli::Messages;
use mercury_reuse::Counts;
use mercury_trace::evaluations::Evaluation;
use mercury_trace::geometry::Pass;
use std::io::Write;
use std::path::PathBuf;

/// Measure a checkpoint on validation data, without reuse and with.
///
/// Signatures have as many bits as the configuration begins with: `--set rpq.bits=N` for those that had grown.
///
/// Example: mercury-tracer evaluate --model vgg13 --dataset cifar10 --weights vgg13.safetensors --reuse mercury.toml --reuse centred.toml
#[derive(Debug, Args)]
pub struct Evaluate {
    /// Model to evaluate; `mercury-tracer models` lists them.
    #[arg(long, value_name = "NAME")]
    model: String,
    #[command(flatten)]
    size: SizeFlags,
    /// Its weights: a safetensors file, or a state dictionary of PyTorch's (.pth, .pt), with PyTorch's parameter
    /// names.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    #[command(flatten)]
    data: DataFlags,
    /// Compute layers with reuse as this configuration of mercury-analyzer says (TOML); can be given more
    /// than once.
    #[arg(long, value_name = "CONFIG")]
    reuse: Vec<PathBuf>,
    /// Set a key of every --reuse: rpq.bits=32; can be given more than once.
    #[arg(long, value_name = "KEY=VALUE", requires = "reuse")]
    set: Vec<Override>,
    /// Compute matching layers without reuse; can be given more than once.
    #[arg(long, value_name = "GLOB", requires = "reuse")]
    off: Vec<Off>,
    /// Samples to evaluate on, the first ones [default: all].
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Text: sentences among these to translate for BLEU; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 100)]
    bleu_samples: usize,
    /// Samples at a time.
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: u32,
    /// Seed of the split where a set has no part for validation.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Device to compute on: cpu, cuda, cuda:1, ...
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// One line for each configuration: an object of metrics.
    Json,
}

/// A configuration's result.
struct Row {
    name: String,
    counts: Option<Counts>,
    evaluations: Vec<Evaluation>,
}

impl Evaluate {
    /// Evaluates and prints.
    pub fn run(self, messages: Messages) -> Result<()> {
        if self.batch_size == 0 {
            let reason = "is 0, but must be at least 1".to_owned();
            return Err(TracerError::Flag { flag: "--batch-size", reason }.into());
        }
        let read = |path: &PathBuf| Named::read("--reuse", path, &self.set);
        let named: Vec<Named> = self.reuse.iter().map(read).collect::<Result<_, _>>()?;
        let model = self.size.of(ModelSpec::find(&self.model)?)?;
        let dataset = DatasetSpec::find(&self.data.dataset)?;
        let device = device::parse(&self.device)?;
        let data = dataset.open(&self.data.options(self.seed), model.least_size)?;
        data.warnings.iter().for_each(|warning| messages.warn(warning));
        let outline = model.outline(&data.task)?;
        named.iter().try_for_each(|named| named.check_batch(&outline.layers, self.batch_size))?;
        self.off.iter().try_for_each(|off| off.check(&outline.layers))?;
        if let Some(off) = self.off.iter().find(|off| off.has_step()) {
            let reason = format!("{off} names a step, but an evaluation has none; give the layers alone");
            return Err(TracerError::Flag { flag: "--off", reason }.into());
        }
        reuse::check_names(&named)?;
        let weights = Weights::new(device);
        let built = model.build(&weights, &data.task);
        messages.note(pretrained::load(&weights, &self.weights, &Fresh::default())?);
        let evaluator = Evaluator {
            model: built.as_ref(),
            dataset: &data,
            device,
            samples: self.samples.unwrap_or(usize::MAX).min(data.validation.len()),
            bleu_samples: self.bleu_samples,
            batch_size: self.batch_size as usize,
        };
        messages.note(data.summary(&format!("{} validation samples", evaluator.samples)));
        let mut rows = vec![Self::row(messages, &evaluator, "exact".to_owned(), &mut Plain)?];
        for named in named {
            let session = Session::new(named, self.off.clone());
            let mut row = Self::row(messages, &evaluator, session.named().name.clone(), &mut session.tap(0, false))?;
            let forward = session.take().into_iter().filter(|measured| measured.pass == Pass::Forward);
            row.counts = Some(forward.map(|measured| measured.counts).sum());
            rows.push(row);
        }
        let text = match self.format {
            Format::Table => table(&rows),
            Format::Json => rows.iter().map(|row| format!("{}\n", row.json())).collect(),
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }

    fn row(messages: Messages, evaluator: &Evaluator, name: String, tap: &mut dyn Tap) -> Result<Row> {
        let progress = messages.progress(evaluator.samples, "validating", "samples");
        let evaluations = evaluator.run(0, tap, |samples| progress.advance(samples as u64, &name));
        progress.finish();
        Ok(Row { name, counts: None, evaluations: evaluations? })
    }
}

impl Row {
    fn hit_rate(&self) -> Option<f64> {
        self.counts.map(|counts| counts.hit as f64 / counts.vectors().max(1) as f64)
    }

    fn json(&self) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        object.insert("configuration".to_owned(), self.name.clone().into());
        object.insert("hit_rate".to_owned(), self.hit_rate().into());
        for row in &self.evaluations {
            object.insert(row.metric.clone(), row.value.into());
            // Fewer sentences are translated than are scored.
            let samples = if row.metric == "bleu" { "bleu_samples" } else { "samples" };
            object.insert(samples.to_owned(), row.samples.into());
        }
        object.into()
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let metrics = rows[0].evaluations.iter().map(|row| format!("{} ({} samples)", row.metric, row.samples));
    table.set_header(["reuse".to_owned(), "HIT".to_owned()].into_iter().chain(metrics));
    for row in rows {
        let rate = row.hit_rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", 100.0 * rate));
        let values = row.evaluations.iter().map(|evaluation| format!("{:.4}", evaluation.value));
        table.add_row([row.name.clone(), rate].into_iter().chain(values));
    }
    format!("{table}\n")
}
