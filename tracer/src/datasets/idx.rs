//! The IDX format of MNIST and Fashion-MNIST: a magic number, big-endian sizes, bytes.

use super::files::Origin;
use super::memory::{self, RawImages};
use super::{DataOptions, Dataset};
use crate::error::Result;
use std::path::Path;

const SIZE: usize = 28;
const CLASSES: u8 = 10;

/// Reads Fashion-MNIST's four files, plain or compressed (`.gz`).
pub(super) fn fashion_mnist(options: &DataOptions, least_size: i64) -> Result<Dataset> {
    read_dataset("fashion-mnist", options, least_size)
}

/// Reads MNIST's four files, plain or compressed (`.gz`).
pub(super) fn mnist(options: &DataOptions, least_size: i64) -> Result<Dataset> {
    read_dataset("mnist", options, least_size)
}

fn read_dataset(name: &'static str, options: &DataOptions, least_size: i64) -> Result<Dataset> {
    let (folder, origin) = (options.data_dir.join(name), Origin::Fetched(name));
    let splits = [read_split(&folder, "train", origin)?, read_split(&folder, "t10k", origin)?];
    memory::create_dataset(name, CLASSES.into(), splits, options, least_size)
}

fn read_split(folder: &Path, prefix: &str, origin: Origin) -> Result<RawImages> {
    let path = folder.join(format!("{prefix}-images-idx3-ubyte"));
    let images = read_idx(&path, &[SIZE, SIZE], origin)?;
    if images.is_empty() {
        return Err(origin.bad(&path, "holds no images"));
    }
    let path = folder.join(format!("{prefix}-labels-idx1-ubyte"));
    let labels = read_idx(&path, &[], origin)?;
    if labels.len() * SIZE * SIZE != images.len() {
        let reason = format!("has {} labels for {} images", labels.len(), images.len() / SIZE / SIZE);
        return Err(origin.bad(&path, reason));
    }
    if let Some(label) = labels.iter().find(|&&label| label >= CLASSES) {
        return Err(origin.bad(&path, format!("label {label} is above {}", CLASSES - 1)));
    }
    Ok(RawImages { images, labels, shape: [1, SIZE, SIZE] })
}

/// Reads an IDX file of unsigned bytes whose items have these sizes.
fn read_idx(path: &Path, item: &[usize], origin: Origin) -> Result<Vec<u8>> {
    let mut bytes = origin.read(path)?;
    let header = 4 * (2 + item.len());
    let word = |i: usize| bytes.get(4 * i..4 * i + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    // The magic number: two zero bytes, 8 for unsigned bytes, the number of sizes.
    if word(0) != Some(0x0800 + 1 + item.len()) {
        return Err(origin.bad(path, "is not an IDX file of unsigned bytes"));
    }
    let items = word(1).unwrap_or(0);
    let sizes: Vec<usize> = (0..item.len()).map_while(|i| word(2 + i)).collect();
    if sizes != item {
        return Err(origin.bad(path, format!("holds items of {sizes:?} bytes, not of {item:?}")));
    }
    let expected = items.checked_mul(item.iter().product()).and_then(|data| data.checked_add(header));
    if expected != Some(bytes.len()) {
        return Err(origin.bad(path, format!("has {} bytes, but its header announces {items} items", bytes.len())));
    }
    Ok(bytes.split_off(header))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const ORIGIN: Origin = Origin::Fetched("mnist");

    #[test]
    fn only_whole_files_of_the_right_kind_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_idx(&path, &[], ORIGIN).map_err(|error| error.to_string())
        };
        assert_eq!(read(&[0, 0, 8, 1, 0, 0, 0, 2, 7, 9]).unwrap(), [7, 9]);
        assert!(read(&[0, 0, 8, 1, 0, 0, 0, 3, 7, 9]).unwrap_err().contains("announces 3 items"));
        assert!(read(&[0, 0, 8, 3, 0, 0, 0, 2, 7, 9]).unwrap_err().contains("not an IDX"));
        assert!(read(&[31, 139]).unwrap_err().contains("cannot be unpacked"));
        assert!(read(&[]).unwrap_err().contains("not an IDX"));
        let error = read(&[0, 0, 8, 1, 255, 255]).unwrap_err();
        assert!(error.contains("announces 0 items") && error.contains("fetch.py mnist"), "{error}");
        std::fs::write(&path, [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 32, 0, 0, 0, 28]).unwrap();
        let error = read_idx(&path, &[28, 28], ORIGIN).unwrap_err().to_string();
        assert!(error.contains("items of [32, 28] bytes, not of [28, 28]"), "{error}");
    }

    fn write_split(folder: &Path, prefix: &str, labels: &[u8], images: u8) {
        let mut bytes = vec![0, 0, 8, 1, 0, 0, 0, labels.len() as u8];
        bytes.extend(labels);
        std::fs::write(folder.join(format!("{prefix}-labels-idx1-ubyte")), bytes).unwrap();
        let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, images, 0, 0, 0, 28, 0, 0, 0, 28];
        bytes.extend(vec![5; usize::from(images) * SIZE * SIZE]);
        std::fs::write(folder.join(format!("{prefix}-images-idx3-ubyte")), bytes).unwrap();
    }

    #[test]
    fn labels_must_match_images() {
        let dir = tempfile::tempdir().unwrap();
        let folder: PathBuf = dir.path().join("mnist");
        std::fs::create_dir(&folder).unwrap();
        let options = DataOptions { data_dir: dir.path().to_owned(), ..DataOptions::default() };
        let open = || mnist(&options, 32).map_err(|error| error.to_string());
        write_split(&folder, "train", &[1, 2, 9], 3);
        assert!(open().unwrap_err().contains("t10k-images"));
        write_split(&folder, "t10k", &[1, 2], 2);
        let set = open().unwrap();
        assert_eq!((set.train.len(), set.validation.len(), set.name.as_str()), (3, 2, "mnist"));
        write_split(&folder, "t10k", &[1, 2, 3], 2);
        assert!(open().unwrap_err().contains("has 3 labels for 2 images"));
        write_split(&folder, "t10k", &[1, 10], 2);
        assert!(open().unwrap_err().contains("label 10 is above 9"));
        write_split(&folder, "t10k", &[], 0);
        assert!(open().unwrap_err().contains("holds no images"));
    }
}
