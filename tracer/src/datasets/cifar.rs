//! CIFAR's binary format (Krizhevsky 2009): label bytes, then 1024 bytes each of red, green and
//! blue.

use super::files::Origin;
use super::memory::{self, RawImages};
use super::{DataOptions, Dataset};
use crate::error::Result;
use std::path::Path;

const IMAGE: usize = 3 * 32 * 32;

/// The format of a data set's records.
struct CifarRecords {
    origin: Origin,
    /// Label bytes of a record; the last one is the class.
    label_bytes: usize,
    classes: u8,
}

/// Reads the training batches that exist (at least one) and the test batch.
pub(super) fn cifar10(options: &DataOptions, least_size: i64) -> Result<Dataset> {
    let name = "cifar10";
    let folder = options.data_dir.join(name);
    let records = CifarRecords { origin: Origin::Fetched(name), label_bytes: 1, classes: 10 };
    let mut train = vec![folder.join("data_batch_1.bin")];
    train.extend((2..=5).map(|i| folder.join(format!("data_batch_{i}.bin"))).filter(|path| path.exists()));
    let splits = [records.read(&train)?, records.read(&[folder.join("test_batch.bin")])?];
    memory::create_dataset(name, records.classes.into(), splits, options, least_size)
}

/// Reads the training and the test file. The classes are the 100 fine labels.
pub(super) fn cifar100(options: &DataOptions, least_size: i64) -> Result<Dataset> {
    let name = "cifar100";
    let folder = options.data_dir.join(name);
    let records = CifarRecords { origin: Origin::Fetched(name), label_bytes: 2, classes: 100 };
    let splits = [records.read(&[folder.join("train.bin")])?, records.read(&[folder.join("test.bin")])?];
    memory::create_dataset(name, records.classes.into(), splits, options, least_size)
}

impl CifarRecords {
    fn read(&self, paths: &[impl AsRef<Path>]) -> Result<RawImages> {
        let record = self.label_bytes + IMAGE;
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for path in paths.iter().map(AsRef::as_ref) {
            let bytes = self.origin.read(path)?;
            if bytes.is_empty() || bytes.len() % record != 0 {
                let reason = format!("has {} bytes, not a multiple of {record}", bytes.len());
                return Err(self.origin.bad(path, reason));
            }
            for record in bytes.chunks_exact(record) {
                let (label, image) = (record[self.label_bytes - 1], &record[self.label_bytes..]);
                if label >= self.classes {
                    return Err(self.origin.bad(path, format!("label {label} is above {}", self.classes - 1)));
                }
                labels.push(label);
                images.extend_from_slice(image);
            }
        }
        Ok(RawImages { images, labels, shape: [3, 32, 32] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_records_with_known_labels_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.bin");
        let fine = CifarRecords { origin: Origin::Fetched("cifar100"), label_bytes: 2, classes: 100 };
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            fine.read(&[&path]).map_err(|error| error.to_string())
        };
        let mut record = vec![3, 99];
        record.extend((0..IMAGE).map(|i| i as u8));
        let raw = read(&record).unwrap();
        assert_eq!((raw.labels, raw.images.len(), raw.images[1]), (vec![99], IMAGE, 1));
        let error = read(&record[1..]).unwrap_err();
        assert!(error.contains("has 3073 bytes, not a multiple of 3074"), "{error}");
        assert!(error.contains("fetch.py cifar100"), "{error}");
        assert!(read(&[]).unwrap_err().contains("has 0 bytes"));
        record[1] = 100;
        assert!(read(&record).unwrap_err().contains("label 100 is above 99"));
        let error = fine.read(&[dir.path().join("absent")]).unwrap_err().to_string();
        assert!(error.contains("absent") && error.contains("--data-dir"), "{error}");
    }

    #[test]
    fn the_test_file_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("cifar10")).unwrap();
        std::fs::write(dir.path().join("cifar10/data_batch_1.bin"), [1; 1 + IMAGE]).unwrap();
        let options = DataOptions { data_dir: dir.path().to_owned(), ..DataOptions::default() };
        let error = cifar10(&options, 0).unwrap_err().to_string();
        assert!(error.contains("test_batch.bin") && error.contains("fetch.py cifar10"), "{error}");
        std::fs::write(dir.path().join("cifar10/test_batch.bin"), [1; 2 + 2 * IMAGE]).unwrap();
        let set = cifar10(&options, 0).unwrap();
        assert_eq!((set.train.len(), set.validation.len()), (1, 2));
    }
}
