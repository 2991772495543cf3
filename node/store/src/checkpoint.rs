//! The checkpoint file: one consistent state of the store, replaced in one step.
//!
//! ```text
//! magic[8] format:u32 len:u32 crc:u32 generation:u64 header[len - 8]
//! ```
//!
//! The format is that of the header.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use skep_state::part::Source as _;

use crate::error::StoreError;
use crate::files;
use crate::from_file::FromFile;
use crate::manifest::{HEADER_BYTES_MAX, HEADER_FORMAT, Progress, SnapshotHeader};

const MAGIC: &[u8; 8] = b"SKEPCHK\n";
const HEAD_BYTES: usize = 20;
const GENERATION_BYTES: usize = 8;
/// Bytes that are written at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A checkpoint's contents.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checkpoint {
    /// In the names of the segments.
    pub generation: u64,
    pub header: SnapshotHeader,
}

/// Writes the checkpoint; durable on return. What it refers to must be durable before.
pub(crate) fn write(path: &Path, generation: u64, header: &SnapshotHeader) -> Result<(), StoreError> {
    let generation = generation.to_le_bytes();
    let outline = header.outline()?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation);
    hasher.combine(&outline.crc);
    let mut bytes = Vec::with_capacity(2 * CHUNK_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&outline.format.to_le_bytes());
    bytes.extend_from_slice(&((generation.len() + outline.len) as u32).to_le_bytes());
    bytes.extend_from_slice(&hasher.finalize().to_le_bytes());
    bytes.extend_from_slice(&generation);
    files::write_atomically(path, |file| {
        let mut progress = Progress::default();
        while header.fill(&outline, &mut progress, CHUNK_BYTES, &mut bytes)? {
            file.write_all(&bytes)?;
            bytes.clear();
        }
        file.write_all(&bytes)
    })
}

/// Reads the checkpoint, if there is one: twice, so that nothing is made of it before its checksum is known to be right,
/// and a part at a time. What is made of it has that checksum, too.
pub(crate) fn read(path: &Path) -> Result<Option<Checkpoint>, StoreError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let len = file.metadata().map_err(StoreError::io("read", path))?.len();
    let mut source = FromFile::new(&mut file);
    let read = read_from(&mut source, len, path);
    source.checked(path, read).map(Some)
}

fn read_from(source: &mut FromFile<'_>, len: u64, path: &Path) -> Result<Checkpoint, StoreError> {
    let corrupt = |detail: &str| StoreError::corrupt(path, 0, detail);
    let is_one =
        (HEAD_BYTES + GENERATION_BYTES) as u64..=(HEAD_BYTES + GENERATION_BYTES + HEADER_BYTES_MAX) as u64;
    let mut head = [0; HEAD_BYTES];
    if is_one.contains(&len) {
        source.fill(&mut head)?;
    }
    if &head[..8] != MAGIC {
        return Err(corrupt("it is not a checkpoint"));
    }
    let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let format = u32_at(8);
    if !(1..=HEADER_FORMAT).contains(&format) {
        let (found, expected) = (format.to_string(), format!("1 to {HEADER_FORMAT}"));
        return Err(StoreError::Format { path: path.to_path_buf(), found, expected });
    }
    let len = len as usize - HEAD_BYTES;
    if u32_at(12) as usize != len || u32_at(16) != source.checksum(len)? {
        return Err(corrupt("its checksum does not match"));
    }
    source.seek(HEAD_BYTES as u64)?;
    let mut generation = [0; GENERATION_BYTES];
    source.fill(&mut generation)?;
    let header = source.header(format, len - GENERATION_BYTES, u32_at(16));
    let header = header.map_err(|error| corrupt(&error.to_string()))?;
    Ok(Checkpoint { generation: u64::from_le_bytes(generation), header })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_written_and_refused_with_any_byte_changed_or_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, 3, &SnapshotHeader::empty()).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().generation, 3);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(read(&path).is_err(), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(read(&path).is_err(), "cut at {at}");
        }
    }
}
