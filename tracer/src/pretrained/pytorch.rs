//! Files of `torch.save`: the zip archive of PyTorch 1.6 and later, and the row of pickles from before.

use super::arena::{Arena, Object, Value};
use super::pickle::{self, Pickle};
use super::storage::{self, Storage, Strided};
use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::path::Path;
use std::rc::Rc;
use tch::Tensor;
use zip::{CompressionMethod, ZipArchive};

/// Where training scripts put the state dictionary among other things.
const NESTED: [&str; 3] = ["state_dict", "model", "model_state_dict"];
/// Dictionaries in dictionaries that are looked into.
const DEPTH: usize = 3;
/// Keys that an error lists.
const LISTED: usize = 8;

/// What the first pickle of a file from before PyTorch 1.6 holds, as `pickle` writes it.
pub(super) const LEGACY_MAGIC: &[u8] =
    &[0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

/// A state dictionary that was read.
#[derive(Debug)]
pub(super) struct StateDictionary {
    /// The tensors by their names.
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// The keys under which it was found.
    pub(super) nested: Vec<&'static str>,
}

/// Why a file could not be read.
type Result<T> = std::result::Result<T, String>;

/// Reads a zip archive; errors name its path.
pub(super) fn read_zip(path: &Path, file: impl Read + Seek) -> Result<StateDictionary> {
    let mut archive =
        ZipArchive::new(file).map_err(|error| format!("is a damaged zip archive ({error}); fetch or save it again"))?;
    let inner = archive.file_names().find_map(|name| name.strip_suffix("/data.pkl")).map(str::to_owned);
    let Some(folder) = inner else {
        return Err("is a zip archive, but not one of PyTorch's (it has no data.pkl)".to_owned());
    };
    if archive.file_names().any(|name| name == format!("{folder}/constants.pkl")) {
        return Err(format!(
            "is a TorchScript archive, which holds a program beside its weights; {}",
            conversion(path, "torch.jit.load(FILE).state_dict()")
        ));
    }
    if archive.file_names().any(|name| name == format!("{folder}/byteorder"))
        && entry(&mut archive, &format!("{folder}/byteorder"))? != b"little"
    {
        return Err("was saved on a big-endian machine; save it on a little-endian one".to_owned());
    }
    let data = entry(&mut archive, &format!("{folder}/data.pkl"))?;
    let pickle = pickle::read(&data).map_err(|reason| format!("is damaged: data.pkl {reason}"))?;
    let (found, nested) = find_state(path, &pickle)?;
    let mut storages = BTreeMap::new();
    for Storage { key, kind, .. } in found.values().map(|tensor| &tensor.storage) {
        if !storages.contains_key(key) {
            let bytes = entry(&mut archive, &format!("{folder}/data/{key}"))?;
            storages.insert(key.clone(), storage::elements(&bytes, *kind)?);
        }
    }
    Ok(StateDictionary { tensors: tensors(&found, &storages)?, nested })
}

/// An entry's bytes. `torch.save` compresses none, so that what is read is never more than the file has.
fn entry(archive: &mut ZipArchive<impl Read + Seek>, name: &str) -> Result<Vec<u8>> {
    let broken = |error: &dyn std::fmt::Display| format!("is damaged: {name}: {error}; fetch or save it again");
    let mut entry = archive.by_name(name).map_err(|error| broken(&error))?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(broken(&"is compressed, unlike what torch.save writes"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|error| broken(&error))?;
    Ok(bytes)
}

/// Reads the format before zip archives: magic number, version, machine, the object and the keys of its storages, a
/// pickle each; then the storages, each behind its number of elements.
pub(super) fn read_legacy(path: &Path, bytes: &[u8]) -> Result<StateDictionary> {
    let mut rest = bytes;
    let mut next = || -> Result<Pickle> {
        let pickle = pickle::read(rest).map_err(|reason| format!("is damaged: {reason}; fetch or save it again"))?;
        rest = &rest[pickle.bytes..];
        Ok(pickle)
    };
    let (_magic, _version, machine, object, keys) = (next()?, next()?, next()?, next()?, next()?);
    if is_big_endian(&machine) {
        return Err("was saved on a big-endian machine; save it on a little-endian one".to_owned());
    }
    let (found, nested) = find_state(path, &object)?;
    let kinds: BTreeMap<&str, _> = object.arena.storages().map(|storage| (&*storage.key, storage.kind)).collect();
    let mut storages = BTreeMap::new();
    for key in keys.arena.elements(&keys.root).unwrap_or_default() {
        let key: Rc<str> = match key {
            Value::Text(key) => key.clone(),
            Value::Int(key) => key.to_string().into(),
            _ => return Err("is damaged: a storage has no name".to_owned()),
        };
        let kind = *kinds.get(&*key).ok_or("is damaged: it has a storage that nothing refers to")?;
        let stored = take_storage(&mut rest, kind.elt_size_in_bytes());
        let stored = stored.ok_or("is damaged: its last bytes are missing; fetch or save it again")?;
        storages.insert(key, storage::elements(stored, kind)?);
    }
    Ok(StateDictionary { tensors: tensors(&found, &storages)?, nested })
}

/// The bytes of the next storage, in front of which the number of its elements stands.
fn take_storage<'a>(rest: &mut &'a [u8], element_bytes: usize) -> Option<&'a [u8]> {
    let (count, behind) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(element_bytes)?;
    let (stored, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(stored)
}

fn is_big_endian(machine: &Pickle) -> bool {
    let Some(Object::Dict(items)) = machine.arena.get(&machine.root) else { return false };
    let is_key = |key: &Value| matches!(key, Value::Text(text) if **text == *"little_endian");
    items.iter().any(|(key, value)| is_key(key) && *value == Value::Int(0))
}

/// The tensors of the state dictionary in what was saved, and the keys under which it lies.
fn find_state<'a>(path: &Path, pickle: &'a Pickle) -> Result<(BTreeMap<String, &'a Strided>, Vec<&'static str>)> {
    let arena = &pickle.arena;
    let (mut value, mut nested) = (&pickle.root, Vec::new());
    loop {
        let items = match arena.get(value) {
            Some(Object::Dict(items)) => items,
            Some(Object::Instance(class)) => {
                return Err(format!(
                    "holds a whole Python object ({class}), which only its own program can read; {}",
                    conversion(path, "torch.load(FILE, weights_only=False).state_dict()")
                ));
            }
            _ => return Err(format!("holds no state dictionary; {}", saving())),
        };
        match nested_state(arena, items) {
            Some((key, inner)) if nested.len() < DEPTH => {
                nested.push(key);
                value = inner;
            }
            _ => return Ok((tensors_of(arena, items)?, nested)),
        }
    }
}

