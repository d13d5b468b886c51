//! Measurements of reuse in the loop of a training run.
//!
//! `measurements.parquet` has one row per layer and pass of a measured step, `loss_changes.parquet`
//! one row per measured step. Runs without reuse have neither.

use crate::error::{Result, TraceError};
use crate::geometry::Pass;
use crate::input;
use crate::table::{self, Table};
use std::path::Path;

/// The first file's name in a trace.
pub const FILE_NAME: &str = "measurements.parquet";
/// The second file's name in a trace.
pub const LOSS_CHANGES: &str = "loss_changes.parquet";
/// The names of both files.
pub const FILES: [&str; 2] = [FILE_NAME, LOSS_CHANGES];

/// Maximum number of rows of either file.
const MAX_ROWS: i64 = 10_000_000;

/// A layer's pass with reuse over the whole batch, compared with the exact pass on the same
/// operands.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The training step.
    pub step: u64,
    /// Name of the configuration of reuse.
    pub configuration: String,
    /// The layer's name.
    pub layer: String,
    /// The pass.
    pub pass: Pass,
    /// The signature length in force, in bits.
    pub signature_bits: u32,
    /// Number of HITs; the weight gradient has the forward pass's outcomes.
    pub hit: u64,
    /// Number of MAUs.
    pub mau: u64,
    /// Number of MNUs.
    pub mnu: u64,
    /// |Y' - Y| / |Y|, with the exact result Y and the result with reuse Y'; infinite if only Y is 0.
    pub output_error: f64,
    /// Cosine of the angle between Y and Y'; not a number if only one of them is 0.
    pub output_cosine: f64,
    /// |Y'| / |Y|; infinite if only Y is 0.
    pub output_norm_ratio: f64,
    /// Cycles of the pass without reuse, on the configuration's array.
    pub baseline_cycles: u64,
    /// Cycles of the pass with reuse.
    pub mercury_cycles: u64,
}

/// A step's loss and gradients with reuse, compared with exact ones for the same weights and
/// samples.
#[derive(Debug, Clone, PartialEq)]
pub struct LossChange {
    /// The training step.
    pub step: u64,
    /// Name of the configuration of reuse.
    pub configuration: String,
    /// The signature length in force, in bits.
    pub signature_bits: u32,
    /// Loss without reuse.
    pub loss: f64,
    /// Difference of the loss with reuse in every layer from the exact loss.
    pub loss_change: f64,
    /// Relative error of the gradient of all parameters together.
    pub gradient_error: f64,
    /// Cosine of the angle between that gradient with reuse and the exact one.
    pub gradient_cosine: f64,
    /// Ratio of its norm with reuse to the exact norm.
    pub gradient_norm_ratio: f64,
}

/// Both tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measurements {
    /// Rows by step, configuration, layer and pass.
    pub layers: Vec<Measurement>,
    /// Rows by step and configuration.
    pub steps: Vec<LossChange>,
}

impl Measurements {
    /// Whether both tables are empty.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.steps.is_empty()
    }

    /// Adds the rows of later steps.
    pub fn extend(&mut self, more: Self) {
        self.layers.extend(more.layers);
        self.steps.extend(more.steps);
    }

    /// Returns the rows of steps before `from`.
    #[must_use]
    pub fn before(mut self, from: u64) -> Self {
        self.layers.retain(|row| row.step < from);
        self.steps.retain(|row| row.step < from);
        self
    }

    /// Replaces the tables of the trace in `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let rows = &self.layers;
        let u64s = |field: fn(&Measurement) -> u64| table::u64s(rows.iter().map(field));
        let f64s = |field: fn(&Measurement) -> f64| table::f64s(rows.iter().map(field));
        table::write(
            &dir.join(FILE_NAME),
            vec![
                ("step", u64s(|row| row.step)),
                ("configuration", table::strings(rows.iter().map(|row| row.configuration.as_str()))),
                ("layer", table::strings(rows.iter().map(|row| row.layer.as_str()))),
                ("pass", table::strings(rows.iter().map(|row| row.pass.name()))),
                ("signature_bits", table::u32s(rows.iter().map(|row| row.signature_bits))),
                ("hit", u64s(|row| row.hit)),
                ("mau", u64s(|row| row.mau)),
                ("mnu", u64s(|row| row.mnu)),
                ("output_error", f64s(|row| row.output_error)),
                ("output_cosine", f64s(|row| row.output_cosine)),
                ("output_norm_ratio", f64s(|row| row.output_norm_ratio)),
                ("baseline_cycles", u64s(|row| row.baseline_cycles)),
                ("mercury_cycles", u64s(|row| row.mercury_cycles)),
            ],
        )?;
        let rows = &self.steps;
        let f64s = |field: fn(&LossChange) -> f64| table::f64s(rows.iter().map(field));
        table::write(
            &dir.join(LOSS_CHANGES),
            vec![
                ("step", table::u64s(rows.iter().map(|row| row.step))),
                ("configuration", table::strings(rows.iter().map(|row| row.configuration.as_str()))),
                ("signature_bits", table::u32s(rows.iter().map(|row| row.signature_bits))),
                ("loss", f64s(|row| row.loss)),
                ("loss_change", f64s(|row| row.loss_change)),
                ("gradient_error", f64s(|row| row.gradient_error)),
                ("gradient_cosine", f64s(|row| row.gradient_cosine)),
                ("gradient_norm_ratio", f64s(|row| row.gradient_norm_ratio)),
            ],
        )
    }

    /// Reads the tables of the trace in `dir`, which may have none.
    ///
    /// A run that was killed before its first checkpoint may leave one table, which counts as none.
    pub fn read(dir: &Path) -> Result<Self> {
        if !input::exists(&dir.join(FILE_NAME))? || !input::exists(&dir.join(LOSS_CHANGES))? {
            return Ok(Self::default());
        }
        Ok(Self { layers: read_layers(dir)?, steps: read_steps(dir)? })
    }
}

