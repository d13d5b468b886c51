//! Folders that results are written to: one writer at a time, and whole or not at all.

pub mod results;
pub mod units;
pub mod work;

pub use results::ResultsDir;
