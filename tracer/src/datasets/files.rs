//! Reads data files, plain or compressed by gzip. Errors depend on the files' origin.

use crate::error::{Result, TracerError};
use flate2::read::MultiGzDecoder;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The origin of a file, which decides the remedy in an error.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// A data set that `data/fetch.py` downloads into the data folder.
    Fetched(&'static str),
    /// A flag of the user.
    Flag(&'static str),
}

impl Origin {
    /// The error for a file that cannot be read.
    pub(super) fn unreadable(self, path: &Path, error: io::Error) -> TracerError {
        match self {
            Self::Fetched(dataset) => TracerError::MissingData { path: path.to_owned(), dataset, error },
            Self::Flag(_) => self.bad(path, error.to_string()),
        }
    }

    /// The error for a file with invalid content.
    pub(super) fn bad(self, path: &Path, reason: impl Into<String>) -> TracerError {
        let (path, reason) = (path.to_owned(), reason.into());
        match self {
            Self::Fetched(dataset) => TracerError::BadData { path, dataset, reason },
            Self::Flag(flag) => TracerError::File { flag, path, reason },
        }
    }

    /// Reads a file, and unpacks it if its content is compressed by gzip, whatever its name.
    ///
    /// If a downloaded file is missing, the file with `.gz` appended to its name is read.
    pub(super) fn read(self, path: &Path) -> Result<Vec<u8>> {
        let packed = append_gz(path);
        let path = if matches!(self, Self::Fetched(_)) && !path.exists() && packed.exists() { &packed } else { path };
        let bytes = std::fs::read(path).map_err(|error| self.unreadable(path, error))?;
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Ok(bytes);
        }
        let mut unpacked = Vec::new();
        match MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked) {
            Ok(_) => Ok(unpacked),
            Err(error) => Err(self.bad(path, format!("cannot be unpacked by gzip: {error}"))),
        }
    }
}

fn append_gz(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".gz");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    #[test]
    fn gzip_is_detected_by_content_and_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"words").unwrap();
        let packed = encoder.finish().unwrap();
        let plain = dir.path().join("file");
        std::fs::write(dir.path().join("file.gz"), &packed).unwrap();
        assert_eq!(Origin::Fetched("mnist").read(&plain).unwrap(), b"words");
        // A flag names the file itself, so no other file is read instead.
        let error = Origin::Flag("--source").read(&plain).unwrap_err().to_string();
        assert!(error.starts_with("--source: ") && error.contains("No such file"), "{error}");
        std::fs::write(&plain, &packed).unwrap();
        assert_eq!(Origin::Flag("--source").read(&plain).unwrap(), b"words");
        std::fs::write(&plain, &packed[..packed.len() - 6]).unwrap();
        let error = Origin::Fetched("mnist").read(&plain).unwrap_err().to_string();
        assert!(error.contains("cannot be unpacked") && error.contains("fetch.py mnist"), "{error}");
    }
}
