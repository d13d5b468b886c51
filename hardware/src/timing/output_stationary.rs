//! Output stationary: R vectors by C filters accumulate in place while k elements stream.

use super::{Array, FoldedDataflow, Folds, Stationary};
use mercury_reuse::config::Granularity;

#[derive(Debug)]
pub(super) struct OutputStationary;

impl FoldedDataflow for OutputStationary {
    fn name(&self) -> &'static str {
        "output stationary"
    }

    fn stationary(&self) -> Stationary {
        Stationary::Outputs
    }

    fn folds(&self, array: &Array, m: u64, k: u64, n: u64) -> Folds {
        Folds {
            rows: m.div_ceil(array.rows),
            columns: n.div_ceil(array.columns),
            cycles: array.rows + array.columns + k - 2,
        }
    }

    fn check(&self, granularity: Granularity) -> Result<(), String> {
        match granularity {
            Granularity::Patch => Ok(()),
            other => Err(format!(
                "rpq.granularity: is {other}, but an output-stationary array sums all channels of a vector in \
                 place and can only skip whole ones; set it to patch"
            )),
        }
    }
}
