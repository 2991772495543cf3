//! A remembered claim, and its bytes. All have the same length, so that a number says where one lies.
//!
//! ```text
//! claim   crc:u32 outcome:u8 value:u56 key:u128 fingerprint:u128 nonce:u64 time_ms:u48 ttl_ms:u48   = 64 bytes
//! ```
//!
//! Little-endian; `crc` covers the claim's number, which is not in it, and all that follows `crc`.

use crate::clock::Stamp;
use crate::command::{ClaimKey, OpOutcome};
use crate::kind::Invalid;
use crate::level::Level;
use crate::task::{SEQ_MAX, TaskOutcome};

/// The bytes of a claim.
pub const CLAIM_BYTES: usize = 64;

const OUTCOME_AT: usize = 4;
const KEY_AT: usize = 12;
const FINGERPRINT_AT: usize = 28;
const NONCE_AT: usize = 44;
const TIME_AT: usize = 52;
const TTL_AT: usize = 58;
/// What 48 bits hold: a time in the year 10889.
const MS_MAX: u64 = (1 << 48) - 1;
/// Of a value that names tasks, the lowest bits are the first one's number, the others how many there are.
const SEQ_BITS: u32 = SEQ_MAX.count_ones();
/// What 56 bits hold.
const VALUE_MAX: u64 = (1 << 56) - 1;

/// A key that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub key: ClaimKey,
    pub fingerprint: u128,
    /// That of the guarded operation, 0 where it is not known.
    pub nonce: u64,
    /// When it was claimed; no time has more than 48 bits.
    pub time: Stamp,
    /// How long it is remembered; no more than 48 bits either.
    pub ttl_ms: u64,
    /// What the guarded operation came to.
    pub outcome: OpOutcome,
}

impl Remembered {
    /// A claim, its times cut to what is remembered of them: alike on every node.
    pub fn new(
        key: ClaimKey,
        fingerprint: u128,
        nonce: u64,
        time: Stamp,
        ttl_ms: u64,
        outcome: OpOutcome,
    ) -> Self {
        let (time, ttl_ms) = (Stamp(time.0.min(MS_MAX)), ttl_ms.min(MS_MAX));
        Self { key, fingerprint, nonce, time, ttl_ms, outcome }
    }

    /// From when on it does not count any more.
    pub fn expires(&self) -> Stamp {
        self.expires_from(self.time)
    }

    /// The same, where it counts as made at this time.
    pub fn expires_from(&self, time: Stamp) -> Stamp {
        Stamp(time.0.saturating_add(self.ttl_ms))
    }

