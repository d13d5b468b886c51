//! Writing a trace off the training thread.
//!
//! The training thread hands over copies of tensors through a bounded queue, and waits only where it
//! is full. Workers encode and write the files; a keeper, which alone owns the [`TraceWriter`],
//! commits a step when all of its files are there.

use crate::error::{Result, TracerError};
use mercury_trace::evaluations::Evaluation;
use mercury_trace::manifest::{CapturedStep, Manifest, TensorFile};
use mercury_trace::measurements::Measurements;
use mercury_trace::steps::Step;
use mercury_trace::tensor::TensorKind;
use mercury_trace::{TraceError, TraceWriter};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// What a run has logged.
#[derive(Debug, Default)]
pub struct Log {
    /// Training steps.
    pub steps: Vec<Step>,
    /// Measurements on data that was not trained on.
    pub evaluations: Vec<Evaluation>,
    /// What reuse did, where it was in the loop.
    pub measurements: Measurements,
}

/// Most threads that encode and write.
const MOST_WORKERS: usize = 4;

/// A tensor to be written.
pub struct Job {
    /// The captured step.
    pub step: u64,
    /// Its place among the step's files.
    pub index: usize,
    /// The layer's name.
    pub layer: String,
    /// Which of its tensors.
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
    /// A step whose jobs have all been handed over.
    Captured {
        step: CapturedStep,
        files: usize,
    },
    Step(Step),
    Evaluated(Vec<Evaluation>),
    Measured(Measurements),
    /// Answers when all that was handed over before is on disk.
    Flush(Sender<Result<()>>),
    Finish(Option<f64>, Sender<Result<Manifest>>),
}

/// What the keeper tells the training thread.
#[derive(Default)]
struct Shared {
    failed: AtomicBool,
    failure: Mutex<Option<TracerError>>,
}

impl Shared {
    fn fail(&self, error: TraceError) {
        let error = match error {
            refused @ TraceError::Io { .. } => TracerError::Capture(refused),
            other => other.into(),
        };
        // The first error is the cause, those that follow it are not.
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }
}

/// Where the training thread hands over what is to be written.
///
/// Dropped before [`Sink::finish`], it leaves a readable trace of the steps that were whole.
pub struct Sink {
    jobs: Option<SyncSender<Job>>,
    events: Option<Sender<Event>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Sink {
    /// Starts the threads; `log` is that of the run that is resumed.
    pub fn start(writer: TraceWriter, log: Log) -> Self {
        let workers = thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
        let (jobs, queue) = sync_channel::<Job>(workers);
        let queue = Arc::new(Mutex::new(queue));
        let (events, inbox) = channel();
        let shared = Arc::new(Shared::default());
        let mut threads: Vec<_> = (0..workers)
            .map(|_| {
                let (queue, events, files) = (Arc::clone(&queue), events.clone(), writer.files().clone());
                thread::spawn(move || {
                    while let Some(job) = next(&queue) {
                        let keys = job.keys.chunks_exact((job.keys.len() / job.rows.max(1)).max(1));
                        let values = job.values.chunks_exact((job.values.len() / job.rows.max(1)).max(1));
                        // Without an answer to every job, a flush would wait for ever.
                        let write = || files.write(job.step, &job.layer, job.kind, keys.zip(values));
                        let result = catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| {
                            let error = std::io::Error::other("the writer panicked");
                            Err(TraceError::Io { path: job.layer.into(), error })
                        });
                        if events.send(Event::Written { step: job.step, index: job.index, result }).is_err() {
                            break;
                        }
                    }
                })
            })
            .collect();
        let keeper = Keeper { writer, log, pending: BTreeMap::new(), shared: Arc::clone(&shared) };
        threads.push(thread::spawn(move || keeper.run(&inbox)));
        Self { jobs: Some(jobs), events: Some(events), shared, threads }
    }

