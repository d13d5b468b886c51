//! Checks that a trace or results are as they were written.

use crate::error::{AnalyzerError, Result};
use crate::partition;
use crate::results::{self, RUN_FILE};
use crate::sweep;
use crate::table;
use mercury_trace::checksum::{self, Checksums};
use mercury_trace::{Trace, TraceError, Verified, input, manifest};
use rayon::prelude::*;
use std::path::Path;

/// The files that were checked, and the faults.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The files without a fault.
    pub verified: Verified,
    /// One error per file with a fault.
    pub faults: Vec<AnalyzerError>,
}

impl Outcome {
    fn add(&mut self, found: Result<Verified>) {
        match found {
            Ok(verified) => self.verified += verified,
            Err(fault) => self.faults.push(fault),
        }
    }
}

/// Checks all files of a trace, of results or of a partition.
///
/// # Errors
/// If the folder is neither, or its list of files cannot be read.
pub fn verify(dir: &Path) -> Result<Outcome> {
    if input::exists(&dir.join(manifest::FILE_NAME))? {
        return Ok(trace(&Trace::open(dir)?));
    }
    if let Some((partition, _)) = partition::Partition::find(dir)? {
        return of_list(dir, &partition.files());
    }
    if !dir.join(RUN_FILE).exists() {
        let reason = "is neither a trace nor results (it has no manifest.json, run.json or partition.json)".to_owned();
        return Err(AnalyzerError::Folder { path: dir.to_owned(), reason });
    }
    let names = if dir.join(sweep::store::IDENTITY).exists() { &sweep::store::FILES[..] } else { &results::FILES[..] };
    of_list(dir, &names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
}

fn trace(trace: &Trace) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.add(trace.verify_tables().map_err(AnalyzerError::from));
    let steps = trace.manifest().captured.iter();
    let files: Vec<_> = steps.flat_map(|step| step.tensors.iter().map(move |file| (step, file))).collect();
    let found: Vec<_> = files.par_iter().map(|(step, file)| trace.verify_tensor(step, file)).collect();
    for found in found {
        outcome.add(found.map_err(AnalyzerError::from));
    }
    outcome
}

/// Checks files against the list of checksums in their folder.
fn of_list(dir: &Path, names: &[String]) -> Result<Outcome> {
    let Some(sums) = Checksums::read(dir)? else {
        let reason = format!(
            "has no {}: it was written by an earlier version, or is not complete; run the same command again",
            checksum::FILE_NAME
        );
        return Err(AnalyzerError::Folder { path: dir.to_owned(), reason });
    };
    let mut outcome = Outcome::default();
    for name in names {
        outcome.add(file(dir, &sums, name));
    }
    Ok(outcome)
}

fn file(dir: &Path, sums: &Checksums, name: &str) -> Result<Verified> {
    sums.check(dir, name)?;
    let path = dir.join(name);
    if path.extension().is_some_and(|extension| extension == "parquet") {
        table::check(&path)?;
    }
    let bytes = path.metadata().map_err(|error| TraceError::Io { path, error })?.len();
    Ok(Verified { files: 1, bytes, without_checksum: 0 })
}
