//! The part of a capture that does not depend on a deep-learning framework: which samples, channels
//! and filters of a step are kept, how their rows are numbered, and the threads that write them.

#![forbid(unsafe_code)]

pub mod rows;
pub mod sampling;
pub mod sink;
