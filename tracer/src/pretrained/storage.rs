//! Tensors of a pickle, as parts of storages.

use std::collections::BTreeMap;
use std::rc::Rc;
use tch::{Kind, Tensor};

/// A storage that a pickle names; its bytes are elsewhere in the file.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    /// Its name in the file.
    pub(super) key: Rc<str>,
    /// The kind of its elements.
    pub(super) kind: Kind,
    /// Its offset in the storage of that name, in elements.
    pub(super) offset: i64,
}

/// A tensor as a part of a storage.
#[derive(Debug)]
pub(super) struct StridedTensor {
    /// The storage of its elements.
    pub(super) storage: Storage,
    /// Its offset in the storage, in elements.
    pub(super) offset: i64,
    /// Elements along each dimension.
    pub(super) size: Vec<i64>,
    /// Steps in the storage along each dimension.
    pub(super) stride: Vec<i64>,
}

impl StridedTensor {
    /// Creates the tensor from the elements of all storages.
    pub(super) fn to_tensor(&self, storages: &BTreeMap<Rc<str>, Tensor>) -> Result<Tensor, String> {
        let broken = |error: tch::TchError| error.to_string().lines().next().unwrap_or_default().to_owned();
        let elements = storages.get(&self.storage.key).ok_or("its values are missing")?;
        if elements.kind() != self.storage.kind {
            return Err("its values also belong to a tensor of another kind".to_owned());
        }
        let first = self.storage.offset.checked_add(self.offset).filter(|&first| first >= 0);
        let end = first.and_then(|first| self.end(first)).ok_or("its size is invalid")?;
        if end > elements.numel() as i64 {
            return Err("it is larger than its storage".to_owned());
        }
        elements.f_as_strided(&self.size, &self.stride, first).map_err(broken)
    }

    /// One past the index of its last element, if its first element is `first`.
    fn end(&self, first: i64) -> Option<i64> {
        if self.size.contains(&0) {
            return Some(first);
        }
        let mut last = first;
        for (size, stride) in self.size.iter().zip(&self.stride) {
            last = last.checked_add((size - 1).checked_mul(*stride)?)?;
        }
        last.checked_add(1)
    }
}

/// Converts a storage's bytes to a tensor of its elements.
pub(super) fn read_elements(bytes: &[u8], kind: Kind) -> Result<Tensor, String> {
    let count = bytes.len() / kind.elt_size_in_bytes();
    Tensor::f_from_data_size(bytes, &[count as i64], kind).map_err(|error| error.to_string())
}
