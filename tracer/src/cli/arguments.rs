//! Flags of `capture`, by topic. A resumed run compares their serialised form.

use crate::datasets::{DATASETS, DataOptions};
use crate::error::{Result, TracerError};
use crate::optimizer::Method;
use crate::policy::Policy;
use crate::schedule::{Decay, Schedule};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use mercury_capture::sampling::SamplingLimits;
use mercury_cli::parse_bytes;
use mercury_trace::geometry::Pass;
use mercury_trace::tensor::Dtype;
use serde::{Serialize, Serializer};
use std::path::PathBuf;

/// Flags of the data.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Data")]
pub struct DataFlags {
    /// Data set to train on; `mercury-tracer datasets` lists them.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(DATASETS.iter().map(|set| set.name)))]
    pub dataset: String,
    /// Folder with the data sets' folders.
    #[arg(long, value_name = "DIR", default_value = "data")]
    #[serde(skip)]
    pub data_dir: PathBuf,
    /// `images`: folder of JPEG and PNG files, with one sub-folder per class or with files named
    /// CLASS_*.jpg.
    #[arg(long, value_name = "DIR")]
    pub train_dir: Option<PathBuf>,
    /// `images`: folder of validation images [default: a share of --train-dir].
    #[arg(long, value_name = "DIR")]
    pub validation_dir: Option<PathBuf>,
    /// Share of the samples to validate on, if a data set has no validation part.
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    pub validation_share: f64,
    /// Resize images to N x N [default: the original size, padded with black to the model's
    /// minimum; `images`: 224].
    #[arg(long, value_name = "N")]
    pub input_size: Option<i64>,
    /// Crop and flip training images at random.
    #[arg(long)]
    pub augment: bool,
    /// `images`: leave out files that cannot be decoded.
    #[arg(long)]
    pub skip_corrupt: bool,
    /// `text`: source sentences, one per line; plain or gz.
    #[arg(long, value_name = "FILE")]
    pub source: Option<PathBuf>,
    /// `text`: translations of --source, line by line.
    #[arg(long, value_name = "FILE")]
    pub target: Option<PathBuf>,
    /// `text`: source sentences for validation [default: a share of --source].
    #[arg(long, value_name = "FILE")]
    pub validation_source: Option<PathBuf>,
    /// `text`: translations of --validation-source, line by line.
    #[arg(long, value_name = "FILE")]
    pub validation_target: Option<PathBuf>,
    /// Text: maximum number of tokens in the vocabulary, which both languages share.
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub vocabulary_size: usize,
    /// Text: maximum tokens per sentence. Longer training sentences are left out, shorter ones
    /// padded.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub max_length: i64,
}

impl DataFlags {
    /// The options of the data set.
    pub fn options(&self, seed: u64) -> DataOptions {
        DataOptions {
            data_dir: self.data_dir.clone(),
            train: self.train_dir.clone(),
            validation: self.validation_dir.clone(),
            validation_share: self.validation_share,
            input_size: self.input_size,
            augment: self.augment,
            skip_corrupt: self.skip_corrupt,
            source: self.source.clone(),
            target: self.target.clone(),
            validation_source: self.validation_source.clone(),
            validation_target: self.validation_target.clone(),
            vocabulary_size: self.vocabulary_size,
            max_length: self.max_length,
            seed,
        }
    }
}

/// Names of the optimisers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    Sgd,
    Adam,
    #[value(name = "adamw")]
    AdamW,
}

