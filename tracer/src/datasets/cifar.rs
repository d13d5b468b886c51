//! CIFAR-10's binary layout (Krizhevsky 2009): a label byte, then 1024 bytes each of red, green, blue.

use super::{Dataset, Split, read_file};
use crate::error::{Result, TracerError};
use std::path::Path;

const NAME: &str = "cifar10";
const IMAGE: usize = 3 * 32 * 32;

/// Reads the training batches that a folder has (one at least) and the test batch.
pub fn cifar10(folder: &Path) -> Result<Dataset> {
    let mut train = vec![folder.join("data_batch_1.bin")];
    train.extend((2..=5).map(|i| folder.join(format!("data_batch_{i}.bin"))).filter(|path| path.exists()));
    Ok(Dataset::new(read_batches(&train)?, read_batches(&[folder.join("test_batch.bin")])?))
}

fn read_batches(paths: &[impl AsRef<Path>]) -> Result<Split> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for path in paths.iter().map(AsRef::as_ref) {
        let bytes = read_file(path, NAME)?;
        let bad = |reason| TracerError::BadData { path: path.to_owned(), dataset: NAME, reason };
        if bytes.is_empty() || bytes.len() % (1 + IMAGE) != 0 {
            return Err(bad(format!("has {} bytes, not a multiple of {}", bytes.len(), 1 + IMAGE)));
        }
        for record in bytes.chunks_exact(1 + IMAGE) {
            if record[0] > 9 {
                return Err(bad(format!("label {} is above 9", record[0])));
            }
            labels.push(record[0]);
            images.extend_from_slice(&record[1..]);
        }
    }
    Split::new(&images, &labels, [3, 32, 32])
}
