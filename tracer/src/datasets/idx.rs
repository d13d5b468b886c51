//! The IDX format in which Fashion-MNIST is published: a magic number, big-endian sizes, bytes.

use super::{Dataset, Split, read_file};
use crate::error::{Result, TracerError};
use std::path::Path;

const NAME: &str = "fashion-mnist";
const SIZE: usize = 28;

/// Reads Fashion-MNIST's four files, uncompressed, from a folder.
pub fn fashion_mnist(folder: &Path) -> Result<Dataset> {
    let split = |prefix: &str| -> Result<Split> {
        let images = read_idx(&folder.join(format!("{prefix}-images-idx3-ubyte")), &[SIZE, SIZE])?;
        let path = folder.join(format!("{prefix}-labels-idx1-ubyte"));
        let labels = read_idx(&path, &[])?;
        let bad = |reason| TracerError::BadData { path: path.clone(), dataset: NAME, reason };
        if labels.len() * SIZE * SIZE != images.len() {
            return Err(bad(format!("{} labels for {} images", labels.len(), images.len() / SIZE / SIZE)));
        }
        if let Some(label) = labels.iter().find(|&&label| label > 9) {
            return Err(bad(format!("label {label} is above 9")));
        }
        Split::new(&images, &labels, [1, SIZE as i64, SIZE as i64])
    };
    Ok(Dataset::new(split("train")?, split("t10k")?))
}

/// The bytes of an IDX file of unsigned bytes whose items have these sizes.
fn read_idx(path: &Path, item: &[usize]) -> Result<Vec<u8>> {
    let mut bytes = read_file(path, NAME)?;
    let bad = |reason| TracerError::BadData { path: path.to_owned(), dataset: NAME, reason };
    let header = 4 * (2 + item.len());
    let word = |i: usize| bytes.get(4 * i..4 * i + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    // Two zero bytes, 8 for unsigned bytes, the number of sizes.
    if word(0) != Some(0x0800 + 1 + item.len()) {
        return Err(bad("is not an uncompressed IDX file of unsigned bytes".to_owned()));
    }
    let items = word(1).unwrap_or(0);
    let sizes: Vec<usize> = (0..item.len()).map_while(|i| word(2 + i)).collect();
    if sizes != item {
        return Err(bad(format!("holds items of {sizes:?} bytes, not of {item:?}")));
    }
    let expected = items.checked_mul(item.iter().product()).and_then(|data| data.checked_add(header));
    if expected != Some(bytes.len()) {
        return Err(bad(format!("has {} bytes, but its header announces {items} items", bytes.len())));
    }
    Ok(bytes.split_off(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_of_the_right_kind_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_idx(&path, &[]).map_err(|error| error.to_string())
        };
        assert_eq!(read(&[0, 0, 8, 1, 0, 0, 0, 2, 7, 9]).unwrap(), [7, 9]);
        assert!(read(&[0, 0, 8, 1, 0, 0, 0, 3, 7, 9]).unwrap_err().contains("announces 3 items"));
        assert!(read(&[0, 0, 8, 3, 0, 0, 0, 2, 7, 9]).unwrap_err().contains("not an uncompressed IDX"));
        assert!(read(&[31, 139]).unwrap_err().contains("not an uncompressed IDX"));
    }
}
