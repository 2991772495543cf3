//! A message: a byte string with a content type, named by the SHA-256 of its bytes.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// The content type of a message that came as `{"message": "..."}`.
pub const TEXT_PLAIN: &str = "text/plain; charset=utf-8";

/// Longest content type that is stored, in bytes.
pub const CONTENT_TYPE_LEN_MAX: usize = 255;

/// The SHA-256 of a message's bytes: its id. Shown as 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

// As one run of bytes: an array would go through serde byte by byte, on the way of each write.
impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes32;
        impl serde::de::Visitor<'_> for Bytes32 {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the 32 bytes of a digest")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Digest, E> {
                bytes.try_into().map(Digest).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Bytes32)
    }
}

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 64];
        for (i, byte) in self.0.iter().enumerate() {
            text[2 * i] = HEX[usize::from(byte >> 4)];
            text[2 * i + 1] = HEX[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What stands in the place of a digest is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a digest: expected 64 lowercase hex digits (the SHA-256 of the message)")]
pub struct DigestParseError;

impl FromStr for Digest {
    type Err = DigestParseError;

    fn from_str(text: &str) -> Result<Self, DigestParseError> {
        fn nibble(byte: u8) -> Result<u8, DigestParseError> {
            match byte {
                b'0'..=b'9' => Ok(byte - b'0'),
                b'a'..=b'f' => Ok(byte - b'a' + 10),
                _ => Err(DigestParseError),
            }
        }
        let text = text.as_bytes();
        if text.len() != 64 {
            return Err(DigestParseError);
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(digest))
    }
}

/// A message as the log of messages keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place in the log of messages, from 1, with no gaps.
    pub seq: u64,
    /// When it was accepted, in milliseconds since the Unix epoch; never falls as `seq` rises.
    pub time_ms: u64,
    pub digest: Digest,
    pub content_type: String,
    pub body: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_sha_256_in_lowercase_hex() {
        let digest = Digest::of(b"foo");
        assert_eq!(digest.to_string(), "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let upper = Digest::of(b"foo").to_string().to_uppercase();
        for text in ["", "abc", &"g".repeat(64), &upper, &"é".repeat(32)] {
            assert_eq!(text.parse::<Digest>(), Err(DigestParseError), "{text}");
        }
    }
}
