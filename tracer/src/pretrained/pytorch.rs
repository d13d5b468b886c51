//! Files of `torch.save`: zip archives since PyTorch 1.6, sequences of pickles before.

use super::arena::{Arena, PickleObject, PickleValue};
use super::pickle::{self, Pickle};
use super::storage::{self, Storage, StridedTensor};
use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::path::Path;
use std::rc::Rc;
use tch::Tensor;
use zip::{CompressionMethod, ZipArchive};

/// Keys under which training scripts save the state dictionary.
const NESTED_KEYS: [&str; 3] = ["state_dict", "model", "model_state_dict"];
/// Maximum depth of nested dictionaries.
const MAX_DEPTH: usize = 3;
/// Maximum number of keys that an error lists.
const LISTED: usize = 8;

/// The first pickle of a file from before PyTorch 1.6.
pub(super) const LEGACY_MAGIC: &[u8] =
    &[0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

/// A state dictionary that was read.
#[derive(Debug)]
pub(super) struct StateDictionary {
    /// The tensors by their names.
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// The keys that lead to it.
    pub(super) nested: Vec<&'static str>,
}

/// The error is the reason why a file cannot be read.
type Result<T> = std::result::Result<T, String>;

/// Reads a zip archive; `path` is for errors.
pub(super) fn read_zip(path: &Path, file: impl Read + Seek) -> Result<StateDictionary> {
    let mut archive = ZipArchive::new(file)
        .map_err(|error| format!("is a damaged zip archive ({error}); download or save it again"))?;
    let inner = archive.file_names().find_map(|name| name.strip_suffix("/data.pkl")).map(str::to_owned);
    let Some(folder) = inner else {
        return Err("is a zip archive, but not PyTorch's (it has no data.pkl)".to_owned());
    };
    if archive.file_names().any(|name| name == format!("{folder}/constants.pkl")) {
        return Err(format!(
            "is a TorchScript archive, which holds a program in addition to weights; {}",
            describe_conversion(path, "torch.jit.load(FILE).state_dict()")
        ));
    }
    if archive.file_names().any(|name| name == format!("{folder}/byteorder"))
        && read_entry(&mut archive, &format!("{folder}/byteorder"))? != b"little"
    {
        return Err("was saved on a big-endian machine; save it on a little-endian one".to_owned());
    }
    let data = read_entry(&mut archive, &format!("{folder}/data.pkl"))?;
    let pickle = pickle::read(&data).map_err(|reason| format!("is damaged: data.pkl {reason}"))?;
    let (found, nested) = find_state(path, &pickle)?;
    let mut storages = BTreeMap::new();
    for Storage { key, kind, .. } in found.values().map(|tensor| &tensor.storage) {
        if !storages.contains_key(key) {
            let bytes = read_entry(&mut archive, &format!("{folder}/data/{key}"))?;
            storages.insert(key.clone(), storage::read_elements(&bytes, *kind)?);
        }
    }
    Ok(StateDictionary { tensors: build_tensors(&found, &storages)?, nested })
}

/// Reads an entry of an archive. `torch.save` does not compress, so the entry is no larger than the
/// file.
fn read_entry(archive: &mut ZipArchive<impl Read + Seek>, name: &str) -> Result<Vec<u8>> {
    let broken = |error: &dyn std::fmt::Display| format!("is damaged: {name}: {error}; download or save it again");
    let mut entry = archive.by_name(name).map_err(|error| broken(&error))?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(broken(&"is compressed, unlike entries of torch.save"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|error| broken(&error))?;
    Ok(bytes)
}

/// Reads the format from before zip archives.
///
/// Five pickles hold the magic number, the version, the machine, the object and the keys of its
/// storages. The storages follow, each after its number of elements.
pub(super) fn read_legacy(path: &Path, bytes: &[u8]) -> Result<StateDictionary> {
    let mut rest = bytes;
    let mut next_pickle = || -> Result<Pickle> {
        let pickle = pickle::read(rest).map_err(|reason| format!("is damaged: {reason}; download or save it again"))?;
        rest = &rest[pickle.bytes..];
        Ok(pickle)
    };
    next_pickle()?; // The magic number.
    next_pickle()?; // The version.
    let machine = next_pickle()?;
    let object = next_pickle()?;
    let keys = next_pickle()?;
    if is_big_endian(&machine) {
        return Err("was saved on a big-endian machine; save it on a little-endian one".to_owned());
    }
    let (found, nested) = find_state(path, &object)?;
    let kinds: BTreeMap<&str, _> = object.arena.storages().map(|storage| (&*storage.key, storage.kind)).collect();
    let mut storages = BTreeMap::new();
    for key in keys.arena.elements(&keys.root).unwrap_or_default() {
        let key: Rc<str> = match key {
            PickleValue::Text(key) => key.clone(),
            PickleValue::Int(key) => key.to_string().into(),
            _ => return Err("is damaged: a storage has no name".to_owned()),
        };
        let kind = *kinds.get(&*key).ok_or("is damaged: it has a storage without a reference")?;
        let stored = take_storage(&mut rest, kind.elt_size_in_bytes());
        let stored = stored.ok_or("is damaged: its last bytes are missing; download or save it again")?;
        storages.insert(key, storage::read_elements(stored, kind)?);
    }
    Ok(StateDictionary { tensors: build_tensors(&found, &storages)?, nested })
}

/// Takes the bytes of the next storage, which follow its number of elements.
fn take_storage<'a>(rest: &mut &'a [u8], element_bytes: usize) -> Option<&'a [u8]> {
    let (count, after) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(element_bytes)?;
    let (stored, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(stored)
}

fn is_big_endian(machine: &Pickle) -> bool {
    let Some(PickleObject::Dict(items)) = machine.arena.get(&machine.root) else { return false };
    let is_key = |key: &PickleValue| matches!(key, PickleValue::Text(text) if **text == *"little_endian");
    items.iter().any(|(key, value)| is_key(key) && *value == PickleValue::Int(0))
}

/// Finds the tensors of the state dictionary, and the keys that lead to it.
fn find_state<'a>(path: &Path, pickle: &'a Pickle) -> Result<(BTreeMap<String, &'a StridedTensor>, Vec<&'static str>)> {
    let arena = &pickle.arena;
    let (mut value, mut nested) = (&pickle.root, Vec::new());
    loop {
        let items = match arena.get(value) {
            Some(PickleObject::Dict(items)) => items,
            Some(PickleObject::Instance(class)) => {
                return Err(format!(
                    "holds a whole Python object ({class}), which only its own program can read; {}",
                    describe_conversion(path, "torch.load(FILE, weights_only=False).state_dict()")
                ));
            }
            _ => return Err(format!("holds no state dictionary; {SAVING}")),
        };
        match find_nested(arena, items) {
            Some((key, inner)) if nested.len() < MAX_DEPTH => {
                nested.push(key);
                value = inner;
            }
            _ => return Ok((collect_tensors(arena, items)?, nested)),
        }
    }
}

