//! Checks that a trace or results are as they were written.

use crate::error::{AnalyzerError, Result};
use crate::partition;
use crate::results;
use crate::schema::run::RUN_FILE;
use crate::search::{self, store::BEST};
use crate::sweep;
use crate::table;
use mercury_trace::checksum::{self, Checksums};
use mercury_trace::{Trace, TraceError, Verified, input, manifest};
use rayon::prelude::*;
use std::path::Path;

/// The files that [`verify`] checked, and the faults.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// The files without a fault.
    pub verified: Verified,
    /// One error per file with a fault.
    pub faults: Vec<AnalyzerError>,
}

impl VerifyReport {
    fn add(&mut self, found: Result<Verified>) {
        match found {
            Ok(verified) => self.verified += verified,
            Err(fault) => self.faults.push(fault),
        }
    }
}

/// Checks all files of a trace, of results, of a search or of a partition.
///
/// # Errors
/// If the folder is neither, or its list of files cannot be read.
pub fn verify(dir: &Path) -> Result<VerifyReport> {
    if input::exists(&dir.join(manifest::FILE_NAME))? {
        return Ok(verify_trace(&Trace::open(dir)?));
    }
    if let Some((partition, _)) = partition::Partition::find(dir)? {
        return verify_listed(dir, &partition.files());
    }
    if dir.join(search::store::IDENTITY).exists() {
        return verify_search(dir);
    }
    if !dir.join(RUN_FILE).exists() {
        let reason = "is neither a trace nor results (it has no manifest.json, run.json or partition.json)".to_owned();
        return Err(AnalyzerError::Folder { path: dir.to_owned(), reason });
    }
    let names = if dir.join(sweep::store::IDENTITY).exists() { &sweep::store::FILES[..] } else { &results::FILES[..] };
    verify_listed(dir, &names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
}

fn verify_trace(trace: &Trace) -> VerifyReport {
    let mut report = VerifyReport::default();
    report.add(trace.verify_tables().map_err(AnalyzerError::from));
    let steps = trace.manifest().captured.iter();
    let files: Vec<_> = steps.flat_map(|step| step.tensors.iter().map(move |file| (step, file))).collect();
    let found: Vec<_> = files.par_iter().map(|(step, file)| trace.verify_tensor(step, file)).collect();
    for found in found {
        report.add(found.map_err(AnalyzerError::from));
    }
    report
}

/// Checks a search: its tables, and the designs that its list of checksums has, of which there is one at least. The
/// results of single layers have checksums of their own.
fn verify_search(dir: &Path) -> Result<VerifyReport> {
    if !dir.join(RUN_FILE).exists() {
        let reason = "the search has not ended; run it again, and it goes on".to_owned();
        return Err(AnalyzerError::Folder { path: dir.to_owned(), reason });
    }
    let listed = Checksums::read(dir)?;
    let is_design =
        |name: &&str| Path::new(name).extension().is_some_and(|extension| extension == "toml") && *name != BEST;
    let designs = listed.iter().flat_map(Checksums::names).filter(is_design);
    let tables = search::store::TABLES.into_iter().chain([RUN_FILE, search::store::IDENTITY, BEST]);
    verify_listed(dir, &tables.chain(designs).map(str::to_owned).collect::<Vec<_>>())
}

/// Checks files against the list of checksums in their folder.
fn verify_listed(dir: &Path, names: &[String]) -> Result<VerifyReport> {
    let Some(sums) = Checksums::read(dir)? else {
        let reason = format!(
            "has no {}: it was written by an earlier version, or is not complete; run the same command again",
            checksum::FILE_NAME
        );
        return Err(AnalyzerError::Folder { path: dir.to_owned(), reason });
    };
    let mut report = VerifyReport::default();
    for name in names {
        report.add(verify_file(dir, &sums, name));
    }
    Ok(report)
}

fn verify_file(dir: &Path, sums: &Checksums, name: &str) -> Result<Verified> {
    sums.check(dir, name)?;
    let path = dir.join(name);
    if path.extension().is_some_and(|extension| extension == "parquet") {
        table::check(&path)?;
    }
    let bytes = path.metadata().map_err(|error| TraceError::Io { path, error })?.len();
    Ok(Verified { files: 1, bytes, without_checksum: 0 })
}
