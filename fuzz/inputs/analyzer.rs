//! Fuzz inputs of the analyzer's results, like those in `traces.rs`.

use super::traces::{with_folder, write};
use mercury_analyzer::compare::Comparison;
use mercury_analyzer::partition::merge;
use mercury_analyzer::report::Report;
use mercury_analyzer::verify;
use mercury_trace::checksum::Checksums;
use std::fs;

/// Reads results; the first byte selects the file that the other bytes are.
pub fn results(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    with_folder(|folder| {
        let dir = folder.join("results");
        fs::create_dir(&dir).expect("room on the disk");
        match which % 4 {
            0 => {
                write(&dir.join("run.json"), br#"{"configurations": [{}]}"#);
                write(&dir.join("layers.parquet"), bytes);
                let _ = Comparison::read(&dir, &dir).and_then(|comparison| comparison.changed());
            }
            1 => {
                write(&dir.join("run.json"), bytes);
                let _ = Comparison::read(&dir, &dir);
                let _ = Report::read(std::slice::from_ref(&dir), &[]);
            }
            2 => {
                write(&dir.join("SHA256SUMS"), bytes);
                write(&dir.join("run.json"), b"{}");
                let _ = verify::verify(&dir);
            }
            _ => {
                write(&dir.join("partition.json"), bytes);
                if let Ok(sums) = Checksums::from_files(&dir, ["partition.json"]) {
                    sums.write(&dir).expect("room on the disk");
                }
                let _ = merge::read(std::slice::from_ref(&dir));
            }
        }
        fs::remove_dir_all(&dir).expect("it is ours");
    });
}
