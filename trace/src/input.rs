//! Opens input from outside: only ordinary files and objects of a store, up to a maximum size.
//!
//! A device or a pipe under a file's name therefore cannot block a program or fill its memory.

use crate::error::{Result, TraceError};
#[cfg(feature = "remote")]
use crate::remote::{self, Object};
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A file, or an object of a store, to read.
#[derive(Debug)]
pub enum Source {
    /// A file.
    File(File),
    /// An object.
    #[cfg(feature = "remote")]
    Object(Object),
}

impl Source {
    /// Returns a reader from the start.
    pub fn read(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        match self {
            Self::File(file) => Ok(Box::new(file)),
            #[cfg(feature = "remote")]
            Self::Object(object) => Ok(Box::new(object.reader(0))),
        }
    }

    /// Returns its size in bytes.
    pub fn size(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            #[cfg(feature = "remote")]
            Self::Object(object) => Ok(object.size()),
        }
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.size().unwrap_or(0)
    }
}

impl ChunkReader for Source {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> std::result::Result<Self::T, ParquetError> {
        match self {
            Self::File(file) => Ok(Box::new(file.get_read(start)?)),
            #[cfg(feature = "remote")]
            Self::Object(object) => Ok(Box::new(object.reader(start))),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> std::result::Result<Bytes, ParquetError> {
        match self {
            Self::File(file) => file.get_bytes(start, length),
            #[cfg(feature = "remote")]
            Self::Object(object) => Ok(object.bytes(start, length as u64)?),
        }
    }
}

/// Opens an ordinary file, or an object of a store, for reading.
pub fn open(path: &Path) -> Result<Source> {
    #[cfg(feature = "remote")]
    if remote::is_address(path) {
        return Object::open(path).map(Source::Object).map_err(TraceError::io(path));
    }
    open_file(path).map(Source::File)
}

/// Opens an ordinary file for reading.
fn open_file(path: &Path) -> Result<File> {
    // The check comes before opening, because opening a pipe waits for its writer.
    let metadata = path.metadata().map_err(TraceError::io(path))?;
    if metadata.is_file() {
        return File::open(path).map_err(TraceError::io(path));
    }
    let (kind, found) = if metadata.is_dir() {
        (io::ErrorKind::IsADirectory, "is a folder")
    } else {
        (io::ErrorKind::InvalidInput, "is a device or pipe")
    };
    let reason = format!("{found}, not a file; give another or copy it again");
    Err(TraceError::io(path)(io::Error::new(kind, reason)))
}

/// Whether a file or object with this name exists.
pub fn exists(path: &Path) -> Result<bool> {
    match open(path) {
        Ok(_) => Ok(true),
        Err(TraceError::Io { error, .. })
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Returns the size of an ordinary file or an object in bytes.
pub fn size(path: &Path) -> Result<u64> {
    open(path)?.size().map_err(TraceError::io(path))
}

/// Reads an ordinary file or an object of at most `most` bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let source = open(path)?;
    let mut bytes = Vec::new();
    let reader = source.read().map_err(TraceError::io(path))?;
    reader.take(most + 1).read_to_end(&mut bytes).map_err(TraceError::io(path))?;
    if bytes.len() as u64 > most {
        let reason = format!("larger than {most} bytes, the maximum of such a file; give another or copy it again");
        return Err(TraceError::invalid(path, "size", reason));
    }
    Ok(bytes)
}

/// Reads an ordinary text file of at most `most` bytes.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|error| TraceError::invalid(path, "text", format!("is not UTF-8 ({error}); give another file")))
}
