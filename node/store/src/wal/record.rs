//! The bytes of a log segment: a header, then records, each of which proves itself.
//!
//! ```text
//! header   magic[8] format:u32 number:u64 salt:u64 crc:u32                      = 32 bytes
//! record   len:u32 synced:u32 body_crc:u32 head_crc:u32, then kind:u8 payload   = 16 + len bytes
//! ```
//!
//! All little-endian; a record is padded with zeros to a multiple of 8, so that a search for records
//! has fewer places to look at. `head_crc` covers the segment's random salt and the record's offset, so that
//! neither what a recycled file held before nor a client's bytes inside an entry pass for a record.
//! `synced` is how far the segment was durable when the record was written: a damaged spot before
//! it was durable once, so it is corruption; one after it may be a write that a crash tore.
//! A head of zeros ends the records: each batch is written with one behind it.

use openraft::EntryPayload;
use openraft::impls::EmptyNode;
use serde::{Deserialize, Serialize};
use skep_base::codec::{self, CodecError, VALUE_BYTES_MAX};
use skep_base::id::RawNodeId;
use skep_state::command::Command;

use skep_raft::types::{Entry, LogId, Vote};

pub(crate) const MAGIC: &[u8; 8] = b"SKEPWAL\n";
pub(crate) const FORMAT: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 32;
pub(crate) const HEAD_BYTES: usize = 16;
/// Kind, term and index before an entry's payload.
pub(crate) const ENTRY_PREFIX_BYTES: usize = 17;
/// A record's body: the largest payload and what stands before it.
pub(crate) const BODY_BYTES_MAX: usize = VALUE_BYTES_MAX + 64;
/// Records begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// The zeros behind each batch.
pub(crate) const END: [u8; HEAD_BYTES] = [0; HEAD_BYTES];

type Payload = EntryPayload<Command, RawNodeId, EmptyNode>;

/// What a record says, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first of each segment: what the segments before it came to.
    State = 1,
    Entry = 2,
    Vote = 3,
    Committed = 4,
    /// Entries after this one are gone.
    Truncate = 5,
    /// Entries up to this one are gone.
    Purge = 6,
    /// The last of its segment; the next one exists or is about to.
    Seal = 7,
}

impl Kind {
    pub(crate) fn of(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::State,
            2 => Kind::Entry,
            3 => Kind::Vote,
            4 => Kind::Committed,
            5 => Kind::Truncate,
            6 => Kind::Purge,
            7 => Kind::Seal,
            _ => return None,
        })
    }
}

/// What outlives the purge of the segment in which it was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StateRecord {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
}

/// A record's head, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub len: u32,
    pub synced: u32,
    pub body_crc: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn head_crc(salt: u64, offset: u64, first_12: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(first_12);
    // A head of zeros is the end mark, so no valid head may be one.
    hasher.finalize().max(1)
}

