//! A training run: what `capture` and `train` have in common.

use super::arguments::{CaptureFlags, DataFlags, OnError, OptimizerName, TrainingFlags};
use super::device;
use super::globs::build_globs;
use super::model::ModelFlags;
use super::resumed::check_same_data;
use super::reuse::ReuseFlags;
use super::terminal::Terminal;
use crate::checkpoint::{self, Checkpoint};
use crate::datasets::{Dataset, DatasetSpec, Task};
use crate::error::TracerError;
use crate::evaluate::Evaluator;
use crate::models::{ModelSpec, Outline};
use crate::optimizer::Optimizer;
use crate::policy::Policy;
use crate::reuse::InLoop;
use crate::sink::{Log, Sink};
use crate::train::{self, Run, Settings};
use crate::weights::Weights;
use crate::{capture, sampling};
use anyhow::Result;
use clap::Args;
use mercury_cli::Messages;
use mercury_trace::evaluations::Evaluation;
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{self, Manifest, SCHEMA_VERSION};
use mercury_trace::measurements::Measurements;
use mercury_trace::{Trace, TraceError, TraceWriter};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Flags of every run.
#[derive(Debug, Args, Serialize)]
pub struct RunFlags {
    /// Folder for the trace; must be empty or missing, but with --resume.
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    out: PathBuf,
    /// Go on with the run that was interrupted in --out, from its last checkpoint; all other flags
    /// must be those of that run. It ends as it would have without the interruption, bit for bit.
    #[arg(long)]
    #[serde(skip)]
    resume: bool,
    /// What to call the trace; reports and comparisons show it in place of what the trace differs in.
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
    kept: CaptureFlags,
    /// How much is said.
    #[arg(skip)]
    #[serde(skip)]
    pub messages: Messages,
    /// Of `train` alone.
    #[arg(skip)]
    #[serde(skip)]
    pub reuse: ReuseFlags,
    /// The command line, as the manifest keeps it.
    #[arg(skip)]
    #[serde(skip)]
    pub command: String,
}

/// A trace, and what a run that is resumed has logged in it.
struct Begun {
    writer: TraceWriter,
    log: Log,
}