/// Finds a dictionary or object under one of [`NESTED_KEYS`].
fn find_nested<'a>(arena: &Arena, items: &'a [(PickleValue, PickleValue)]) -> Option<(&'static str, &'a PickleValue)> {
    NESTED_KEYS.into_iter().find_map(|wanted| {
        let (_, inner) = items.iter().find(|(key, _)| matches!(key, PickleValue::Text(key) if **key == *wanted))?;
        matches!(arena.get(inner), Some(PickleObject::Dict(_) | PickleObject::Instance(_))).then_some((wanted, inner))
    })
}

fn collect_tensors<'a>(
    arena: &'a Arena,
    items: &[(PickleValue, PickleValue)],
) -> Result<BTreeMap<String, &'a StridedTensor>> {
    let (mut found, mut keys) = (BTreeMap::new(), Vec::new());
    for (key, value) in items {
        let PickleValue::Text(key) = key else { continue };
        match arena.get(value) {
            Some(PickleObject::Tensor(tensor)) => drop(found.insert(key.to_string(), tensor)),
            Some(PickleObject::Instance(class)) if class.starts_with("torch._utils._rebuild") => {
                return Err(format!("its tensor {key} is of an unsupported kind ({class}); save it as float32"));
            }
            _ => keys.push(key.as_ref()),
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let shown = keys[..keys.len().min(LISTED)].join(", ");
    let more = if keys.len() > LISTED { ", ..." } else { "" };
    let content = if keys.is_empty() { "an empty dictionary".to_owned() } else { format!("{shown}{more}") };
    Err(format!("is a PyTorch file, but holds no named tensors ({content}); {SAVING}"))
}

fn build_tensors(
    found: &BTreeMap<String, &StridedTensor>,
    storages: &BTreeMap<Rc<str>, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let tensor = |(name, strided): (&String, &&StridedTensor)| match strided.to_tensor(storages) {
        Ok(tensor) => Ok((name.clone(), tensor)),
        Err(reason) => Err(format!("is damaged: tensor {name}: {reason}; download or save it again")),
    };
    found.iter().map(tensor).collect()
}

/// The remedy for a file without a state dictionary.
const SAVING: &str = "save only the model's weights, in Python: torch.save(model.state_dict(), FILE)";

/// Describes the conversion to safetensors in Python; `state` is the expression of the state
/// dictionary.
fn describe_conversion(path: &Path, state: &str) -> String {
    let state = state.replace("FILE", &format!("{:?}", path.display().to_string()));
    let target = path.with_extension("safetensors").display().to_string();
    format!(
        "if you trust it, convert it in Python:\n  import torch, safetensors.torch\n  \
         safetensors.torch.save_file({state}, {target:?})"
    )
}

/// Describes the conversion of a pickle that `torch.load` does not read.
pub(super) fn describe_pickle_conversion(path: &Path) -> String {
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
