//! Files that are there whole or not at all, and folders that have one writer at a time.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use tempfile::NamedTempFile;

/// A temporary file beside `path`, to become it by [`commit`].
pub fn begin(path: &Path) -> io::Result<NamedTempFile> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".partial");
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

/// Keeps other writers out of a folder until what it returns is dropped; `None` where one is there already.
pub fn lock(dir: &Path) -> io::Result<Option<File>> {
    let file = File::open(dir)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
