//! The results' folder, which appears whole.

use super::units::{self, UnitStore};
use super::work::{self, Kind, WorkDir};
use crate::config::Config;
use crate::error::{AnalyzerError, Result};
use crate::result::PassResult;
use crate::results;
use mercury_trace::check_empty_dir;
use mercury_trace::checksum::{self, Checksums};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A replay's scratch folder.
const KIND: Kind =
    Kind { name: "replay", identity: "run.json", differs: "another trace, configuration or label", lasting: false };
/// Results in the making, in the scratch folder.
const MADE: &str = "results";

/// A folder of results being made. Claimed first, so that a folder that cannot be written is refused before the
/// work; dropped without [`ResultsDir::write`] it leaves nothing.
///
/// Until all is there it is empty and locked; what is done is kept in a hidden folder beside it. A process that
/// is killed leaves both, and the same run goes on from there.
pub struct ResultsDir {
    target: PathBuf,
    /// Whether it was made here.
    is_new: bool,
    scratch: PathBuf,
    work: WorkDir,
    /// Held while the folder is empty; the one that replaces it is another.
    _lock: File,
}

impl ResultsDir {
    /// Claims `target`, which must be empty or missing, for the run that `run` describes.
    pub fn claim(target: &Path, run: &str) -> Result<Self> {
        let fail = |error: io::Error| AnalyzerError::Output { path: target.to_owned(), error: error.kind().into() };
        work::check_local(target)?;
        let is_new = !target.exists();
        if !is_new {
            check_empty_dir(target).inspect_err(|_| tidy(target))?;
        }
        fs::create_dir_all(target).map_err(fail)?;
        let lock = work::lock(target, KIND.name)?;
        // Again: whoever held the lock until now may have put results there.
        check_empty_dir(target)?;
        let real = target.canonicalize().map_err(fail)?;
        let claimed = name_scratch(&real).ok_or_else(|| fail(io::ErrorKind::InvalidInput.into())).and_then(|scratch| {
            if fs::read(scratch.join(KIND.identity)).ok().is_none_or(|known| known != run.as_bytes()) {
                units::remove(&scratch)?;
            }
            let work = WorkDir::open(&scratch, KIND, run).map_err(|error| match error {
                AnalyzerError::Output { error, .. } => fail(error),
                other => other,
            })?;
            Ok((scratch, work))
        });
        match claimed {
            Ok((scratch, work)) => Ok(Self { target: real, is_new, scratch, work, _lock: lock }),
            Err(error) => {
                if is_new {
                    let _ = fs::remove_dir(&real);
                }
                Err(error)
            }
        }
    }

    /// Where results of units are kept.
    pub fn units(&self) -> UnitStore {
        self.work.units()
    }

    /// Writes the results, of a model of so many layers, and puts the folder in place.
    pub fn write(self, run: &str, layers: usize, configs: &[Config], results: &[PassResult]) -> Result<()> {
        let made = self.scratch.join(MADE);
        units::remove(&made)?;
        fs::create_dir(&made).map_err(AnalyzerError::io(&made))?;
        let mut files = results::write_tables(&made, run, layers, configs, results)?;
        Checksums::from_files(&made, results::FILES)?.write_among(&mut files, &made)?;
        files.sync(&made)?;
        // Replaces the empty folder.
        fs::rename(&made, &self.target)
            .and_then(|()| self.target.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all()))
            .map_err(|error| AnalyzerError::Output { path: self.target.clone(), error })
    }
}

/// Removes what a run leaves beside its results that was killed just after it had put them in place.
fn tidy(target: &Path) {
    let scratch = target.canonicalize().ok().and_then(|real| name_scratch(&real)).filter(|scratch| scratch.is_dir());
    let is_whole = target.join(checksum::FILE_NAME).exists();
    if let Some(scratch) = scratch.filter(|_| is_whole)
        && let Ok(_lock) = work::lock(&scratch, KIND.name)
    {
        let _ = fs::remove_dir_all(&scratch);
    }
}

/// The folder beside `target` for what is not whole yet.
fn name_scratch(target: &Path) -> Option<PathBuf> {
    let name = target.file_name()?;
    let mut scratch = std::ffi::OsString::from(".mercury-results-");
    scratch.push(name);
    Some(target.with_file_name(scratch))
}

impl Drop for ResultsDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
        if self.is_new {
            // Only where it is empty, that is, where there are no results.
            let _ = fs::remove_dir(&self.target);
        }
    }
}