/// Flags of the training.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Training")]
pub struct TrainingFlags {
    /// Training steps [default: 201].
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    pub steps: Option<u64>,
    /// Train for N epochs of whole batches.
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// Samples per step.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub batch_size: u32,
    /// Optimiser.
    #[arg(long, value_enum, default_value_t = OptimizerName::Sgd)]
    pub optimizer: OptimizerName,
    /// Maximum learning rate [default: 0.01 for sgd, 0.0005 for adam and adamw].
    #[arg(long, value_name = "X")]
    pub lr: Option<f64>,
    /// Momentum of sgd.
    #[arg(long, value_name = "X", default_value_t = 0.9)]
    pub momentum: f64,
    /// Decay of adam's two running means.
    #[arg(long, value_name = "X,X", value_parser = parse_betas, default_value = "0.9,0.999")]
    pub betas: [f64; 2],
    /// Weight decay [default: 0.0005 for sgd, 0 for adam, 0.01 for adamw].
    #[arg(long, value_name = "X")]
    pub weight_decay: Option<f64>,
    /// Decay of the learning rate after the warm-up.
    #[arg(long, value_enum, default_value_t = Decay::Constant)]
    #[serde(serialize_with = "as_text")]
    pub schedule: Decay,
    /// Steps over which the learning rate rises linearly.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub warmup: u64,
    /// Schedule `step`: steps between two reductions.
    #[arg(long, value_name = "N", required_if_eq("schedule", "step"))]
    pub decay_every: Option<u64>,
    /// Schedule `step`: factor of each reduction.
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    pub decay_factor: f64,
    /// Share of a label's weight that is spread evenly over all classes.
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub label_smoothing: f64,
    /// Scale all gradients down to this joint norm.
    #[arg(long, value_name = "X")]
    pub clip: Option<f64>,
    /// Seed of initial weights, sample order, augmentation, dropout and sampling of captured steps.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Device to train on: cpu, cuda, cuda:1, ...
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub device: String,
    /// Evaluate also every N steps, not only after the last.
    #[arg(long, value_name = "N")]
    pub evaluate_every: Option<u64>,
    /// Evaluate on the first N samples; 0 for none [default: all].
    #[arg(long, value_name = "N")]
    pub validation_samples: Option<usize>,
    /// Text: translate the first N of these sentences for BLEU; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub bleu_samples: usize,
    /// Write a checkpoint every N steps; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 500)]
    #[serde(skip)]
    pub checkpoint_every: u64,
}

impl TrainingFlags {
    /// Refuses invalid values.
    pub fn check(&self) -> Result<()> {
        let at_least_one = [
            ("--steps", self.steps),
            ("--epochs", self.epochs),
            ("--batch-size", Some(u64::from(self.batch_size))),
            ("--decay-every", self.decay_every),
            ("--evaluate-every", self.evaluate_every),
        ];
        check_at_least_one(&at_least_one)?;
        let bad = |flag, value: f64, range: &str| {
            Err(TracerError::Flag { flag, reason: format!("is {value}, but must be a number {range}") })
        };
        let from_zero = [
            ("--lr", self.learning_rate()),
            ("--momentum", self.momentum),
            ("--weight-decay", self.decay()),
            ("--decay-factor", self.decay_factor),
        ];
        for (flag, value) in from_zero {
            if !value.is_finite() || value < 0.0 {
                return bad(flag, value, "of at least 0");
            }
        }
        let below_one =
            [("--label-smoothing", self.label_smoothing), ("--betas", self.betas[0]), ("--betas", self.betas[1])];
        for (flag, value) in below_one {
            if !(0.0..1.0).contains(&value) {
                return bad(flag, value, "from 0 to below 1");
            }
        }
        match self.clip {
            Some(limit) if !limit.is_finite() || limit <= 0.0 => bad("--clip", limit, "above 0"),
            _ => Ok(()),
        }
    }

    pub fn learning_rate(&self) -> f64 {
        self.lr.unwrap_or(if self.optimizer == OptimizerName::Sgd { 0.01 } else { 0.0005 })
    }

    pub fn decay(&self) -> f64 {
        self.weight_decay.unwrap_or(match self.optimizer {
            OptimizerName::Sgd => 5e-4,
            OptimizerName::Adam => 0.0,
            OptimizerName::AdamW => 0.01,
        })
    }

    pub fn method(&self) -> Method {
        let betas = self.betas;
        match self.optimizer {
            OptimizerName::Sgd => Method::Sgd { momentum: self.momentum },
            OptimizerName::Adam => Method::Adam { betas },
            OptimizerName::AdamW => Method::AdamW { betas },
        }
    }

    /// Counts the steps of the run, with `per_epoch` steps per epoch.
    pub fn total_steps(&self, per_epoch: u64) -> Result<u64> {
        let total = match self.epochs {
            Some(epochs) => epochs.checked_mul(per_epoch),
            None => Some(self.steps.unwrap_or(201)),
        };
        total.filter(|&steps| steps < 1 << 40).ok_or_else(|| TracerError::Flag {
            flag: if self.epochs.is_some() { "--epochs" } else { "--steps" },
            reason: "is more than any run can do; lower it".to_owned(),
        })
    }

