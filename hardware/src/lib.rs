//! The configuration of a replay or of training with reuse, and what passes take on the hardware that it
//! describes: cycles, traffic, energy.
//!
//! [`config::Config`] is one TOML file. [`timed::Timed`] times one product of a layer's pass, with and without reuse,
//! on whichever array the configuration has ([`timing`]); [`timed::cycles`] a pass whose every sample is there.
//! [`switch::Switch`] tells the layers for which reuse does not pay. No files of traces, no torch: both the analyzer
//! and training with reuse in the loop ask here.

#![forbid(unsafe_code)]

pub mod config;
pub mod error;
pub mod suggest;
pub mod switch;
pub mod timed;
pub mod timing;
pub mod topology;

pub use error::HardwareError;
