//! `verify`: whether a trace, or results, are as they were written.

use crate::error::AnalyzerError;
use crate::verify::{self, VerifyReport};
use anyhow::Result;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

/// Check that a trace, results, or a partition of them are as they were written.
///
/// Every file against its SHA-256, and by reading it; of a trace also the size, rows and keys that the manifest
/// says. `replay` and `sweep` check all but the checksums: they would take a changed value for data.
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer verify trace")]
pub struct Verify {
    /// Folder of the trace or results.
    dir: PathBuf,
}

impl Verify {
    /// Checks, and prints what was looked at; each file that is not as it was is an error.
    pub fn run(self) -> Result<()> {
        let VerifyReport { verified, faults } = verify::verify(&self.dir)?;
        for fault in &faults {
            eprintln!("{fault}");
        }
        if !faults.is_empty() {
            let reason = format!("{} files are not as they were written", faults.len());
            return Err(AnalyzerError::Folder { path: self.dir, reason }.into());
        }
        let mut text =
            format!("{} files, {:.1} MB, as they were written\n", verified.files, verified.bytes as f64 / 1e6);
        if verified.without_checksum > 0 {
            text += &format!("{} files can be read, but have no checksum\n", verified.without_checksum);
        }
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }
}
