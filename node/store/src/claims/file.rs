//! A file of claims, in the order of their numbers.
//!
//! ```text
//! header   magic[8] format:u32 first:u64 crc:u32 zeros[40]                    = 64 bytes
//! claim    64 bytes each                       (see `skep_state::kinds::claims::remembered`)
//! ```
//!
//! Little-endian; the header's `crc` covers what is before it.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use skep_state::kinds::claims::remembered::{CLAIM_BYTES, Remembered};

use crate::error::StoreError;
use crate::segments::{SegmentMeta, open_with_header};

const MAGIC: &[u8; 8] = b"SKEPCLM\n";
const FORMAT: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 64;
const CRC_AT: usize = 20;
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// The file's name; the generation sets apart what a snapshot brought from what it replaced.
pub(crate) fn path(dir: &Path, generation: u64, first: u64) -> PathBuf {
    dir.join(format!("{generation:08}-{first:016}.clm"))
}

pub(crate) fn header(first: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..CRC_AT].copy_from_slice(&first.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..CRC_AT]);
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Where the claim lies that has so many before it in the file: the file's length, with so many.
pub(crate) fn offset(claims: u64) -> Option<u64> {
    claims.checked_mul(CLAIM_BYTES as u64)?.checked_add(HEADER_BYTES as u64)
}

/// Opens a file that has what is told of it at least.
pub(super) fn open_checked(path: &Path, meta: SegmentMeta) -> Result<File, StoreError> {
    open_with_header(path, meta.len, &header(meta.first_seq), "claims")
}

/// Reads and checks every claim from a number on.
pub(super) fn scan(
    file: &File,
    path: &Path,
    meta: SegmentMeta,
    from: u64,
    mut each: impl FnMut(Remembered) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut file = file.try_clone().map_err(StoreError::io("open", path))?;
    let from = from.max(meta.first_seq);
    let begins = offset(from - meta.first_seq).unwrap_or(u64::MAX);
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(begins)).map_err(StoreError::io("read", path))?;
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, file);
    let mut bytes = [0; CLAIM_BYTES];
    for number in from..meta.first_seq.saturating_add(meta.count) {
        reader.read_exact(&mut bytes).map_err(StoreError::io("read", path))?;
        each(claim(path, number, number - meta.first_seq, &bytes)?)?;
    }
    Ok(())
}

/// The claim of this number, at its place in the file.
pub(super) fn claim(
    path: &Path,
    number: u64,
    at: u64,
    bytes: &[u8; CLAIM_BYTES],
) -> Result<Remembered, StoreError> {
    let corrupt = |detail: String| StoreError::corrupt(path, offset(at).unwrap_or(u64::MAX), detail);
    Remembered::of_bytes(number, bytes).map_err(|invalid| corrupt(invalid.0))
}

/// Checks the claims of a file that count: those from a number on. What is wrong with one that is forgotten harms
/// nobody.
pub(crate) fn check(path: &Path, meta: SegmentMeta, first: u64) -> Result<(), StoreError> {
    let file = open_checked(path, meta)?;
    // What the disk has is asked for, and not what the kernel remembers.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    scan(&file, path, meta, first, |_| Ok(()))
}
