//! Bytes that are read a part at a time: what is large is not there as bytes and as what they say at once.

use crc32fast::Hasher;
use skep_base::codec::{CodecError, VALUE_BYTES_MAX};

/// As many are asked for at once, where there are as many.
const ASKED_BYTES: usize = 64 * 1024;

/// Where bytes come from, in their order: memory, or a file.
pub trait Source {
    /// Fills all of this with the next ones.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), CodecError>;
}

impl Source for &[u8] {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), CodecError> {
        let (next, rest) = self.split_at_checked(bytes.len()).ok_or(CodecError::UnexpectedEnd)?;
        bytes.copy_from_slice(next);
        *self = rest;
        Ok(())
    }
}

/// The next bytes of a source, so many of them.
pub struct Part<'a> {
    source: &'a mut dyn Source,
    /// That the source has yet.
    unread: usize,
    /// Of all that was asked of the source.
    pub(crate) crc: Hasher,
    buffer: Vec<u8>,
    /// Where in the buffer what was not taken begins.
    at: usize,
}

impl<'a> Part<'a> {
    /// The source has so many: no memory is taken on the word of a length that goes beyond it.
    pub fn new(source: &'a mut dyn Source, len: usize) -> Self {
        Part { source, unread: len, crc: Hasher::new(), buffer: Vec::new(), at: 0 }
    }

    /// Bytes that were not taken.
    pub fn left(&self) -> usize {
        self.unread + self.buffer.len() - self.at
    }

    /// Takes the next ones.
    pub fn next(&mut self, len: usize) -> Result<&[u8], CodecError> {
        if len > self.left() {
            return Err(CodecError::UnexpectedEnd);
        }
        let held = self.buffer.len() - self.at;
        if held < len {
            self.buffer.drain(..self.at);
            self.at = 0;
            let more = (len - held).max(ASKED_BYTES).min(self.unread);
            self.buffer.resize(held + more, 0);
            self.source.fill(&mut self.buffer[held..])?;
            self.crc.update(&self.buffer[held..]);
            self.unread -= more;
        }
        let at = self.at;
        self.at += len;
        Ok(&self.buffer[at..self.at])
    }

    /// Takes as many as the four before them say, which are no more than a value has that is decoded.
    pub fn next_counted(&mut self) -> Result<&[u8], CodecError> {
        let len = self.next(4)?;
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
        if len > VALUE_BYTES_MAX {
            return Err(CodecError::TooLarge);
        }
        self.next(len)
    }

    /// Refuses what is left.
    pub fn end(&self) -> Result<(), CodecError> {
        match self.left() {
            0 => Ok(()),
            left => Err(CodecError::TrailingBytes(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_in_their_order_however_they_are_cut_and_none_beyond_the_end() {
        let bytes: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
        for step in [1, 7, 1_000, ASKED_BYTES, ASKED_BYTES + 1, bytes.len()] {
            let mut source = &bytes[..];
            let mut part = Part::new(&mut source, bytes.len());
            let mut taken = Vec::new();
            while part.left() > 0 {
                taken.extend_from_slice(part.next(step.min(part.left())).unwrap());
            }
            assert!(part.next(1).is_err() && part.end().is_ok());
            assert_eq!(part.crc.finalize(), crc32fast::hash(&bytes));
            assert!(taken == bytes, "steps of {step}");
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_before_it_takes_memory() {
        let bytes = u32::MAX.to_le_bytes();
        let mut source = &bytes[..];
        let mut part = Part::new(&mut source, 4);
        assert!(part.next_counted().is_err());
        assert_eq!(part.buffer.len(), 4);
    }
}
