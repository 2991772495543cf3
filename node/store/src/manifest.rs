//! What a consistent state of the store consists of. A checkpoint and a snapshot's header are both
//! one of these, in the codec's encoding.

use serde::{Deserialize, Serialize};
use skep_base::codec;

use crate::claims::{CLAIMS_MAX, ClaimRecord};
use crate::error::StoreError;
use crate::messages::record::{HEADER_BYTES, RECORD_BYTES_MIN};
use crate::registers::{RECENT_REQUESTS_MAX, RegistersRecord};
use crate::removed::{REMEMBERED_MAX, REMOVED_SINGLY_MAX, RemovedRecord};
use skep_raft::types::{LogId, SnapshotMeta, StoredMembership};

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

/// The newest format of headers that this program reads. The first has no `removed` and no `claims`.
pub const HEADER_FORMAT: u32 = 2;

/// A consistent state of the store: what a snapshot file opens with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    pub last_log_id: Option<LogId>,
    pub membership: StoredMembership,
    pub registers: RegistersRecord,
    /// In order and without gaps.
    pub segments: Vec<SegmentMeta>,
    pub removed: RemovedRecord,
    /// The oldest first.
    pub claims: Vec<ClaimRecord>,
}

/// The first format.
#[derive(Deserialize)]
struct HeaderV1 {
    last_log_id: Option<LogId>,
    membership: StoredMembership,
    registers: RegistersRecord,
    segments: Vec<SegmentMeta>,
}

/// What is written of the first format.
#[derive(Serialize)]
struct HeaderV1Ref<'a> {
    last_log_id: &'a Option<LogId>,
    membership: &'a StoredMembership,
    registers: &'a RegistersRecord,
    segments: &'a [SegmentMeta],
}

impl SnapshotHeader {
    /// The state of a store in which nothing ever happened.
    pub(crate) fn empty() -> Self {
        Self {
            last_log_id: None,
            membership: StoredMembership::default(),
            registers: RegistersRecord::default(),
            segments: Vec::new(),
            removed: RemovedRecord::default(),
            claims: Vec::new(),
        }
    }

    /// Its bytes, in the oldest format that holds it: a program of the version before reads it as
    /// long as nobody uses what that does not know.
    pub fn encode(&self) -> Result<(u32, Vec<u8>), codec::CodecError> {
        if self.removed != RemovedRecord::default() || !self.claims.is_empty() {
            return Ok((2, codec::encode(self)?));
        }
        let Self { last_log_id, membership, registers, segments, .. } = self;
        Ok((1, codec::encode(&HeaderV1Ref { last_log_id, membership, registers, segments })?))
    }

    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last_log_id, last_membership: self.membership.clone() }
    }

    /// The last message's `seq`, 0 where there never was one.
    pub fn last_seq(&self) -> u64 {
        self.segments.last().map_or(self.removed.last_seq, |last| last.first_seq + last.count - 1)
    }

    /// Messages in it.
    pub fn messages(&self) -> u64 {
        self.last_seq() - self.removed.floor - self.removed.singly.len() as u64
    }

    /// Bytes of all segments.
    pub fn message_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }
}

