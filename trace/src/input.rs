//! Opening what came from outside: ordinary files and objects of a store alone, and no larger than can be
//! believed, so that neither a device nor a pipe under a file's name can hold a program up or fill its memory.

use crate::error::{Result, TraceError};
#[cfg(feature = "remote")]
use crate::remote::{self, Object};
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A file, or an object of a store, that is read.
#[derive(Debug)]
pub enum Source {
    /// A file.
    File(File),
    /// An object.
    #[cfg(feature = "remote")]
    Object(Object),
}

impl Source {
    /// Reads all of it, from the front.
    pub fn read(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        match self {
            Self::File(file) => Ok(Box::new(file)),
            #[cfg(feature = "remote")]
            Self::Object(object) => Ok(Box::new(object.reader(0))),
        }
    }

    /// Its bytes.
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

/// Opens an ordinary file, or an object of a store, to read.
pub fn open(path: &Path) -> Result<Source> {
    #[cfg(feature = "remote")]
    if remote::is_address(path) {
        return Object::open(path).map(Source::Object).map_err(TraceError::io(path));
    }
    open_file(path).map(Source::File)
}

/// Opens an ordinary file to read.
fn open_file(path: &Path) -> Result<File> {
    // Before it is opened: opening a pipe waits for whoever writes to it.
    let metadata = path.metadata().map_err(TraceError::io(path))?;
    if metadata.is_file() {
        return File::open(path).map_err(TraceError::io(path));
    }
    let kind = if metadata.is_dir() { io::ErrorKind::IsADirectory } else { io::ErrorKind::InvalidInput };
    let what = if metadata.is_dir() { "is a folder" } else { "is a device or pipe" };
    Err(TraceError::io(path)(io::Error::new(kind, format!("{what}, not a file; give another or copy it again"))))
}

/// Whether there is a file, or an object, of this name.
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

/// Bytes of an ordinary file or an object.
pub fn size(path: &Path) -> Result<u64> {
    open(path)?.size().map_err(TraceError::io(path))
}

/// Reads an ordinary file, or an object, of at most so many bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let source = open(path)?;
    let mut bytes = Vec::new();
    let reader = source.read().map_err(TraceError::io(path))?;
    reader.take(most + 1).read_to_end(&mut bytes).map_err(TraceError::io(path))?;
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
