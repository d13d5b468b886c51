//! `report`: results as an HTML page.

use super::console::Console;
use crate::error::AnalyzerError;
use crate::report::Report as Reporting;
use anyhow::Result;
use clap::Args;
use mercury_trace::atomic;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Write results as one HTML file that opens without a network.
///
/// The page shows the speed-up with its interval, what cycles are spent on, hit rates with their
/// output errors, bounds on reuse, changes over training, utilisation, energy, a table of layers,
/// and the command that reproduces the results. For a sweep it shows the configurations on the
/// frontier of error and speed in full, and all configurations by signature length. For a search it
/// opens with the verdict, and shows the speed-up by accepted error and the settings of each layer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mercury-analyzer report results --trace trace --out report.html\n  \
                        mercury-analyzer report results results-os sweep search --out report.html")]
pub struct Report {
    /// Folders that `replay`, `sweep` or `search` wrote.
    #[arg(required = true, value_name = "RESULTS")]
    results: Vec<PathBuf>,
    /// HTML file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Folder of the trace of the results, to show the loss of every training step; may be
    /// repeated.
    #[arg(long, value_name = "DIR")]
    trace: Vec<PathBuf>,
}

impl Report {
    /// Reads the results and writes the page.
    pub fn run(self, console: Console) -> Result<()> {
        let fail = |error| AnalyzerError::Page { path: self.out.clone(), error };
        let file = begin(&self.out).map_err(fail)?;
        let html = Reporting::read(&self.results, &self.trace)?.html();
        file.as_file().write_all(html.as_bytes()).map_err(fail)?;
        atomic::commit(file, &self.out).map_err(fail)?;
        console.note(format_args!("report: {} ({:.1} MB)", self.out.display(), html.len() as f64 / 1e6));
        Ok(())
    }
}

/// Creates the temporary file of the page. This comes first, so that an unwritable path fails
/// before any work is done.
fn begin(out: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    if out.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    atomic::begin(out)
}
