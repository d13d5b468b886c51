//! A sweep's folder: what it is a sweep of, the layers that are done, in the end the results.

use super::grid::Grid;
use super::summary;
use crate::error::{AnalyzerError, Result};
use crate::replay::{Measures, PassResult, Unit};
use crate::results;
use mercury_trace::{Trace, atomic, create_empty_dir};
use polars::prelude::DataFrame;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the sweep is, to know it again.
const IDENTITY: &str = "sweep.json";
/// Layers that are done, until all are.
const PARTS: &str = "parts";

/// A sweep's folder.
pub struct SweepDir {
    dir: PathBuf,
    identity: String,
    /// Held while the sweep runs.
    _lock: fs::File,
}

impl SweepDir {
    /// Begins a sweep in an empty or missing folder, or goes on with the same one.
    pub fn open(dir: &Path, trace: &Trace, grid: &Grid, measures: &Measures) -> Result<Self> {
        let identity = results::run_text(trace, &grid.configs, measures)?;
        let fail = |error: std::io::Error| AnalyzerError::Output { path: dir.to_owned(), error };
        let known = match fs::read_to_string(dir.join(IDENTITY)) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(fail(error)),
        };
        match &known {
            Some(text) if *text != identity => {
                let reason = format!(
                    "{} holds another sweep (of another trace, other keys or other values); choose another folder",
                    dir.display()
                );
                return Err(AnalyzerError::Flag { flag: "--out", reason });
            }
            Some(_) => (),
            None => {
                create_empty_dir(dir)?;
                fs::create_dir_all(dir.join(PARTS)).map_err(fail)?;
                write(&dir.join(IDENTITY), identity.as_bytes())?;
            }
        }
        let lock = fs::File::open(dir.join(IDENTITY)).map_err(fail)?;
        if lock.try_lock().is_err() {
            let reason = format!("another sweep is writing to {}; wait for it or choose another folder", dir.display());
            return Err(AnalyzerError::Flag { flag: "--out", reason });
        }
        Ok(Self { dir: dir.to_owned(), identity, _lock: lock })
    }

    /// Whether the results are there.
    pub fn is_complete(&self) -> bool {
        self.dir.join(results::RUN_FILE).exists()
    }

    fn part(&self, unit: &Unit) -> PathBuf {
        self.dir.join(PARTS).join(format!("step-{:06}-layer-{:04}.json", unit.step.step, unit.layer_index))
    }

    /// The results of a layer that is done.
    pub fn done(&self, unit: &Unit) -> Option<Vec<PassResult>> {
        // What cannot be read is done again.
        serde_json::from_slice(&fs::read(self.part(unit)).ok()?).ok()
    }

    /// Keeps a layer's results.
    pub fn keep(&self, unit: &Unit, results: &[PassResult]) -> Result<()> {
        let text = serde_json::to_vec(results).expect("results are finite numbers");
        write(&self.part(unit), &text)
    }

    /// Writes the results of all layers, and drops the parts.
    pub fn finish(&self, results: &[PassResult], summary: &mut DataFrame) -> Result<()> {
        let mut layers = results::layers_frame(results)?;
        results::write_parquet(&self.dir.join(results::MODELS_FILE), &mut results::models_frame(&layers, results)?)?;
        results::write_parquet(&self.dir.join(summary::FILE), summary)?;
        results::write_parquet(&self.dir.join(results::LAYERS_FILE), &mut layers)?;
        // Last: where it is, everything is.
        write(&self.dir.join(results::RUN_FILE), self.identity.as_bytes())?;
        let parts = self.dir.join(PARTS);
        fs::remove_dir_all(&parts).map_err(AnalyzerError::io(parts))
    }

    /// The summary of a sweep that is complete.
    pub fn summary(&self) -> Result<DataFrame> {
        results::read_parquet(&self.dir.join(summary::FILE))
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    atomic::write(path, |file| file.write_all(bytes)).map_err(AnalyzerError::io(path))
}
