//! Small file operations whose durability matters.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use crate::error::StoreError;

/// Makes the creation, renaming and removal of the folder's entries durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let opened = File::open(dir).map_err(StoreError::io("open folder", dir))?;
    opened.sync_all().map_err(StoreError::sync(dir))
}

/// Replaces a file in one step: after a crash it has its old contents or all of the new.
pub(crate) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), StoreError> {
    let staged = path.with_extension("tmp");
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&staged)?;
        write(&mut file)?;
        Ok(file)
    })();
    written.map_err(StoreError::io("write", &staged))?.sync_all().map_err(StoreError::sync(&staged))?;
    fs::rename(&staged, path).map_err(StoreError::io("rename", path))?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Creates the folder if need be, durably.
pub(crate) fn ensure_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(StoreError::io("create folder", dir))?;
    sync_dir(dir.parent().unwrap_or(Path::new(".")))
}
