//! SHA-256 of files, taken while they are written, and lists of them that `sha256sum --check` reads, too.

use crate::atomic::{self, Unsynced};
use crate::error::{Result, TraceError};
use crate::input;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::Path;

/// The list's name, in the folder whose files it is of.
pub const FILE_NAME: &str = "SHA256SUMS";

/// Most bytes of a list: far above what any folder has.
const MAX_BYTES: u64 = 64 << 20;

/// Passes on what is written, and takes its checksum.
pub struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    /// Around a writer to which nothing was written yet.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// The checksum of what was written.
    pub fn finish(self) -> String {
        hex(&self.hash.finalize())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The checksum of bytes.
pub fn of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The checksum of a file.
pub fn of_file(path: &Path) -> Result<String> {
    let source = input::open(path)?;
    let mut file = source.read().map_err(TraceError::io(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(TraceError::io(path))? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Whether a text can be a checksum.
pub fn is_checksum(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Refuses a file whose checksum is another than `source` says.
pub fn check(path: &Path, expected: &str, source: &str) -> Result<()> {
    compare(path, &of_file(path)?, expected, source)
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
    /// Of files in `dir`, by their paths in it.
    pub fn of_files<S: Into<String>>(dir: &Path, names: impl IntoIterator<Item = S>) -> Result<Self> {
        let of = |name: S| {
            let name = name.into();
            let sum = of_file(&dir.join(&name))?;
            Ok((name, sum))
        };
        names.into_iter().map(of).collect::<Result<_>>().map(Self)
    }

    /// Adds a file's.
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

    /// Writes the list in `dir` as one of `files`.
    pub fn write_among(&self, files: &mut Unsynced, dir: &Path) -> Result<()> {
        files.write(dir.join(FILE_NAME), self.text().as_bytes())
    }

    fn text(&self) -> String {
        self.0.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect()
    }

    /// Reads the list in `dir`; `None` where there is none.
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
                let reason = "is no checksum and file of this folder, or names one twice; copy the folder again";
                return Err(TraceError::invalid(path, format!("line {}", number + 1), reason));
            }
        }
        Ok(Some(Self(sums)))
    }

    /// Refuses a file that was changed, or is not listed.
    pub fn check(&self, dir: &Path, name: &str) -> Result<()> {
        check(&dir.join(name), self.listed(dir, name)?, FILE_NAME)
    }

    /// The same for a file that was read already.
    pub fn check_bytes(&self, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
        compare(&dir.join(name), &of(bytes), self.listed(dir, name)?, FILE_NAME)
    }

    fn listed(&self, dir: &Path, name: &str) -> Result<&str> {
        self.0.get(name).map(String::as_str).ok_or_else(|| {
            let reason = format!("{FILE_NAME} does not list it");
            TraceError::Damaged { path: dir.join(name), reason }
        })
    }
}

/// Removes the list in `dir`, if there is one: its files are about to change.
pub fn remove(dir: &Path) -> Result<()> {
    let path = dir.join(FILE_NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(TraceError::Io { path, error }),
        _ => Ok(()),
    }
}

/// Whether a path stays in the folder that it is meant for.
fn is_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_written_is_hashed() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let mut writer = Hashing::new(Vec::new());
        writer.write_all(b"a").unwrap();
        writer.write_all(b"bc").unwrap();
        assert_eq!((writer.finish().as_str(), of(b"abc").as_str()), (expected, expected));
    }

    #[test]
    fn a_list_is_read_back_and_finds_what_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert_eq!(Checksums::read(path).unwrap(), None);
        fs::write(path.join("a"), "abc").unwrap();
        fs::write(path.join("b"), "").unwrap();
        let sums = Checksums::of_files(path, ["a", "b"]).unwrap();
        sums.write(path).unwrap();
        assert_eq!(Checksums::read(path).unwrap(), Some(sums.clone()));
        sums.check(path, "a").unwrap();
        fs::write(path.join("a"), "abd").unwrap();
        assert!(sums.check(path, "a").unwrap_err().to_string().contains("SHA256SUMS says ba7816bf"));
        assert!(sums.check(path, "c").unwrap_err().to_string().contains("does not list it"));
        fs::remove_file(path.join("b")).unwrap();
        assert!(sums.check(path, "b").is_err());
        for text in ["nonsense\n", &format!("{}  ../a\n", of(b"")), &format!("{0}  a\n{0}  a\n", of(b""))] {
            fs::write(path.join(FILE_NAME), text).unwrap();
            assert!(Checksums::read(path).is_err(), "{text}");
        }
    }
}
