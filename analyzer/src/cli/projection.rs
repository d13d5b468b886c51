//! `projection`: exports the projection matrix R.

use crate::config::read_projection;
use crate::error::AnalyzerError;
use anyhow::Result;
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, UInt32Array};
use arrow::datatypes::{DataType, Field};
use arrow::record_batch::RecordBatch;
use clap::Args;
use mercury_reuse::config::{Matrix, Rpq};
use mercury_trace::atomic;
use parquet::arrow::ArrowWriter;
use std::path::PathBuf;
use std::sync::Arc;

/// Largest length of vectors.
const MAX_LENGTH: u32 = 1 << 24;

/// Write the projection matrix R as Parquet, one row per signature bit.
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer projection --length 9 --bits 20 --seed 1 --out r.parquet")]
pub struct Projection {
    /// Length of the vectors.
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LENGTH)))]
    length: u32,
    /// Signature length.
    #[arg(long, value_name = "B", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=64))]
    bits: u32,
    /// Seed of the matrix, unless it is from a file.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Entries (`rpq.projection`): gaussian, sparse (-1, 0, +1), or `file:R.safetensors`, those of a file.
    #[arg(long, value_name = "P", default_value_t = Matrix::Gaussian)]
    entries: Matrix,
    /// File to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Projection {
    /// Makes the matrix and writes the file.
    pub fn run(self) -> Result<()> {
        let projection = self.make_projection()?;
        let values: Vec<f32> = (0..self.bits).flat_map(|bit| projection.row(bit).to_vec()).collect();
        let element = Arc::new(Field::new("element", DataType::Float32, false));
        let values = Arc::new(Float32Array::from(values));
        let columns: [(&str, ArrayRef); 2] = [
            ("bit", Arc::new(UInt32Array::from_iter_values(0..self.bits))),
            ("values", Arc::new(FixedSizeListArray::new(element, self.length as i32, values, None))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, false)))?;
        let fail = || AnalyzerError::io(&self.out);
        let file = atomic::begin(&self.out).map_err(fail())?;
        let mut writer = ArrowWriter::try_new(file.as_file().try_clone().map_err(fail())?, batch.schema(), None)?;
        writer.write(&batch)?;
        writer.close()?;
        atomic::commit(file, &self.out).map_err(fail())?;
        Ok(())
    }

    /// Draws the matrix, or takes it from a file.
    fn make_projection(&self) -> Result<mercury_reuse::Projection, AnalyzerError> {
        let fail = |flag, reason| AnalyzerError::Flag { flag, reason };
        let entries = read_projection(&self.entries).map_err(|reason| fail("--entries", reason))?;
        let rpq = Rpq { bits: self.bits, seed: self.seed, projection: entries, ..Rpq::default() };
        if let Matrix::Given(given) = &rpq.projection {
            let (origin, length) = (given.origin(), self.length);
            if given.find_length(rpq.granularity, length as usize).is_none() {
                let known: Vec<String> = given.lengths().map(|length| length.to_string()).collect();
                let known = known.join(", ");
                let reason = format!("is {length}, but {origin} has tensors for vectors of length {known}; choose one");
                return Err(fail("--length", reason));
            }
            let (bits, columns) = (self.bits, given.bits());
            if bits > columns {
                let reason = format!("is {bits}, but {origin} has {columns} columns; set it to {columns} at most");
                return Err(fail("--bits", reason));
            }
        }
        Ok(mercury_reuse::Projection::from_rpq(&rpq, self.length as usize))
    }
}
