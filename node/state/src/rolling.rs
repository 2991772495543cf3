//! The rolling hash: what all log entries so far have done to the state, in 128 bits, chained from entry to entry.
//!
//! Nodes that did the same have the same, however the entries were batched, wherever their segments end, and
//! whatever checkpoints and snapshots lie between; two of which one did something else differ from there on. It is
//! over effects. What an operation came to, as its client was told, is none: that may differ between nodes (whether a
//! message's request is known as its creator's is no part of the state).
//!
//! It begins with the entry by which the cluster agrees to [`Level::ROLLING_HASH`]: what is older, checksums alone
//! hold.
//!
//! ```text
//! next      SipHash-1-3-128 under the last as its key, of index:u64 and the entry's effects; the first key is 0
//! level     0 level:u16 last_seq:u64 floor:u64 text_version:u64 first_claim:u64 next_claim:u64
//! message   1 seq:u64 time_ms:u64 digest[32] len:u64 content_type[len]
//! floor     2 seq:u64
//! removed   3 seq:u64
//! text      4 version:u64 time_ms:u64 request:u128 len:u64 text[len]
//! claim     5 number:u64 claim[64]
//! ended     6 first_claim:u64
//! tasks     7 what:u8 number:u64.. (len:u64 text[len]).., as the kind has them (kinds/tasks/noted.rs)
//! set back  8 upto_seq:u64 before_claim:u64 ceiling_ms:u64
//! gateway   9 number:u64 lineage:u128 time_ms:u64 len:u64 source[len] len:u64 document[len]
//! renewed   10 number:u64 lineage:u128
//! schedules 11 what:u8 number:u64.. (len:u64 text[len]).., as the kind has them (kinds/schedules/noted.rs)
//! secrets   12 what:u8 number:u64.. (len:u64 text[len]).., as the kind has them (kinds/gateway/keys.rs)
//! purges    13 what:u8 number:u64.. (len:u64 text[len]).., as the kind has them (kinds/purges.rs)
//! shifts    14 what:u8 number:u64.. (len:u64 text[len]).., as the kind has them (kinds/shifts.rs)
//! ```
//!
//! Little-endian. An entry without effects leaves the hash as it is. It tells nodes that do the same from those that do
//! not, not friend from foe: SipHash is fast and keyed, and nobody chooses what it is of.

use std::hash::Hasher as _;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::clock::Stamp;
use crate::gateway::Revision;
use crate::level::Level;
use crate::message::Digest;

/// The hash of all effects up to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateHash(pub u128);

