//! Input stationary: R elements of C vectors stay in place while filters stream.

use super::{Array, FoldedDataflow, Folds, Stationary};
use mercury_reuse::config::Granularity;

#[derive(Debug)]
pub(super) struct InputStationary;

impl FoldedDataflow for InputStationary {
    fn name(&self) -> &'static str {
        "input stationary"
    }

    fn stationary(&self) -> Stationary {
        Stationary::Inputs
    }

    fn folds(&self, array: &Array, m: u64, k: u64, n: u64) -> Folds {
        Folds {
            rows: k.div_ceil(array.rows),
            columns: m.div_ceil(array.columns),
            cycles: 2 * array.rows + array.columns + n - 2,
        }
    }

    /// Filters stream here, so a vector's results are not cut into folds of filters.
    fn copies(&self, array: &Array, hits: u64, filters: u64) -> u64 {
        (hits * filters).div_ceil(array.columns * array.read_ports)
    }

    fn check(&self, granularity: Granularity) -> Result<(), String> {
        match granularity {
            Granularity::Patch => Ok(()),
            other => Err(format!(
                "rpq.granularity: is {other}, but an input-stationary array sums all channels of a vector and \
                 can only skip whole ones; set it to patch"
            )),
        }
    }
}
