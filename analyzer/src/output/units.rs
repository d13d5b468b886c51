//! Results of units that are done, kept until all are, so that what was stopped goes on where it was.

use crate::error::{AnalyzerError, Result};
use crate::replay::Replay;
use crate::request::Unit;
use crate::result::PassResult;
use mercury_trace::{TraceError, atomic, checksum, input};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Most bytes of a unit's results: far above those of the largest sweep.
const MAX_BYTES: u64 = 1 << 32;

const PREFIX: &str = "{\"sha256\":\"";
const MIDDLE: &str = "\",\"results\":";

/// A folder with a file for each unit that is done. Each carries its checksum, so that none has to be waited for
/// until it is on disk: what a power failure leaves of it is found out.
#[derive(Debug)]
pub struct UnitStore {
    dir: PathBuf,
}

impl UnitStore {
    /// The folder `dir`, which is made when it is needed.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// A unit's file.
    pub fn path(&self, step: u64, layer_index: usize) -> PathBuf {
        self.dir.join(file_name(step, layer_index))
    }

    /// The results of a unit, `None` where it is not done.
    pub fn read(&self, step: u64, layer_index: usize) -> Result<Option<Vec<PassResult>>> {
        let path = self.path(step, layer_index);
        let text = match input::read_text(&path, MAX_BYTES) {
            Err(TraceError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        parse_unit(&text, step, layer_index).map(Some).ok_or_else(|| damaged(path))
    }

    /// The results of a unit that has to be there, and whose file passes a check.
    pub fn read_checked(
        &self,
        step: u64,
        layer_index: usize,
        check: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<Vec<PassResult>> {
        let path = self.path(step, layer_index);
        let text = match input::read_text(&path, MAX_BYTES) {
            Err(TraceError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
                return Err(TraceError::Damaged { path, reason: "is missing".to_owned() }.into());
            }
            other => other?,
        };
        check(text.as_bytes())?;
        parse_unit(&text, step, layer_index).ok_or_else(|| damaged(path))
    }

    /// Keeps a unit's results.
    pub fn keep(&self, unit: &Unit, results: &[PassResult]) -> Result<()> {
        fs::create_dir_all(&self.dir).map_err(AnalyzerError::io(&self.dir))?;
        let results = serde_json::to_string(results).expect("results have string keys");
        let text = format!("{PREFIX}{}{MIDDLE}{results}}}\n", checksum::of(results.as_bytes()));
        let path = self.path(unit.step.step, unit.layer_index);
        atomic::write_unsynced(&path, |file| file.write_all(text.as_bytes())).map_err(AnalyzerError::io(path))
    }

    /// Removes all.
    pub fn remove(&self) -> Result<()> {
        remove(&self.dir)
    }
}

/// The name of a unit's file.
pub fn file_name(step: u64, layer_index: usize) -> String {
    format!("step-{step:06}-layer-{layer_index:04}.json")
}

/// Removes a folder, if it is there.
pub fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(AnalyzerError::io(dir)(error)),
        _ => Ok(()),
    }
}

fn damaged(path: PathBuf) -> AnalyzerError {
    TraceError::Damaged { path, reason: "it does not hold the results that it should".to_owned() }.into()
}

/// The results in a file's text, if they are a unit's.
fn parse_unit(text: &str, step: u64, layer_index: usize) -> Option<Vec<PassResult>> {
    let of_unit = |result: &PassResult| (result.step, result.layer_index) == (step, layer_index);
    parse(text).filter(|results| results.iter().all(of_unit))
}

/// The results in a file's text, if they are what was written.
fn parse(text: &str) -> Option<Vec<PassResult>> {
    let (sum, rest) = text.strip_prefix(PREFIX)?.split_once(MIDDLE)?;
    let results = rest.strip_suffix("}\n")?;
    if checksum::of(results.as_bytes()) != sum {
        return None;
    }
    serde_json::from_str(results).ok()
}

/// Evaluates the units that are not done yet, and returns the results of all; `progress` is called with each
/// before it is evaluated.
pub fn run(replay: &Replay, units: Vec<Unit>, store: &UnitStore, progress: impl Fn(&Unit)) -> Result<Vec<PassResult>> {
    let (mut results, mut open) = (Vec::new(), Vec::new());
    for unit in units {
        // What cannot be read is done again.
        match store.read(unit.step.step, unit.layer_index) {
            Ok(Some(done)) => {
                progress(&unit);
                results.extend(done);
            }
            Ok(None) | Err(_) => open.push(unit),
        }
    }
    replay.run(&open, progress, |unit, fresh| {
        store.keep(unit, &fresh)?;
        results.extend(fresh);
        Ok(())
    })?;
    Ok(results)
}
