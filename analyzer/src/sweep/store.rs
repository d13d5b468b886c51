//! The folder of a sweep: its identity, the results of completed units, and finally all results.

use super::grid::Grid;
use crate::error::Result;
use crate::output::units::UnitStore;
use crate::output::work::{Kind, WorkDir};
use crate::request::Measures;
use crate::result::PassResult;
use crate::results;
use crate::schema;
use crate::schema::run::RUN_FILE;
use crate::table;
use mercury_trace::Trace;
use mercury_trace::atomic::Unsynced;
use mercury_trace::checksum::{self, Checksums};
use polars::prelude::DataFrame;
use std::path::Path;

/// The file that identifies the sweep.
pub const IDENTITY: &str = "sweep.json";
const KIND: Kind = Kind {
    name: "sweep",
    identity: IDENTITY,
    differs: "another trace, label, other keys or other values",
    lasting: true,
};
/// The files of a complete sweep, except the list of checksums.
pub const FILES: [&str; 6] = [
    IDENTITY,
    RUN_FILE,
    schema::layers::TABLE.file,
    schema::models::TABLE.file,
    schema::configurations::TABLE.file,
    schema::designs::TABLE.file,
];

/// The folder of a sweep.
pub struct SweepDir {
    work: WorkDir,
    /// The text of `run.json`.
    run: String,
    /// Number of layers of the model.
    layers: usize,
}

impl SweepDir {
    /// Begins a sweep in an empty or missing folder, or continues the same sweep.
    pub fn open(dir: &Path, trace: &Trace, grid: &Grid, measures: &Measures, label: Option<&str>) -> Result<Self> {
        let run = results::run_text(trace, &grid.configs, measures, label)?;
        let axes = grid.axes.iter().map(|axis| (axis.key, &axis.values)).collect::<Vec<_>>();
        let axes = serde_json::to_string(&axes).expect("axes are text");
        let identity = format!("{{\"axes\": {axes},\n\"run\": {run}}}\n");
        let this = Self { work: WorkDir::open(dir, KIND, &identity)?, run, layers: trace.layers().len() };
        if this.is_complete() {
            this.units().remove()?;
        }
        Ok(this)
    }

    /// Whether the sweep is complete.
    pub fn is_complete(&self) -> bool {
        self.work.path().join(RUN_FILE).exists()
    }

    /// The store of the units' results.
    pub fn units(&self) -> UnitStore {
        self.work.units()
    }

    /// Writes the results of all units and removes the store.
    pub fn finish(&self, results: &[PassResult], summary: &DataFrame, designs: &DataFrame) -> Result<()> {
        let dir = self.work.path();
        let mut files = Unsynced::default();
        let models = results::models_frame(results, self.layers)?;
        table::write(&mut files, dir.join(schema::models::TABLE.file), &models)?;
        table::write(&mut files, dir.join(schema::configurations::TABLE.file), summary)?;
        table::write(&mut files, dir.join(schema::designs::TABLE.file), designs)?;
        table::write(&mut files, dir.join(schema::layers::TABLE.file), &results::layers_frame(results)?)?;
        let written = FILES.into_iter().filter(|name| *name != RUN_FILE);
        let mut sums = Checksums::from_files(dir, written)?;
        sums.insert(RUN_FILE, checksum::hash_bytes(self.run.as_bytes()));
        sums.write_among(&mut files, dir)?;
        files.sync(dir)?;
        // Written last: its presence marks a complete sweep.
        self.work.write(RUN_FILE, self.run.as_bytes())?;
        self.units().remove()
    }

    /// Reads the summary of a complete sweep.
    ///
    /// # Errors
    /// If it cannot be read, or lacks a column that [`super::summary`] reads.
    pub fn summary(&self) -> Result<DataFrame> {
        use schema::configurations as columns;
        self.read(columns::TABLE.file, &[columns::BASELINE_CYCLES, columns::TRIAL_STEPS])
    }

    /// Reads the designs of a complete sweep.
    ///
    /// # Errors
    /// As of [`SweepDir::summary`].
    pub fn designs(&self) -> Result<DataFrame> {
        use schema::designs as columns;
        self.read(columns::TABLE.file, &[columns::BASELINE_CYCLES])
    }

    fn read(&self, file: &str, columns: &[schema::ColumnSpec]) -> Result<DataFrame> {
        let frame = table::read_checked(self.work.path(), file)?;
        schema::check(&frame, &self.work.path().join(file), columns)?;
        Ok(frame)
    }
}
