//! Tensors of a pickle: which part of which storage they are.

use super::arena::{Arena, Object, Value};
use std::collections::BTreeMap;
use std::rc::Rc;
use tch::{Kind, Tensor};

/// A storage that a pickle names; its bytes lie elsewhere in the file.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    /// Its name within the file.
    pub(super) key: Rc<str>,
    /// The kind of its elements.
    pub(super) kind: Kind,
    /// Where it begins within the storage of that name, in elements.
    offset: i64,
}

/// A tensor as a part of a storage.
#[derive(Debug)]
pub(super) struct Strided {
    /// Where its elements lie.
    pub(super) storage: Storage,
    offset: i64,
    size: Vec<i64>,
    stride: Vec<i64>,
}

/// The storage of a persistent id: `("storage", class, key, location, elements)`, and in old files a part of it as
/// `(key, offset, elements)`.
pub(super) fn from_persistent_id(arena: &Arena, id: &Value) -> Result<Storage, String> {
    let unknown = || "refers to something outside of it that is no storage".to_owned();
    let parts = arena.elements(id).ok_or_else(unknown)?;
    let [Value::Text(what), class, key, _location, _elements, part @ ..] = parts else { return Err(unknown()) };
    if **what != *"storage" {
        return Err(unknown());
    }
    let key = match key {
        Value::Text(key) => key.clone(),
        Value::Int(key) => key.to_string().into(),
        _ => return Err(unknown()),
    };
    let offset = match part.first().and_then(|part| arena.elements(part)) {
        Some([_, Value::Int(offset), _]) => *offset,
        _ => 0,
    };
    let class = arena.global(class).ok_or_else(unknown)?;
    Ok(Storage { key, kind: kind_of(class)?, offset })
}

fn kind_of(class: &str) -> Result<Kind, String> {
    // Those of old files made on a GPU are in torch.cuda.
    let name = class.strip_prefix("torch.cuda.").or_else(|| class.strip_prefix("torch."));
    Ok(match name.and_then(|name| name.strip_suffix("Storage")) {
        Some("Float") => Kind::Float,
        Some("Double") => Kind::Double,
        Some("Half") => Kind::Half,
        Some("BFloat16") => Kind::BFloat16,
        Some("Long") => Kind::Int64,
        Some("Int") => Kind::Int,
        Some("Short") => Kind::Int16,
        Some("Char") => Kind::Int8,
        Some("Byte") => Kind::Uint8,
        Some("Bool") => Kind::Bool,
        _ => return Err(format!("holds tensors of {class}, which are not read; save it as float32")),
    })
}

/// The tensor of the arguments of PyTorch's functions: `(storage, offset, size, stride, ...)`.
pub(super) fn rebuild_tensor(arena: &Arena, arguments: &[Value]) -> Result<Strided, String> {
    let wrong = || "rebuilds a tensor of something that is none".to_owned();
    let [storage, Value::Int(offset), size, stride, ..] = arguments else { return Err(wrong()) };
    let Some(Object::Storage(storage)) = arena.get(storage) else { return Err(wrong()) };
    let numbers = |value| -> Option<Vec<i64>> {
        let number = |value: &Value| match value {
            Value::Int(number) => Some(*number).filter(|&number| number >= 0),
            _ => None,
        };
        arena.elements(value)?.iter().map(number).collect()
    };
    let (size, stride) = (numbers(size).ok_or_else(wrong)?, numbers(stride).ok_or_else(wrong)?);
    if size.len() != stride.len() {
        return Err(wrong());
    }
    Ok(Strided { storage: storage.clone(), offset: *offset, size, stride })
}

impl Strided {
    /// The tensor, given the elements of all storages.
    pub(super) fn tensor(&self, storages: &BTreeMap<Rc<str>, Tensor>) -> Result<Tensor, String> {
        let broken = |error: tch::TchError| error.to_string().lines().next().unwrap_or_default().to_owned();
        let elements = storages.get(&self.storage.key).ok_or("its values are missing")?;
        if elements.kind() != self.storage.kind {
            return Err("its values are also those of a tensor of another kind".to_owned());
        }
        let first = self.storage.offset.checked_add(self.offset).filter(|&first| first >= 0);
        let end = first.and_then(|first| self.end(first)).ok_or("its size makes no sense")?;
        if end > elements.numel() as i64 {
            return Err("it is larger than what is stored of it".to_owned());
        }
        elements.f_as_strided(&self.size, &self.stride, first).map_err(broken)
    }

    /// One more than the index of its last element, if it begins at `first`.
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

/// A storage's bytes as a tensor of its elements.
pub(super) fn elements(bytes: &[u8], kind: Kind) -> Result<Tensor, String> {
    let count = bytes.len() / kind.elt_size_in_bytes();
    Tensor::f_from_data_size(bytes, &[count as i64], kind).map_err(|error| error.to_string())
}
