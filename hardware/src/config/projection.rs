//! Projection matrices from files: `rpq.projection = "file:R.safetensors"`.

use super::layers::{TABLES, find_source};
use super::{Config, LayerConfigs};
use mercury_reuse::config::{GivenProjection, Matrix};
use mercury_reuse::list_vector_lengths;
use mercury_trace::geometry::Pass;
use mercury_trace::input;
use mercury_trace::layers::Layer;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf, absolute};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use toml::{Table, Value};

/// The key, with its section.
const KEY: &str = "rpq.projection";

/// Most bytes of a file: far above 64 bits for the longest vectors of a network.
const MAX_BYTES: u64 = 1 << 28;

/// Digits of the hash of a content.
const HASH_DIGITS: usize = 16;

/// A file that was read.
struct ReadFile {
    path: PathBuf,
    bytes: Vec<u8>,
    given: Weak<GivenProjection>,
}

/// Files whose matrices are in use. The configurations of a sweep share them, and a file that is read again is not
/// parsed again. The whole content is compared, because sizes and times do not show every change.
static READ: Mutex<Vec<ReadFile>> = Mutex::new(Vec::new());

/// The same matrix with its values, if it is from a file that was not read.
///
/// # Errors
/// If the file cannot be read, holds no projection, or has another content than it had when its hash was noted.
pub fn read_projection(matrix: &Matrix) -> std::result::Result<Matrix, String> {
    match matrix {
        Matrix::File(text) => Ok(Matrix::Given(read_file(text)?)),
        other => Ok(other.clone()),
    }
}

/// Reads the file of `PATH` or `PATH#HASH`.
fn read_file(text: &str) -> std::result::Result<Arc<GivenProjection>, String> {
    let (path, known_hash) = split_hash(text);
    // Results name the file, and may be read in another folder.
    let path = absolute(path).map_err(|error| format!("{path}: {error}"))?;
    let bytes = input::read(&path, MAX_BYTES).map_err(|error| error.to_string())?;
    let name = path.display().to_string();
    let given = match find_known(&path, &bytes) {
        Some(given) => given,
        None => parse_file(path, bytes)?,
    };
    if let Some(known) = known_hash.filter(|known| *known != given.content_hash()) {
        let hash = given.content_hash();
        return Err(format!(
            "{name}: its content has the hash {hash:016x}, but {known:016x} is configured; \
             restore the file, or remove the hash from {KEY} to use the file as it is"
        ));
    }
    Ok(given)
}

/// Parses the content of a file and keeps it for the next time.
fn parse_file(path: PathBuf, bytes: Vec<u8>) -> std::result::Result<Arc<GivenProjection>, String> {
    let name = path.display();
    let tensors = parse_tensors(&bytes).map_err(|reason| format!("{name}: {reason}"))?;
    let given = GivenProjection::from_tensors(format!("file:{name}"), tensors).map_err(|error| error.reason)?;
    let given = Arc::new(given);
    lock_read().push(ReadFile { path, bytes, given: Arc::downgrade(&given) });
    Ok(given)
}

/// The matrices of a file with this content, if they are in use.
fn find_known(path: &Path, bytes: &[u8]) -> Option<Arc<GivenProjection>> {
    let mut read = lock_read();
    read.retain(|file| file.given.strong_count() > 0);
    read.iter().find(|file| file.path == path && file.bytes == bytes)?.given.upgrade()
}

/// A poisoned lock is usable, because the list is valid after any panic.
fn lock_read() -> MutexGuard<'static, Vec<ReadFile>> {
    READ.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The path, and the hash that follows it: 16 digits after the last `#`.
fn split_hash(text: &str) -> (&str, Option<u64>) {
    let is_hash = |hash: &str| hash.len() == HASH_DIGITS && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
    match text.rsplit_once('#').filter(|(path, hash)| !path.is_empty() && is_hash(hash)) {
        Some((path, hash)) => (path, u64::from_str_radix(hash, 16).ok()),
        None => (text, None),
    }
}

/// The tensors of a file, as `(length, bits, values)`.
fn parse_tensors(bytes: &[u8]) -> std::result::Result<Vec<(usize, usize, Vec<f32>)>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| {
        format!("is not a readable safetensors file ({error:?}); write it by safetensors.torch.save_file")
    })?;
    let mut tensors = file.tensors();
    // The crate lists them in no order; an error always names the first.
    tensors.sort_by(|(one, _), (other, _)| one.cmp(other));
    tensors.iter().map(|(name, tensor)| parse_tensor(name, tensor)).collect()
}