/// What an operation does to the state.
#[derive(Debug, Clone)]
pub enum Effect<'a> {
    /// The level has risen; what there is then.
    Level { level: Level, last_seq: u64, floor: u64, text_version: u64, claims: Range<u64> },
    /// A new message.
    Message { seq: u64, time: Stamp, digest: &'a Digest, content_type: &'a str },
    /// Messages up to this one are gone.
    Floor { seq: u64 },
    /// One message is gone.
    Removed { seq: u64 },
    /// A new text.
    Text { version: u64, time: Stamp, request: u128, text: &'a [u8] },
    /// A claim is kept, of these bytes.
    Claim { number: u64, bytes: &'a [u8] },
    /// Claims before this one are forgotten.
    ClaimsEnded { first: u64 },
    /// Something of the tasks is so from here on: `what` says of what, and how many numbers and texts follow.
    Tasks { what: u8, numbers: &'a [u64], texts: &'a [&'a [u8]] },
    /// The clock was set back: what is there by then is no later than the ceiling.
    TimeMended { upto_seq: u64, before_claim: u64, ceiling: Stamp },
    /// A new document of the gateway.
    Gateway { revision: Revision, time: Stamp, source: &'a str, document: &'a [u8] },
    /// The gateway's document is of another lineage.
    GatewayRenewed { revision: Revision },
    /// Something of the schedules is so from here on: `what` says of what, and how many numbers and texts follow.
    Schedules { what: u8, numbers: &'a [u64], texts: &'a [&'a [u8]] },
    /// Something of the gateway's sealed secrets is so from here on.
    GatewaySecrets { what: u8, numbers: &'a [u64], texts: &'a [&'a [u8]] },
    /// A purge: 1 of an operator's, 2 of a message, 3 of messages; 4: a request is remembered.
    Purges { what: u8, numbers: &'a [u64], texts: &'a [&'a [u8]] },
    /// Something of the shifts of routes is so from here on.
    Shifts { what: u8, numbers: &'a [u64], texts: &'a [&'a [u8]] },
}

/// The hash while entries are applied.
#[derive(Debug, Default)]
pub struct Rolling {
    /// None before it has begun.
    hash: Option<StateHash>,
    /// The entry that is applied,
    index: u64,
    /// and its effects so far, where it has some.
    entry: Option<SipHasher13>,
}

impl Rolling {
    /// Goes on from a hash, or from where there is none yet.
    pub fn from(hash: Option<StateHash>) -> Self {
        Self { hash, ..Self::default() }
    }

    /// Up to the last entry; none before it has begun.
    pub fn hash(&self) -> Option<StateHash> {
        self.hash
    }

    /// From the entry that is applied on.
    pub fn begin(&mut self) {
        self.hash.get_or_insert(StateHash(0));
    }

    /// Whether effects count yet.
    pub fn has_begun(&self) -> bool {
        self.hash.is_some()
    }

    /// The effects of this entry follow.
    pub fn begin_entry(&mut self, index: u64) {
        (self.index, self.entry) = (index, None);
    }

    /// They are all.
    pub fn end_entry(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.hash = Some(StateHash(entry.finish128().into()));
        }
    }

    /// The entry has had this effect.
    pub fn note(&mut self, effect: Effect<'_>) {
        let Some(StateHash(key)) = self.hash else { return };
        let entry = self.entry.get_or_insert_with(|| {
            let mut entry = SipHasher13::new_with_key(&key.to_le_bytes());
            entry.write(&self.index.to_le_bytes());
            entry
        });
        write(entry, effect);
    }
}

/// In one piece where its length is known: each piece costs as much as 16 bytes.
fn write(entry: &mut SipHasher13, effect: Effect<'_>) {
    match effect {
        Effect::Level { level, last_seq, floor, text_version, claims } => {
            entry.write(&[0]);
            entry.write(&level.0.to_le_bytes());
            for number in [last_seq, floor, text_version, claims.start, claims.end] {
                entry.write(&number.to_le_bytes());
            }
        }
        Effect::Message { seq, time, digest, content_type } => {
            let mut bytes = [0; 1 + 8 + 8 + 32 + 8];
            bytes[0] = 1;
            bytes[1..9].copy_from_slice(&seq.to_le_bytes());
            bytes[9..17].copy_from_slice(&time.0.to_le_bytes());
            bytes[17..49].copy_from_slice(&digest.0);
            bytes[49..].copy_from_slice(&(content_type.len() as u64).to_le_bytes());
            entry.write(&bytes);
            entry.write(content_type.as_bytes());
        }
        Effect::Floor { seq } => entry.write(&numbered(2, seq)),
        Effect::Removed { seq } => entry.write(&numbered(3, seq)),
        Effect::Text { version, time, request, text } => {
            entry.write(&numbered(4, version));
            entry.write(&time.0.to_le_bytes());
            entry.write(&request.to_le_bytes());
            entry.write(&(text.len() as u64).to_le_bytes());
            entry.write(text);
        }
        Effect::Claim { number, bytes } => {
            entry.write(&numbered(5, number));
            entry.write(bytes);
        }
        Effect::ClaimsEnded { first } => entry.write(&numbered(6, first)),
        Effect::Tasks { what, numbers, texts } => listed(entry, [7, what], numbers, texts),
        Effect::Schedules { what, numbers, texts } => listed(entry, [11, what], numbers, texts),
        Effect::GatewaySecrets { what, numbers, texts } => listed(entry, [12, what], numbers, texts),
        Effect::Purges { what, numbers, texts } => listed(entry, [13, what], numbers, texts),
        Effect::Shifts { what, numbers, texts } => listed(entry, [14, what], numbers, texts),
        Effect::TimeMended { upto_seq, before_claim, ceiling } => {
            entry.write(&numbered(8, upto_seq));
            entry.write(&before_claim.to_le_bytes());
            entry.write(&ceiling.0.to_le_bytes());
        }
        Effect::Gateway { revision, time, source, document } => {
            entry.write(&numbered(9, revision.number));
            entry.write(&revision.lineage.to_le_bytes());
            entry.write(&time.0.to_le_bytes());
            for text in [source.as_bytes(), document] {
                entry.write(&(text.len() as u64).to_le_bytes());
                entry.write(text);
            }
        }
        Effect::GatewayRenewed { revision } => {
            entry.write(&numbered(10, revision.number));
            entry.write(&revision.lineage.to_le_bytes());
        }
    }
}

/// Numbers, and texts after their lengths.
fn listed(entry: &mut SipHasher13, head: [u8; 2], numbers: &[u64], texts: &[&[u8]]) {
    entry.write(&head);
    numbers.iter().for_each(|number| entry.write(&number.to_le_bytes()));
    for text in texts {
        entry.write(&(text.len() as u64).to_le_bytes());
        entry.write(text);
    }
}

fn numbered(tag: u8, number: u64) -> [u8; 9] {
    let mut bytes = [tag; 9];
    bytes[1..].copy_from_slice(&number.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests;
