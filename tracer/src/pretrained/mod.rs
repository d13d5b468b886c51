//! Weights that others have trained: safetensors files, and PyTorch's state dictionaries.

mod arena;
mod code;
mod fit;
mod pickle;
mod pytorch;
mod rebuild;
mod storage;

use crate::error::{Result, TracerError};
use crate::weights::Weights;
pub use fit::Fresh;
use globset::GlobSet;
use pytorch::LEGACY_MAGIC;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use tch::Tensor;

/// Bytes by which a file's format is told.
const HEAD: u64 = 512;
/// Characters of a text file that an error shows.
const SHOWN: usize = 40;

/// Reads a model's parameters and buffers from a file; returns a line that says what was read.
///
/// The file must have all of them and nothing else, if need be without a prefix of the names. Names that match `fresh`
/// are left as they are, whatever the file has; a pattern that matches none is an error.
pub fn load(weights: &Weights, path: &Path, fresh: &Fresh) -> Result<String> {
    let refuse = |reason: String| TracerError::Weights { path: path.to_owned(), reason };
    let (format, found) = read(path).map_err(refuse)?;
    fit::check_fresh(weights, &found, fresh).map_err(|reason| TracerError::Flag { flag: "--fresh", reason })?;
    let fitted = fit::compare(weights, found, &fresh.set).map_err(refuse)?;
    fitted.check_kinds(weights).map_err(refuse)?;
    fitted.check_finite().map_err(refuse)?;
    let count = fitted.copy_to(weights)?;
    let mut line = format!("weights: {}: {count} tensors, {format}", path.display());
    if !fitted.prefix.is_empty() {
        line.push_str(&format!("; names are read without {:?}", fitted.prefix));
    }
    Ok(line)
}

/// Puts a checkpoint's tensors back into its model, whatever their values are.
pub(crate) fn restore(weights: &Weights, path: &Path, found: BTreeMap<String, Tensor>) -> Result<()> {
    let refuse = |reason: String| TracerError::Weights { path: path.to_owned(), reason };
    fit::compare(weights, found, &GlobSet::empty()).map_err(refuse)?.copy_to(weights)?;
    Ok(())
}

/// What a file is, and its tensors by name.
fn read(path: &Path) -> std::result::Result<(String, BTreeMap<String, Tensor>), String> {
    let head = head(path).map_err(|error| error.to_string())?;
    let state = match Format::guess(&head) {
        Format::Safetensors => {
            let found = read_safetensors(path).map_err(|reason| {
                format!("{reason}; give one of float32, float16 or bfloat16, or a state dictionary of torch.save")
            });
            return Ok(("safetensors".to_owned(), found?));
        }
        Format::Zip => {
            let file = File::open(path).map_err(|error| error.to_string())?;
            pytorch::read_zip(path, BufReader::new(file))?
        }
        Format::Legacy => {
            let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
            pytorch::read_legacy(path, &bytes)?
        }
        Format::Other(reason) => return Err(reason.to_owned()),
        Format::Pickle => {
            let conversion = pytorch::conversion_of_pickle(path);
            return Err(format!("is a Python pickle, but not of torch.save; {conversion}"));
        }
        Format::Text(beginning) => {
            return Err(format!(
                "is text, not weights: {beginning:?}; give a safetensors file, or a state dictionary of torch.save"
            ));
        }
    };
    let nested: String = state.nested.iter().map(|key| format!(", its {key}")).collect();
    Ok((format!("PyTorch{nested}"), state.tensors))
}

fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// What a file is, by its first bytes.
enum Format {
    Safetensors,
    /// Of PyTorch 1.6 and later.
    Zip,
    /// Of PyTorch before 1.6.
    Legacy,
    Pickle,
    /// Text, which begins so.
    Text(String),
    /// None that can be read: what it is, and the remedy.
    Other(&'static str),
}

impl Format {
    fn guess(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let text = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
        let is_page = ["<!doctype", "<html", "<head", "<?xml"].iter().any(|tag| text.starts_with(tag));
        match head {
            [] => Self::Other("is empty; fetch or save it again"),
            _ if head.starts_with(b"PK\x03\x04") => Self::Zip,
            _ if head.starts_with(LEGACY_MAGIC) => Self::Legacy,
            [0x80, 2..=5, ..] => Self::Pickle,
            _ if text.starts_with("version https://git-lfs") => {
                Self::Other("is a Git LFS pointer, not the weights it stands for; run `git lfs pull` in its repository")
            }
            _ if is_page => Self::Other(
                "is a web page (HTML), not weights; the address it came from shows a page: fetch the file itself",
            ),
            _ if head.starts_with(b"\x89HDF") => {
                Self::Other("is an HDF5 file (Keras?); save the weights as safetensors, under PyTorch's names")
            }
            _ if head.starts_with(b"GGUF") => {
                Self::Other("is a GGUF file; save the weights as safetensors, under PyTorch's names")
            }
            _ if head.starts_with(&[0x1f, 0x8b]) => Self::Other("is packed by gzip; unpack it with gunzip"),
            _ if head.get(257..262) == Some(b"ustar") => {
                Self::Other("is a tar archive; unpack it, and name the file of weights in it")
            }
            _ if head.starts_with(b"\x93NUMPY") => Self::Other(
                "is a single NumPy array (.npy), without a name; save all arrays as safetensors, under PyTorch's names",
            ),
            [b'{', ..] => Self::Other(
                "is JSON text, not weights; if it is an index, put the files that it names together into one",
            ),
            _ => beginning_of_text(head).map_or(Self::Safetensors, Self::Text),
        }
    }
}

/// The first characters of a file that begins with printable text, as no safetensors file does.
fn beginning_of_text(head: &[u8]) -> Option<String> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The head ends within a character.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return None;
    }
    let text = text.trim_start_matches('\u{feff}').trim();
    let mut beginning: String = text.chars().take(SHOWN).collect();
    if beginning.len() < text.len() {
        beginning.push('…');
    }
    Some(beginning)
}

/// The tensors of a safetensors file by their names.
pub(crate) fn read_safetensors(path: &Path) -> std::result::Result<BTreeMap<String, Tensor>, String> {
    let broken = |error: tch::TchError| format!("not a readable safetensors file: {}", without_path(&error));
    Ok(Tensor::read_safetensors(path).map_err(broken)?.into_iter().collect())
}

/// tch's message without the path, which ours has.
pub(crate) fn without_path(error: &tch::TchError) -> String {
    match error {
        tch::TchError::SafeTensorError { err, .. } => err.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
