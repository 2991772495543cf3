//! A file as a source of bytes that are read a part at a time.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crc32fast::Hasher;
use skep_base::codec::CodecError;
use skep_state::part::Source;

use crate::error::StoreError;

/// As many are read at once where they are only looked at.
const LOOK_BYTES: usize = 256 * 1024;

pub(crate) struct FromFile<'a> {
    file: &'a mut File,
    /// Of what was read since it was last sought.
    crc: Hasher,
    failed: Option<io::Error>,
}

impl Source for FromFile<'_> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), CodecError> {
        self.file.read_exact(bytes).map_err(|error| {
            let said = CodecError::Invalid(error.to_string());
            self.failed = Some(error);
            said
        })?;
        self.crc.update(bytes);
        Ok(())
    }
}

impl<'a> FromFile<'a> {
    /// From where the file stands.
    pub(crate) fn new(file: &'a mut File) -> Self {
        FromFile { file, crc: Hasher::new(), failed: None }
    }

    /// Goes on from this byte of the file.
    pub(crate) fn seek(&mut self, at: u64) -> Result<(), CodecError> {
        self.crc = Hasher::new();
        let sought = self.file.seek(SeekFrom::Start(at));
        sought.map(drop).map_err(|error| CodecError::Invalid(error.to_string()))
    }

    /// The checksum of the next so many bytes.
    pub(crate) fn checksum(&mut self, mut len: usize) -> Result<u32, CodecError> {
        let (mut hasher, mut bytes) = (Hasher::new(), vec![0; LOOK_BYTES.min(len)]);
        while len > 0 {
            let some = len.min(bytes.len());
            self.fill(&mut bytes[..some])?;
            hasher.update(&bytes[..some]);
            len -= some;
        }
        Ok(hasher.finalize())
    }

    /// Whether what was read since it was last sought has this checksum: a disk may give other bytes than it gave before.
    pub(crate) fn has(&self, checksum: u32) -> bool {
        self.crc.clone().finalize() == checksum
    }

    /// What the bytes came to; where the disk did not give them, that.
    pub(crate) fn checked<T>(self, path: &Path, found: Result<T, StoreError>) -> Result<T, StoreError> {
        match self.failed {
            Some(error) => Err(StoreError::io("read", path)(error)),
            None => found,
        }
    }
}
