//! Trains real models on libtorch and captures what their layers compute on.

pub mod capture;
pub mod cli;
pub mod datasets;
pub mod error;
pub mod models;
pub mod sampling;
pub mod tap;
pub mod train;

pub use error::TracerError;
