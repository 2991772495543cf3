//! What a consistent state of the store consists of. A checkpoint and a snapshot's header are both
//! one of these, in the codec's encoding.

use serde::{Deserialize, Serialize};
use skep_proto::codec;

use crate::raft::types::{LogId, SnapshotMeta, StoredMembership};
use crate::store::error::StoreError;
use crate::store::messages::record::{HEADER_BYTES, RECORD_BYTES_MIN};
use crate::store::registers::{RECENT_REQUESTS_MAX, RegistersRecord};

/// Most segments that a manifest may list.
pub const SEGMENTS_MAX: usize = 1 << 18;

/// A message segment, as it is in a consistent state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentMeta {
    pub first_seq: u64,
    /// Messages in it; never 0.
    pub count: u64,
    /// Its bytes; the file may since have grown past them.
    pub len: u64,
    /// It will not grow any more.
    pub sealed: bool,
}

/// A consistent state of the store: what a snapshot file opens with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    pub last_log_id: Option<LogId>,
    pub membership: StoredMembership,
    pub registers: RegistersRecord,
    /// In order and without gaps.
    pub segments: Vec<SegmentMeta>,
}

impl SnapshotHeader {
    /// The state of a store in which nothing ever happened.
    pub(crate) fn empty() -> Self {
        Self {
            last_log_id: None,
            membership: StoredMembership::default(),
            registers: RegistersRecord::default(),
            segments: Vec::new(),
        }
    }

    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last_log_id, last_membership: self.membership.clone() }
    }

    /// Messages in it.
    pub fn messages(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.first_seq + last.count - 1)
    }

    /// Bytes of all segments.
    pub fn message_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }
}

/// Decodes and checks a snapshot's header: the bytes after its length and checksum. Hostile bytes
/// are refused without allocating more than they are.
pub fn decode_header(bytes: &[u8]) -> Result<SnapshotHeader, StoreError> {
    let header: SnapshotHeader = codec::decode(bytes)?;
    let invalid = |detail: String| Err(StoreError::Codec(codec::CodecError::Invalid(detail)));
    if header.segments.len() > SEGMENTS_MAX {
        return invalid(format!("{} segments", header.segments.len()));
    }
    if header.registers.recent.len() > RECENT_REQUESTS_MAX {
        return invalid(format!("{} remembered requests", header.registers.recent.len()));
    }
    let mut next_seq = 1u64;
    let mut total = 0u64;
    for segment in &header.segments {
        let len_min = segment
            .count
            .checked_mul(RECORD_BYTES_MIN as u64)
            .and_then(|bytes| bytes.checked_add(HEADER_BYTES as u64));
        let fits = segment.first_seq == next_seq
            && segment.count > 0
            && len_min.is_some_and(|min| min <= segment.len)
            // Offsets in a segment are 32 bits wide.
            && segment.len <= u64::from(u32::MAX) + 1;
        let sums = next_seq.checked_add(segment.count).zip(total.checked_add(segment.len));
        match sums {
            Some(sums) if fits => (next_seq, total) = sums,
            _ => return invalid(format!("no segment can be {segment:?} after seq {}", next_seq - 1)),
        }
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(segments: Vec<SegmentMeta>) -> Vec<u8> {
        codec::encode(&SnapshotHeader { segments, ..SnapshotHeader::empty() }).unwrap()
    }

    fn segment(first_seq: u64, count: u64, len: u64) -> SegmentMeta {
        SegmentMeta { first_seq, count, len, sealed: true }
    }

    #[test]
    fn a_header_survives_its_encoding() {
        let bytes = header(vec![segment(1, 2, 500), segment(3, 1, 200)]);
        assert_eq!(decode_header(&bytes).unwrap().messages(), 3);
    }

    #[test]
    fn segments_with_gaps_or_impossible_sizes_are_refused() {
        for segments in [
            vec![segment(2, 1, 500)],
            vec![segment(1, 0, 500)],
            vec![segment(1, 10, 100)],
            vec![segment(1, 1, u64::MAX)],
            vec![segment(1, u64::MAX, u64::MAX)],
            vec![segment(1, 1, 500), segment(3, 1, 500)],
        ] {
            assert!(decode_header(&header(segments.clone())).is_err(), "{segments:?}");
        }
    }
}
