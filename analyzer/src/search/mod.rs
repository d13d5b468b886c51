//! Search for the design that pays most within an error that one accepts: settings per layer, by reading of the hardware.
//!
//! [`space::Space`] lists the readings and the candidates, each a setting for a layer. One replay evaluates all of them
//! on every layer ([`evidence::Evidence`]). [`problem::Problem`] then chooses one candidate for each group of passes that
//! share signatures; what a group does is independent of the other groups, because errors are local. [`judge`] judges
//! choices by steps or samples that they were not chosen by, because the best of many is better on the data that it was
//! chosen by than elsewhere. [`accuracy_curve`] turns a bound on the accuracy loss of training into one on the step error. [`design`] writes the choice as a configuration with `[[layer]]` tables.

pub mod accuracy_curve;
pub mod bound;
pub mod choice;
pub mod design;
pub mod evidence;
pub mod figures;
pub mod found;
pub mod judge;
pub mod outcome;
pub mod problem;
pub mod space;
pub mod store;
pub mod tables;

use crate::sweep::grid::Axis;

/// What is tried.
#[derive(Debug, Clone, Default)]
pub struct Axes {
    /// Values of keys that all layers share; each combination is a reading.
    pub shared: Vec<Axis>,
    /// Values of keys that each layer chooses for itself.
    pub per_layer: Vec<Axis>,
}
