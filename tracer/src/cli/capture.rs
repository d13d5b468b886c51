//! `capture`: train and write a trace.

use crate::datasets::{Dataset, DatasetSpec};
use crate::error::TracerError;
use crate::models::{self, ModelSpec};
use crate::sampling::{self, Limits};
use crate::train::{Run, Settings};
use anyhow::Result;
use clap::Args;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use indicatif::{ProgressBar, ProgressStyle};
use mercury_trace::TraceWriter;
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{self, Manifest, SCHEMA_VERSION};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use tch::nn::{self, OptimizerConfig};
use tch::{Cuda, Device};

/// Train a model and capture what its layers compute on.
///
/// Example: mercury-tracer capture --model vgg13 --dataset fashion-mnist --out trace --steps 101 --every 50 --samples 8 --filters 32
#[derive(Debug, Args)]
pub struct Capture {
    /// Model to train; `mercury-tracer models` lists them.
    #[arg(long, value_name = "NAME")]
    model: String,
    /// Data set to train on; `mercury-tracer datasets` lists them.
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// Folder that holds the data sets' folders.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Folder for the trace; must be empty or missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Training steps.
    #[arg(long, value_name = "N", default_value_t = 201)]
    steps: u64,
    /// Capture every Nth step, beginning with step 0.
    #[arg(long, value_name = "N", default_value_t = 50)]
    every: u64,
    /// Samples per step.
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: u32,
    /// Learning rate.
    #[arg(long, value_name = "X", default_value_t = 0.01)]
    lr: f64,
    /// Momentum of SGD.
    #[arg(long, value_name = "X", default_value_t = 0.9)]
    momentum: f64,
    /// Weight decay of SGD.
    #[arg(long, value_name = "X", default_value_t = 5e-4)]
    weight_decay: f64,
    /// Seed of initial weights, order of samples, and choice of what to keep.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Keep at most N samples of a captured step, chosen at random [default: all].
    #[arg(long, value_name = "N")]
    samples: Option<u32>,
    /// Keep at most N channels of each convolution's input and output gradient [default: all].
    ///
    /// Vectors that span channels (granularity `patch`, `sub-vector`) need all.
    #[arg(long, value_name = "N")]
    channels: Option<u32>,
    /// Keep at most N filters of each layer's weight [default: all].
    #[arg(long, value_name = "N")]
    filters: Option<u32>,
    /// Capture only layers that match; can be given more than once [default: all].
    #[arg(long, value_name = "GLOB")]
    layers: Vec<String>,
    /// Device to train on: cpu, cuda, cuda:1, ...
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
    /// Samples to measure the validation accuracy on after the last step [default: all].
    #[arg(long, value_name = "N")]
    validation_samples: Option<usize>,
}

impl Capture {
    /// Trains, writes the trace, prints what came of it.
    pub fn run(self) -> Result<()> {
        self.check()?;
        let (model, dataset) = (ModelSpec::find(&self.model)?, DatasetSpec::find(&self.dataset)?);
        let device = parse_device(&self.device)?;
        let classes = dataset.classes;
        let mut data = dataset.read(&self.data_dir)?;
        data.pad_to(model.least_size);
        let input = data.input();
        if self.batch_size as usize > data.train.len() {
            let reason = format!("is {}, but the data set has {} samples", self.batch_size, data.train.len());
            return Err(TracerError::Flag { flag: "--batch-size", reason }.into());
        }

        tch::manual_seed(self.seed as i64);
        let variables = nn::VarStore::new(device);
        let built = model.build(&variables.root(), input[0], classes);
        let layers = models::layers(built.as_ref(), input, device);
        let wanted = self.wanted(&layers)?;
        let validation = self.validation_samples.unwrap_or(usize::MAX).min(data.validation.len());
        let manifest = self.manifest(&data, &layers, models::parameters(&variables), classes, validation);
        let mut writer = TraceWriter::create(&self.out, manifest, layers)?;

        let mut optimizer = nn::sgd(self.momentum, 0.0, self.weight_decay, false).build(&variables, self.lr)?;
        let settings = Settings {
            steps: self.steps,
            every: self.every,
            batch_size: self.batch_size as usize,
            learning_rate: self.lr,
            seed: self.seed,
        };
        let bar = progress_bar(self.steps, "training");
        let run = Run { model: built.as_ref(), dataset: &data, device, settings };
        let steps = run.train(&mut optimizer, &wanted, &mut writer, |step| {
            bar.set_message(format!("loss {:.3}, accuracy {:.0} %", step.loss, 100.0 * step.accuracy));
            bar.inc(1);
        })?;
        bar.finish_and_clear();

        let bar = progress_bar(validation as u64, "validating");
        let accuracy = (validation > 0).then(|| run.validate(validation, |done| bar.inc(done as u64)));
        bar.finish_and_clear();
        let manifest = writer.finish(accuracy, &steps)?;
        let recent = &steps[steps.len().saturating_sub(20)..];
        let mean =
            |of: fn(&mercury_trace::steps::Step) -> f64| recent.iter().map(of).sum::<f64>() / recent.len() as f64;
        report(&self.out, &manifest, mean(|step| step.loss), mean(|step| step.accuracy))
    }

