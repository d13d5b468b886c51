//! A training run, for `capture` and `train`.

use super::arguments::{CaptureFlags, DataFlags, OnError, OptimizerName, TrainingFlags};
use super::device;
use super::groups::GroupFlags;
use super::model::ModelFlags;
use super::resumed::{THREADS, check_same_data, check_same_flags};
use super::reuse::ReuseFlags;
use super::terminal::Terminal;
use crate::checkpoint::{self, Checkpoint};
use crate::datasets::{Dataset, DatasetSpec, Task};
use crate::error::TracerError;
use crate::evaluate::Evaluator;
use crate::groups::ParameterGroups;
use crate::models::{ModelSpec, Outline};
use crate::optimizer::Optimizer;
use crate::patterns::NamePatterns;
use crate::plan::steps_per_epoch;
use crate::policy::Policy;
use crate::reuse::InLoop;
use crate::train::{CaptureSettings, TrainingRun, TrainingSettings};
use crate::weights::Weights;
use anyhow::Result;
use clap::Args;
use mercury_capture::rows::step_bytes;
use mercury_capture::sampling;
use mercury_capture::sink::{Log, Sink};
use mercury_cli::Messages;
use mercury_trace::evaluations::Evaluation;
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{self, Manifest, SCHEMA_VERSION};
use mercury_trace::measurements::Measurements;
use mercury_trace::{Trace, TraceWriter};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Flags of every run.
#[derive(Debug, Args, Serialize)]
pub struct RunFlags {
    /// Folder for the trace; must be empty or missing, except with --resume.
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    out: PathBuf,
    /// Continue the interrupted run in --out from its last checkpoint. All other flags must be
    /// those of that run. The result is the uninterrupted run's, bit for bit.
    #[arg(long)]
    #[serde(skip)]
    resume: bool,
    /// Name of the trace in reports and comparisons [default: the settings in which it differs].
    #[arg(long, value_name = "TEXT", value_parser = manifest::parse_label)]
    #[serde(skip)]
    label: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    #[serde(flatten)]
    data: DataFlags,
    #[command(flatten)]
    #[serde(flatten)]
    training: TrainingFlags,
    #[command(flatten)]
    #[serde(flatten)]
    groups: GroupFlags,
    #[command(flatten)]
    #[serde(flatten)]
    capture_flags: CaptureFlags,
    /// The level of messages.
    #[arg(skip)]
    #[serde(skip)]
    pub messages: Messages,
    /// Reuse in the loop; `train` alone sets it.
    #[arg(skip)]
    #[serde(skip)]
    pub reuse: ReuseFlags,
    /// The command line, for the manifest.
    #[arg(skip)]
    #[serde(skip)]
    pub command: String,
}

/// A trace that was started or resumed, with the tables of its steps so far.
struct StartedTrace {
    writer: TraceWriter,
    log: Log,
}

impl RunFlags {
    /// Trains, writes the trace and prints the results.
    pub fn run(self) -> Result<()> {
        self.training.check()?;
        self.capture_flags.check()?;
        let groups = self.groups.compile()?;
        let mut reuse = self.reuse.read_configurations()?;
        let model = self.model.size.resize(ModelSpec::find(&self.model.model)?)?;
        let dataset = DatasetSpec::find(&self.data.dataset)?;
        let device = device::parse(&self.training.device)?;
        if self.resume {
            check_same_flags(&self.out, &self.as_settings(&reuse)?, self.label.as_ref())?;
        } else {
            mercury_trace::check_new_trace(&self.out)?;
        }
        self.check_save()?;
        let data = dataset.open(&self.data.options(self.training.seed), model.least_size)?;
        data.warnings.iter().for_each(|warning| self.messages.warn(warning));
        let outline = self.outline(&model, &data, &groups)?;
        let layers = &outline.layers;
        self.reuse.check(&reuse, model.name, layers, self.training.batch_size)?;
        let wanted = self.match_layers(layers)?;
        let batch_size = self.training.batch_size as usize;
        let per_epoch = steps_per_epoch(data.train.len(), batch_size);
        let steps = self.training.total_steps(per_epoch)?;
        let manifest = self.manifest(&data, &outline, steps, &reuse)?;
        self.messages.note(data.summary(&format!("{} training samples", data.train.len())));
        self.groups.announce(&outline, self.messages);
        let step_bytes = self.announce(layers, &wanted, &manifest, per_epoch)?;

        tch::manual_seed(self.training.seed as i64);
        let weights = Weights::new(device);
        let built = model.build(&weights, &data.task);
        self.model.load_weights(&weights, self.messages)?;
        groups.freeze(&weights)?;
        let mut optimizer =
            Optimizer::new(self.training.method(), self.training.decay(), &weights).with_groups(&groups);
        let StartedTrace { writer, log } = self.start_trace(manifest, layers, &weights, &mut optimizer)?;
        let sampling = writer.manifest().sampling.clone();
        let start = log.steps.len() as u64;
        restore_reuse(&mut reuse, &log);
        let sink = Sink::start(writer, log);
        let evaluator = Evaluator {
            model: built.as_ref(),
            dataset: &data,
            device,
            samples: self.validation_samples(&data),
            bleu_samples: self.training.bleu_samples,
            batch_size,
        };
        let mut run = TrainingRun {
            model: built.as_ref(),
            dataset: &data,
            device,
            settings: self.settings(steps),
            capture: CaptureSettings {
                policy: self.capture_flags.capture.clone(),
                layers: wanted,
                sampling,
                step_bytes,
                max_bytes: self.capture_flags.max_bytes,
                continue_on_error: self.capture_flags.on_capture_error == OnError::Continue,
            },
            reuse: &mut reuse,
            buffers: weights.buffers(),
            evaluator: &evaluator,
        };
        let path = self.checkpoint_path();
        let mut terminal = Terminal::new(self.messages, start..steps, batch_size, path.clone(), &weights);
        run.train(start, &mut optimizer, &sink, &mut terminal)?;
        let evaluations = terminal.validate(&evaluator, steps, run.reuse)?;
        sink.log_evaluations(evaluations.clone());
        // Before the trace is complete, because a complete run cannot be resumed.
        if let Some(save) = &self.model.save {
            checkpoint::save_weights(&weights, save)?;
        }
        let manifest = match sink.finish(find_accuracy(&evaluations)) {
            Err(error) if run.capture.continue_on_error => {
                tracing::warn!("{error}; the run ends, and the trace is marked as incomplete");
                return Ok(());
            }
            finished => finished?,
        };
        // A complete run needs no checkpoint.
        let _ = std::fs::remove_file(path);
        terminal.report(&self.out, &manifest, &evaluations, run.reuse)
    }

