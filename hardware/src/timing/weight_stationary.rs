//! Weight stationary: R elements by C filters stay in place while vectors stream, one a cycle.
//!
//! With reuse a fold holds elements of one stream's vectors only, since vectors of another stream
//! hit at other places. Where a vector is shorter than R the fold is so under-filled, while the
//! baseline packs its rows; where it is longer it takes several folds with its one outcome. As a
//! vector takes one cycle to stream, and a result one to copy, copying bounds the gain.

use super::{Array, FoldedDataflow, Folds, Stationary};
use mercury_reuse::config::Granularity;

#[derive(Debug)]
pub(super) struct WeightStationary;

impl FoldedDataflow for WeightStationary {
    fn name(&self) -> &'static str {
        "weight stationary"
    }

    fn stationary(&self) -> Stationary {
        Stationary::Weights
    }

    fn folds(&self, array: &Array, m: u64, k: u64, n: u64) -> Folds {
        Folds {
            rows: k.div_ceil(array.rows),
            columns: n.div_ceil(array.columns),
            cycles: 2 * array.rows + array.columns + m - 2,
        }
    }

    fn check(&self, _: Granularity) -> Result<(), String> {
        Ok(())
    }
}
