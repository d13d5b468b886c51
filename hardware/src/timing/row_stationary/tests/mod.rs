//! Tests: the mapping against Eyeriss's published numbers, the schedule against simulations.

mod mapping;
mod schedule;
