//! Writes a trace on other threads than the training's.
//!
//! The training thread sends copies of tensors through a bounded queue, and waits only while it is
//! full. Workers encode and write the files. One keeper owns the [`TraceWriter`]; it commits a step
//! when all its files are written, and reports failures to the training thread.

use mercury_trace::error::Result;
use mercury_trace::evaluations::Evaluation;
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{CapturedStep, Manifest, Sampling, TensorFile};
use mercury_trace::measurements::Measurements;
use mercury_trace::steps::Step;
use mercury_trace::tensor::TensorKind;
use mercury_trace::{TensorFiles, TraceError, TraceWriter};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// The tables of a run.
#[derive(Debug, Default)]
pub struct Log {
    /// Training steps.
    pub steps: Vec<Step>,
    /// Results on validation data.
    pub evaluations: Vec<Evaluation>,
    /// Measurements of reuse in the loop.
    pub measurements: Measurements,
}

/// The maximum number of threads that encode and write.
const MAX_WORKERS: usize = 4;

/// A tensor to write.
pub struct Job {
    /// The captured step.
    pub step: u64,
    /// Its place among the step's files.
    pub index: usize,
    /// The layer.
    pub layer: Layer,
    /// The kind of tensor.
    pub kind: TensorKind,
    /// Keys of all rows, row by row.
    pub keys: Vec<u32>,
    /// Values of all rows, row by row.
    pub values: Vec<f32>,
    /// Number of rows.
    pub rows: usize,
}

enum Event {
    Written {
        step: u64,
        index: usize,
        result: std::result::Result<TensorFile, TraceError>,
    },
    /// All jobs of a step were sent.
    Captured {
        step: CapturedStep,
        files: usize,
    },
    /// Layers that earlier steps did not compute, and the part of all layers that is kept.
    Layers(Vec<Layer>, Sampling),
    Step(Step),
    Evaluated(Vec<Evaluation>),
    Measured(Measurements),
    /// Is answered when everything sent before is on disk.
    Flush(Sender<Result<()>>),
    Finish(Option<f64>, Sender<Result<Manifest>>),
}

/// The training thread's end of the threads that write a trace.
///
/// If it is dropped before [`Sink::finish`], the trace is readable and holds the complete steps.
pub struct Sink {
    jobs: Option<SyncSender<Job>>,
    events: Option<Sender<Event>>,
    failures: Receiver<TraceError>,
    threads: Vec<JoinHandle<()>>,
}

impl Sink {
    /// Starts the threads; `log` holds the tables of the run so far.
    pub fn start(writer: TraceWriter, log: Log) -> Self {
        let workers = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let (jobs, queue) = sync_channel::<Job>(workers);
        let (events, inbox) = channel();
        let (reports, failures) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::new();
        for _ in 0..workers {
            let (queue, events) = (Arc::clone(&queue), events.clone());
            let files = writer.files().clone();
            threads.push(thread::spawn(move || write_jobs(&queue, &files, &events)));
        }
        let keeper = Keeper { writer, log, pending: BTreeMap::new(), failures: reports };
        threads.push(thread::spawn(move || keeper.run(&inbox)));
        Self { jobs: Some(jobs), events: Some(events), failures, threads }
    }

