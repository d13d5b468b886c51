//! Storages and tensors from what a pickle says of them.

use super::arena::{Arena, Object, Value};
use super::storage::{Storage, Strided};
use tch::Kind;

/// Dimensions that libtorch allows a tensor.
const MOST_DIMENSIONS: usize = 64;

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
        let elements = arena.elements(value).filter(|elements| elements.len() <= MOST_DIMENSIONS)?;
        elements.iter().map(number).collect()
    };
    let (size, stride) = (numbers(size).ok_or_else(wrong)?, numbers(stride).ok_or_else(wrong)?);
    if size.len() != stride.len() {
        return Err(wrong());
    }
    Ok(Strided { storage: storage.clone(), offset: *offset, size, stride })
}
