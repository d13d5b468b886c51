//! Opening what came from outside: ordinary files alone, and no larger than can be believed, so that neither a
//! device nor a pipe under a file's name can hold a program up or fill its memory.

use crate::error::{Result, TraceError};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Opens an ordinary file to read.
pub fn open(path: &Path) -> Result<File> {
    // Before it is opened: opening a pipe waits for whoever writes to it.
    let metadata = path.metadata().map_err(TraceError::io(path))?;
    if metadata.is_file() {
        return File::open(path).map_err(TraceError::io(path));
    }
    let kind = if metadata.is_dir() { io::ErrorKind::IsADirectory } else { io::ErrorKind::InvalidInput };
    let what = if metadata.is_dir() { "is a folder" } else { "is a device or pipe" };
    Err(TraceError::io(path)(io::Error::new(kind, format!("{what}, not a file; give another or copy it again"))))
}

/// Reads an ordinary file of at most so many bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(TraceError::io(path))?;
    if bytes.len() as u64 > most {
        let reason = format!("larger than {most} bytes, as no such file is; give another or copy it again");
        return Err(TraceError::invalid(path, "size", reason));
    }
    Ok(bytes)
}

/// Reads an ordinary text file of at most so many bytes.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|error| TraceError::invalid(path, "text", format!("is not UTF-8 ({error}); give another file")))
}