/// Decodes and checks a snapshot's header of a format: the bytes after its length and checksum.
/// Hostile bytes are refused without allocating more than they are.
pub fn decode_header(format: u32, bytes: &[u8]) -> Result<SnapshotHeader, StoreError> {
    let header: SnapshotHeader = match format {
        1 => {
            let HeaderV1 { last_log_id, membership, registers, segments } = codec::decode(bytes)?;
            let (removed, claims) = Default::default();
            SnapshotHeader { last_log_id, membership, registers, segments, removed, claims }
        }
        _ => codec::decode(bytes)?,
    };
    let invalid = |detail: String| Err(StoreError::Codec(codec::CodecError::Invalid(detail)));
    if header.segments.len() > SEGMENTS_MAX {
        return invalid(format!("{} segments", header.segments.len()));
    }
    if header.registers.recent.len() > RECENT_REQUESTS_MAX {
        return invalid(format!("{} remembered requests", header.registers.recent.len()));
    }
    if header.claims.len() > CLAIMS_MAX {
        return invalid(format!("{} remembered claims", header.claims.len()));
    }
    let RemovedRecord { floor, last_seq, singly, remembered } = &header.removed;
    if singly.len() > REMOVED_SINGLY_MAX || remembered.len() > REMEMBERED_MAX {
        return invalid(format!("{} removed and {} remembered messages", singly.len(), remembered.len()));
    }
    if floor > last_seq
        || !singly.iter().all(|seq| seq > floor && seq <= last_seq)
        || !singly.is_sorted_by(|a, b| a < b)
    {
        return invalid(format!("removed messages up to {floor} and beyond, of {last_seq}"));
    }
    // Segments begin at the first message, or at one of those that are gone or just behind them.
    let mut next_seq = match header.segments.first() {
        Some(first) if first.first_seq >= 1 && first.first_seq <= floor.saturating_add(1) => first.first_seq,
        Some(first) => return invalid(format!("no segment can begin at {} above {floor}", first.first_seq)),
        None if floor == last_seq => last_seq.saturating_add(1),
        None => return invalid(format!("messages after {floor}, up to {last_seq}, in no segment")),
    };
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
    if header.removed != RemovedRecord::default() && next_seq - 1 != *last_seq {
        return invalid(format!("segments up to {}, but messages up to {last_seq}", next_seq - 1));
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(segments: Vec<SegmentMeta>) -> (u32, Vec<u8>) {
        SnapshotHeader { segments, ..SnapshotHeader::empty() }.encode().unwrap()
    }

    fn decode((format, bytes): (u32, Vec<u8>)) -> Result<SnapshotHeader, StoreError> {
        decode_header(format, &bytes)
    }

    fn with_removed(segments: Vec<SegmentMeta>, removed: RemovedRecord) -> (u32, Vec<u8>) {
        SnapshotHeader { segments, removed, ..SnapshotHeader::empty() }.encode().unwrap()
    }

    fn segment(first_seq: u64, count: u64, len: u64) -> SegmentMeta {
        SegmentMeta { first_seq, count, len, sealed: true }
    }

    #[test]
    fn a_header_survives_its_encoding() {
        let encoded = header(vec![segment(1, 2, 500), segment(3, 1, 200)]);
        assert_eq!(encoded.0, 1, "what the first format can say is said in it");
        assert_eq!(decode(encoded).unwrap().messages(), 3);
    }

    #[test]
    fn a_header_with_removed_messages_survives_its_encoding() {
        let removed = RemovedRecord { floor: 4, last_seq: 6, singly: vec![6], remembered: Vec::new() };
        let encoded = with_removed(vec![segment(3, 3, 500), segment(6, 1, 200)], removed.clone());
        assert_eq!(encoded.0, 2);
        let header = decode(encoded).unwrap();
        assert_eq!((header.last_seq(), header.messages(), header.removed), (6, 1, removed));
        let all = RemovedRecord { floor: 9, last_seq: 9, ..Default::default() };
        let header = decode(with_removed(Vec::new(), all)).unwrap();
        assert_eq!((header.last_seq(), header.messages()), (9, 0));
    }

    #[test]
    fn removed_messages_that_make_no_sense_are_refused() {
        let segments = || vec![segment(3, 3, 500)];
        for (floor, last_seq, singly) in [
            (1, 5, vec![]),
            (4, 6, vec![]),
            (4, 4, vec![]),
            (6, 5, vec![]),
            (4, 5, vec![4]),
            (2, 5, vec![5, 4]),
            (2, 5, vec![4, 4]),
            (2, 5, vec![6]),
            (u64::MAX, u64::MAX, vec![]),
        ] {
            let removed = RemovedRecord { floor, last_seq, singly, remembered: Vec::new() };
            assert!(decode(with_removed(segments(), removed.clone())).is_err(), "{removed:?}");
        }
        let nowhere = RemovedRecord { floor: 2, last_seq: 5, ..Default::default() };
        assert!(decode(with_removed(Vec::new(), nowhere)).is_err());
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
            assert!(decode(header(segments.clone())).is_err(), "{segments:?}");
        }
    }
}
