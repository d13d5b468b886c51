//! Trains real models on libtorch and captures the operands of their layers.

pub mod capture;
pub mod checkpoint;
pub mod cli;
pub mod datasets;
pub mod error;
pub mod evaluate;
pub mod groups;
pub mod loss;
pub mod metrics;
pub mod models;
pub mod optimizer;
pub mod patterns;
pub mod plan;
pub mod policy;
pub mod pretrained;
pub mod reuse;
pub mod schedule;
pub mod tap;
pub mod train;
pub mod weights;

pub use error::TracerError;
