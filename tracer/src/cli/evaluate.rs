//! `evaluate`: validates a checkpoint, with and without reuse.

use super::arguments::DataFlags;
use super::device;
use super::model::SizeFlags;
use super::reuse::check_names;
use crate::datasets::DatasetSpec;
use crate::error::TracerError;
use crate::evaluate::Evaluator;
use crate::models::ModelSpec;
use crate::patterns::NamePatterns;
use crate::pretrained;
use crate::reuse::{ConfigOverride, LayersOff, NamedConfig, ReuseTap, Session};
use crate::tap::{Plain, Tap};
use crate::weights::Weights;
use anyhow::Result;
use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use mercury_cli::Messages;
use mercury_reuse::Counts;
use mercury_trace::evaluations::Evaluation;
use mercury_trace::geometry::Pass;
use mercury_trace::layers::Layer;
use std::io::Write;
use std::path::PathBuf;

/// Evaluate a checkpoint on validation data, without and with reuse.
///
/// Signatures have the initial length of the configuration. Set `--set rpq.bits=N` for the length
/// that they had grown to.
///
/// Example: mercury-tracer evaluate --model vgg13 --dataset cifar10 --weights vgg13.safetensors --reuse mercury.toml --reuse centred.toml
#[derive(Debug, Args)]
pub struct Evaluate {
    /// Model to evaluate; `mercury-tracer models` lists them.
    #[arg(long, value_name = "NAME")]
    model: String,
    #[command(flatten)]
    size: SizeFlags,
    /// Weights of the model: a safetensors file or a PyTorch state dictionary (.pth, .pt), with
    /// PyTorch's parameter names.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    #[command(flatten)]
    data: DataFlags,
    /// Evaluate with reuse under this configuration of mercury-analyzer: a file (TOML) or the name
    /// of a preset; can be repeated.
    #[arg(long, value_name = "CONFIG")]
    reuse: Vec<PathBuf>,
    /// Set a key of every --reuse, such as rpq.bits=32; can be repeated.
    #[arg(long, value_name = "KEY=VALUE", requires = "reuse")]
    set: Vec<ConfigOverride>,
    /// Compute matching layers without reuse; can be repeated.
    #[arg(long, value_name = "GLOB", requires = "reuse")]
    off: Vec<LayersOff>,
    /// Evaluate the first N samples [default: all].
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Text: translate the first N of these sentences for BLEU; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 100)]
    bleu_samples: usize,
    /// Samples per batch.
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: u32,
    /// Seed that chooses the validation samples of a data set without a validation part.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Device to compute on: cpu, cuda, cuda:1, ...
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
    /// Output format.
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
}

/// Formats of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// A table for people.
    Table,
    /// One JSON object of metrics per configuration, one per line.
    Json,
}

/// The result of a configuration.
struct EvaluationRow {
    name: String,
    /// Counts of the forward pass's vectors; `None` without reuse.
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
        let configurations = self.read_configurations()?;
        let model = self.size.resize(ModelSpec::find(&self.model)?)?;
        let dataset = DatasetSpec::find(&self.data.dataset)?;
        let device = device::parse(&self.device)?;
        let data = dataset.open(&self.data.options(self.seed), model.least_size)?;
        data.warnings.iter().for_each(|warning| messages.warn(warning));
        let outline = model.outline(&data.task)?;
        self.check_layers(&configurations, &outline.layers)?;
        check_names(&configurations)?;
        let weights = Weights::new(device);
        let built = model.build(&weights, &data.task);
        messages.note(pretrained::load(&weights, &self.weights, &NamePatterns::default())?);
        let evaluator = Evaluator {
            model: built.as_ref(),
            dataset: &data,
            device,
            samples: self.samples.unwrap_or(usize::MAX).min(data.validation.len()),
            bleu_samples: self.bleu_samples,
            batch_size: self.batch_size as usize,
        };
        messages.note(data.summary(&format!("{} validation samples", evaluator.samples)));
        let mut rows = vec![evaluate(messages, &evaluator, "exact", &mut Plain)?];
        for configuration in configurations {
            let session = Session::new(configuration, self.off.clone());
            let name = &session.configuration().name;
            let mut tap = ReuseTap::new(&session, 0, false);
            let mut row = evaluate(messages, &evaluator, name, &mut tap)?;
            let passes = tap.finish().into_iter();
            let forward = passes.filter(|measurement| measurement.pass == Pass::Forward);
            row.counts = Some(forward.map(|measurement| measurement.counts).sum());
            rows.push(row);
        }
        let text = match self.format {
            OutputFormat::Table => format_table(&rows),
            OutputFormat::Json => rows.iter().map(|row| format!("{}\n", row.to_json())).collect(),
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }

    fn read_configurations(&self) -> Result<Vec<NamedConfig>, TracerError> {
        self.reuse.iter().map(|path| NamedConfig::read("--reuse", path, &self.set)).collect()
    }

    /// Refuses configurations and flags that do not fit the model's layers.
    fn check_layers(&self, configurations: &[NamedConfig], layers: &[Layer]) -> Result<(), TracerError> {
        for configuration in configurations {
            configuration.check_layers(&self.model, layers, self.batch_size)?;
        }
        self.off.iter().try_for_each(|off| off.check(layers))?;
        if let Some(off) = self.off.iter().find(|off| off.has_step()) {
            let reason = format!("{off} names a step, but an evaluation has none; give the layers alone");
            return Err(TracerError::Flag { flag: "--off", reason });
        }
        Ok(())
    }
}

fn evaluate(messages: Messages, evaluator: &Evaluator, name: &str, tap: &mut dyn Tap) -> Result<EvaluationRow> {
    let progress = messages.progress(evaluator.samples, "validating", "samples");
    let evaluations = evaluator.run(0, tap, |samples| progress.advance(samples as u64, name));
    progress.finish();
    Ok(EvaluationRow { name: name.to_owned(), counts: None, evaluations: evaluations? })
}

impl EvaluationRow {
    fn hit_rate(&self) -> Option<f64> {
        self.counts.map(|counts| counts.hit as f64 / counts.vectors().max(1) as f64)
    }

    fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        object.insert("configuration".to_owned(), self.name.clone().into());
        object.insert("hit_rate".to_owned(), self.hit_rate().into());
        for row in &self.evaluations {
            object.insert(row.metric.clone(), row.value.into());
            // BLEU has its own count, because fewer sentences are translated than scored.
            let samples = if row.metric == "bleu" { "bleu_samples" } else { "samples" };
            object.insert(samples.to_owned(), row.samples.into());
        }
        object.into()
    }
}

fn format_table(rows: &[EvaluationRow]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let evaluations = rows[0].evaluations.iter();
    let metrics = evaluations.map(|row| format!("{} ({} samples)", row.metric, row.samples));
    table.set_header(["reuse".to_owned(), "HIT".to_owned()].into_iter().chain(metrics));
    for row in rows {
        let rate = match row.hit_rate() {
            Some(rate) => format!("{:.1} %", 100.0 * rate),
            None => "-".to_owned(),
        };
        let values = row.evaluations.iter().map(|evaluation| format!("{:.4}", evaluation.value));
        table.add_row([row.name.clone(), rate].into_iter().chain(values));
    }
    format!("{table}\n")
}
