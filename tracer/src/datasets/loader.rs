//! Loads batches ahead of the training step.

use super::{Augment, Batch, Split};
use crate::error::Result;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

/// Maximum number of batches that wait for the training step; more would only take memory.
const AHEAD: usize = 2;

/// Loads the batches of a split on its own thread, in the order of a plan.
///
/// At most two batches wait while another one loads. An error takes the place of its batch.
/// Dropping the loader ends its thread after the current batch.
pub struct Loader {
    /// `None` only while the loader is dropped.
    batches: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts to load the batches of a plan, which lists each batch's samples and their
    /// augmentation.
    pub fn start(
        split: Arc<dyn Split>,
        plan: impl Iterator<Item = (Vec<u32>, Option<Augment>)> + Send + 'static,
    ) -> Self {
        let (sender, batches) = mpsc::sync_channel(AHEAD);
        let thread = thread::spawn(move || {
            for (indices, augment) in plan {
                // Sending fails if the loader was dropped.
                if sender.send(split.load(&indices, augment)).is_err() {
                    return;
                }
            }
        });
        Self { batches: Some(batches), thread: Some(thread) }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.batches.as_ref()?.recv().ok();
        if batch.is_none() {
            // A panic of the thread must not pass for the end of the plan.
            if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
                std::panic::resume_unwind(panic);
            }
        }
        batch
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Dropping the receiver first wakes a thread that waits to send.
        drop(self.batches.take());
        if let Some(thread) = self.thread.take() {
            // A panic concerns a batch that is not needed.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TracerError;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tch::Tensor;

    /// Labels are the indices; index 13 is an error, 99 a panic.
    struct Counting(AtomicUsize);

    impl Split for Counting {
        fn len(&self) -> usize {
            100
        }

        fn load(&self, indices: &[u32], _: Option<Augment>) -> Result<Batch> {
            self.0.fetch_add(1, Ordering::SeqCst);
            assert!(!indices.contains(&99), "index 99");
            if indices.contains(&13) {
                return Err(TracerError::Flag { flag: "--test", reason: "13".to_owned() });
            }
            let labels: Vec<i64> = indices.iter().map(|&index| i64::from(index)).collect();
            Ok(Batch::Images { images: Tensor::from_slice(&labels), labels: Tensor::from_slice(&labels) })
        }
    }

    fn split() -> Arc<Counting> {
        Arc::new(Counting(AtomicUsize::new(0)))
    }

    fn labels(batch: Result<Batch>) -> std::result::Result<Vec<i64>, String> {
        match batch.map_err(|error| error.to_string())? {
            Batch::Images { labels, .. } => Ok(labels.try_into().unwrap()),
            Batch::Text { .. } => Err("text".to_owned()),
        }
    }

    #[test]
    fn batches_and_errors_arrive_in_order() {
        let plan = [vec![3, 1], vec![2], vec![13], vec![5, 5]].map(|indices| (indices, None));
        let batches: Vec<_> = Loader::start(split(), plan.into_iter()).map(labels).collect();
        assert_eq!(batches, [Ok(vec![3, 1]), Ok(vec![2]), Err("--test: 13".to_owned()), Ok(vec![5, 5])]);
    }

    #[test]
    fn dropping_ends_the_thread() {
        let split = split();
        let endless = || std::iter::repeat_with(|| (vec![1], None));
        let (done, watch) = mpsc::channel();
        let shared = split.clone();
        // A separate thread, so that a deadlock fails the test instead of blocking it.
        thread::spawn(move || {
            let mut loader = Loader::start(shared.clone(), endless());
            let first = labels(loader.next().unwrap());
            drop(loader);
            drop(Loader::start(shared.clone(), std::iter::empty()));
            drop(Loader::start(shared, endless()));
            done.send(first).unwrap();
        });
        assert_eq!(watch.recv_timeout(Duration::from_secs(30)).unwrap(), Ok(vec![1]));
        // The first loader: one taken, two waiting, one loading. The last: two waiting, one
        // loading.
        assert!(split.0.load(Ordering::SeqCst) <= 2 * (AHEAD + 1) + 1);
    }

    #[test]
    fn the_thread_is_joined() {
        let split = split();
        drop(Loader::start(split.clone(), std::iter::repeat_with(|| (vec![1], None))));
        assert_eq!(Arc::strong_count(&split), 1);
    }

    #[test]
    #[should_panic(expected = "index 99")]
    fn panics_are_passed_on() {
        let mut loader = Loader::start(split(), [(vec![99], None)].into_iter());
        loader.next();
    }
}
