//! A sweep's folder: what it is a sweep of, the layers that are done, in the end the results.

use super::grid::Grid;
use super::summary;
use crate::error::{AnalyzerError, Result};
use crate::replay::{Measures, PassResult, Unit};
use crate::results;
use mercury_trace::{Trace, TraceError, atomic};
use polars::prelude::DataFrame;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the sweep is, to know it again.
pub const IDENTITY: &str = "sweep.json";
/// Layers that are done, until all are.
const PARTS: &str = "parts";

/// A sweep's folder.
pub struct SweepDir {
    dir: PathBuf,
    /// The text of `run.json`.
    run: String,
    /// Layers of the model.
    layers: usize,
    /// Held while the sweep runs.
    _lock: fs::File,
}

impl SweepDir {
    /// Begins a sweep in an empty or missing folder, or goes on with the same one.
    pub fn open(dir: &Path, trace: &Trace, grid: &Grid, measures: &Measures) -> Result<Self> {
        let run = results::run_text(trace, &grid.configs, measures)?;
        let axes = grid.axes.iter().map(|axis| (axis.key, &axis.values)).collect::<Vec<_>>();
        let axes = serde_json::to_string(&axes).expect("axes are text");
        let identity = format!("{{\"axes\": {axes},\n\"run\": {run}}}\n");
        let fail = |error: std::io::Error| AnalyzerError::Output { path: dir.to_owned(), error };
        let refuse = |reason| Err(AnalyzerError::Flag { flag: "--out", reason });
        fs::create_dir_all(dir).map_err(fail)?;
        let Some(lock) = atomic::lock(dir).map_err(fail)? else {
            return refuse(format!(
                "another sweep is writing to {}; wait for it or choose another folder",
                dir.display()
            ));
        };
        match fs::read_to_string(dir.join(IDENTITY)) {
            Ok(known) if known == identity => (),
            Ok(_) => {
                return refuse(format!(
                    "{} holds another sweep (of another trace, other keys or other values); choose another folder",
                    dir.display()
                ));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !is_fresh(dir).map_err(fail)? {
                    return Err(TraceError::NotEmpty { path: dir.to_owned() }.into());
                }
                atomic::write(&dir.join(IDENTITY), |file| file.write_all(identity.as_bytes())).map_err(fail)?;
            }
            Err(error) => return Err(fail(error)),
        }
        let this = Self { dir: dir.to_owned(), run, layers: trace.layers().len(), _lock: lock };
        if this.is_complete() {
            this.remove_parts()?;
        }
        Ok(this)
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
        let parts = self.dir.join(PARTS);
        fs::create_dir_all(&parts).map_err(AnalyzerError::io(parts))?;
        let text = serde_json::to_vec(results).expect("results are finite numbers");
        write(&self.part(unit), &text)
    }

    /// Writes the results of all layers, and drops the parts.
    pub fn finish(&self, results: &[PassResult], summary: &mut DataFrame) -> Result<()> {
        let mut layers = results::layers_frame(results)?;
        let mut models = results::models_frame(&layers, results, self.layers)?;
        results::write_parquet(&self.dir.join(results::MODELS_FILE), &mut models)?;
        results::write_parquet(&self.dir.join(summary::FILE), summary)?;
        results::write_parquet(&self.dir.join(results::LAYERS_FILE), &mut layers)?;
        // Last: where it is, everything is.
        write(&self.dir.join(results::RUN_FILE), self.run.as_bytes())?;
        self.remove_parts()
    }

    fn remove_parts(&self) -> Result<()> {
        let parts = self.dir.join(PARTS);
        match fs::remove_dir_all(&parts) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(AnalyzerError::Io { path: parts, error }),
            _ => Ok(()),
        }
    }

    /// The summary of a sweep that is complete.
    pub fn summary(&self) -> Result<DataFrame> {
        results::read_parquet(&self.dir.join(summary::FILE))
    }
}

/// Whether a folder holds nothing but what a sweep that was killed at once leaves.
fn is_fresh(dir: &Path) -> std::io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !(name.starts_with('.') && name.ends_with(".partial")) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    atomic::write(path, |file| file.write_all(bytes)).map_err(AnalyzerError::io(path))
}