/// A dictionary or object under one of the usual keys.
fn nested_state<'a>(arena: &Arena, items: &'a [(Value, Value)]) -> Option<(&'static str, &'a Value)> {
    NESTED.into_iter().find_map(|wanted| {
        let (_, inner) = items.iter().find(|(key, _)| matches!(key, Value::Text(key) if **key == *wanted))?;
        matches!(arena.get(inner), Some(Object::Dict(_) | Object::Instance(_))).then_some((wanted, inner))
    })
}

fn tensors_of<'a>(arena: &'a Arena, items: &[(Value, Value)]) -> Result<BTreeMap<String, &'a Strided>> {
    let (mut found, mut keys) = (BTreeMap::new(), Vec::new());
    for (key, value) in items {
        let Value::Text(key) = key else { continue };
        match arena.get(value) {
            Some(Object::Tensor(tensor)) => drop(found.insert(key.to_string(), tensor)),
            Some(Object::Instance(class)) if class.starts_with("torch._utils._rebuild") => {
                return Err(format!("its tensor {key} is of a kind that is not read ({class}); save it as float32"));
            }
            _ => keys.push(key.as_ref()),
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let shown = keys[..keys.len().min(LISTED)].join(", ");
    let more = if keys.len() > LISTED { ", ..." } else { "" };
    let what = if keys.is_empty() { "an empty dictionary".to_owned() } else { format!("{shown}{more}") };
    Err(format!("is a file of PyTorch's, but holds no tensors under names ({what}); {}", saving()))
}

fn tensors(
    found: &BTreeMap<String, &Strided>,
    storages: &BTreeMap<Rc<str>, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let tensor = |(name, strided): (&String, &&Strided)| match strided.tensor(storages) {
        Ok(tensor) => Ok((name.clone(), tensor)),
        Err(reason) => Err(format!("is damaged: tensor {name}: {reason}; fetch or save it again")),
    };
    found.iter().map(tensor).collect()
}

fn saving() -> &'static str {
    "save the model's weights alone, in Python: torch.save(model.state_dict(), FILE)"
}

/// The lines of Python that make a safetensors file of it, `state` being the expression for the state dictionary.
pub(super) fn conversion(path: &Path, state: &str) -> String {
    let state = state.replace("FILE", &format!("{:?}", path.display().to_string()));
    let target = path.with_extension("safetensors").display().to_string();
    format!(
        "if you trust it, convert it in Python:\n  import torch, safetensors.torch\n  \
         safetensors.torch.save_file({state}, {target:?})"
    )
}

/// The same for a pickle that `torch.load` does not read.
pub(super) fn conversion_of_pickle(path: &Path) -> String {
    let source = path.display().to_string();
    let target = path.with_extension("safetensors").display().to_string();
    format!(
        "if you trust it, convert it in Python (torch.as_tensor also takes NumPy arrays):\n  \
         import pickle, torch, safetensors.torch\n  \
         state = pickle.load(open({source:?}, \"rb\"))\n  \
         state = {{name: torch.as_tensor(value).contiguous() for name, value in state.items()}}\n  \
         safetensors.torch.save_file(state, {target:?})"
    )
}
