//! A folder in which interrupted work continues when the same command is run again.

use super::units::UnitStore;
use crate::error::{AnalyzerError, Result};
use mercury_trace::{TraceError, atomic, input, remote};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Maximum size of an identity file, bytes: far above that of the largest grid.
const MAX_BYTES: u64 = 1 << 30;

/// The kind of work in a folder.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name in messages, such as `sweep`.
    pub name: &'static str,
    /// The file that identifies the work. Only a command with the same identity may continue it.
    pub identity: &'static str,
    /// The properties in which other work of this kind may differ, for messages.
    pub differs: &'static str,
    /// Whether the identity is synced to disk. It must be if the user chose the folder: without
    /// identity after a power failure, the folder would be refused as foreign.
    pub lasting: bool,
}

/// Refuses addresses of object stores: results are only written to local folders.
pub fn check_local(dir: &Path) -> Result<()> {
    if remote::is_address(dir) {
        let reason = format!(
            "{}: results can only be written to a local folder; choose one and copy it to the store afterwards",
            dir.display()
        );
        return Err(AnalyzerError::Flag { flag: "--out", reason });
    }
    Ok(())
}

/// A folder in which this process works; locked until it is dropped.
#[derive(Debug)]
pub struct WorkDir {
    dir: PathBuf,
    _lock: File,
}

impl WorkDir {
    /// Begins work in an empty or missing folder, or continues work with the same identity.
    ///
    /// # Errors
    /// If the folder holds something else, or another process works in it.
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

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The store of the units' results.
    pub fn units(&self) -> UnitStore {
        UnitStore::new(self.dir.join(PARTS))
    }

    /// Writes a file; it is synced to disk when this returns.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        atomic::write(&path, |file| file.write_all(bytes)).map_err(AnalyzerError::io(path))
    }
}

/// The subfolder that holds the results of completed units.
pub const PARTS: &str = "parts";

/// Locks a folder against other processes. The kernel releases the lock when the process ends, even
/// if it is killed.
pub fn lock(dir: &Path, name: &str) -> Result<File> {
    let fail = |error: io::Error| AnalyzerError::Output { path: dir.to_owned(), error };
    atomic::lock(dir).map_err(fail)?.ok_or_else(|| {
        let reason = format!("another {name} is writing to {}; wait for it or choose another folder", dir.display());
        AnalyzerError::Flag { flag: "--out", reason }
    })
}

/// Whether a folder is empty except for temporary files, which a process that was killed early
/// leaves.
fn is_fresh(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        if !atomic::is_temporary(&entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}
