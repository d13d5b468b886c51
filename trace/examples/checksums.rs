//! Measures the cost of checksums: the time to write a tensor file of 128 MB, and the checksum's
//! share of it.
//!
//!     cargo build --release --workspace --examples && target/release/examples/checksums

use mercury_trace::checksum;
use mercury_trace::tensor::{Dtype, TensorShape, TensorWriter};
use std::time::Instant;

const WIDTH: usize = 112 * 112;
const ROWS: u32 = 2675;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("input.parquet");
    let shape = || TensorShape { keys: &["sample", "channel"], width: WIDTH, dtype: Dtype::F32 };
    // Smooth planes, half of them 0, as from a ReLU.
    let plane = |row: u32| (0..WIDTH).map(move |at| ((at as f32 * 0.037).sin() + (row as f32 * 0.11).sin()).max(0.0));
    let planes: Vec<Vec<f32>> = (0..64).map(|row| plane(row).collect()).collect();
    let mut writing = Vec::new();
    let mut hashing = Vec::new();
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut writer = TensorWriter::create(&path, shape(), &[])?;
        for row in 0..ROWS {
            writer.push(&[row / 64, row % 64], &planes[row as usize % 64])?;
        }
        let written = writer.finish()?;
        writing.push(start.elapsed().as_secs_f64());
        let whole = std::fs::read(&path)?;
        let start = Instant::now();
        assert_eq!(checksum::hash_bytes(&whole), written.sha256);
        hashing.push(start.elapsed().as_secs_f64());
        bytes = written.bytes;
    }
    let median = |seconds: &mut Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[ROUNDS / 2]
    };
    let (writing, hashing) = (median(&mut writing), median(&mut hashing));
    println!(
        "figures: checksums: {:.1} MB written in {writing:.3} s, of which {:.1} % are SHA-256 ({:.0} MB/s)",
        bytes as f64 / 1e6,
        100.0 * hashing / writing,
        bytes as f64 / 1e6 / hashing
    );
    Ok(())
}
