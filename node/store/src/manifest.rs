//! What a consistent state of the store consists of. A checkpoint and a snapshot's header are both
//! one of these, in the codec's encoding.

mod legacy;
mod pieces;

use serde::{Deserialize, Serialize};
use skep_base::codec;

use skep_state::kind::{Invalid, Record as _};
use skep_state::kinds::KindsRecord;
use skep_state::kinds::claims::ClaimsRecord;
use skep_state::kinds::messages::removed::RemovedRecord;
use skep_state::kinds::tasks::TasksRecord;
use skep_state::part::{Part, Source};

use crate::claims::file as claims;
use crate::error::StoreError;
use crate::payloads::file as payloads;
use crate::segments::SegmentMeta;
use crate::segments::record::{HEADER_BYTES, RECORD_BYTES_MIN};
pub(crate) use pieces::{Outline, Progress};
use skep_raft::types::{LogId, SnapshotMeta, StoredMembership};

/// Most segments that a manifest may list.
pub const SEGMENTS_MAX: usize = 1 << 18;

/// The newest format of headers that this program reads: the first with sections.
pub const HEADER_FORMAT: u32 = 3;

/// Most bytes of a header.
pub const HEADER_BYTES_MAX: usize = 512 * 1024 * 1024;

/// A consistent state of the store: what a snapshot file opens with.
///
/// ```text
/// header     files_len:u32 files[files_len] sections      (see `skep_state::section`)
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotHeader {
    pub last_log_id: Option<LogId>,
    pub membership: StoredMembership,
    /// In order and without gaps.
    pub segments: Vec<SegmentMeta>,
    /// The files of claims, which `first_seq` numbers, in order and without gaps.
    pub claim_files: Vec<SegmentMeta>,
    /// The files of tasks' bytes, which `first_seq` numbers, in order.
    pub payload_files: Vec<SegmentMeta>,
    /// The state that is no file.
    pub kinds: KindsRecord,
}

/// What lies before the sections, in the codec's encoding.
#[derive(Serialize, Deserialize)]
struct Files {
    last_log_id: Option<LogId>,
    membership: StoredMembership,
    /// The segments of each kind that has some.
    segments: Vec<(u16, Vec<SegmentMeta>)>,
}

impl SnapshotHeader {
    /// The state of a store in which nothing ever happened.
    pub(crate) fn empty() -> Self {
        Self {
            last_log_id: None,
            membership: StoredMembership::default(),
            segments: Vec::new(),
            claim_files: Vec::new(),
            payload_files: Vec::new(),
            kinds: KindsRecord::default(),
        }
    }

    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last_log_id, last_membership: self.membership.clone() }
    }

    /// The last message's `seq`, 0 where there never was one.
    pub fn last_seq(&self) -> u64 {
        self.segments.last().map_or(self.kinds.messages.last_seq, |last| last.first_seq + last.count - 1)
    }

    /// Messages in it.
    pub fn messages(&self) -> u64 {
        self.last_seq() - self.kinds.messages.floor - self.kinds.messages.singly.len() as u64
    }

    /// Bytes of the messages' segments.
    pub fn message_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// Bytes of all files.
    pub fn file_bytes(&self) -> u64 {
        self.files().map(|(_, meta)| meta.len).sum()
    }

    /// All files, in the order in which a snapshot has them.
    pub(crate) fn files(&self) -> impl Iterator<Item = (FileKind, SegmentMeta)> {
        let messages = self.segments.iter().map(|meta| (FileKind::Messages, *meta));
        let claims = self.claim_files.iter().map(|meta| (FileKind::Claims, *meta));
        let payloads = self.payload_files.iter().map(|meta| (FileKind::Payloads, *meta));
        messages.chain(claims).chain(payloads)
    }

    /// One of them.
    pub(crate) fn file(&self, number: usize) -> Option<(FileKind, SegmentMeta)> {
        let lists = [
            (FileKind::Messages, &self.segments),
            (FileKind::Claims, &self.claim_files),
            (FileKind::Payloads, &self.payload_files),
        ];
        let mut number = number;
        for (kind, metas) in lists {
            match metas.get(number) {
                Some(meta) => return Some((kind, *meta)),
                None => number -= metas.len(),
            }
        }
        None
    }
}

