//! Tests of the mapping against the published numbers of Eyeriss, and of the schedule against
//! simulations.

mod mapping;
mod schedule;