impl RunFlags {
    /// Trains, writes the trace, prints what came of it.
    pub fn run(self) -> Result<()> {
        self.training.check()?;
        self.kept.check()?;
        let reuse = self.reuse.in_loop()?;
        let model = self.model.size.of(ModelSpec::find(&self.model.model)?)?;
        let dataset = DatasetSpec::find(&self.data.dataset)?;
        let device = device::parse(&self.training.device)?;
        if self.resume {
            self.check_same_run(&reuse)?;
        } else {
            mercury_trace::check_new_trace(&self.out)?;
        }
        self.check_save()?;
        let data = dataset.open(&self.data.options(self.training.seed), model.least_size)?;
        data.warnings.iter().for_each(|warning| self.messages.warn(warning));
        let batch_size = self.training.batch_size as usize;
        if batch_size > data.train.len() {
            let reason = format!("is {batch_size}, but the data set has {} samples", data.train.len());
            return Err(TracerError::Flag { flag: "--batch-size", reason }.into());
        }
        let outline = model.outline(&data.task)?;
        outline.check_batch(batch_size)?;
        let layers = &outline.layers;
        self.reuse.check(&reuse, layers, self.training.batch_size)?;
        let wanted = self.wanted(layers)?;
        let per_epoch = train::steps_per_epoch(data.train.len(), batch_size);
        let steps = self.training.total_steps(per_epoch)?;
        let manifest = self.manifest(&data, &outline, steps, &reuse)?;
        self.messages.note(data.summary(&format!("{} training samples", data.train.len())));
        let step_bytes = self.announce(layers, &wanted, &manifest, per_epoch)?;

        tch::manual_seed(self.training.seed as i64);
        let weights = Weights::new(device);
        let built = model.build(&weights, &data.task);
        self.model.load_weights(&weights, self.messages)?;
        let mut optimizer = Optimizer::new(self.training.method(), self.training.decay(), &weights);
        let begun = self.begin(manifest, layers, &weights, &mut optimizer)?;
        let sampling = begun.writer.manifest().sampling.clone();
        let start = begun.log.steps.len() as u64;
        // Signatures are as long as they had grown, and layers are off that were.
        begun.log.steps.iter().for_each(|step| reuse.step(step.loss));
        reuse.took(&begun.log.measurements.layers);
        reuse.news();
        let sink = Sink::start(begun.writer, begun.log);
        let evaluator = Evaluator {
            model: built.as_ref(),
            dataset: &data,
            device,
            samples: self.validation_samples(&data),
            bleu_samples: self.training.bleu_samples,
            batch_size,
        };
        let run = Run {
            model: built.as_ref(),
            dataset: &data,
            device,
            settings: self.settings(steps),
            capture: train::Capture {
                policy: self.kept.capture.clone(),
                layers: wanted,
                sampling,
                step_bytes,
                max_bytes: self.kept.max_bytes,
                go_on: self.kept.on_capture_error == OnError::Continue,
            },
            reuse: &reuse,
            buffers: weights.buffers(),
            evaluator: &evaluator,
        };
        let mut terminal = Terminal::new(self.messages, start..steps, batch_size, self.checkpoint_path(), &weights);
        run.train(start, &mut optimizer, &sink, &mut terminal)?;
        let evaluations = terminal.validate(&evaluator, steps, &reuse)?;
        let accuracy = accuracy(&evaluations);
        sink.evaluated(evaluations.clone());
        // Before the trace is complete, after which nothing can be resumed; and whatever becomes of it.
        if let Some(path) = &self.model.save {
            checkpoint::save_weights(&weights, path)?;
        }
        let finished = sink.finish(accuracy);
        let manifest = match finished {
            Err(error) if run.capture.go_on => {
                tracing::warn!("{error}; the run ends, but the trace says that it is not complete");
                return Ok(());
            }
            finished => finished?,
        };
        // There is nothing left to go on with.
        let _ = std::fs::remove_file(self.checkpoint_path());
        terminal.report(&self.out, &manifest, &evaluations, run.reuse)
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.out.join(checkpoint::FILE_NAME)
    }

    /// Starts the trace, or goes on with it.
    fn begin(
        &self,
        manifest: Manifest,
        layers: &[Layer],
        weights: &Weights,
        optimizer: &mut Optimizer,
    ) -> Result<Begun, TracerError> {
        if !self.resume {
            let writer = TraceWriter::create(&self.out, manifest, layers)?;
            return Ok(Begun { writer, log: Log::default() });
        }
        let path = self.checkpoint_path();
        let checkpoint = if path.exists() { Some(Checkpoint::read(&path)?) } else { None };
        check_same_data(&self.out, &manifest, Trace::open(&self.out)?.manifest())?;
        let (writer, steps, evaluations) = TraceWriter::resume(&self.out, checkpoint.as_ref().map_or(0, |c| c.steps))?;
        if let Some(checkpoint) = checkpoint {
            checkpoint.restore(&path, weights, optimizer)?;
        }
        self.messages.note(format_args!("resuming at step {}", steps.len()));
        let measurements = Measurements::read(&self.out)?;
        Ok(Begun { writer, log: Log { steps, evaluations, measurements } })
    }

    /// Refuses to go on with a run of other flags.
    fn check_same_run(&self, reuse: &InLoop) -> Result<(), TracerError> {
        let trace = Trace::open(&self.out)?;
        if trace.manifest().complete {
            let reason = "the run is complete, there is nothing to resume; choose another folder".to_owned();
            return Err(TraceError::Resume { path: self.out.clone(), reason }.into());
        }
        let mut found = trace.manifest().training.settings.clone();
        let mut ours = self.as_settings(reuse)?;
        for (settings, label) in [(&mut found, &trace.manifest().label), (&mut ours, &self.label)] {
            settings.extend(label.iter().map(|label| ("label".to_owned(), label.clone())));
        }
        for name in found.keys().chain(ours.keys()).filter(|name| *name != THREADS) {
            if found.get(name) != ours.get(name) {
                let value =
                    |settings: &BTreeMap<String, String>| settings.get(name).map_or("not given", |v| v).to_owned();
                let reason = format!(
                    "--{}: is {}, but the run to resume has {}; give the same flags, or another --out",
                    name.replace('_', "-"),
                    value(&ours),
                    value(&found)
                );
                return Err(TraceError::Resume { path: self.out.clone(), reason }.into());
            }
        }
        if found.get(THREADS) != ours.get(THREADS) {
            tracing::warn!("the run to resume used another number of threads: sums may round differently");
        }
        Ok(())
    }

