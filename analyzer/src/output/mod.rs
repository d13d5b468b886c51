//! Folders of results. A folder has one writer at a time, and results appear completely or not at
//! all.

pub mod results;
pub mod units;
pub mod work;

pub use results::ResultsDir;
