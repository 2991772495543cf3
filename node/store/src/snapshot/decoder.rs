//! The snapshot format's reading side, without I/O: bytes in, however they were cut; events out.
//! It holds no more than one chunk and what was pushed.

use std::io;
use std::sync::Arc;

use crate::manifest::{HEADER_BYTES_MAX, SnapshotHeader};
use crate::snapshot::{CHUNK_BYTES_MAX, CHUNK_HEAD_BYTES, END_BYTES, MAGIC, PREFIX_BYTES, SNAPSHOT_FORMAT};
use bytes::{Buf, Bytes, BytesMut};

/// What the bytes have come to.
#[derive(Debug)]
pub(crate) enum Event {
    /// Bytes of the header, as they come. Whoever takes them puts them aside: there may be many.
    HeaderBytes(Bytes),
    /// They are whole, and as they were sent. Nothing more comes of the decoder until it is [told](Decoder::go_on) what they
    /// say.
    HeaderEnd {
        format: u32,
        len: usize,
        /// Theirs, for who reads them where they were put aside.
        crc: u32,
    },
    /// Bytes of a file, checked; `done` with its last.
    Bytes {
        segment: usize,
        offset: u64,
        bytes: Bytes,
        done: bool,
    },
    End,
}

#[derive(Default)]
pub(crate) struct Decoder {
    buffer: BytesMut,
    header: Head,
    segment: usize,
    offset: u64,
    position: u64,
    ended: bool,
}

/// How far the header is.
#[derive(Default)]
enum Head {
    /// Its length has not come.
    #[default]
    Unknown,
    Coming(Coming),
    /// All of it has come.
    Whole,
    Known(Arc<SnapshotHeader>),
}

struct Coming {
    format: u32,
    len: usize,
    left: usize,
    crc: u32,
    hasher: crc32fast::Hasher,
}

fn invalid(detail: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail.into())
}

impl Decoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes of the snapshot have been understood.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next event, or none until more is pushed.
    pub(crate) fn next(&mut self) -> io::Result<Option<Event>> {
        match &self.header {
            _ if self.ended && self.buffer.is_empty() => Ok(None),
            _ if self.ended => Err(invalid("bytes follow the snapshot's end")),
            Head::Unknown => self.next_prefix(),
            Head::Coming(_) => self.next_header_bytes(),
            Head::Whole => Ok(None),
            Head::Known(header) => {
                let header = header.clone();
                self.next_chunk(&header)
            }
        }
    }

    /// What the header says.
    pub(crate) fn go_on(&mut self, header: Arc<SnapshotHeader>) {
        self.header = Head::Known(header);
    }

    /// Fails unless the end mark has come.
    pub(crate) fn finish(&self) -> io::Result<()> {
        match self.ended && self.buffer.is_empty() {
            true => Ok(()),
            false => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the snapshot ends before its end mark"))
            }
        }
    }

    fn u32_at(&self, at: usize) -> u32 {
        let b = &self.buffer;
        u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
    }

    fn take(&mut self, skip: usize, len: usize) -> Bytes {
        self.buffer.advance(skip);
        self.position += (skip + len) as u64;
        self.buffer.split_to(len).freeze()
    }

    fn next_prefix(&mut self) -> io::Result<Option<Event>> {
        let magic = self.buffer.len().min(MAGIC.len());
        if self.buffer[..magic] != MAGIC[..magic] {
            return Err(invalid("it does not begin like a snapshot"));
        }
        if self.buffer.len() < PREFIX_BYTES {
            return Ok(None);
        }
        let format = self.u32_at(8);
        if !(1..=SNAPSHOT_FORMAT).contains(&format) {
            let detail = format!("snapshot format {format}; this program reads 1 to {SNAPSHOT_FORMAT}");
            return Err(invalid(detail));
        }
        let (len, crc) = (self.u32_at(12) as usize, self.u32_at(16));
        if len > HEADER_BYTES_MAX {
            return Err(invalid(format!("the snapshot's header says that it has {len} bytes")));
        }
        self.take(PREFIX_BYTES, 0);
        self.header = Head::Coming(Coming { format, len, left: len, crc, hasher: crc32fast::Hasher::new() });
        self.next_header_bytes()
    }

    fn next_header_bytes(&mut self) -> io::Result<Option<Event>> {
        let Head::Coming(coming) = &mut self.header else { return Ok(None) };
        if coming.left == 0 {
            let Coming { format, len, crc, ref hasher, .. } = *coming;
            if hasher.clone().finalize() != crc {
                return Err(invalid("the checksum of the snapshot's header does not match"));
            }
            self.header = Head::Whole;
            return Ok(Some(Event::HeaderEnd { format, len, crc }));
        }
        let some = coming.left.min(self.buffer.len());
        if some == 0 {
            return Ok(None);
        }
        let bytes = self.buffer.split_to(some).freeze();
        coming.hasher.update(&bytes);
        coming.left -= some;
        self.position += some as u64;
        Ok(Some(Event::HeaderBytes(bytes)))
    }

    fn next_chunk(&mut self, header: &SnapshotHeader) -> io::Result<Option<Event>> {
        if self.buffer.len() < CHUNK_HEAD_BYTES {
            return Ok(None);
        }
        let Some((_, meta)) = header.file(self.segment) else {
            return self.next_end(header);
        };
        let (len, crc) = (self.u32_at(0) as usize, self.u32_at(4));
        let left = meta.len - self.offset;
        if len == 0 || len > CHUNK_BYTES_MAX || len as u64 > left {
            return Err(invalid(format!("a chunk of {len} bytes where {left} of the segment are left")));
        }
        if self.buffer.len() < CHUNK_HEAD_BYTES + len {
            return Ok(None);
        }
        let bytes = self.take(CHUNK_HEAD_BYTES, len);
        if crc32fast::hash(&bytes) != crc {
            return Err(invalid("a chunk's checksum does not match"));
        }
        let (segment, offset) = (self.segment, self.offset);
        self.offset += len as u64;
        let done = self.offset == meta.len;
        if done {
            (self.segment, self.offset) = (segment + 1, 0);
        }
        Ok(Some(Event::Bytes { segment, offset, bytes, done }))
    }

    fn next_end(&mut self, header: &SnapshotHeader) -> io::Result<Option<Event>> {
        if self.buffer.len() < END_BYTES {
            return Ok(None);
        }
        let end = self.take(0, END_BYTES);
        let (mark, crc) = end.split_at(END_BYTES - 4);
        let total = header.file_bytes().to_le_bytes();
        if mark[..4] != [0; 4] || mark[4..] != total || crc != crc32fast::hash(mark).to_le_bytes() {
            return Err(invalid("the snapshot's end mark is wrong"));
        }
        self.ended = true;
        Ok(Some(Event::End))
    }
}
