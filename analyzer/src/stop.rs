//! Stops long work from outside.

use crate::error::{AnalyzerError, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop long work; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Fails after a request.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(AnalyzerError::Stopped) } else { Ok(()) }
    }
}