    /// Outlines the model for the data; refuses a batch that does not fit either.
    fn outline(&self, model: &ModelSpec, data: &Dataset, groups: &ParameterGroups) -> Result<Outline, TracerError> {
        let (batch_size, samples) = (self.training.batch_size as usize, data.train.len());
        if batch_size > samples {
            let reason = format!("is {batch_size}, but the data set has {samples} samples");
            return Err(TracerError::Flag { flag: "--batch-size", reason });
        }
        let outline = model.outline_with(&data.task, groups)?;
        outline.check_batch(batch_size)?;
        Ok(outline)
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.out.join(checkpoint::FILE_NAME)
    }

    /// Starts the trace, or resumes it from its checkpoint.
    fn start_trace(
        &self,
        manifest: Manifest,
        layers: &[Layer],
        weights: &Weights,
        optimizer: &mut Optimizer,
    ) -> Result<StartedTrace, TracerError> {
        if !self.resume {
            let writer = TraceWriter::create(&self.out, manifest, layers)?;
            return Ok(StartedTrace { writer, log: Log::default() });
        }
        let path = self.checkpoint_path();
        let checkpoint = if path.exists() { Some(Checkpoint::read(&path)?) } else { None };
        check_same_data(&self.out, &manifest, Trace::open(&self.out)?.manifest())?;
        let from = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.steps);
        let (writer, steps, evaluations) = TraceWriter::resume(&self.out, from)?;
        if let Some(checkpoint) = checkpoint {
            checkpoint.restore(&path, weights, optimizer)?;
        }
        self.messages.note(format_args!("resuming at step {}", steps.len()));
        let measurements = Measurements::read(&self.out)?;
        Ok(StartedTrace { writer, log: Log { steps, evaluations, measurements } })
    }

    /// Collects the settings that the result depends on, by name.
    fn as_settings(&self, reuse: &InLoop) -> Result<BTreeMap<String, String>, TracerError> {
        let flags = serde_json::to_value(self).map_err(|_| TracerError::Flag {
            flag: "--train-dir, --validation-dir, --source, --target, --weights",
            reason: "a path is not UTF-8; give it another name".to_owned(),
        })?;
        let flags = flags.as_object().expect("flags are a map");
        let mut settings = BTreeMap::new();
        for (name, value) in flags.iter().filter(|(_, value)| !value.is_null()) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            settings.insert(name.clone(), text);
        }
        settings.extend(self.reuse.as_settings(reuse));
        settings.insert(THREADS.to_owned(), tch::get_num_threads().to_string());
        Ok(settings)
    }

    fn settings(&self, steps: u64) -> TrainingSettings {
        let flags = &self.training;
        TrainingSettings {
            steps,
            batch_size: flags.batch_size as usize,
            schedule: flags.schedule(steps),
            label_smoothing: flags.label_smoothing,
            clip: flags.clip,
            seed: flags.seed,
            evaluate_every: flags.evaluate_every,
            checkpoint_every: Some(flags.checkpoint_every).filter(|&every| every > 0),
        }
    }

    fn validation_samples(&self, data: &Dataset) -> usize {
        self.training.validation_samples.unwrap_or(usize::MAX).min(data.validation.len())
    }

    /// Prints the expected size of the trace; returns the maximum size of a step in bytes.
    fn announce(
        &self,
        layers: &[Layer],
        wanted: &BTreeSet<String>,
        manifest: &Manifest,
        per_epoch: u64,
    ) -> Result<u64, TracerError> {
        let layers: Vec<&Layer> = layers.iter().filter(|layer| wanted.contains(&layer.name)).collect();
        let step = step_bytes(&layers, &manifest.sampling, manifest.training.batch_size);
        let count = self.capture_flags.capture.count(manifest.training.steps, per_epoch);
        if count == 0 {
            if self.capture_flags.capture == Policy::None {
                return Ok(step);
            }
            let (policy, steps) = (&self.capture_flags.capture, manifest.training.steps);
            let reason = format!("{policy} captures none of the {steps} steps");
            return Err(TracerError::Flag { flag: "--capture", reason });
        }
        let total = step as f64 * count as f64;
        self.messages.note(format_args!(
            "capturing {count} of {} steps, {} layers: at most {:.1} MB per step, {:.1} MB in total, \
             before compression",
            manifest.training.steps,
            layers.len(),
            step as f64 / 1e6,
            total / 1e6
        ));
        self.groups.warn_of_missing_passes(&layers, &manifest.sampling.passes, self.messages);
        if let Some(most) = self.capture_flags.max_bytes.filter(|&most| total > most as f64) {
            self.messages.note(format_args!(
                "--max-bytes: capturing will stop at {:.1} MB, before compression",
                most as f64 / 1e6
            ));
        }
        Ok(step)
    }

    /// Finds the names of the layers that `--layers` matches.
    fn match_layers(&self, layers: &[Layer]) -> Result<BTreeSet<String>, TracerError> {
        let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        if self.capture_flags.layers.is_empty() {
            return Ok(names.into_iter().map(str::to_owned).collect());
        }
        let mut wanted = BTreeSet::new();
        for pattern in &self.capture_flags.layers {
            let patterns = NamePatterns::new("--layers", [pattern])?;
            let matches: Vec<&str> = names.iter().copied().filter(|name| patterns.is_match(name)).collect();
            if matches.is_empty() {
                let reason = format!("{pattern:?} matches none of {}", names.join(", "));
                return Err(patterns.refuse(reason));
            }
            wanted.extend(matches.into_iter().map(str::to_owned));
        }
        Ok(wanted)
    }

    fn manifest(&self, data: &Dataset, outline: &Outline, steps: u64, reuse: &InLoop) -> Result<Manifest, TracerError> {
        let (input, classes) = match data.task {
            Task::Images { channels, size, classes } => (vec![channels, size[0], size[1]], classes),
            Task::Text { source, target, vocabulary } => (vec![source, target], vocabulary),
        };
        let flags = &self.training;
        Ok(Manifest {
            schema_version: SCHEMA_VERSION,
            created_by: concat!("mercury-tracer ", env!("CARGO_PKG_VERSION")).to_owned(),
            label: self.label.clone(),
            command: Some(self.command.clone()),
            framework: Some(manifest::Framework {
                name: "libtorch".to_owned(),
                version: env!("LIBTORCH_VERSION").to_owned(),
            }),
            model: manifest::Model {
                name: self.model.model.clone(),
                parameters: outline.parameters,
                input: input.into_iter().map(|size| size as u32).collect(),
                classes: classes as u32,
            },
            dataset: manifest::Dataset {
                name: self.data.dataset.clone(),
                train_samples: data.train.len() as u64,
                validation_samples: self.validation_samples(data) as u64,
                description: data.description.clone(),
            },
            seed: flags.seed,
            training: manifest::Training {
                steps,
                batch_size: flags.batch_size,
                learning_rate: flags.learning_rate(),
                momentum: if flags.optimizer == OptimizerName::Sgd { flags.momentum } else { 0.0 },
                weight_decay: flags.decay(),
                settings: self.as_settings(reuse)?,
                validation_accuracy: None,
            },
            versions: BTreeMap::from([
                ("libtorch".to_owned(), env!("LIBTORCH_VERSION").to_owned()),
                ("mercury-tracer".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ]),
            device: flags.device.clone(),
            sampling: sampling::choose(flags.seed, &self.capture_flags.limits(), &outline.layers),
            captured: Vec::new(),
            complete: false,
        })
    }

    /// Refuses an unusable `--save` before the training, not after it.
    fn check_save(&self) -> Result<(), TracerError> {
        let Some(path) = &self.model.save else { return Ok(()) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let reason = if path.is_dir() {
            "is a folder; name a file"
        } else if folder.is_some_and(|folder| !folder.is_dir()) {
            "its folder does not exist; create it"
        } else {
            return Ok(());
        };
        Err(TracerError::File { flag: "--save", path: path.clone(), reason: reason.to_owned() })
    }
}

/// Restores the signature length and the layers that are off, from the steps of a resumed run.
fn restore_reuse(reuse: &mut InLoop, log: &Log) {
    for step in &log.steps {
        reuse.record_loss(step.loss);
    }
    // The interrupted run has shown this notice.
    let _ = reuse.record_cycles(&log.measurements.layers);
}

/// Finds the accuracy for the manifest.
fn find_accuracy(evaluations: &[Evaluation]) -> Option<f64> {
    let is_accuracy = |row: &&Evaluation| row.metric == "top1" || row.metric == "token_accuracy";
    evaluations.iter().find(is_accuracy).map(|row| row.value)
}
