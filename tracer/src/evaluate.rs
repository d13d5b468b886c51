//! Measuring a model on data that was not trained on.

use crate::datasets::text::{BOS, EOS, PAD};
use crate::datasets::{Batch, Dataset, Loader, Task};
use crate::error::Result;
use crate::metrics::bleu::corpus_bleu;
use crate::models::Model;
use crate::tap::Tap;
use mercury_trace::evaluations::Evaluation;
use tch::{Device, Kind, Reduction, Tensor};

/// What is measured, and on how much.
pub struct Evaluator<'a> {
    /// The model.
    pub model: &'a dyn Model,
    /// Its data.
    pub dataset: &'a Dataset,
    /// Where it is computed.
    pub device: Device,
    /// Validation samples, the first ones.
    pub samples: usize,
    /// Of these, sentences that are translated for BLEU.
    pub bleu_samples: usize,
    /// Samples at a time.
    pub batch_size: usize,
}

/// Sums over the validation samples.
#[derive(Default)]
struct Sums {
    loss: f64,
    right: i64,
    among_five: i64,
    labels: i64,
}

impl Evaluator<'_> {
    /// Measures: for images `loss`, `top1`, and `top5` where there are more than five classes; for
    /// text `loss`, `token_accuracy`, `perplexity` (e to the loss) and `bleu`. Losses are mean cross
    /// entropies in nats, without label smoothing. Layers are computed through the tap; `progress` hears
    /// how many samples were done.
    pub fn run(&self, steps_done: u64, tap: &mut dyn Tap, mut progress: impl FnMut(usize)) -> Result<Vec<Evaluation>> {
        let mut sums = Sums::default();
        for batch in self.batches(self.samples) {
            let batch = batch?.to_device(self.device);
            tch::no_grad(|| self.add(&mut sums, &batch, tap));
            progress(batch.len());
        }
        let row = |metric: &str, value: f64, samples: usize| Evaluation {
            steps_done,
            metric: metric.to_owned(),
            value,
            samples: samples as u64,
        };
        if self.samples == 0 {
            return Ok(Vec::new());
        }
        let share = |count: i64| count as f64 / sums.labels.max(1) as f64;
        let loss = sums.loss / sums.labels.max(1) as f64;
        let mut rows = vec![row("loss", loss, self.samples)];
        match self.dataset.task {
            Task::Images { classes, .. } => {
                rows.push(row("top1", share(sums.right), self.samples));
                if classes > 5 {
                    rows.push(row("top5", share(sums.among_five), self.samples));
                }
            }
            Task::Text { .. } => {
                rows.push(row("token_accuracy", share(sums.right), self.samples));
                rows.push(row("perplexity", loss.exp(), self.samples));
                let samples = self.bleu_samples.min(self.samples);
                if samples > 0 {
                    rows.push(row("bleu", self.bleu(samples, tap)?, samples));
                }
            }
        }
        Ok(rows)
    }

    fn batches(&self, samples: usize) -> Loader {
        let size = self.batch_size;
        let plan = (0..samples)
            .step_by(size)
            .map(move |first| ((first as u32..(first + size).min(samples) as u32).collect(), None));
        Loader::start(self.dataset.validation.clone(), plan)
    }

    fn add(&self, sums: &mut Sums, batch: &Batch, tap: &mut dyn Tap) {
        let scores = self.model.forward(batch, false, tap).scores;
        let (scores, labels) = flatten(&scores, batch);
        let ignored = ignored(batch);
        let loss = scores.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Sum, ignored, 0.0);
        sums.loss += loss.double_value(&[]);
        sums.right += correct(&scores, &labels, ignored);
        sums.labels += labels.not_equal(ignored).sum(Kind::Int64).int64_value(&[]);
        if scores.size()[1] > 5 {
            let (_, best) = scores.topk(5, -1, true, false);
            sums.among_five += best.eq_tensor(&labels.unsqueeze(-1)).sum(Kind::Int64).int64_value(&[]);
        }
    }

    /// Corpus BLEU of greedy translations of the first sentences.
    fn bleu(&self, samples: usize, tap: &mut dyn Tap) -> Result<f64> {
        let translator = self.model.translator().expect("a model of text translates");
        let vocabulary = self.dataset.vocabulary.as_ref().expect("text has a vocabulary");
        let Task::Text { target: length, .. } = self.dataset.task else { unreachable!("text") };
        let mut translations = Vec::new();
        for batch in self.batches(samples) {
            let batch = batch?.to_device(self.device);
            let Batch::Text { source, .. } = &batch else { unreachable!("text") };
            let tokens = tch::no_grad(|| translator.translate(source, i64::from(BOS), i64::from(EOS), length, tap));
            for row in Vec::<Vec<i64>>::try_from(tokens.to_device(Device::Cpu))? {
                let sentence =
                    row.into_iter().map(|token| token as u32).take_while(|&token| token != EOS && token != PAD);
                translations.push(vocabulary.decode(&sentence.collect::<Vec<_>>()));
            }
        }
        let references = self.dataset.references(&(0..samples as u32).collect::<Vec<_>>());
        Ok(corpus_bleu(&translations, &references))
    }
}

/// Scores `[n, classes]` and the labels `[n]` that they are compared with.
pub fn flatten(scores: &Tensor, batch: &Batch) -> (Tensor, Tensor) {
    match batch {
        Batch::Images { labels, .. } => (scores.shallow_clone(), labels.shallow_clone()),
        Batch::Text { target, .. } => {
            let learnt = target.narrow(1, 1, target.size()[1] - 1);
            (scores.reshape([-1, scores.size()[2]]), learnt.reshape([-1]))
        }
    }
}

/// The label that says that there is nothing to learn.
pub fn ignored(batch: &Batch) -> i64 {
    match batch {
        Batch::Images { .. } => -100,
        Batch::Text { .. } => i64::from(PAD),
    }
}

/// Labels that have the highest score.
fn correct(scores: &Tensor, labels: &Tensor, ignored: i64) -> i64 {
    let right = scores.argmax(-1, false).eq_tensor(labels).logical_and(&labels.not_equal(ignored));
    right.sum(Kind::Int64).int64_value(&[])
}

/// Share of a batch's labels that have the highest score.
pub fn accuracy(scores: &Tensor, batch: &Batch) -> f64 {
    let (scores, labels) = flatten(scores, batch);
    let learnt = labels.not_equal(ignored(batch)).sum(Kind::Int64).int64_value(&[]);
    correct(&scores, &labels, ignored(batch)) as f64 / learnt.max(1) as f64
}
