//! The formats of headers before sections: one value for everything. They are read for good, and
//! written as long as the cluster's level is one at which a member may read no other.

use serde::{Deserialize, Serialize};
use skep_base::codec;
use skep_base::id::RequestId;
use skep_raft::types::{LogId, StoredMembership};
use skep_state::clock::{Clock, Stamp};
use skep_state::kinds::claims::{ClaimRecord, ClaimsRecord};
use skep_state::kinds::messages::removed::RemovedRecord;
use skep_state::kinds::text::TextRecord;
use skep_state::kinds::{CommonRecord, KindsRecord};
use skep_state::level::Level;

use super::SnapshotHeader;
use crate::segments::SegmentMeta;

/// The newest of these formats.
pub(crate) const FORMAT: u32 = 2;

/// The text and the clock.
#[derive(Serialize, Deserialize)]
struct Registers {
    version: u64,
    text: bytes::Bytes,
    text_time_ms: u64,
    last_time_ms: u64,
    recent: Vec<(RequestId, u64)>,
}

/// The first format.
#[derive(Serialize, Deserialize)]
struct HeaderV1 {
    last_log_id: Option<LogId>,
    membership: StoredMembership,
    registers: Registers,
    segments: Vec<SegmentMeta>,
}

/// The second: what was removed, and claims.
#[derive(Serialize, Deserialize)]
struct HeaderV2 {
    first: HeaderV1,
    removed: RemovedRecord,
    claims: Vec<ClaimRecord>,
}

/// A header in the oldest format that holds it.
pub(crate) fn encode(header: &SnapshotHeader) -> Result<(u32, Vec<u8>), codec::CodecError> {
    // Kinds that came later are not there at a level that is written so.
    let KindsRecord { common, messages, text, claims, .. } = header.kinds.clone();
    let claims = claims.early;
    let registers = Registers {
        version: text.version,
        text: text.text,
        text_time_ms: text.time.0,
        last_time_ms: common.clock.latest().0,
        recent: text.recent,
    };
    let (last_log_id, membership) = (header.last_log_id, header.membership.clone());
    let first = HeaderV1 { last_log_id, membership, registers, segments: header.segments.clone() };
    if messages == RemovedRecord::default() && claims.is_empty() {
        return Ok((1, codec::encode(&first)?));
    }
    Ok((2, codec::encode(&HeaderV2 { first, removed: messages, claims })?))
}

/// A header of one of these formats; not yet checked.
pub(crate) fn decode(format: u32, bytes: &[u8]) -> Result<SnapshotHeader, codec::CodecError> {
    let (first, messages, claims) = match format {
        1 => (codec::decode::<HeaderV1>(bytes)?, RemovedRecord::default(), Vec::new()),
        _ => {
            let HeaderV2 { first, removed, claims } = codec::decode(bytes)?;
            (first, removed, claims)
        }
    };
    let HeaderV1 { last_log_id, membership, registers, segments } = first;
    let text = TextRecord {
        version: registers.version,
        text: registers.text,
        time: Stamp(registers.text_time_ms),
        recent: registers.recent,
    };
    let clock = Clock::at(Stamp(registers.last_time_ms));
    let common = CommonRecord { level: Level::FIRST, clock, ..CommonRecord::default() };
    let mut kinds = KindsRecord { common, ..KindsRecord::default() };
    let claims = ClaimsRecord { early: claims, ..ClaimsRecord::default() };
    (kinds.messages, kinds.text, kinds.claims) = (messages, text, claims);
    Ok(SnapshotHeader {
        last_log_id,
        membership,
        segments,
        claim_files: Vec::new(),
        payload_files: Vec::new(),
        kinds,
    })
}
