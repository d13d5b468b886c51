//! What a model is measured by.

pub mod bleu;
