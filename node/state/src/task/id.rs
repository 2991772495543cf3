//! What a task is named by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A task's id: its number, and what keeps others from guessing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// From 1, in the order in which tasks were put.
    pub seq: u64,
    pub nonce: u64,
}

impl TaskId {
    /// The ids of tasks that were put together, counted from 0.
    pub fn nth(first: u64, nonce: u64, number: u32) -> TaskId {
        // One way: who has one id can make no other one of it.
        let hash = sha2::Sha256::new().chain_update(nonce.to_le_bytes()).chain_update(number.to_le_bytes());
        let nonce = hash.finalize().iter().take(8).fold(0, |nonce, byte| nonce << 8 | u64::from(*byte));
        TaskId { seq: first.wrapping_add(number.into()), nonce }
    }

    /// Whether a text has the form of an id; it may be a UUID that names no task.
    pub fn is_uuid(text: &str) -> bool {
        let dashes = [8, 13, 18, 23];
        text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match dashes.contains(&at) {
                true => byte == b'-',
                false => byte.is_ascii_hexdigit(),
            })
    }
}

/// As a UUID of version 8 (RFC 9562): 58 bits of the number, then the nonce, around version and variant.
impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from(self.seq & ((1 << 58) - 1)) << 64 | u128::from(self.nonce);
        let uuid =
            (bits >> 74) << 80 | 8 << 76 | (bits >> 62 & 0xfff) << 64 | 2 << 62 | bits & ((1 << 62) - 1);
        let text = format!("{uuid:032x}");
        let (a, b, c, d, e) = (&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]);
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

/// What stands in the place of a task's id is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a task's id: expected a UUID as in 00000000-0000-8000-8000-000000000000")]
pub struct TaskIdParseError;

impl FromStr for TaskId {
    type Err = TaskIdParseError;

    fn from_str(text: &str) -> Result<Self, TaskIdParseError> {
        if !TaskId::is_uuid(text) {
            return Err(TaskIdParseError);
        }
        let digits: String = text.chars().filter(|digit| *digit != '-').collect();
        let uuid = u128::from_str_radix(&digits, 16).map_err(|_| TaskIdParseError)?;
        if uuid >> 76 & 0xf != 8 || uuid >> 62 & 3 != 2 {
            return Err(TaskIdParseError);
        }
        let bits = (uuid >> 80) << 74 | (uuid >> 64 & 0xfff) << 62 | uuid & ((1 << 62) - 1);
        Ok(TaskId { seq: (bits >> 64) as u64, nonce: bits as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::SEQ_MAX;

    #[test]
    fn an_id_is_a_uuid_of_version_8_and_is_read_back() {
        for (seq, nonce) in [(1, 0), (SEQ_MAX, u64::MAX), (7, 0x0123_4567_89ab_cdef), ((1 << 58) - 1, 1)] {
            let id = TaskId { seq, nonce };
            let text = id.to_string();
            assert_eq!((text.len(), text.as_bytes()[14]), (36, b'8'), "{text}");
            assert!(b"89ab".contains(&text.as_bytes()[19]), "{text}");
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(text.to_uppercase().parse(), Ok(id), "RFC 9562 reads either case");
        }
    }

    /// The inverse of SplitMix64's last steps, which make no secret of what they are given.
    fn unmixed(mut z: u64) -> u64 {
        z ^= z >> 31 ^ z >> 62;
        z = z.wrapping_mul(0x3196_42b2_d24d_8ec3);
        z ^= z >> 27 ^ z >> 54;
        z = z.wrapping_mul(0x96de_1b17_3f11_9089);
        z ^ z >> 30 ^ z >> 60
    }

    #[test]
    fn the_ids_of_an_array_cannot_be_made_of_one_of_them() {
        let (first, second) = (TaskId::nth(1, 7, 0), TaskId::nth(1, 7, 1));
        for guess in [first.nonce, unmixed(first.nonce)] {
            assert_ne!(TaskId::nth(1, guess, 1), second);
        }
        assert_eq!(second.seq, 2);
        // SHA-256 of 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0: all nodes say the same.
        assert_eq!(first.nonce, 0x3562_0c6a_b15d_72cb);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let id = TaskId::nth(1, 2, 3).to_string();
        let other_version = id.replacen("-8", "-4", 1);
        for text in
            ["", "1", &id[1..], &format!("{id}0"), &id.replace('-', "0"), &other_version, &"é".repeat(18)]
        {
            assert_eq!(text.parse::<TaskId>(), Err(TaskIdParseError), "{text}");
        }
    }
}