    fn check(&self) -> Result<(), TracerError> {
        let at_least_one = [
            ("--steps", Some(self.steps)),
            ("--every", Some(self.every)),
            ("--batch-size", Some(u64::from(self.batch_size))),
            ("--samples", self.samples.map(u64::from)),
            ("--channels", self.channels.map(u64::from)),
            ("--filters", self.filters.map(u64::from)),
        ];
        for (flag, value) in at_least_one {
            if value == Some(0) {
                return Err(TracerError::Flag { flag, reason: "is 0, but must be at least 1".to_owned() });
            }
        }
        for (flag, value) in [("--lr", self.lr), ("--momentum", self.momentum), ("--weight-decay", self.weight_decay)] {
            if !value.is_finite() || value < 0.0 {
                return Err(TracerError::Flag { flag, reason: format!("is {value}, but must be a number from 0 up") });
            }
        }
        Ok(())
    }

    /// Names of the layers that the globs match.
    fn wanted(&self, layers: &[Layer]) -> Result<BTreeSet<String>, TracerError> {
        let bad = |reason: String| TracerError::Flag { flag: "--layers", reason };
        let all = || layers.iter().map(|layer| layer.name.clone());
        if self.layers.is_empty() {
            return Ok(all().collect());
        }
        let mut wanted = BTreeSet::new();
        for pattern in &self.layers {
            let glob = GlobBuilder::new(pattern).build().map_err(|error| bad(error.to_string()))?;
            let set: GlobSet = GlobSetBuilder::new().add(glob).build().map_err(|error| bad(error.to_string()))?;
            let matches: Vec<String> = all().filter(|name| set.is_match(name)).collect();
            if matches.is_empty() {
                let known: Vec<String> = all().collect();
                return Err(bad(format!("{pattern:?} matches none of {}", known.join(", "))));
            }
            wanted.extend(matches);
        }
        Ok(wanted)
    }

    fn manifest(&self, data: &Dataset, layers: &[Layer], parameters: u64, classes: i64, validation: usize) -> Manifest {
        let limits = Limits { samples: self.samples, channels: self.channels, filters: self.filters };
        let program = concat!("mercury-tracer ", env!("CARGO_PKG_VERSION"));
        Manifest {
            schema_version: SCHEMA_VERSION,
            created_by: program.to_owned(),
            model: manifest::Model {
                name: self.model.clone(),
                parameters,
                input: data.input().map(|size| size as u32),
                classes: classes as u32,
            },
            dataset: manifest::Dataset {
                name: self.dataset.clone(),
                train_samples: data.train.len() as u64,
                validation_samples: validation as u64,
            },
            seed: self.seed,
            training: manifest::Training {
                steps: self.steps,
                batch_size: self.batch_size,
                learning_rate: self.lr,
                momentum: self.momentum,
                weight_decay: self.weight_decay,
                validation_accuracy: None,
            },
            versions: BTreeMap::from([
                ("libtorch".to_owned(), env!("LIBTORCH_VERSION").to_owned()),
                ("mercury-tracer".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ]),
            device: self.device.clone(),
            sampling: sampling::choose(self.seed, limits, layers),
            captured: Vec::new(),
            complete: false,
        }
    }
}

fn parse_device(name: &str) -> Result<Device, TracerError> {
    let bad = |reason: String| TracerError::Flag { flag: "--device", reason };
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => 0,
        _ => name
            .strip_prefix("cuda:")
            .and_then(|index| index.parse::<usize>().ok())
            .ok_or_else(|| bad(format!("{name:?} is not one of cpu, cuda, cuda:N")))?,
    };
    if !Cuda::is_available() {
        return Err(bad(format!(
            "{name} was asked for, but this libtorch sees no CUDA device; use cpu, or set LIBTORCH to a CUDA build and build again"
        )));
    }
    let count = Cuda::device_count();
    if index as i64 >= count {
        return Err(bad(format!("{name} was asked for, but there are {count} CUDA devices, numbered from 0")));
    }
    Ok(Device::Cuda(index))
}

/// Silent where stderr is not a terminal.
fn progress_bar(length: u64, what: &'static str) -> ProgressBar {
    let style = "{prefix} {wide_bar} {pos}/{len} {msg} (left: {eta})";
    let bar = ProgressBar::new(length).with_prefix(what);
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    bar
}

fn report(out: &std::path::Path, manifest: &Manifest, loss: f64, accuracy: f64) -> Result<()> {
    let bytes: u64 = manifest.captured.iter().flat_map(|step| &step.tensors).map(|file| file.bytes).sum();
    let mut stdout = std::io::stdout();
    let (model, dataset) = (&manifest.model, &manifest.dataset);
    writeln!(
        stdout,
        "{} on {}: loss {loss:.3}, training accuracy {:.1} % (last steps' mean)",
        model.name,
        dataset.name,
        100.0 * accuracy
    )?;
    if let Some(accuracy) = manifest.training.validation_accuracy {
        writeln!(stdout, "validation accuracy {:.1} % on {} samples", 100.0 * accuracy, dataset.validation_samples)?;
    }
    writeln!(
        stdout,
        "trace {}: {} steps captured, {:.1} MB",
        out.display(),
        manifest.captured.len(),
        bytes as f64 / 1e6
    )?;
    Ok(())
}
