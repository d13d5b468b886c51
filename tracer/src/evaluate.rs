//! Evaluates a model on validation data.

use crate::datasets::text::{BOS, EOS, PAD};
use crate::datasets::{Batch, Dataset, Loader, Task};
use crate::error::Result;
use crate::metrics::bleu::corpus_bleu;
use crate::models::Model;
use crate::tap::Tap;
use mercury_trace::evaluations::Evaluation;
use tch::{Device, Kind, Reduction, Tensor};

/// Evaluates a model on the first samples of a data set's validation split.
pub struct Evaluator<'a> {
    /// The model.
    pub model: &'a dyn Model,
    /// Its data.
    pub dataset: &'a Dataset,
    /// The device that computes.
    pub device: Device,
    /// Validation samples to evaluate.
    pub samples: usize,
    /// How many of these sentences are translated for BLEU.
    pub bleu_samples: usize,
    /// Samples per batch.
    pub batch_size: usize,
}

/// Totals over the validation samples.
#[derive(Default)]
struct EvaluationTotals {
    /// Sum of cross entropies in nats.
    loss: f64,
    /// Labels with the highest score.
    correct: i64,
    /// Labels among the five highest scores.
    in_top5: i64,
    labels: i64,
}

impl EvaluationTotals {
    fn mean_loss(&self) -> f64 {
        self.loss / self.labels.max(1) as f64
    }

    fn share(&self, count: i64) -> f64 {
        count as f64 / self.labels.max(1) as f64
    }
}

impl Evaluator<'_> {
    /// Evaluates the model after `steps_done` training steps; layers are computed through the tap.
    ///
    /// The metrics of images are `loss`, `top1` and, with more than five classes, `top5`. Those of
    /// text are `loss`, `token_accuracy`, `perplexity` (e to the loss) and `bleu`. Losses are mean
    /// cross entropies in nats, without label smoothing. `progress` gets the size of each batch.
    pub fn run(&self, steps_done: u64, tap: &mut dyn Tap, mut progress: impl FnMut(usize)) -> Result<Vec<Evaluation>> {
        if self.samples == 0 {
            return Ok(Vec::new());
        }
        let mut totals = EvaluationTotals::default();
        for batch in self.batches(self.samples) {
            let batch = batch?.to_device(self.device);
            tch::no_grad(|| self.add_batch(&mut totals, &batch, tap));
            progress(batch.len());
        }
        let row = |metric: &str, value: f64, samples: usize| Evaluation {
            steps_done,
            metric: metric.to_owned(),
            value,
            samples: samples as u64,
        };
        let loss = totals.mean_loss();
        let accuracy = totals.share(totals.correct);
        let mut rows = vec![row("loss", loss, self.samples)];
        match self.dataset.task {
            Task::Images { classes, .. } => {
                rows.push(row("top1", accuracy, self.samples));
                if classes > 5 {
                    rows.push(row("top5", totals.share(totals.in_top5), self.samples));
                }
            }
            Task::Text { .. } => {
                rows.push(row("token_accuracy", accuracy, self.samples));
                rows.push(row("perplexity", loss.exp(), self.samples));
                let samples = self.bleu_samples.min(self.samples);
                if samples > 0 {
                    rows.push(row("bleu", self.measure_bleu(samples, tap)?, samples));
                }
            }
        }
        Ok(rows)
    }

    fn batches(&self, samples: usize) -> Loader {
        let size = self.batch_size;
        let plan = (0..samples).step_by(size).map(move |first| {
            let end = (first + size).min(samples);
            ((first as u32..end as u32).collect(), None)
        });
        Loader::start(self.dataset.validation.clone(), plan)
    }

    fn add_batch(&self, totals: &mut EvaluationTotals, batch: &Batch, tap: &mut dyn Tap) {
        let scores = self.model.forward(batch, false, tap).scores;
        let (scores, labels) = flatten(&scores, batch);
        let ignored = ignored_label(batch);
        let loss = scores.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Sum, ignored, 0.0);
        totals.loss += loss.double_value(&[]);
        totals.correct += count_correct(&scores, &labels, ignored);
        totals.labels += count_true(&labels.not_equal(ignored));
        if scores.size()[1] > 5 {
            let (_, best) = scores.topk(5, -1, true, false);
            totals.in_top5 += count_true(&best.eq_tensor(&labels.unsqueeze(-1)));
        }
    }

    /// Measures corpus BLEU of greedy translations of the first sentences.
    fn measure_bleu(&self, samples: usize, tap: &mut dyn Tap) -> Result<f64> {
        let translator = self.model.translator().expect("a model of text translates");
        let vocabulary = self.dataset.vocabulary.as_ref().expect("text has a vocabulary");
        let Task::Text { target: length, .. } = self.dataset.task else { unreachable!("text") };
        let (begin, end) = (i64::from(BOS), i64::from(EOS));
        let mut translations = Vec::new();
        for batch in self.batches(samples) {
            let batch = batch?.to_device(self.device);
            let Batch::Text { source, .. } = &batch else { unreachable!("text") };
            let tokens = tch::no_grad(|| translator.translate(source, begin, end, length, tap));
            for row in Vec::<Vec<i64>>::try_from(tokens.to_device(Device::Cpu))? {
                let tokens = row.into_iter().map(|token| token as u32);
                let sentence: Vec<u32> = tokens.take_while(|&token| token != EOS && token != PAD).collect();
                translations.push(vocabulary.decode(&sentence));
            }
        }
        let references = self.dataset.references(&(0..samples as u32).collect::<Vec<_>>());
        Ok(corpus_bleu(&translations, &references))
    }
}

/// Returns scores as `[n, classes]` with the labels `[n]` to compare them with.
pub fn flatten(scores: &Tensor, batch: &Batch) -> (Tensor, Tensor) {
    match batch {
        Batch::Images { labels, .. } => (scores.shallow_clone(), labels.shallow_clone()),
        Batch::Text { target, .. } => {
            let learnt = target.narrow(1, 1, target.size()[1] - 1);
            (scores.reshape([-1, scores.size()[2]]), learnt.reshape([-1]))
        }
    }
}

/// The label that loss and accuracy ignore: padding in text, none in images.
pub fn ignored_label(batch: &Batch) -> i64 {
    match batch {
        Batch::Images { .. } => -100,
        Batch::Text { .. } => i64::from(PAD),
    }
}

/// Counts the labels with the highest score.
fn count_correct(scores: &Tensor, labels: &Tensor, ignored: i64) -> i64 {
    let correct = scores.argmax(-1, false).eq_tensor(labels);
    count_true(&correct.logical_and(&labels.not_equal(ignored)))
}

fn count_true(mask: &Tensor) -> i64 {
    mask.sum(Kind::Int64).int64_value(&[])
}

/// Measures the share of a batch's labels with the highest score.
pub fn measure_accuracy(scores: &Tensor, batch: &Batch) -> f64 {
    let (scores, labels) = flatten(scores, batch);
    let ignored = ignored_label(batch);
    let learnt = count_true(&labels.not_equal(ignored));
    count_correct(&scores, &labels, ignored) as f64 / learnt.max(1) as f64
}
