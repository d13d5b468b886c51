//! Sweeps: many configurations on one trace, in one pass over it.
//!
//! [`grid::Grid`] lists the configurations. [`Replay`] evaluates all of them on one layer at a time
//! and shares work between them. [`store::SweepDir`] stores the results of each layer, so that an
//! interrupted sweep continues where it stopped. [`summary`] has one row per configuration.

pub mod designs;
pub mod filter;
pub mod grid;
pub mod pareto;
pub mod seeds;
pub mod store;
pub mod summary;

use crate::error::Result;
use crate::output::units;
use crate::replay::Replay;
use crate::request::Unit;
use crate::result::PassResult;
use store::SweepDir;

/// Evaluates the units that are not in the folder yet, and returns the results of all units.
/// `progress` is called with each unit before it is evaluated.
pub fn run(replay: &Replay, dir: &SweepDir, progress: impl Fn(&Unit)) -> Result<Vec<PassResult>> {
    let results = units::run(replay, replay.units(), &dir.units(), progress)?;
    Ok(replay.finish(results))
}
