//! `report`: results as a page.

use crate::error::AnalyzerError;
use crate::report::Report as Reporting;
use anyhow::Result;
use clap::Args;
use mercury_cli::Messages;
use mercury_trace::atomic;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Write results as one HTML file that opens without a network.
///
/// It shows speed-up with its interval, where cycles go, hits beside their error, how close they come to
/// each bound, what changes over training, utilisation, energy, a table of layers, and the command that
/// does it again. Of a sweep the configurations on the frontier of error and speed are shown, and all of
/// them over the signature length.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mercury-analyzer report results --trace trace --out report.html\n  \
                        mercury-analyzer report results results-os sweep --out report.html")]
pub struct Report {
    /// Folders that `replay` or `sweep` wrote.
    #[arg(required = true, value_name = "RESULTS")]
    results: Vec<PathBuf>,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The trace that results are of, for the loss of every training step; once for each.
    #[arg(long, value_name = "DIR")]
    trace: Vec<PathBuf>,
}

impl Report {
    /// Writes it.
    pub fn run(self, messages: Messages) -> Result<()> {
        let fail = |error| AnalyzerError::Page { path: self.out.clone(), error };
        let file = begin(&self.out).map_err(fail)?;
        let html = Reporting::read(&self.results, &self.trace)?.html();
        file.as_file().write_all(html.as_bytes()).map_err(fail)?;
        atomic::commit(file, &self.out).map_err(fail)?;
        messages.note(format_args!("report: {} ({:.1} MB)", self.out.display(), html.len() as f64 / 1e6));
        Ok(())
    }
}

/// A file to become the page; begun first, so that one that cannot be written is refused before the work.
fn begin(out: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    if out.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    atomic::begin(out)
}