fn parse_tensor(name: &str, tensor: &TensorView) -> std::result::Result<(usize, usize, Vec<f32>), String> {
    if tensor.dtype() != Dtype::F32 {
        return Err(format!("tensor {name:?} holds {:?}, not F32; convert it by .float()", tensor.dtype()));
    }
    let [length, bits] = *tensor.shape() else {
        return Err(format!("tensor {name:?} has the shape {:?}; it must be [length, bits]", tensor.shape()));
    };
    let words = tensor.data().chunks_exact(4);
    let values = words.map(|word| f32::from_le_bytes(word.try_into().expect("chunks of four bytes"))).collect();
    Ok((length, bits, values))
}

/// Makes the paths of a configuration file's projections relative to the file's folder, not to the working directory.
pub(super) fn anchor_files(table: &mut Table, folder: &Path) {
    let anchor = |table: &mut Table| {
        let rpq = table.get_mut("rpq").and_then(Value::as_table_mut);
        let Some(Value::String(text)) = rpq.and_then(|rpq| rpq.get_mut("projection")) else { return };
        if let Ok(Matrix::File(path)) = text.parse() {
            *text = Matrix::File(folder.join(path).display().to_string()).to_string();
        }
    };
    anchor(table);
    let tables = table.get_mut(TABLES).and_then(Value::as_array_mut).into_iter().flatten();
    tables.filter_map(Value::as_table_mut).for_each(anchor);
}

impl Config {
    /// Reads the files of all projections. The error names the key and the file.
    pub(super) fn read_projections(&mut self) -> std::result::Result<(), String> {
        let read = |matrix: &mut Matrix, owner: &str| {
            *matrix = read_projection(matrix).map_err(|reason| format!("{owner}{KEY}: {reason}"))?;
            Ok::<(), String>(())
        };
        read(&mut self.rpq.projection, "")?;
        for (number, table) in (1..).zip(&mut self.layer) {
            let owner = format!("[[layer]] {number} ({}): ", table.name.text());
            if let Some(own) = &mut table.rpq.projection {
                read(own, &owner)?;
            }
        }
        Ok(())
    }

    /// Whether the projection of some layers is drawn, so that a seed has an effect.
    pub fn draws_projections(&self) -> bool {
        let own = self.layer.iter().filter_map(|table| table.rpq.projection.as_ref());
        own.chain([&self.rpq.projection]).any(Matrix::is_drawn)
    }

    /// Refuses projections from outside that have no tensor for vectors of a layer with reuse.
    pub fn check_projections(&self, layers: &[Layer]) -> std::result::Result<(), String> {
        let own = self.layer.iter().filter_map(|table| table.rpq.projection.as_ref());
        if own.chain([&self.rpq.projection]).all(Matrix::is_drawn) {
            return Ok(());
        }
        let shared = Arc::new(self.clone());
        layers.iter().try_for_each(|layer| check_layer(layer, &shared.layer_configs(&layer.name, 0)))
    }
}

fn check_layer(layer: &Layer, configs: &LayerConfigs) -> std::result::Result<(), String> {
    for source in [Pass::Forward, Pass::InputGrad] {
        let config = configs.pass(source);
        let Matrix::Given(given) = &config.rpq.projection else { continue };
        let reuses = |pass: &Pass| find_source(*pass) == source && layer.trains(*pass);
        if !config.reuse.passes.iter().any(reuses) {
            continue;
        }
        let granularity = config.rpq.granularity;
        let lengths = list_vector_lengths(&layer.geometry, source, granularity);
        if let Some(length) = lengths.into_iter().find(|&length| given.find_length(granularity, length).is_none()) {
            let needed = GivenProjection::find_needed_length(granularity, length);
            let known: Vec<String> = given.lengths().map(|length| length.to_string()).collect();
            let (name, origin, known) = (&layer.name, given.origin(), known.join(", "));
            return Err(format!(
                "{KEY}: {origin} has no tensor for vectors of length {needed}, which {name} has ({source}, \
                 {granularity}); its tensors are for {known}; add one [{needed}, bits], or give {name} another \
                 projection or fewer reuse.passes in a [[layer]] table"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "projection_tests.rs"]
mod tests;
