//! Files that are there whole or not at all, and folders that have one writer at a time.

use crate::error::{Result, TraceError};
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use tempfile::NamedTempFile;

/// How temporary names end; they begin with a dot.
const ENDING: &str = ".partial";

/// A temporary file beside `path`, to become it by [`commit`].
pub fn begin(path: &Path) -> io::Result<NamedTempFile> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(ENDING);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As an ordinary new file, not private as temporary files are; the umask still applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    // The error names the temporary file; who called knows the file that was wanted.
    builder.tempfile_in(parent).map_err(|error| error.kind().into())
}

/// Syncs the temporary file and renames it to `path`, replacing what stood there.
pub fn commit(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Writes a whole file through `fill`; on an error `path` is as it was.
pub fn write(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = begin(path)?;
    fill(file.as_file_mut())?;
    commit(file, path)
}

/// Writes a whole file through `fill`, as [`write()`] does, but without waiting for the disk: for what says by itself
/// whether it is whole, and can be made again after a power failure.
pub fn write_unsynced(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = begin(path)?;
    fill(file.as_file_mut())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Files of a folder that are written, and perhaps not on disk yet.
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

    /// Waits until all, and their names in their folder, are on disk. It is asked for all of them at once, which takes
    /// little longer than for one.
    pub fn sync(self, dir: &Path) -> Result<()> {
        let sync = |(path, file): &(PathBuf, File)| file.sync_all().map_err(TraceError::io(path));
        thread::scope(|scope| {
            let begin = |file| thread::Builder::new().spawn_scoped(scope, move || sync(file)).map_err(|_| file);
            let waiting: Vec<_> = self.0.iter().map(begin).collect();
            waiting.into_iter().try_for_each(|file| match file {
                Ok(waiting) => waiting.join().expect("waiting does not panic"),
                // Without a thread of its own, then.
                Err(file) => sync(file),
            })
        })?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(TraceError::io(dir))
    }
}

/// Whether a file's name is a temporary one of this module.
pub fn is_temporary(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(ENDING))
}

/// Removes temporary files that a killed writer has left in a folder, which may be missing; others must be kept out.
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

/// Keeps other writers out of a folder until what it returns is dropped; `None` where one is there already.
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
