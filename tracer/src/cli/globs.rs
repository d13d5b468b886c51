//! Name patterns in flags.

use crate::error::TracerError;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Compiles the patterns of a flag.
///
/// # Errors
/// If a pattern is invalid; the error names the flag.
pub fn build_globs(flag: &'static str, patterns: &[String]) -> Result<GlobSet, TracerError> {
    let bad = |error: globset::Error| TracerError::Flag { flag, reason: error.to_string() };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).build().map_err(bad)?);
    }
    set.build().map_err(bad)
}
