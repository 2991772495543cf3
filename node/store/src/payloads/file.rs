//! A file of tasks' bytes.
//!
//! ```text
//! header   magic[8] format:u32 number:u32 crc:u32 zeros[12]                   = 32 bytes
//! bytes    of one task after the other; a place has their checksum            (see `skep_state::heap`)
//! ```
//!
//! Little-endian; the header's `crc` covers what is before it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use skep_state::heap::Place;
use skep_state::kinds::tasks::TasksRecord;
use skep_state::task::PAYLOAD_BYTES_MAX;

use crate::error::StoreError;
use crate::segments::{SegmentFile, SegmentMeta, Wait, open_file, open_with_header, remove_if_there};

const MAGIC: &[u8; 8] = b"SKEPPAY\n";
const FORMAT: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 32;
const CRC_AT: usize = 16;
/// Most files: with each other one that is half full there are as many as tasks' bytes can fill, and some that wait to
/// be moved.
const FILES_MAX: usize = 1 << 16;
/// Beyond it no checkpoint has a number: there are as many again for what comes.
const NUMBER_MAX: u64 = 1 << 31;

/// The file's name; the generation sets apart what a snapshot brought from what it replaced.
pub(crate) fn path(dir: &Path, generation: u64, number: u32) -> PathBuf {
    dir.join(format!("{generation:08}-{number:010}.pay"))
}

/// A file's number, as a checkpoint says it.
pub(super) fn number(meta: SegmentMeta) -> Result<u32, StoreError> {
    let many = |_| StoreError::Stopped(format!("no file of tasks' bytes has the number {}", meta.first_seq));
    u32::try_from(meta.first_seq).map_err(many)
}

/// Removes the files that a snapshot has replaced. Those of its own generation are being made meanwhile, and no list
/// that was taken before has them all.
pub(crate) fn remove_replaced(dir: &Path, generation: u64) -> Result<(), StoreError> {
    let own = format!("{generation:08}-");
    let entries = fs::read_dir(dir).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    for entry in entries.map_err(StoreError::io("read folder", dir))? {
        if !entry.file_name().to_string_lossy().starts_with(&own) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn header(number: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..CRC_AT].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..CRC_AT]);
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Makes one, with its header. After a crash, one of that name may be left from before the checkpoint was cut back to.
pub(super) fn create(path: &Path, number: u32) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let file = open_file(&mut options, path).map_err(StoreError::io("create", path))?;
    file.write_all_at(&header(number), 0).map_err(StoreError::io("write", path))?;
    Ok(file)
}

/// Opens a file that has what is told of it at least.
pub(super) fn open_checked(path: &Path, meta: SegmentMeta) -> Result<File, StoreError> {
    open_with_header(path, meta.len, &header(number(meta)?), "bytes of tasks")
}

/// Whether it is a file of tasks' bytes. What lies in it is checked by who reads it.
pub(crate) fn check(path: &Path, meta: SegmentMeta) -> Result<(), StoreError> {
    open_checked(path, meta).map(drop)
}

/// Reads all that tasks have in a file, and checks it.
pub(crate) fn check_places(path: &Path, meta: SegmentMeta, tasks: &TasksRecord) -> Result<(), StoreError> {
    let opened = open_checked(path, meta)?;
    // What the disk has is asked for, and not what the kernel remembers.
    let _ = rustix::fs::fadvise(&opened, 0, None, rustix::fs::Advice::DontNeed);
    let file = SegmentFile::held(path.to_path_buf(), opened);
    for place in tasks.places().filter(|place| u64::from(place.file) == meta.first_seq) {
        if !place.is_of(&super::read(&file, place, Wait::ForDisk)?) {
            let detail = "it has other bytes than a task's";
            return Err(StoreError::corrupt(path, place.offset.into(), detail));
        }
    }
    Ok(())
}

/// Whether all bytes of tasks are in these files, which follow so many bytes of others.
pub(crate) fn are_in(files: &[SegmentMeta], tasks: &TasksRecord, mut total: u64) -> bool {
    let mut lens = BTreeMap::new();
    let mut last: Option<u64> = None;
    for file in files {
        let fits = file.first_seq <= NUMBER_MAX
            && last.is_none_or(|last| last < file.first_seq)
            && file.count == 1
            && (HEADER_BYTES as u64 + 1..=u64::from(u32::MAX)).contains(&file.len);
        match total.checked_add(file.len) {
            Some(sum) if fits => total = sum,
            _ => return false,
        }
        last = Some(file.first_seq);
        lens.insert(file.first_seq, file.len);
    }
    let is_there = |place: Place| {
        place.offset as usize >= HEADER_BYTES
            && place.bytes() <= PAYLOAD_BYTES_MAX
            && lens.get(&u64::from(place.file)).is_some_and(|len| place.end() <= *len)
    };
    files.len() <= FILES_MAX
        && files.iter().filter(|file| !file.sealed).count() <= 1
        && tasks.places().all(is_there)
}
