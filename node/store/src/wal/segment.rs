//! Segment files of the log: their names, their making, and the spare one.
//!
//! A write into bytes that the file already has costs half the time of one that makes it grow,
//! because the file system then has no metadata to commit. So a segment is zeroed before its use,
//! and a purged one is kept as the spare and used again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::StoreError;
use crate::files;
use crate::wal::record::{self, END, HEADER_BYTES};

const SUFFIX: &str = ".wal";
/// The number of a log's first segment ever.
pub(crate) const FIRST: u64 = 1;
const ZEROS_BYTES: usize = 256 * 1024;
/// The spare is synced in steps, so that its zeros do not stand in the way of the log's own syncs.
const ZEROS_SYNC_BYTES: u64 = 4 * 1024 * 1024;

pub(crate) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}{SUFFIX}"))
}

fn spare_path(dir: &Path) -> PathBuf {
    dir.join("spare")
}

/// The numbers of the segments in the folder, ascending. Half-made files are removed.
pub(crate) fn list(dir: &Path) -> Result<Vec<u64>, StoreError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io("read folder", dir))? {
        let entry = entry.map_err(StoreError::io("read folder", dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(".tmp") {
            fs::remove_file(entry.path()).map_err(StoreError::io("remove", &entry.path()))?;
        } else if let Some(number) = name.strip_suffix(SUFFIX).and_then(|digits| digits.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Opens a segment and reads its header: the file, its length and its salt.
pub(crate) fn open(dir: &Path, number: u64) -> Result<(File, u64, u64), StoreError> {
    let path = path_of(dir, number);
    let mut file =
        OpenOptions::new().read(true).write(true).open(&path).map_err(StoreError::io("open", &path))?;
    let len = file.metadata().map_err(StoreError::io("examine", &path))?.len();
    let mut bytes = [0; HEADER_BYTES];
    match file.read_exact(&mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(StoreError::corrupt(&path, 0, "it is shorter than a header"));
        }
        Err(error) => return Err(StoreError::io("read", &path)(error)),
    }
    let salt =
        record::parse_header(&bytes, number).map_err(|detail| StoreError::corrupt(&path, 0, detail))?;
    Ok((file, len, salt))
}

/// Makes a segment, durably: from the spare where `spare`, else anew with `bytes` zeroed bytes.
/// It appears under its name with its header in place or not at all; repeating it is safe.
pub(crate) fn create(
    dir: &Path,
    number: u64,
    salt: u64,
    bytes: u64,
    spare: bool,
) -> Result<File, StoreError> {
    let path = path_of(dir, number);
    let made = if spare { spare_path(dir) } else { path.with_extension("tmp") };
    let failed = || StoreError::io("make log segment", &made);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&made);
    let file = opened.map_err(failed())?;
    if !spare {
        zero(&file, &made, bytes, || false)?;
    }
    let head = [&record::header(number, salt)[..], &END].concat();
    file.write_all_at(&head, 0).map_err(failed())?;
    file.sync_all().map_err(StoreError::sync(&made))?;
    fs::rename(&made, &path).map_err(StoreError::io("rename", &made))?;
    files::sync_dir(dir)?;
    Ok(file)
}

/// Begins a log: a first segment, with no record in it, where there is none. From then on a log without a
/// segment is one that was lost, and never one that had not begun.
pub(crate) fn begin(dir: &Path, salt: u64) -> Result<(), StoreError> {
    if list(dir)?.is_empty() {
        create(dir, FIRST, salt, 0, false)?;
    }
    Ok(())
}

fn zero(file: &File, path: &Path, bytes: u64, stop: impl Fn() -> bool) -> Result<(), StoreError> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut at = 0;
    while at < bytes && !stop() {
        let step = (bytes - at).min(ZEROS_BYTES as u64);
        file.write_all_at(&zeros[..step as usize], at).map_err(StoreError::io("make log segment", path))?;
        at += step;
        if at % ZEROS_SYNC_BYTES == 0 {
            file.sync_data().map_err(StoreError::sync(path))?;
        }
    }
    Ok(())
}

/// True where a spare of that size is at hand.
pub(crate) fn has_spare(dir: &Path, bytes: u64) -> bool {
    fs::metadata(spare_path(dir)).is_ok_and(|meta| meta.len() == bytes)
}

/// Makes the spare. Blocks for as long as the disk takes to write it; false where `stop` ended it.
pub(crate) fn make_spare(dir: &Path, bytes: u64, stop: &AtomicBool) -> Result<bool, StoreError> {
    let staged = dir.join("spare.tmp");
    let made = (|| {
        let opened = OpenOptions::new().write(true).create(true).truncate(true).open(&staged);
        let file = opened.map_err(StoreError::io("make spare log segment", &staged))?;
        zero(&file, &staged, bytes, || stop.load(Ordering::Relaxed))?;
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        file.sync_all().map_err(StoreError::sync(&staged))?;
        Ok(true)
    })();
    match made {
        Ok(true) => {
            fs::rename(&staged, spare_path(dir)).map_err(StoreError::io("rename", &staged))?;
            files::sync_dir(dir)?;
            Ok(true)
        }
        other => {
            // What is left of it would hold room that the log itself may need.
            let _ = fs::remove_file(&staged);
            other
        }
    }
}

/// Takes a segment out of the log: it becomes the spare where one is wanted and the size is right.
/// True where it did.
pub(crate) fn retire(dir: &Path, number: u64, spare_wanted: bool, bytes: u64) -> Result<bool, StoreError> {
    let path = path_of(dir, number);
    if spare_wanted && fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes) {
        fs::rename(&path, spare_path(dir)).map_err(StoreError::io("rename", &path))?;
        return Ok(true);
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
        _ => Ok(false),
    }
}
