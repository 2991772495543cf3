//! The files of segments: their names, and the removal of those that nobody knows.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// The data file's name; the generation sets apart segments that a snapshot brought from those
/// that it replaced.
pub(crate) fn segment_path(dir: &Path, generation: u64, first_seq: u64) -> PathBuf {
    dir.join(format!("{generation:08}-{first_seq:016}.seg"))
}

pub(crate) fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension("idx")
}

pub(crate) fn summary_path(segment: &Path) -> PathBuf {
    segment.with_extension("sum")
}

/// All files of a segment.
pub(crate) fn files_of(segment: &Path) -> [PathBuf; 3] {
    [segment.to_path_buf(), index_path(segment), summary_path(segment)]
}

/// Removes the files in the folder that are not among the known.
pub(crate) fn remove_strangers(dir: &Path, known: &HashSet<PathBuf>) -> Result<(), StoreError> {
    let entries = fs::read_dir(dir).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    for entry in entries.map_err(StoreError::io("read folder", dir))? {
        if !known.contains(&entry.path()) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

pub(crate) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