/// What a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileKind {
    Messages,
    Claims,
    Payloads,
}

/// What a file of records has, of which each is sound by itself, and is the same on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RecordKind {
    Messages,
    Claims,
}

/// Decodes and checks a snapshot's header of a format: the bytes after its length and checksum.
/// Hostile bytes are refused without allocating more than they are.
pub fn decode_header(format: u32, mut bytes: &[u8]) -> Result<SnapshotHeader, StoreError> {
    let len = bytes.len();
    read_header(format, &mut bytes, len)
}

/// The same of the next so many bytes of a source: they are never there as a whole.
pub(crate) fn read_header(
    format: u32,
    source: &mut dyn Source,
    len: usize,
) -> Result<SnapshotHeader, StoreError> {
    let header = match format {
        0..=legacy::FORMAT => {
            let header = legacy::decode(format, Part::new(source, len).next(len)?)?;
            header.kinds.check()?;
            header
        }
        _ => read_sections(source, len)?,
    };
    let invalid = |detail: String| Err(StoreError::Codec(codec::CodecError::Invalid(detail)));
    if header.segments.len() > SEGMENTS_MAX {
        return invalid(format!("{} segments", header.segments.len()));
    }
    let RemovedRecord { floor, last_seq, .. } = &header.kinds.messages;
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
    if header.kinds.messages != RemovedRecord::default() && next_seq - 1 != *last_seq {
        return invalid(format!("segments up to {}, but messages up to {last_seq}", next_seq - 1));
    }
    if !are_claims_in(&header.claim_files, &header.kinds.claims, total) {
        return invalid(format!("no files of claims can be {:?}", header.claim_files));
    }
    // Of those of claims it is known by now that they add up.
    let total = total + header.claim_files.iter().map(|file| file.len).sum::<u64>();
    match payloads::are_in(&header.payload_files, &header.kinds.tasks, total) {
        true => Ok(header),
        false => invalid(format!("not all bytes of tasks can be in {:?}", header.payload_files)),
    }
}

/// Whether the claims are in these files, which follow so many bytes of others.
fn are_claims_in(files: &[SegmentMeta], claims: &ClaimsRecord, mut total: u64) -> bool {
    let Some(first) = files.first() else { return claims.first == claims.next };
    let mut next = first.first_seq;
    for file in files {
        let fits = file.first_seq == next && file.count > 0 && claims::offset(file.count) == Some(file.len);
        match next.checked_add(file.count).zip(total.checked_add(file.len)) {
            Some(sums) if fits => (next, total) = sums,
            _ => return false,
        }
    }
    files.len() <= SEGMENTS_MAX && first.first_seq <= claims.first && next == claims.next
}

fn read_sections(source: &mut dyn Source, len: usize) -> Result<SnapshotHeader, StoreError> {
    const LEN_BYTES: usize = 4;
    let ends = || StoreError::Codec(codec::CodecError::UnexpectedEnd);
    let rest = len.checked_sub(LEN_BYTES).ok_or_else(ends)?;
    let mut files = [0; LEN_BYTES];
    source.fill(&mut files)?;
    let files = u32::from_le_bytes(files) as usize;
    let sections = rest.checked_sub(files).ok_or_else(ends)?;
    // None that is decoded is larger, and no memory is taken for one that says so.
    if files > codec::VALUE_BYTES_MAX {
        return Err(StoreError::Codec(codec::CodecError::TooLarge));
    }
    let Files { last_log_id, membership, segments } = codec::decode(Part::new(source, files).next(files)?)?;
    let kinds = KindsRecord::read(source, sections)?;
    let mut all = segments.into_iter().peekable();
    let messages = all.next_if(|(kind, _)| *kind == RemovedRecord::ID.0);
    let claims = all.next_if(|(kind, _)| *kind == ClaimsRecord::ID.0);
    let payloads = all.next_if(|(kind, _)| *kind == TasksRecord::ID.0);
    match (messages, all.next()) {
        (Some((_, segments)), None) => {
            let claim_files = claims.map(|(_, files)| files).unwrap_or_default();
            let payload_files = payloads.map(|(_, files)| files).unwrap_or_default();
            Ok(SnapshotHeader { last_log_id, membership, segments, claim_files, payload_files, kinds })
        }
        _ => Err(Invalid("segments of a kind that this program does not know".into()).into()),
    }
}

