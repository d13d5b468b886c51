//! Patterns of names, as flags give them.

use crate::error::TracerError;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// The patterns of a flag.
///
/// # Errors
/// If one is no pattern; the error names the flag.
pub fn build_globs(flag: &'static str, patterns: &[String]) -> Result<GlobSet, TracerError> {
    let bad = |error: globset::Error| TracerError::Flag { flag, reason: error.to_string() };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).build().map_err(bad)?);
    }
    set.build().map_err(bad)
}
