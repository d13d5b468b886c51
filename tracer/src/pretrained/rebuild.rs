//! Builds storages and tensors from their description in a pickle.

use super::arena::{Arena, PickleObject, PickleValue};
use super::storage::{Storage, StridedTensor};
use tch::Kind;

/// Maximum number of dimensions of a tensor in libtorch.
const MAX_DIMENSIONS: usize = 64;

/// Builds a storage from a persistent id, `("storage", class, key, location, elements)`.
///
/// In old files, the id may end with a part of the storage, `(key, offset, elements)`.
pub(super) fn build_storage(arena: &Arena, id: &PickleValue) -> Result<Storage, String> {
    let unknown = || "refers to external data that is not a storage".to_owned();
    let parts = arena.elements(id).ok_or_else(unknown)?;
    let [PickleValue::Text(what), class, key, _location, _elements, part @ ..] = parts else { return Err(unknown()) };
    if **what != *"storage" {
        return Err(unknown());
    }
    let key = match key {
        PickleValue::Text(key) => key.clone(),
        PickleValue::Int(key) => key.to_string().into(),
        _ => return Err(unknown()),
    };
    let offset = match part.first().and_then(|part| arena.elements(part)) {
        Some([_, PickleValue::Int(offset), _]) => *offset,
        _ => 0,
    };
    let class = arena.global(class).ok_or_else(unknown)?;
    Ok(Storage { key, kind: parse_kind(class)?, offset })
}

fn parse_kind(class: &str) -> Result<Kind, String> {
    // Storages in old files from a GPU are in torch.cuda.
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
        _ => return Err(format!("holds tensors of {class}, which is not supported; save it as float32")),
    })
}

/// Builds a tensor from the arguments of PyTorch's functions:
/// `(storage, offset, size, stride, ...)`.
pub(super) fn build_tensor(arena: &Arena, arguments: &[PickleValue]) -> Result<StridedTensor, String> {
    let wrong = || "rebuilds a tensor from invalid arguments".to_owned();
    let [storage, PickleValue::Int(offset), size, stride, ..] = arguments else { return Err(wrong()) };
    let Some(PickleObject::Storage(storage)) = arena.get(storage) else { return Err(wrong()) };
    let size = read_numbers(arena, size).ok_or_else(wrong)?;
    let stride = read_numbers(arena, stride).ok_or_else(wrong)?;
    if size.len() != stride.len() {
        return Err(wrong());
    }
    Ok(StridedTensor { storage: storage.clone(), offset: *offset, size, stride })
}

/// Reads a tuple of numbers, one per dimension, none of them negative.
fn read_numbers(arena: &Arena, value: &PickleValue) -> Option<Vec<i64>> {
    let elements = arena.elements(value).filter(|elements| elements.len() <= MAX_DIMENSIONS)?;
    let number = |value: &PickleValue| match value {
        PickleValue::Int(number) => Some(*number).filter(|&number| number >= 0),
        _ => None,
    };
    elements.iter().map(number).collect()
}
