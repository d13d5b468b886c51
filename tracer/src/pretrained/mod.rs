//! Pretrained weights: safetensors files and PyTorch's state dictionaries.

mod arena;
mod code;
mod fit;
mod pickle;
mod pytorch;
mod rebuild;
mod storage;

use crate::error::{Result, TracerError};
use crate::patterns::NamePatterns;
use crate::weights::Weights;
use pytorch::LEGACY_MAGIC;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use tch::Tensor;

/// Bytes from which a file's format is detected.
const HEAD_BYTES: u64 = 512;
/// Characters of a text file that an error quotes.
const QUOTED_CHARACTERS: usize = 40;

/// Loads a model's parameters and buffers from a file; returns a one-line summary.
///
/// The file must have exactly the model's names, possibly after a prefix. Parameters that match
/// `fresh` keep their initial values, whatever the file has; a pattern without a match is an error.
pub fn load(weights: &Weights, path: &Path, fresh: &NamePatterns) -> Result<String> {
    let refuse = |reason: String| TracerError::Weights { path: path.to_owned(), reason };
    let (format, found) = read_file(path).map_err(refuse)?;
    fit::check_fresh(weights, &found, fresh)?;
    let fitted = fit::compare(weights, found, fresh).map_err(refuse)?;
    fitted.check_kinds(weights).map_err(refuse)?;
    fitted.check_finite().map_err(refuse)?;
    let count = fitted.copy_to(weights)?;
    let mut line = format!("weights: {}: {count} tensors, {format}", path.display());
    if !fitted.prefix.is_empty() {
        line.push_str(&format!("; prefix {:?} removed from names", fitted.prefix));
    }
    Ok(line)
}

/// Restores a model from a checkpoint's tensors, whatever their values.
pub(crate) fn restore(weights: &Weights, path: &Path, found: BTreeMap<String, Tensor>) -> Result<()> {
    let refuse = |reason: String| TracerError::Weights { path: path.to_owned(), reason };
    fit::compare(weights, found, &NamePatterns::default()).map_err(refuse)?.copy_to(weights)?;
    Ok(())
}

/// Reads a file; returns its format and its tensors by name.
fn read_file(path: &Path) -> std::result::Result<(String, BTreeMap<String, Tensor>), String> {
    let head = read_head(path).map_err(|error| error.to_string())?;
    let state = match WeightsFormat::detect(&head) {
        WeightsFormat::Safetensors => {
            let found = read_safetensors(path).map_err(|reason| {
                format!("{reason}; give one of float32, float16 or bfloat16, or a state dictionary of torch.save")
            });
            return Ok(("safetensors".to_owned(), found?));
        }
        WeightsFormat::Zip => {
            let file = File::open(path).map_err(|error| error.to_string())?;
            pytorch::read_zip(path, BufReader::new(file))?
        }
        WeightsFormat::Legacy => {
            let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
            pytorch::read_legacy(path, &bytes)?
        }
        WeightsFormat::Other(reason) => return Err(reason.to_owned()),
        WeightsFormat::Pickle => {
            let conversion = pytorch::describe_pickle_conversion(path);
            return Err(format!("is a Python pickle, but not of torch.save; {conversion}"));
        }
        WeightsFormat::Text(beginning) => {
            return Err(format!(
                "is text, not weights: {beginning:?}; give a safetensors file, or a state dictionary of torch.save"
            ));
        }
    };
    let nested: String = state.nested.iter().map(|key| format!(", its {key}")).collect();
    Ok((format!("PyTorch{nested}"), state.tensors))
}

fn read_head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(head)
}

/// The format of a file.
enum WeightsFormat {
    Safetensors,
    /// The format of PyTorch 1.6 and later.
    Zip,
    /// The format of PyTorch before 1.6.
    Legacy,
    Pickle,
    /// Text, with its first characters.
    Text(String),
    /// A format that cannot be read: a description and the remedy.
    Other(&'static str),
}

impl WeightsFormat {
    fn detect(head: &[u8]) -> Self {
        let text = String::from_utf8_lossy(head);
        let text = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
        let is_page = ["<!doctype", "<html", "<head", "<?xml"].iter().any(|tag| text.starts_with(tag));
        match head {
            [] => Self::Other("is empty; download or save it again"),
            _ if head.starts_with(b"PK\x03\x04") => Self::Zip,
            _ if head.starts_with(LEGACY_MAGIC) => Self::Legacy,
            [0x80, 2..=5, ..] => Self::Pickle,
            _ if text.starts_with("version https://git-lfs") => {
                Self::Other("is a Git LFS pointer, not the weights; run `git lfs pull` in its repository")
            }
            _ if is_page => Self::Other(
                "is a web page (HTML), not weights; download the file itself instead of the page that shows it",
            ),
            _ if head.starts_with(b"\x89HDF") => {
                Self::Other("is an HDF5 file (Keras?); save the weights as safetensors, with PyTorch's names")
            }
            _ if head.starts_with(b"GGUF") => {
                Self::Other("is a GGUF file; save the weights as safetensors, with PyTorch's names")
            }
            _ if head.starts_with(&[0x1f, 0x8b]) => Self::Other("is compressed by gzip; unpack it with gunzip"),
            _ if head.get(257..262) == Some(b"ustar") => {
                Self::Other("is a tar archive; unpack it, and give the file of weights in it")
            }
            _ if head.starts_with(b"\x93NUMPY") => Self::Other(
                "is a single NumPy array (.npy), without a name; save all arrays as safetensors, with PyTorch's names",
            ),
            [b'{', ..] => {
                Self::Other("is JSON text, not weights; if it is an index, merge the files that it names into one")
            }
            _ => find_first_text(head).map_or(Self::Safetensors, Self::Text),
        }
    }
}

/// Returns the first characters of a file that starts with printable text, as no safetensors file
/// does.
fn find_first_text(head: &[u8]) -> Option<String> {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The head may end within a character.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return None;
    }
    let text = text.trim_start_matches('\u{feff}').trim();
    let mut beginning: String = text.chars().take(QUOTED_CHARACTERS).collect();
    if beginning.len() < text.len() {
        beginning.push('…');
    }
    Some(beginning)
}

/// Reads the tensors of a safetensors file by name.
pub(crate) fn read_safetensors(path: &Path) -> std::result::Result<BTreeMap<String, Tensor>, String> {
    let broken = |error: tch::TchError| format!("not a readable safetensors file: {}", without_path(&error));
    Ok(Tensor::read_safetensors(path).map_err(broken)?.into_iter().collect())
}

/// Formats tch's error without the path, which our message has.
pub(crate) fn without_path(error: &tch::TchError) -> String {
    match error {
        tch::TchError::SafeTensorError { err, .. } => err.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