    /// Hands over a tensor; waits while the queue is full.
    pub fn write(&self, job: Job) {
        // The workers end after this sender only.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }

    /// Says that a step's `files` tensors have all been handed over.
    pub fn captured(&self, step: CapturedStep, files: usize) {
        self.send(Event::Captured { step, files });
    }

    /// Logs a step.
    pub fn step(&self, step: Step) {
        self.send(Event::Step(step));
    }

    /// Logs an evaluation.
    pub fn evaluated(&self, evaluations: Vec<Evaluation>) {
        self.send(Event::Evaluated(evaluations));
    }

    /// Logs what reuse did.
    pub fn measured(&self, measurements: Measurements) {
        self.send(Event::Measured(measurements));
    }

    /// What went wrong since the last call, if something did.
    pub fn failure(&self) -> Option<TracerError> {
        if !self.shared.failed.swap(false, Ordering::Acquire) {
            return None;
        }
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until all that was handed over is on disk.
    pub fn flush(&self) -> Result<()> {
        let (sender, answer) = channel();
        self.send(Event::Flush(sender));
        answer.recv().expect("the keeper ends after its senders only")
    }

    /// Waits as [`Sink::flush`] does and ends the trace.
    pub fn finish(mut self, validation_accuracy: Option<f64>) -> Result<Manifest> {
        let (sender, answer) = channel();
        self.send(Event::Finish(validation_accuracy, sender));
        self.close();
        answer.recv().expect("the keeper answers before it ends")
    }

    fn send(&self, event: Event) {
        let _ = self.events.as_ref().map(|events| events.send(event));
    }

    fn close(&mut self) {
        self.jobs = None;
        self.events = None;
        for thread in self.threads.drain(..) {
            // A panic has printed its message; here it must not become a second one.
            let _ = thread.join();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.close();
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Files of a step that is not committed yet.
#[derive(Default)]
struct Pending {
    written: Vec<(usize, TensorFile)>,
    failed: usize,
    end: Option<(CapturedStep, usize)>,
}

/// Owns the trace.
struct Keeper {
    writer: TraceWriter,
    log: Log,
    pending: BTreeMap<u64, Pending>,
    shared: Arc<Shared>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Event>) {
        let mut flushes = Vec::new();
        let mut finish = None;
        for event in inbox {
            match event {
                Event::Step(step) => {
                    // Whether it is in the trace is known only when it is committed.
                    self.log.steps.push(Step { captured: false, ..step });
                    self.commit_whole();
                }
                Event::Evaluated(evaluations) => self.log.evaluations.extend(evaluations),
                Event::Measured(measurements) => self.log.measurements.extend(measurements),
                Event::Captured { step, files } => {
                    let number = step.step;
                    self.pending.entry(number).or_default().end = Some((step, files));
                    self.commit_whole();
                }
                Event::Written { step, index, result } => {
                    let pending = self.pending.entry(step).or_default();
                    match result {
                        Ok(file) => pending.written.push((index, file)),
                        Err(error) => {
                            pending.failed += 1;
                            self.shared.fail(error);
                        }
                    }
                    self.commit_whole();
                }
                Event::Flush(answer) => flushes.push(answer),
                Event::Finish(accuracy, answer) => finish = Some((accuracy, answer)),
            }
            if self.pending.is_empty() {
                for answer in flushes.drain(..) {
                    let _ = answer.send(self.log());
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
            // Training broke off and says why; what it did until then is worth keeping.
            None => {
                if let Err(error) = self.log() {
                    tracing::warn!("{error}");
                }
            }
        }
    }

    fn log(&self) -> Result<()> {
        let Log { steps, evaluations, measurements } = &self.log;
        if !measurements.is_empty() {
            self.writer.log_measurements(measurements)?;
        }
        Ok(self.writer.log(steps, evaluations)?)
    }

    fn finish(self, accuracy: Option<f64>) -> Result<Manifest> {
        self.log()?;
        Ok(self.writer.finish(accuracy, &self.log.steps, &self.log.evaluations)?)
    }

    /// Commits, in their order, the steps of which everything is there.
    fn commit_whole(&mut self) {
        while let Some(first) = self.pending.first_entry() {
            let pending = first.get();
            let settled = pending.written.len() + pending.failed;
            let whole = pending.end.as_ref().is_some_and(|(_, files)| settled == *files);
            // Its row comes first: the table of steps is never behind the manifest.
            if !whole || self.log.steps.last().is_none_or(|step| step.step < *first.key()) {
                return;
            }
            let (number, pending) = first.remove_entry();
            if pending.failed > 0 || !self.commit(number, pending) {
                self.abandon(number);
            }
        }
    }

    fn commit(&mut self, number: u64, mut pending: Pending) -> bool {
        let Some((mut step, _)) = pending.end else { return false };
        pending.written.sort_by_key(|(index, _)| *index);
        step.tensors = pending.written.into_iter().map(|(_, file)| file).collect();
        let bytes: u64 = step.tensors.iter().map(|file| file.bytes).sum();
        tracing::info!(step = number, files = step.tensors.len(), bytes, "captured");
        let row = self.log.steps.iter().rposition(|row| row.step == number).expect("its row came first");
        self.log.steps[row].captured = true;
        self.writer
            .commit(step, &self.log.steps)
            .map_err(|error| {
                self.log.steps[row].captured = false;
                self.shared.fail(error);
            })
            .is_ok()
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
