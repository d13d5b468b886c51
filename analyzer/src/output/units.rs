//! Stores the results of completed units, so that interrupted work continues where it stopped.

use crate::error::{AnalyzerError, Result};
use crate::replay::Replay;
use crate::request::Unit;
use crate::result::PassResult;
use mercury_trace::{TraceError, atomic, checksum, input};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Maximum size of a unit's results, bytes: far above that of the largest sweep.
const MAX_BYTES: u64 = 1 << 32;

const PREFIX: &str = "{\"sha256\":\"";
const MIDDLE: &str = "\",\"results\":";

/// A folder with one file per completed unit.
///
/// Files are not synced to disk. Instead each contains its checksum, which reveals a file that a
/// power failure truncated.
#[derive(Debug)]
pub struct UnitStore {
    dir: PathBuf,
}

impl UnitStore {
    /// A store in `dir`, which is created when the first unit is stored.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The path of a unit's file.
    pub fn path(&self, step: u64, layer_index: usize) -> PathBuf {
        self.dir.join(file_name(step, layer_index))
    }

    /// Reads the results of a unit; `None` if it is not completed.
    pub fn read(&self, step: u64, layer_index: usize) -> Result<Option<Vec<PassResult>>> {
        let path = self.path(step, layer_index);
        let text = match input::read_text(&path, MAX_BYTES) {
            Err(TraceError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        parse_unit(&text, step, layer_index).map(Some).ok_or_else(|| damaged(path))
    }

    /// Reads the results of a unit after `check` has accepted the file's bytes.
    ///
    /// # Errors
    /// If the file is missing, is refused by `check`, or does not hold this unit's results.
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

    /// Stores a unit's results.
    pub fn keep(&self, unit: &Unit, results: &[PassResult]) -> Result<()> {
        fs::create_dir_all(&self.dir).map_err(AnalyzerError::io(&self.dir))?;
        let results = serde_json::to_string(results).expect("results have string keys");
        let text = format!("{PREFIX}{}{MIDDLE}{results}}}\n", checksum::hash_bytes(results.as_bytes()));
        let path = self.path(unit.step.step, unit.layer_index);
        atomic::write_unsynced(&path, |file| file.write_all(text.as_bytes())).map_err(AnalyzerError::io(path))
    }

    /// Removes the folder.
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
    TraceError::Damaged { path, reason: "it does not hold the results of this step and layer".to_owned() }.into()
}

/// Parses a file; `None` unless it is intact and all results belong to this unit.
fn parse_unit(text: &str, step: u64, layer_index: usize) -> Option<Vec<PassResult>> {
    let is_own = |result: &PassResult| (result.step, result.layer_index) == (step, layer_index);
    parse(text).filter(|results| results.iter().all(is_own))
}

/// Parses a file; `None` unless its checksum is right.
fn parse(text: &str) -> Option<Vec<PassResult>> {
    let (sum, rest) = text.strip_prefix(PREFIX)?.split_once(MIDDLE)?;
    let results = rest.strip_suffix("}\n")?;
    if checksum::hash_bytes(results.as_bytes()) != sum {
        return None;
    }
    serde_json::from_str(results).ok()
}

/// Evaluates the units that are not in the store yet, stores them, and returns the results of all
/// units. `progress` is called with each unit before it is evaluated.
pub fn run(replay: &Replay, units: Vec<Unit>, store: &UnitStore, progress: impl Fn(&Unit)) -> Result<Vec<PassResult>> {
    let (mut results, mut pending) = (Vec::new(), Vec::new());
    for unit in units {
        // A unit that cannot be read is evaluated again.
        match store.read(unit.step.step, unit.layer_index) {
            Ok(Some(done)) => {
                progress(&unit);
                results.extend(done);
            }
            Ok(None) | Err(_) => pending.push(unit),
        }
    }
    replay.run(&pending, progress, |unit, fresh| {
        store.keep(unit, &fresh)?;
        results.extend(fresh);
        Ok(())
    })?;
    Ok(results)
}
