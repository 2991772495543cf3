//! What a task is named by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
        // SplitMix64: one id says nothing that is of use of the next.
        let mut z = nonce.wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        TaskId { seq: first.wrapping_add(number.into()), nonce: z ^ (z >> 31) }
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
        let dashes = [8, 13, 18, 23];
        let is_shaped = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match dashes.contains(&at) {
                true => byte == b'-',
                false => byte.is_ascii_hexdigit(),
            });
        if !is_shaped {
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
