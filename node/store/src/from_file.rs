//! A file as a source of bytes that are read a part at a time.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crc32fast::Hasher;
use skep_base::codec::CodecError;
use skep_state::part::Source;

use crate::error::StoreError;
use crate::manifest::{SnapshotHeader, read_header};

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

    /// A header of so many bytes. What was read since the file was last sought, and it, have this checksum, by which they
    /// were judged before: a disk may give other bytes than it gave then.
    pub(crate) fn header(&mut self, format: u32, len: usize, crc: u32) -> Result<SnapshotHeader, StoreError> {
        let header = read_header(format, self, len)?;
        match self.crc.clone().finalize() == crc {
            true => Ok(header),
            false => Err(CodecError::Invalid("they were read twice, and are not the same".into()).into()),
        }
    }

    /// What the bytes came to; where the disk did not give them, that.
    pub(crate) fn checked<T>(self, path: &Path, found: Result<T, StoreError>) -> Result<T, StoreError> {
        match self.failed {
            Some(error) => Err(StoreError::io("read", path)(error)),
            None => found,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_header_that_is_not_what_was_judged_before_is_refused_though_it_can_be_read() {
        let (format, bytes) = SnapshotHeader::empty().encode().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b"before ", &bytes[..]].concat()).unwrap();
        let crc = crc32fast::hash(&bytes);
        for (judged, is_taken) in [(crc, true), (crc ^ 1, false)] {
            let mut source = FromFile::new(&mut file);
            source.seek(0).unwrap();
            source.checksum(7).unwrap();
            source.seek(7).unwrap();
            assert_eq!(source.header(format, bytes.len(), judged).is_ok(), is_taken);
        }
    }
}
