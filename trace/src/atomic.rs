//! Files that are written completely or not at all, and folders with one writer at a time.

use crate::error::{Result, TraceError};
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use tempfile::NamedTempFile;

/// The suffix of temporary names, which start with a dot.
const SUFFIX: &str = ".partial";

/// Creates a temporary file next to `path`; [`commit`] renames it to `path`.
pub fn begin(path: &Path) -> io::Result<NamedTempFile> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The permissions of an ordinary new file, not of a private temporary one; the umask
        // applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    // The error would name the temporary file; the caller adds the path of the real one.
    builder.tempfile_in(parent).map_err(|error| error.kind().into())
}

/// Syncs the temporary file and renames it to `path`; replaces an existing file.
pub fn commit(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Writes a whole file through `fill`; on an error, `path` is unchanged.
pub fn write(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = begin(path)?;
    fill(file.as_file_mut())?;
    commit(file, path)
}

/// Writes a whole file through `fill`, as [`write()`] does, but without waiting for the disk.
///
/// This suits files that show whether they are complete, and can be made again after a power
/// failure.
pub fn write_unsynced(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = begin(path)?;
    fill(file.as_file_mut())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Written files of a folder that may not be on disk yet.
#[derive(Debug, Default)]
pub struct Unsynced(Vec<(PathBuf, File)>);

impl Unsynced {
    /// Writes a file.
    pub fn write(&mut self, path: PathBuf, bytes: &[u8]) -> Result<()> {
        let mut file = File::create(&path).map_err(TraceError::io(&path))?;
        file.write_all(bytes).map_err(TraceError::io(&path))?;
        self.0.push((path, file));
        Ok(())
    }

    /// Waits until all files, and their names in the folder, are on disk.
    ///
    /// All files are synced at once, which takes little longer than one.
    pub fn sync(self, dir: &Path) -> Result<()> {
        let sync = |(path, file): &(PathBuf, File)| file.sync_all().map_err(TraceError::io(path));
        thread::scope(|scope| {
            let start = |file| thread::Builder::new().spawn_scoped(scope, move || sync(file)).map_err(|_| file);
            let started: Vec<_> = self.0.iter().map(start).collect();
            started.into_iter().try_for_each(|file| match file {
                Ok(thread) => thread.join().expect("syncing does not panic"),
                // No thread could be started, so this one syncs the file.
                Err(file) => sync(file),
            })
        })?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(TraceError::io(dir))
    }
}

/// Whether a file name is a temporary one of this module.
pub fn is_temporary(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(SUFFIX))
}

/// Removes the temporary files of a killed writer from a folder, which may be missing.
///
/// The caller must hold the folder's lock.
pub fn remove_temporary(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if is_temporary(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Locks a folder against other writers until the result is dropped; `None` if another writer has
/// the lock.
pub fn lock(dir: &Path) -> io::Result<Option<File>> {
    let file = File::open(dir)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_and_synced() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Unsynced::default();
        for name in ["a", "b", "c"] {
            files.write(dir.path().join(name), name.as_bytes()).unwrap();
        }
        let error = files.write(dir.path().join("missing").join("d"), b"d").unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
        files.sync(dir.path()).unwrap();
        for name in ["a", "b", "c"] {
            assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), name);
        }
        Unsynced::default().sync(&dir.path().join("nowhere")).unwrap_err();
    }
}
