//! Files that are there whole or not at all, and folders that have one writer at a time.

use crate::error::{Result, TraceError};
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
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

/// Waits until files of a folder, and their names, are on disk. It is asked for all of them at once, which takes little
/// longer than for one.
pub fn sync(dir: &Path, names: &[&str]) -> Result<()> {
    let sync = |path: PathBuf| File::open(&path).and_then(|file| file.sync_all()).map_err(TraceError::io(path));
    thread::scope(|scope| {
        let begin = |name: &&str| {
            let path = dir.join(name);
            let waiting = thread::Builder::new().spawn_scoped(scope, {
                let path = path.clone();
                move || sync(path)
            });
            waiting.map_err(TraceError::io(&path))
        };
        let waiting: Vec<_> = names.iter().map(begin).collect();
        waiting.into_iter().try_for_each(|file| file?.join().expect("waiting does not panic"))
    })?;
    sync(dir.to_owned())
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
    fn files_are_synced_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c"];
        for name in names {
            fs::write(dir.path().join(name), name).unwrap();
        }
        sync(dir.path(), &names).unwrap();
        sync(dir.path(), &[]).unwrap();
        let error = sync(dir.path(), &["a", "missing", "c"]).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
        sync(&dir.path().join("nowhere"), &[]).unwrap_err();
    }
}
