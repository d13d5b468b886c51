//! A folder in which work that was stopped goes on when it is run again.

use super::units::UnitStore;
use crate::error::{AnalyzerError, Result};
use mercury_trace::{TraceError, atomic, input, remote};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Most bytes of an identity: far above that of the largest grid.
const MAX_BYTES: u64 = 1 << 30;

/// What the folder's work is called.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// In messages, such as `sweep`.
    pub name: &'static str,
    /// The file that says what exactly it is.
    pub identity: &'static str,
    /// What another one of its kind may differ in.
    pub differs: &'static str,
    /// Whether the folder was asked for by name, and so must not be one that nobody knows after a power failure.
    pub lasting: bool,
}

/// Refuses an address: results are written to folders.
pub fn check_local(dir: &Path) -> Result<()> {
    if remote::is_address(dir) {
        let reason = format!("{}: results are written to folders alone; give one, and copy it there", dir.display());
        return Err(AnalyzerError::Flag { flag: "--out", reason });
    }
    Ok(())
}

/// The folder, for as long as this process works in it.
#[derive(Debug)]
pub struct WorkDir {
    dir: PathBuf,
    _lock: File,
}

impl WorkDir {
    /// Begins in an empty or missing folder, or goes on in one of the same identity.
    pub fn open(dir: &Path, kind: Kind, identity: &str) -> Result<Self> {
        let fail = |error: io::Error| AnalyzerError::Output { path: dir.to_owned(), error };
        check_local(dir)?;
        fs::create_dir_all(dir).map_err(fail)?;
        let lock = lock(dir, kind.name)?;
        let path = dir.join(kind.identity);
        match input::read_text(&path, MAX_BYTES) {
            Ok(known) if known == identity => (),
            Ok(_) => {
                let reason = format!(
                    "{} holds another {} (of {}); choose another folder",
                    dir.display(),
                    kind.name,
                    kind.differs
                );
                return Err(AnalyzerError::Flag { flag: "--out", reason });
            }
            Err(TraceError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
                if !is_fresh(dir).map_err(fail)? {
                    return Err(TraceError::NotEmpty { path: dir.to_owned() }.into());
                }
                let fill = |file: &mut File| file.write_all(identity.as_bytes());
                if kind.lasting { atomic::write(&path, fill) } else { atomic::write_unsynced(&path, fill) }
                    .map_err(fail)?;
            }
            Err(error) => return Err(error.into()),
        }
        let this = Self { dir: dir.to_owned(), _lock: lock };
        for folder in [dir, &dir.join(PARTS)] {
            atomic::remove_temporary(folder).map_err(AnalyzerError::io(folder))?;
        }
        Ok(this)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Where results of units are kept.
    pub fn units(&self) -> UnitStore {
        UnitStore::new(self.dir.join(PARTS))
    }

    /// Writes a file, on disk when this returns.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        atomic::write(&path, |file| file.write_all(bytes)).map_err(AnalyzerError::io(path))
    }
}

/// The folder of units that are done.
pub const PARTS: &str = "parts";

/// Keeps others out of a folder. The kernel gives the lock back when the process ends, however it does.
pub fn lock(dir: &Path, name: &str) -> Result<File> {
    let fail = |error: io::Error| AnalyzerError::Output { path: dir.to_owned(), error };
    atomic::lock(dir).map_err(fail)?.ok_or_else(|| {
        let reason = format!("another {name} is writing to {}; wait for it or choose another folder", dir.display());
        AnalyzerError::Flag { flag: "--out", reason }
    })
}

/// Whether a folder holds nothing but what work that was killed at once leaves.
fn is_fresh(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if !atomic::is_temporary(&entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}