    /// Sends a tensor to the workers; waits while the queue is full.
    pub fn write(&self, job: Job) {
        // The workers outlive this sender, so sending cannot fail.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    /// Marks a step as captured, after its `files` tensors were sent.
    pub fn mark_captured(&self, step: CapturedStep, files: usize) {
        self.send(Event::Captured { step, files });
    }

    /// Adds layers that earlier steps did not compute, with the part of all layers that is kept.
    pub fn add_layers(&self, layers: Vec<Layer>, sampling: Sampling) {
        self.send(Event::Layers(layers, sampling));
    }

    /// Logs a step.
    pub fn log_step(&self, step: Step) {
        self.send(Event::Step(step));
    }

    /// Logs the results of an evaluation.
    pub fn log_evaluations(&self, evaluations: Vec<Evaluation>) {
        self.send(Event::Evaluated(evaluations));
    }

    /// Logs measurements of reuse in the loop.
    pub fn log_measurements(&self, measurements: Measurements) {
        self.send(Event::Measured(measurements));
    }

    /// Returns the first failure since the last call, if any. Later ones follow from the first.
    pub fn next_failure(&self) -> Option<TraceError> {
        let first = self.failures.try_recv().ok();
        self.failures.try_iter().for_each(drop);
        first
    }

    /// Waits until everything sent is on disk.
    pub fn flush(&self) -> Result<()> {
        let (sender, answer) = channel();
        self.send(Event::Flush(sender));
        answer.recv().expect("the keeper outlives its senders")
    }

    /// Waits until everything sent is on disk, and completes the trace.
    pub fn finish(mut self, validation_accuracy: Option<f64>) -> Result<Manifest> {
        let (sender, answer) = channel();
        self.send(Event::Finish(validation_accuracy, sender));
        self.close();
        answer.recv().expect("the keeper answers before it ends")
    }

    fn send(&self, event: Event) {
        if let Some(events) = &self.events {
            let _ = events.send(event);
        }
    }

    fn close(&mut self) {
        self.jobs = None;
        self.events = None;
        for thread in self.threads.drain(..) {
            // A panicked thread has printed its message; dropping must not panic again.
            let _ = thread.join();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.close();
    }
}

/// Writes the tensors of a queue until its sender is gone; a worker's thread runs this.
fn write_jobs(queue: &Mutex<Receiver<Job>>, files: &TensorFiles, events: &Sender<Event>) {
    while let Some(job) = take_job(queue) {
        let row_keys = (job.keys.len() / job.rows.max(1)).max(1);
        let row_values = (job.values.len() / job.rows.max(1)).max(1);
        let rows = job.keys.chunks_exact(row_keys).zip(job.values.chunks_exact(row_values));
        let write = || files.write(job.step, &job.layer, job.kind, rows);
        // The keeper waits for an event for each job, even if writing it panics.
        let result = catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| {
            let error = std::io::Error::other("the writer panicked");
            Err(TraceError::Io { path: job.layer.name.clone().into(), error })
        });
        if events.send(Event::Written { step: job.step, index: job.index, result }).is_err() {
            break;
        }
    }
}

fn take_job(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Files of a step that is not committed yet.
#[derive(Default)]
struct Pending {
    written: Vec<(usize, TensorFile)>,
    failed: usize,
    /// The step and its number of files, after all its jobs were sent.
    end: Option<(CapturedStep, usize)>,
}

/// Owns the trace; commits its steps and logs its tables.
struct Keeper {
    writer: TraceWriter,
    log: Log,
    pending: BTreeMap<u64, Pending>,
    failures: Sender<TraceError>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Event>) {
        let mut flushes = Vec::new();
        let mut finish = None;
        for event in inbox {
            match event {
                Event::Step(step) => {
                    // The step is captured only once it is committed.
                    self.log.steps.push(Step { captured: false, ..step });
                    self.commit_complete();
                }
                Event::Layers(layers, sampling) => {
                    if let Err(error) = self.writer.add_layers(&layers, sampling) {
                        self.report_failure(error);
                    }
                }
                Event::Evaluated(evaluations) => self.log.evaluations.extend(evaluations),
                Event::Measured(measurements) => self.log.measurements.extend(measurements),
                Event::Captured { step, files } => {
                    let number = step.step;
                    self.pending.entry(number).or_default().end = Some((step, files));
                    self.commit_complete();
                }
                Event::Written { step, index, result } => {
                    let pending = self.pending.entry(step).or_default();
                    match result {
                        Ok(file) => pending.written.push((index, file)),
                        Err(error) => {
                            pending.failed += 1;
                            self.report_failure(error);
                        }
                    }
                    self.commit_complete();
                }
                Event::Flush(answer) => flushes.push(answer),
                Event::Finish(accuracy, answer) => finish = Some((accuracy, answer)),
            }
            if self.pending.is_empty() {
                for answer in flushes.drain(..) {
                    let _ = answer.send(self.write_log());
                }
            }
        }
        for &step in self.pending.keys() {
            self.abandon(step);
        }
        match finish {
            Some((accuracy, answer)) => {
                let _ = answer.send(self.finish(accuracy));
            }
            // The training failed, and its caller reports why. Its tables are still worth keeping.
            None => {
                if let Err(error) = self.write_log() {
                    tracing::warn!("{error}");
                }
            }
        }
    }

    /// Reports a failure to the training thread, which may have stopped listening.
    fn report_failure(&self, error: TraceError) {
        let _ = self.failures.send(error);
    }

    fn write_log(&self) -> Result<()> {
        let Log { steps, evaluations, measurements } = &self.log;
        if !measurements.is_empty() {
            self.writer.log_measurements(measurements)?;
        }
        self.writer.log(steps, evaluations)
    }

    fn finish(self, accuracy: Option<f64>) -> Result<Manifest> {
        self.write_log()?;
        self.writer.finish(accuracy, &self.log.steps, &self.log.evaluations)
    }

    /// Commits the steps whose files are all settled, in the order of steps.
    fn commit_complete(&mut self) {
        while let Some(first) = self.pending.first_entry() {
            let pending = first.get();
            let settled = pending.written.len() + pending.failed;
            let complete = pending.end.as_ref().is_some_and(|(_, files)| settled == *files);
            // The step's row comes first, so that the table of steps is never behind the manifest.
            if !complete || self.log.steps.last().is_none_or(|step| step.step < *first.key()) {
                return;
            }
            let (number, pending) = first.remove_entry();
            if pending.failed > 0 || !self.commit(number, pending) {
                self.abandon(number);
            }
        }
    }

    /// Commits a step; returns whether it is in the trace.
    fn commit(&mut self, number: u64, mut pending: Pending) -> bool {
        let Some((mut step, _)) = pending.end else { return false };
        pending.written.sort_by_key(|(index, _)| *index);
        step.tensors = pending.written.into_iter().map(|(_, file)| file).collect();
        let bytes: u64 = step.tensors.iter().map(|file| file.bytes).sum();
        tracing::info!(step = number, files = step.tensors.len(), bytes, "captured");
        let row = self.log.steps.iter().rposition(|row| row.step == number);
        let row = row.expect("the step's row came first");
        self.log.steps[row].captured = true;
        if let Err(error) = self.writer.commit(step, &self.log.steps) {
            self.log.steps[row].captured = false;
            self.report_failure(error);
            return false;
        }
        true
    }

    fn abandon(&self, step: u64) {
        if let Err(error) = self.writer.abandon(step) {
            tracing::warn!("{error}");
        }
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