    /// All flags that the run depends on.
    fn as_settings(&self, reuse: &InLoop) -> Result<BTreeMap<String, String>, TracerError> {
        let flags = serde_json::to_value(self).map_err(|_| TracerError::Flag {
            flag: "--train-dir, --validation-dir, --source, --target, --weights",
            reason: "a path is not UTF-8; give it another name".to_owned(),
        })?;
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let flags = flags.as_object().expect("flags are a map");
        let given = flags.iter().filter(|(_, value)| !value.is_null());
        let mut settings: BTreeMap<String, String> = given.map(|(name, value)| (name.clone(), text(value))).collect();
        settings.extend(self.reuse.as_settings(reuse));
        settings.insert(THREADS.to_owned(), tch::get_num_threads().to_string());
        Ok(settings)
    }

    fn settings(&self, steps: u64) -> Settings {
        let flags = &self.training;
        Settings {
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

    /// Says how large the trace will be; returns the bytes of a step.
    fn announce(
        &self,
        layers: &[Layer],
        wanted: &BTreeSet<String>,
        manifest: &Manifest,
        per_epoch: u64,
    ) -> Result<u64, TracerError> {
        let layers: Vec<&Layer> = layers.iter().filter(|layer| wanted.contains(&layer.name)).collect();
        let step = capture::step_bytes(&layers, &manifest.sampling, manifest.training.batch_size);
        let count = self.kept.capture.count(manifest.training.steps, per_epoch);
        if count == 0 {
            if self.kept.capture == Policy::None {
                return Ok(step);
            }
            let reason = format!("{} captures none of the {} steps", self.kept.capture, manifest.training.steps);
            return Err(TracerError::Flag { flag: "--capture", reason });
        }
        let total = step as f64 * count as f64;
        self.messages.note(format_args!(
            "capturing {count} of {} steps, {} layers: at most {:.1} MB each, {:.1} MB in all, before compression",
            manifest.training.steps,
            layers.len(),
            step as f64 / 1e6,
            total / 1e6
        ));
        if let Some(most) = self.kept.max_bytes.filter(|&most| total > most as f64) {
            let most = most as f64 / 1e6;
            self.messages.note(format_args!("--max-bytes: capturing will stop at {most:.1} MB, before compression"));
        }
        Ok(step)
    }

    /// Names of the layers that the globs match.
    fn wanted(&self, layers: &[Layer]) -> Result<BTreeSet<String>, TracerError> {
        let bad = |reason: String| TracerError::Flag { flag: "--layers", reason };
        let all = || layers.iter().map(|layer| layer.name.clone());
        if self.kept.layers.is_empty() {
            return Ok(all().collect());
        }
        let mut wanted = BTreeSet::new();
        for pattern in &self.kept.layers {
            let set = build_globs("--layers", std::slice::from_ref(pattern))?;
            let matches: Vec<String> = all().filter(|name| set.is_match(name)).collect();
            if matches.is_empty() {
                let known: Vec<String> = all().collect();
                return Err(bad(format!("{pattern:?} matches none of {}", known.join(", "))));
            }
            wanted.extend(matches);
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
            sampling: sampling::choose(flags.seed, &self.kept.limits(), &outline.layers),
            captured: Vec::new(),
            complete: false,
        })
    }

    /// Refuses a place for the weights that would be found wrong only after the training.
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

/// The one setting that is not a flag: sums of floats depend on how they are divided.
const THREADS: &str = "threads";

/// The figure that the manifest has.
fn accuracy(evaluations: &[Evaluation]) -> Option<f64> {
    evaluations.iter().find(|row| row.metric == "top1" || row.metric == "token_accuracy").map(|row| row.value)
}