/// A segment's header.
pub(crate) fn header(number: u64, salt: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..20].copy_from_slice(&number.to_le_bytes());
    bytes[20..28].copy_from_slice(&salt.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The salt of a segment with this number, or what is wrong with its header.
pub(crate) fn parse_header(bytes: &[u8; HEADER_BYTES], number: u64) -> Result<u64, String> {
    if &bytes[..8] != MAGIC {
        return Err("it does not begin like a log segment".into());
    }
    if crc32fast::hash(&bytes[..28]) != u32_at(bytes, 28) {
        return Err("its header's checksum does not match".into());
    }
    match u32_at(bytes, 8) {
        FORMAT => {}
        format => return Err(format!("its format is {format}; this program reads {FORMAT}")),
    }
    match u64_at(bytes, 12) {
        found if found == number => Ok(u64_at(bytes, 20)),
        found => Err(format!("its header says segment {found}")),
    }
}

/// Appends a record to a batch; its head is filled in by [`fill_heads`]. On an error `bytes` is
/// as it was.
pub(crate) fn push<E>(
    bytes: &mut Vec<u8>,
    kind: Kind,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = bytes.len();
    bytes.extend_from_slice(&END);
    bytes.push(kind as u8);
    if let Err(error) = encode(bytes) {
        bytes.truncate(start);
        return Err(error);
    }
    let len = (bytes.len() - start - HEAD_BYTES) as u32;
    bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
    bytes.resize(start + record_bytes(len) as usize, 0);
    Ok(())
}

/// The bytes that a record with a body of `len` bytes takes.
pub(crate) fn record_bytes(len: u32) -> u64 {
    (HEAD_BYTES as u64 + u64::from(len)).next_multiple_of(ALIGN as u64)
}

/// Appends an entry's record.
pub(crate) fn push_entry(bytes: &mut Vec<u8>, entry: &Entry) -> Result<(), CodecError> {
    push(bytes, Kind::Entry, |bytes| {
        bytes.extend_from_slice(&entry.log_id.leader_id.term.to_le_bytes());
        bytes.extend_from_slice(&entry.log_id.index.to_le_bytes());
        codec::encode_into(&entry.payload, bytes)
    })
}

/// The log id of an entry's body, without decoding the payload.
pub(crate) fn entry_log_id(body: &[u8]) -> Option<LogId> {
    (body.len() >= ENTRY_PREFIX_BYTES && body[0] == Kind::Entry as u8)
        .then(|| LogId::new_term_index(u64_at(body, 1), u64_at(body, 9)))
}

/// The entry of an entry's body.
pub(crate) fn parse_entry(body: &[u8]) -> Result<Entry, CodecError> {
    let log_id = entry_log_id(body).ok_or(CodecError::UnexpectedEnd)?;
    let payload: Payload = codec::decode(&body[ENTRY_PREFIX_BYTES..])?;
    Ok(Entry { log_id, payload })
}

/// Completes the heads of a batch's records, which begin `skip` bytes into `bytes`; `offset` is
/// where `bytes` begins in the segment.
pub(crate) fn fill_heads(bytes: &mut [u8], skip: usize, salt: u64, offset: u64, synced: u32) {
    let mut at = skip;
    while at + HEAD_BYTES <= bytes.len() {
        let len = u32_at(bytes, at);
        let body = at + HEAD_BYTES;
        let body_crc = crc32fast::hash(&bytes[body..body + len as usize]);
        bytes[at + 4..at + 8].copy_from_slice(&synced.to_le_bytes());
        bytes[at + 8..at + 12].copy_from_slice(&body_crc.to_le_bytes());
        let crc = head_crc(salt, offset + at as u64, &bytes[at..at + 12]);
        bytes[at + 12..at + 16].copy_from_slice(&crc.to_le_bytes());
        at += record_bytes(len) as usize;
    }
}

/// A head that belongs to this place, if these bytes are one.
pub(crate) fn parse_head(bytes: &[u8], salt: u64, offset: u64) -> Option<Head> {
    let bytes = bytes.get(..HEAD_BYTES)?;
    let head = Head { len: u32_at(bytes, 0), synced: u32_at(bytes, 4), body_crc: u32_at(bytes, 8) };
    let fits = head.len >= 1 && head.len as usize <= BODY_BYTES_MAX;
    (fits && head_crc(salt, offset, &bytes[..12]) == u32_at(bytes, 12)).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote_records(count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for term in 0..count {
            push(&mut bytes, Kind::Vote, |b| codec::encode_into(&Vote::new(term, 1), b)).unwrap();
        }
        bytes
    }

    #[test]
    fn a_record_is_valid_at_its_own_place_in_its_own_segment_alone() {
        let mut bytes = vote_records(1);
        fill_heads(&mut bytes, 0, 7, 32, 32);
        assert!(parse_head(&bytes, 7, 32).is_some());
        assert!(parse_head(&bytes, 8, 32).is_none());
        assert!(parse_head(&bytes, 7, 33).is_none());
    }

    #[test]
    fn a_head_of_zeros_is_never_valid() {
        assert!((0..1000).all(|salt| parse_head(&END, salt, salt * 3).is_none()));
    }

    #[test]
    fn a_header_of_another_segment_is_refused() {
        let bytes = header(3, 99);
        assert_eq!(parse_header(&bytes, 3), Ok(99));
        assert!(parse_header(&bytes, 4).is_err());
        for byte in 0..HEADER_BYTES {
            let mut bad = bytes;
            bad[byte] ^= 1;
            assert!(parse_header(&bad, 3).is_err(), "byte {byte}");
        }
    }
}