    /// Its bytes, as the claim of this number.
    pub fn to_bytes(&self, number: u64) -> [u8; CLAIM_BYTES] {
        let mut bytes = [0; CLAIM_BYTES];
        let (outcome, value) = outcome_to(&self.outcome);
        bytes[OUTCOME_AT..KEY_AT].copy_from_slice(&value.min(VALUE_MAX).to_le_bytes());
        // The value's own highest byte is none.
        bytes.copy_within(OUTCOME_AT..KEY_AT - 1, OUTCOME_AT + 1);
        bytes[OUTCOME_AT] = outcome;
        bytes[KEY_AT..FINGERPRINT_AT].copy_from_slice(&self.key.0.to_le_bytes());
        bytes[FINGERPRINT_AT..NONCE_AT].copy_from_slice(&self.fingerprint.to_le_bytes());
        bytes[NONCE_AT..TIME_AT].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[TIME_AT..TTL_AT].copy_from_slice(&self.time.0.to_le_bytes()[..6]);
        bytes[TTL_AT..].copy_from_slice(&self.ttl_ms.to_le_bytes()[..6]);
        let crc = checksum(number, &bytes);
        bytes[..OUTCOME_AT].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The claim of this number, or what is wrong with the bytes.
    pub fn of_bytes(number: u64, bytes: &[u8; CLAIM_BYTES]) -> Result<Self, Invalid> {
        if bytes[..OUTCOME_AT] != checksum(number, bytes).to_le_bytes() {
            return Err(Invalid(format!("the checksum of claim {number} does not match")));
        }
        Ok(Self {
            key: ClaimKey(u128_at(bytes, KEY_AT)),
            fingerprint: u128_at(bytes, FINGERPRINT_AT),
            nonce: u64_at(bytes, NONCE_AT, 8),
            time: Stamp(u64_at(bytes, TIME_AT, 6)),
            ttl_ms: u64_at(bytes, TTL_AT, 6),
            outcome: outcome_of(
                bytes[OUTCOME_AT],
                u64_at(bytes, OUTCOME_AT + 1, 7),
                u64_at(bytes, NONCE_AT, 8),
            )?,
        })
    }
}

fn checksum(number: u64, bytes: &[u8; CLAIM_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&bytes[OUTCOME_AT..]);
    hasher.finalize()
}

fn u64_at(bytes: &[u8; CLAIM_BYTES], at: usize, len: usize) -> u64 {
    let mut whole = [0; 8];
    whole[..len].copy_from_slice(&bytes[at..at + len]);
    u64::from_le_bytes(whole)
}

fn u128_at(bytes: &[u8; CLAIM_BYTES], at: usize) -> u128 {
    u128::from(u64_at(bytes, at, 8)) | u128::from(u64_at(bytes, at + 8, 8)) << 64
}

fn outcome_to(outcome: &OpOutcome) -> (u8, u64) {
    match outcome {
        OpOutcome::Message { seq, created: true } => (0, *seq),
        OpOutcome::Message { seq, created: false } => (1, *seq),
        OpOutcome::Text { version } => (2, *version),
        OpOutcome::Dropped { upto } => (3, *upto),
        OpOutcome::Removed { seq: Some(seq) } => (4, *seq),
        OpOutcome::Removed { seq: None } => (5, 0),
        OpOutcome::TooManyRemoved => (6, 0),
        OpOutcome::Level { level } => (7, level.0.into()),
        // What their ids are made of beside this is the nonce.
        OpOutcome::Tasks(TaskOutcome::Put { first, count, .. }) => (9, u64::from(*count) << SEQ_BITS | first),
        OpOutcome::Tasks(TaskOutcome::Batch { first, count, .. }) => {
            (10, u64::from(*count) << SEQ_BITS | first)
        }
        // A claim guards no claim, and what was refused is not remembered.
        OpOutcome::Tasks(_) => (8, 0),
        OpOutcome::Claimed
        | OpOutcome::Repeated
        | OpOutcome::KeyTaken
        | OpOutcome::Skipped
        | OpOutcome::TooManyClaims
        // Nor what no client asks for.
        | OpOutcome::TimeMended { .. }
        | OpOutcome::TimeKept
        | OpOutcome::TooManyMends
        | OpOutcome::Schedules(_)
        | OpOutcome::Purges(_)
        | OpOutcome::Shifts(_)
        | OpOutcome::Gateway(_) => (8, 0),
    }
}

fn outcome_of(outcome: u8, value: u64, nonce: u64) -> Result<OpOutcome, Invalid> {
    Ok(match outcome {
        0 => OpOutcome::Message { seq: value, created: true },
        1 => OpOutcome::Message { seq: value, created: false },
        2 => OpOutcome::Text { version: value },
        3 => OpOutcome::Dropped { upto: value },
        4 => OpOutcome::Removed { seq: Some(value) },
        5 => OpOutcome::Removed { seq: None },
        6 => OpOutcome::TooManyRemoved,
        7 => OpOutcome::Level { level: Level(value as u16) },
        8 => OpOutcome::Skipped,
        9 | 10 => {
            let (first, count) = (value & SEQ_MAX, (value >> SEQ_BITS) as u32);
            OpOutcome::Tasks(match outcome {
                9 => TaskOutcome::Put { first, count, nonce },
                _ => TaskOutcome::Batch { first, count, nonce },
            })
        }
        unknown => return Err(Invalid(format!("a claim's outcome is {unknown}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(outcome: OpOutcome) -> Remembered {
        let key = ClaimKey(u128::MAX - 7);
        Remembered::new(key, 1 << 100 | 9, u64::MAX - 1, Stamp(u64::MAX), 86_400_000, outcome)
    }

    #[test]
    fn a_claim_survives_its_bytes_whatever_it_came_to() {
        for outcome in [
            OpOutcome::Message { seq: VALUE_MAX, created: true },
            OpOutcome::Message { seq: 7, created: false },
            OpOutcome::Text { version: 1 << 40 },
            OpOutcome::Dropped { upto: 3 },
            OpOutcome::Removed { seq: Some(1) },
            OpOutcome::Removed { seq: None },
            OpOutcome::TooManyRemoved,
            OpOutcome::Level { level: Level(4) },
            OpOutcome::Skipped,
            OpOutcome::Tasks(TaskOutcome::Put { first: SEQ_MAX, count: 1000, nonce: u64::MAX - 1 }),
            OpOutcome::Tasks(TaskOutcome::Batch { first: SEQ_MAX, count: 1000, nonce: u64::MAX - 1 }),
        ] {
            let claim = claim(outcome);
            assert_eq!(Remembered::of_bytes(5, &claim.to_bytes(5)), Ok(claim));
        }
    }

    #[test]
    fn a_claim_with_any_bit_flipped_or_another_number_is_refused() {
        let good = claim(OpOutcome::Text { version: 1 }).to_bytes(5);
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Remembered::of_bytes(5, &bad).is_err(), "bit {bit}");
        }
        assert!(Remembered::of_bytes(6, &good).is_err());
    }
}
