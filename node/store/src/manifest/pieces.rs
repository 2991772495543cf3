//! A header's bytes, a piece at a time: with a million tasks it has a hundred megabytes, which nobody holds as a whole.

use crc32fast::Hasher;
use skep_base::codec::{self, CodecError};
use skep_state::kind::Record as _;
use skep_state::kinds::claims::ClaimsRecord;
use skep_state::kinds::messages::removed::RemovedRecord;
use skep_state::kinds::tasks::TasksRecord;
use skep_state::level::Level;
use skep_state::section;

use super::{Files, HEADER_BYTES_MAX, HEADER_FORMAT, SnapshotHeader, legacy};

/// What a header comes to, known before its bytes are made.
#[derive(Debug)]
pub(crate) struct Outline {
    pub format: u32,
    pub len: usize,
    /// Of all its bytes, to go on with.
    pub crc: Hasher,
    /// What comes before the sections; all of it where there are none.
    front: Vec<u8>,
    sections: Option<section::Outline>,
}

/// How far a header's bytes are made.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    has_front: bool,
    sections: section::Progress,
    /// Of what was made.
    crc: Hasher,
    len: usize,
}

impl SnapshotHeader {
    /// Its format, length and checksum: sections where the cluster's level has them, else what a program of the
    /// version before reads.
    pub(crate) fn outline(&self) -> Result<Outline, CodecError> {
        let (format, front, sections) = match self.kinds.common.level < Level::SECTIONS {
            true => {
                let (format, bytes) = legacy::encode(self)?;
                (format, bytes, None)
            }
            false => (HEADER_FORMAT, self.front()?, Some(self.kinds.outline()?)),
        };
        let len = front.len() + sections.as_ref().map_or(0, section::Outline::size);
        if len > HEADER_BYTES_MAX {
            return Err(CodecError::TooLarge);
        }
        let mut crc = Hasher::new();
        crc.update(&front);
        if let Some(sections) = &sections {
            crc.combine(sections.crc());
        }
        Ok(Outline { format, len, crc, front, sections })
    }

    /// The files.
    fn front(&self) -> Result<Vec<u8>, CodecError> {
        let mut segments = vec![(RemovedRecord::ID.0, self.segments.clone())];
        if !self.claim_files.is_empty() {
            segments.push((ClaimsRecord::ID.0, self.claim_files.clone()));
        }
        if !self.payload_files.is_empty() {
            segments.push((TasksRecord::ID.0, self.payload_files.clone()));
        }
        let (last_log_id, membership) = (self.last_log_id, self.membership.clone());
        let files = codec::encode(&Files { last_log_id, membership, segments })?;
        let mut bytes = Vec::from((files.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&files);
        Ok(bytes)
    }

    /// Appends its next bytes until there are at least so many, or none are left; whether some may be left. What they
    /// come to is what the outline says, which was made of them before: else the last of them are an error.
    pub(crate) fn fill(
        &self,
        outline: &Outline,
        progress: &mut Progress,
        enough: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<bool, CodecError> {
        let from = bytes.len();
        let are_left = self.fill_some(outline, progress, enough, bytes)?;
        progress.crc.update(&bytes[from..]);
        progress.len += bytes.len() - from;
        let crc = |hasher: &Hasher| hasher.clone().finalize();
        if !are_left && (progress.len, crc(&progress.crc)) != (outline.len, crc(&outline.crc)) {
            return Err(CodecError::Invalid("its bytes are not those that were counted before".into()));
        }
        Ok(are_left)
    }

    fn fill_some(
        &self,
        outline: &Outline,
        progress: &mut Progress,
        enough: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<bool, CodecError> {
        if !progress.has_front {
            progress.has_front = true;
            bytes.extend_from_slice(&outline.front);
        }
        let Some(sections) = &outline.sections else { return Ok(false) };
        while bytes.len() < enough {
            if !self.kinds.next_piece(sections, &mut progress.sections, bytes)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Its format, and all its bytes.
    #[doc(hidden)]
    pub fn encode(&self) -> Result<(u32, Vec<u8>), CodecError> {
        let outline = self.outline()?;
        let mut bytes = Vec::with_capacity(outline.len);
        self.fill(&outline, &mut Progress::default(), usize::MAX, &mut bytes)?;
        Ok((outline.format, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_those_of_the_outline_are_an_error_before_they_are_all_there() {
        let mut header = SnapshotHeader::empty();
        for level in [Level::FIRST, Level::SECTIONS] {
            header.kinds.common.level = level;
            let mut outline = header.outline().unwrap();
            let fill = |outline: &Outline| {
                header.fill(outline, &mut Progress::default(), usize::MAX, &mut Vec::new())
            };
            assert!(matches!(fill(&outline), Ok(false)));
            outline.crc.update(b"more");
            assert!(fill(&outline).is_err());
        }
    }
}
