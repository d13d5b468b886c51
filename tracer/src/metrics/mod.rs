//! Metrics of models.

pub mod bleu;
