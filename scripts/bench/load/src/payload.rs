//! What is sent: messages, keys and digests that are unique, and the same again for the same seed.
//!
//! Keys look random, as digests do, so that neither store gets an ordered index for nothing.

use sha2::Digest as _;

/// Bytes of an etcd key: as many as a SHA-256 has.
pub const KEY_BYTES: usize = 32;
/// Hex digits of a digest.
pub const DIGEST_DIGITS: usize = 64;

/// Sets of messages that have nothing in common.
#[derive(Debug, Clone, Copy)]
pub enum Stream {
    /// Put before the measurement, for those who read.
    Preloaded = 1,
    /// Put by the measurement.
    Measured = 2,
    /// Never put.
    Absent = 3,
}

/// Makes messages from a seed.
#[derive(Debug, Clone, Copy)]
pub struct Payload {
    seed: u64,
}

/// One round of splitmix64: a bijection, so that different inputs stay different.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Payload {
    pub fn new(seed: u64) -> Self {
        Self { seed: mix(seed) }
    }

    /// Appends `len` hex digits; the first 16 are unique within the stream.
    pub fn fill(&self, stream: Stream, seq: u64, len: usize, out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut word = mix(mix(self.seed ^ stream as u64).wrapping_add(seq));
        let end = out.len() + len;
        while out.len() < end {
            let digits = (end - out.len()).min(16);
            for i in 0..digits {
                out.push(HEX[(word >> (60 - 4 * i) & 15) as usize]);
            }
            word = mix(word);
        }
    }

    /// The lowercase hex SHA-256 of a message: what skep names it.
    pub fn digest(&self, stream: Stream, seq: u64, len: usize) -> [u8; DIGEST_DIGITS] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut message = Vec::with_capacity(len);
        self.fill(stream, seq, len, &mut message);
        let mut text = [0; DIGEST_DIGITS];
        for (pair, byte) in text.chunks_exact_mut(2).zip(sha2::Sha256::digest(&message)) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn messages_of_one_seed_are_unique_over_streams_and_repeatable() {
        let payload = Payload::new(7);
        let make = |stream, seq| {
            let mut out = Vec::new();
            payload.fill(stream, seq, 100, &mut out);
            assert_eq!(out.len(), 100);
            out
        };
        let mut seen = HashSet::new();
        for stream in [Stream::Preloaded, Stream::Measured, Stream::Absent] {
            for seq in 0..10_000 {
                assert!(seen.insert(make(stream, seq)[..16].to_vec()));
            }
        }
        assert_eq!(make(Stream::Measured, 5), make(Stream::Measured, 5));
    }

    #[test]
    fn a_digest_is_64_lowercase_hex_digits_of_the_message() {
        let payload = Payload::new(7);
        let mut message = Vec::new();
        payload.fill(Stream::Preloaded, 3, 100, &mut message);
        let expected: String = sha2::Sha256::digest(&message).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(payload.digest(Stream::Preloaded, 3, 100), expected.as_bytes());
    }
}
