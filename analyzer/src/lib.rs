//! Replays a training trace through input-similarity reuse (RPQ, MCACHE) and a systolic timing model.
//!
//! The path of the data: [`mercury_trace::Trace`] -> [`operand::LayerData`], a few samples at a
//! time -> vectors -> signatures -> Hitmap ([`replay::Similarity`]) -> cycles ([`timing`]) and
//! output error ([`accuracy`]) -> [`replay::PassResult`] -> tables ([`results`]).

#![forbid(unsafe_code)]

pub mod accuracy;
pub mod adaptation;
pub mod cli;
pub mod compare;
pub mod error;
mod error_columns;
pub mod export;
mod groups;
pub mod interval;
mod labels;
pub mod ladder;
mod layer_settings;
pub mod limits;
pub mod operand;
pub mod output;
pub mod partition;
mod presets;
mod probe;
pub mod replay;
pub mod report;
pub mod request;
pub mod result;
pub mod results;
pub mod schema;
pub mod search;
pub mod stop;
pub mod sweep;
pub mod table;
pub mod verify;
pub mod weights;

pub use error::AnalyzerError;
pub use mercury_hardware::{config, suggest, timing, topology};
