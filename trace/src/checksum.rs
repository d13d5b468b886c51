//! SHA-256 checksums of files, computed while writing, and lists of them for `sha256sum --check`.

use crate::atomic::{self, Unsynced};
use crate::error::{Result, TraceError};
use crate::input;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::Path;

/// The list's file name, in the folder of the listed files.
pub const FILE_NAME: &str = "SHA256SUMS";

/// Maximum size of a list in bytes, far above any folder's.
const MAX_BYTES: u64 = 64 << 20;

/// A writer that computes the checksum of the data that it passes on.
pub struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> HashingWriter<W> {
    /// Wraps a writer before anything is written to it.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Returns the checksum of the data written.
    pub fn finish(self) -> String {
        format_hex(&self.hash.finalize())
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn format_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Computes the checksum of bytes.
pub fn hash_bytes(bytes: &[u8]) -> String {
    format_hex(&Sha256::digest(bytes))
}

/// Computes the checksum of a file.
pub fn hash_file(path: &Path) -> Result<String> {
    let source = input::open(path)?;
    let mut file = source.read().map_err(TraceError::io(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(TraceError::io(path))? {
            0 => return Ok(format_hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Whether a text has the form of a checksum.
pub fn is_checksum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Refuses a file whose checksum differs from the one in `source`.
pub fn check(path: &Path, expected: &str, source: &str) -> Result<()> {
    compare(path, &hash_file(path)?, expected, source)
}

fn compare(path: &Path, found: &str, expected: &str, source: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let reason = format!("its SHA-256 is {found}, {source} says {expected}");
    Err(TraceError::Damaged { path: path.to_owned(), reason })
}

/// Checksums of a folder's files, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checksums(BTreeMap<String, String>);

impl Checksums {
    /// Computes the checksums of files in `dir`; `names` are paths in it.
    pub fn from_files<S: Into<String>>(dir: &Path, names: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut sums = BTreeMap::new();
        for name in names {
            let name = name.into();
            let sum = hash_file(&dir.join(&name))?;
            sums.insert(name, sum);
        }
        Ok(Self(sums))
    }

    /// Adds a file's checksum.
    pub fn insert(&mut self, name: &str, sum: String) {
        self.0.insert(name.to_owned(), sum);
    }

    /// The names of the files, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Replaces the list in `dir` atomically.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE_NAME);
        atomic::write(&path, |file| file.write_all(self.text().as_bytes())).map_err(TraceError::io(path))
    }

    /// Writes the list in `dir` together with other unsynced files.
    pub fn write_among(&self, files: &mut Unsynced, dir: &Path) -> Result<()> {
        files.write(dir.join(FILE_NAME), self.text().as_bytes())
    }

    fn text(&self) -> String {
        self.0.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect()
    }

    /// Reads the list in `dir`; `None` if there is none.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE_NAME);
        let text = match input::read(&path, MAX_BYTES) {
            Err(TraceError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut sums = BTreeMap::new();
        for (number, line) in String::from_utf8_lossy(&text).lines().enumerate() {
            let entry = line.split_once("  ").filter(|(sum, name)| is_checksum(sum) && is_inside(name));
            let fresh = entry.is_some_and(|(sum, name)| sums.insert(name.to_owned(), sum.to_owned()).is_none());
            if !fresh {
                let reason = "is not a checksum and a file of this folder, or repeats a file; copy the folder again";
                return Err(TraceError::invalid(path, format!("line {}", number + 1), reason));
            }
        }
        Ok(Some(Self(sums)))
    }

    /// Refuses a file that has changed or is not listed.
    pub fn check(&self, dir: &Path, name: &str) -> Result<()> {
        check(&dir.join(name), self.find_sum(dir, name)?, FILE_NAME)
    }

    /// Refuses a file, already read, that has changed or is not listed.
    pub fn check_bytes(&self, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
        compare(&dir.join(name), &hash_bytes(bytes), self.find_sum(dir, name)?, FILE_NAME)
    }

    fn find_sum(&self, dir: &Path, name: &str) -> Result<&str> {
        self.0.get(name).map(String::as_str).ok_or_else(|| {
            let reason = format!("{FILE_NAME} does not list it");
            TraceError::Damaged { path: dir.join(name), reason }
        })
    }
}

/// Removes the list in `dir`, if there is one, before its files change.
pub fn remove(dir: &Path) -> Result<()> {
    let path = dir.join(FILE_NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(TraceError::Io { path, error }),
        _ => Ok(()),
    }
}

/// Whether a path stays inside its folder.
fn is_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn written_data_is_hashed() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let mut writer = HashingWriter::new(Vec::new());
        writer.write_all(b"a").unwrap();
        writer.write_all(b"bc").unwrap();
        assert_eq!((writer.finish().as_str(), hash_bytes(b"abc").as_str()), (expected, expected));
    }

    #[test]
    fn a_list_is_read_back_and_detects_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert_eq!(Checksums::read(path).unwrap(), None);
        fs::write(path.join("a"), "abc").unwrap();
        fs::write(path.join("b"), "").unwrap();
        let sums = Checksums::from_files(path, ["a", "b"]).unwrap();
        sums.write(path).unwrap();
        assert_eq!(Checksums::read(path).unwrap(), Some(sums.clone()));
        sums.check(path, "a").unwrap();
        fs::write(path.join("a"), "abd").unwrap();
        assert!(sums.check(path, "a").unwrap_err().to_string().contains("SHA256SUMS says ba7816bf"));
        assert!(sums.check(path, "c").unwrap_err().to_string().contains("does not list it"));
        fs::remove_file(path.join("b")).unwrap();
        assert!(sums.check(path, "b").is_err());
        for text in
            ["nonsense\n", &format!("{}  ../a\n", hash_bytes(b"")), &format!("{0}  a\n{0}  a\n", hash_bytes(b""))]
        {
            fs::write(path.join(FILE_NAME), text).unwrap();
            assert!(Checksums::read(path).is_err(), "{text}");
        }
    }
}
