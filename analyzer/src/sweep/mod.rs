//! Many configurations on one trace, in one pass over it.
//!
//! [`grid::Grid`] lists the configurations, [`Replay`] evaluates all of them on a layer at a time (its
//! module on projections says what is shared), [`store::SweepDir`] keeps each layer's results as they come,
//! so that a sweep that was stopped goes on where it was, and [`summary`] has a row a configuration.

pub mod grid;
pub mod pareto;
pub mod store;
pub mod summary;

use crate::error::Result;
use crate::output::units;
use crate::replay::Replay;
use crate::request::Unit;
use crate::result::PassResult;
use store::SweepDir;

/// Evaluates the layers that are not done yet; `progress` is called with each before it is.
pub fn run(replay: &Replay, dir: &SweepDir, progress: impl Fn(&Unit)) -> Result<Vec<PassResult>> {
    let results = units::run(replay, replay.units(), &dir.units(), progress)?;
    Ok(replay.finish(results))
}