    pub fn schedule(&self, steps: u64) -> Schedule {
        Schedule {
            peak: self.learning_rate(),
            warmup: self.warmup,
            decay: self.schedule,
            every: self.decay_every.unwrap_or(1),
            factor: self.decay_factor,
            steps,
        }
    }
}

/// Reactions to a trace that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// End the run; earlier captured steps stay readable.
    Stop,
    /// Continue training without capture.
    Continue,
}

/// Flags of the capture.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Capture")]
pub struct CaptureFlags {
    /// Steps to capture: every=N, steps=N,N,..., epochs (the first step of each), geometric (0, 1,
    /// 2, 4, 8, ...), none.
    #[arg(long, value_name = "WHEN", default_value = "every=50")]
    #[serde(serialize_with = "as_text")]
    pub capture: Policy,
    /// Keep at most N samples per captured step, chosen at random [default: all].
    #[arg(long, value_name = "N")]
    pub samples: Option<u32>,
    /// Keep at most N channels of each convolution's input and output gradient [default: all].
    ///
    /// Vectors that span channels (granularity `patch`, `sub-vector`, `channel-patch(q)`) need all channels.
    #[arg(long, value_name = "N")]
    pub channels: Option<u32>,
    /// Keep at most N filters per layer [default: all].
    #[arg(long, value_name = "N")]
    pub filters: Option<u32>,
    /// Capture only matching layers; can be repeated [default: all].
    #[arg(long, value_name = "GLOB")]
    pub layers: Vec<String>,
    /// Keep the operands of these passes: forward, and any of input-grad, weight-grad.
    #[arg(long, value_name = "PASS,...", value_delimiter = ',', value_parser = parse_pass,
          default_values_t = Pass::ALL)]
    pub passes: Vec<Pass>,
    /// Data type of stored values: f32, or f16 (half the size, 11 bits of precision).
    #[arg(long, value_name = "TYPE", value_parser = parse_dtype, default_value = "f32")]
    pub dtype: Dtype,
    /// Stop capturing before the tensor files might exceed this size, such as 500MB or 2GiB;
    /// training continues.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub max_bytes: Option<u64>,
    /// If the trace cannot be written, end the run or continue training without capture.
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    #[serde(skip)]
    pub on_capture_error: OnError,
}

impl CaptureFlags {
    /// Refuses invalid values.
    pub fn check(&self) -> Result<()> {
        let counts = [("--samples", self.samples), ("--channels", self.channels), ("--filters", self.filters)];
        check_at_least_one(&counts.map(|(flag, value)| (flag, value.map(u64::from))))?;
        if !self.passes.contains(&Pass::Forward) {
            let reason = "must contain forward, because every other pass is compared with it".to_owned();
            return Err(TracerError::Flag { flag: "--passes", reason });
        }
        Ok(())
    }

    pub fn limits(&self) -> SamplingLimits {
        let mut passes = self.passes.clone();
        passes.sort_unstable();
        passes.dedup();
        SamplingLimits {
            passes,
            dtype: self.dtype,
            samples: self.samples,
            channels: self.channels,
            filters: self.filters,
        }
    }
}

fn check_at_least_one(values: &[(&'static str, Option<u64>)]) -> Result<()> {
    match values.iter().find(|(_, value)| *value == Some(0)) {
        Some((flag, _)) => Err(TracerError::Flag { flag, reason: "is 0, but must be at least 1".to_owned() }),
        None => Ok(()),
    }
}

fn parse_betas(text: &str) -> std::result::Result<[f64; 2], String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| "not two numbers such as 0.9,0.98".to_owned())
}

fn parse_pass(text: &str) -> std::result::Result<Pass, String> {
    let known = Pass::ALL.map(Pass::name);
    Pass::ALL.into_iter().find(|pass| pass.name() == text).ok_or_else(|| format!("not one of {}", known.join(", ")))
}

fn parse_dtype(text: &str) -> std::result::Result<Dtype, String> {
    let known = [Dtype::F32, Dtype::F16];
    known.into_iter().find(|dtype| dtype.name() == text).ok_or_else(|| "not one of f32, f16".to_owned())
}

/// Serialises a value in its form on the command line.
fn as_text<T: ToText, S: Serializer>(value: &T, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_text())
}

trait ToText {
    fn to_text(&self) -> String;
}

impl ToText for Policy {
    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl ToText for Decay {
    fn to_text(&self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