fn read_layers(dir: &Path) -> Result<Vec<Measurement>> {
    let path = dir.join(FILE_NAME);
    let table = Table::read(&path, MAX_ROWS)?;
    let (step, signature_bits) = (table.u64("step")?, table.u32("signature_bits")?);
    let [configuration, layer, pass] = [table.string("configuration")?, table.string("layer")?, table.string("pass")?];
    let [hit, mau, mnu] = [table.u64("hit")?, table.u64("mau")?, table.u64("mnu")?];
    let [output_error, output_cosine, output_norm_ratio] =
        [table.f64("output_error")?, table.f64("output_cosine")?, table.f64("output_norm_ratio")?];
    let (baseline_cycles, mercury_cycles) = (table.u64("baseline_cycles")?, table.u64("mercury_cycles")?);
    let mut rows = Vec::with_capacity(table.rows());
    for i in 0..table.rows() {
        let name = pass.value(i);
        let Some(pass) = Pass::ALL.into_iter().find(|pass| pass.name() == name) else {
            let reason = format!("row {i} holds {name:?}; write forward, input-grad or weight-grad");
            return Err(TraceError::invalid(&path, "pass", reason));
        };
        rows.push(Measurement {
            step: step[i],
            configuration: configuration.value(i).to_owned(),
            layer: layer.value(i).to_owned(),
            pass,
            signature_bits: signature_bits[i],
            hit: hit[i],
            mau: mau[i],
            mnu: mnu[i],
            output_error: output_error[i],
            output_cosine: output_cosine[i],
            output_norm_ratio: output_norm_ratio[i],
            baseline_cycles: baseline_cycles[i],
            mercury_cycles: mercury_cycles[i],
        });
    }
    Ok(rows)
}

fn read_steps(dir: &Path) -> Result<Vec<LossChange>> {
    let table = Table::read(&dir.join(LOSS_CHANGES), MAX_ROWS)?;
    let step = table.u64("step")?;
    let configuration = table.string("configuration")?;
    let signature_bits = table.u32("signature_bits")?;
    let (loss, loss_change) = (table.f64("loss")?, table.f64("loss_change")?);
    let [error, cosine, norm_ratio] =
        [table.f64("gradient_error")?, table.f64("gradient_cosine")?, table.f64("gradient_norm_ratio")?];
    let rows = (0..table.rows()).map(|i| LossChange {
        step: step[i],
        configuration: configuration.value(i).to_owned(),
        signature_bits: signature_bits[i],
        loss: loss[i],
        loss_change: loss_change[i],
        gradient_error: error[i],
        gradient_cosine: cosine[i],
        gradient_norm_ratio: norm_ratio[i],
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_rows_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Measurements::read(dir.path()).unwrap(), Measurements::default());
        let layer = |step, pass| Measurement {
            step,
            configuration: "mercury".into(),
            layer: "features.0".into(),
            pass,
            signature_bits: 20,
            hit: 3,
            mau: 2,
            mnu: 1,
            output_error: 0.25,
            output_cosine: 0.5,
            output_norm_ratio: f64::INFINITY,
            baseline_cycles: 100,
            mercury_cycles: 80,
        };
        let change = |step| LossChange {
            step,
            configuration: "mercury".into(),
            signature_bits: 20,
            loss: 2.5,
            loss_change: -0.125,
            gradient_error: 0.5,
            gradient_cosine: 0.75,
            gradient_norm_ratio: 1.5,
        };
        let mut all = Measurements { layers: vec![layer(0, Pass::Forward)], steps: vec![change(0)] };
        let first = all.clone();
        all.extend(Measurements { layers: vec![layer(5, Pass::WeightGrad)], steps: vec![change(5)] });
        all.write(dir.path()).unwrap();
        assert_eq!(Measurements::read(dir.path()).unwrap(), all);
        assert_eq!(all.before(5), first);
        std::fs::remove_file(dir.path().join(LOSS_CHANGES)).unwrap();
        assert!(Measurements::read(dir.path()).unwrap().is_empty(), "one table counts as none");
    }
}