#[cfg(test)]
mod tests {
    use skep_state::level::Level;

    use super::*;

    fn header(segments: Vec<SegmentMeta>) -> (u32, Vec<u8>) {
        SnapshotHeader { segments, ..SnapshotHeader::empty() }.encode().unwrap()
    }

    fn decode((format, bytes): (u32, Vec<u8>)) -> Result<SnapshotHeader, StoreError> {
        decode_header(format, &bytes)
    }

    fn with_removed(segments: Vec<SegmentMeta>, removed: RemovedRecord) -> (u32, Vec<u8>) {
        with(segments, removed).encode().unwrap()
    }

    fn with(segments: Vec<SegmentMeta>, messages: RemovedRecord) -> SnapshotHeader {
        let kinds = KindsRecord { messages, ..KindsRecord::default() };
        SnapshotHeader { segments, kinds, ..SnapshotHeader::empty() }
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
        assert_eq!((header.last_seq(), header.messages(), header.kinds.messages), (6, 1, removed));
        let all = RemovedRecord { floor: 9, last_seq: 9, ..Default::default() };
        let header = decode(with_removed(Vec::new(), all)).unwrap();
        assert_eq!((header.last_seq(), header.messages()), (9, 0));
    }

    #[test]
    fn from_its_level_on_a_header_is_written_in_sections_and_any_byte_changed_is_refused_or_read() {
        let removed = RemovedRecord { floor: 4, last_seq: 6, singly: vec![6], remembered: Vec::new() };
        let mut header = with(vec![segment(3, 3, 500), segment(6, 1, 200)], removed);
        header.kinds.common.level = Level::SECTIONS;
        let (format, bytes) = header.encode().unwrap();
        assert_eq!((format, decode((format, bytes.clone())).unwrap()), (3, header));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let _ = decode((format, bad));
            assert!(decode((format, bytes[..at].to_vec())).is_err(), "cut at {at}");
        }
    }

    fn claim_file(first_seq: u64, count: u64) -> SegmentMeta {
        SegmentMeta { first_seq, count, len: 64 + 64 * count, sealed: true }
    }

    #[test]
    fn claims_are_in_their_files_or_the_header_is_refused() {
        let decoded = |claim_files: Vec<SegmentMeta>, first, next| {
            let mut header = SnapshotHeader { claim_files, ..SnapshotHeader::empty() };
            header.kinds.common.level = Level::CLAIM_RECORDS;
            header.kinds.claims = ClaimsRecord { early: Vec::new(), first, next };
            decode(header.encode().unwrap()).map(|decoded| assert_eq!(decoded, header))
        };
        let files = || vec![claim_file(1_000, 500), claim_file(1_500, 10)];
        decoded(files(), 1_024, 1_510).unwrap();
        decoded(Vec::new(), 2_048, 2_048).unwrap();
        for (files, first, next) in [
            (files(), 0, 1_510),
            (files(), 1_024, 1_511),
            (Vec::new(), 1_024, 1_510),
            (vec![claim_file(1_000, 500), claim_file(1_501, 9)], 1_024, 1_510),
            (vec![SegmentMeta { len: 99, ..claim_file(1_000, 510) }], 1_024, 1_510),
            (vec![claim_file(1_000, 0)], 1_024, 1_024),
            (vec![SegmentMeta { count: u64::MAX, ..claim_file(1_000, 1) }], 1_024, 999),
        ] {
            assert!(decoded(files.clone(), first, next).is_err(), "{files:?}, {first} to {next}");
        }
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
