//! `verify`: checks a trace or results for damage.

use super::console::Console;
use crate::error::AnalyzerError;
use crate::verify::{self, VerifyReport};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Check that a trace, results or a partition are as they were written.
///
/// Every file is read and compared with its SHA-256. For a trace, sizes, rows and keys are compared
/// with the manifest too. `replay` and `sweep` check everything except the checksums, so only
/// `verify` finds a changed value.
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer verify trace")]
pub struct Verify {
    /// Folder of the trace, results or partition.
    dir: PathBuf,
}

impl Verify {
    /// Checks the files and prints their number and size. Each damaged file is an error.
    pub fn run(self, console: Console) -> Result<()> {
        let VerifyReport { verified, faults } = verify::verify(&self.dir)?;
        for fault in &faults {
            console.report(fault);
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
        console.print(&text)?;
        Ok(())
    }
}
