//! What is sealed to lie on a disk, for whoever has a key of the ring later.
//!
//! ```text
//! version 1 | key hint 4 | salt 16 | ciphertext | tag 16
//! ```
//!
//! Sealed under the edge key of the ring's first key, which edges and members have, and opened under that of any key in
//! the ring: what was sealed before a key was changed opens as long as the old one is there. Each value has a key of its
//! own, by HKDF over its salt, so that no nonce is used twice; ChaCha20-Poly1305 authenticates the header, too. What it
//! is for is part of the key: a value of one purpose is none of another. No tasks, no I/O.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::key::{HINT_BYTES, KeyRing, Secret};

/// The format's version, the first byte.
pub const VERSION: u8 = 1;

const SALT_BYTES: usize = 16;
const HEADER_BYTES: usize = 1 + HINT_BYTES + SALT_BYTES;
const TAG_BYTES: usize = 16;

/// Bytes that sealing adds.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// What the key is derived for; purpose and salt follow.
const PURPOSE: &[u8] = b"skep stored value 1";

/// What a value is sealed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// The gateway's configuration, as a balancer keeps it.
    Gateway,
    /// The keys that an issuer of tokens was seen to publish, as a balancer keeps them.
    Keys,
    /// What was owed by limits as a balancer ended.
    Debts,
}

impl For {
    fn word(self) -> &'static [u8] {
        match self {
            Self::Gateway => b" gateway ",
            Self::Keys => b" keys ",
            Self::Debts => b" debts ",
        }
    }
}

/// The cryptography refused; not a matter of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be sealed")]
pub struct SealError;

/// Why a value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("too short to be sealed")]
    TooShort,
    #[error("sealed in a format of another version")]
    Version,
    #[error("sealed with a key that is not in the ring")]
    UnknownKey,
    #[error("damaged, or forged, or sealed for something else")]
    Forged,
}

fn value_key(secret: &Secret, what: For, salt: &[u8]) -> Option<LessSafeKey> {
    let key = secret.derive(&[PURPOSE, what.word(), salt])?;
    Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).ok()?))
}

/// Each key seals one value.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// The sealed value; [`OVERHEAD_BYTES`] longer than `plain`.
pub fn seal(ring: &KeyRing, what: For, plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let secret = ring.keys().first().ok_or(SealError)?.edge();
    let mut salt = [0; SALT_BYTES];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| SealError)?;
    let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
    sealed.push(VERSION);
    sealed.extend(secret.hint().ok_or(SealError)?);
    sealed.extend(salt);
    sealed.extend(plain);
    let (header, text) = sealed.split_at_mut(HEADER_BYTES);
    let key = value_key(secret, what, &salt).ok_or(SealError)?;
    let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(&*header), text).map_err(|_| SealError)?;
    sealed.extend(tag.as_ref());
    Ok(sealed)
}

/// What was sealed. Any bytes; allocates no more than their length.
pub fn open(ring: &KeyRing, what: For, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    if sealed.len() < OVERHEAD_BYTES {
        return Err(OpenError::TooShort);
    }
    let (header, text) = sealed.split_at(HEADER_BYTES);
    let (version, rest) = header.split_first().ok_or(OpenError::TooShort)?;
    let (hint, salt) = rest.split_first_chunk::<HINT_BYTES>().ok_or(OpenError::TooShort)?;
    if *version != VERSION {
        return Err(OpenError::Version);
    }
    let mut error = OpenError::UnknownKey;
    // Hints may collide; the tag decides.
    for secret in ring.keys().iter().map(|key| key.edge()).filter(|key| key.hint().as_ref() == Some(hint)) {
        error = OpenError::Forged;
        let Some(key) = value_key(secret, what, salt) else { continue };
        let mut plain = text.to_vec();
        let Ok(length) = key.open_in_place(nonce(), Aad::from(header), &mut plain).map(|it| it.len()) else {
            continue;
        };
        plain.truncate(length);
        return Ok(plain);
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "skep1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn ring(lines: &[&str]) -> KeyRing {
        KeyRing::parse(&lines.join("\n")).unwrap()
    }

    #[test]
    fn who_has_the_key_in_either_form_opens_it_and_after_a_change_of_keys_as_long_as_the_old_is_there() {
        let [old, new] = [KeyRing::generate_line(), KeyRing::generate_line()];
        let (old, new) = (old.as_str(), new.as_str());
        let edge = ring(&[old]).edge_lines().remove(0);
        let edge = edge.as_str();
        let sealed = seal(&ring(&[old]), For::Gateway, b"text").unwrap();
        for lines in [vec![old], vec![edge], vec![old, new], vec![new, old], vec![new, edge]] {
            assert_eq!(open(&ring(&lines), For::Gateway, &sealed).unwrap(), b"text");
        }
        assert_eq!(open(&ring(&[new]), For::Gateway, &sealed), Err(OpenError::UnknownKey));
        let again = seal(&ring(&[edge]), For::Gateway, b"text").unwrap();
        assert_eq!(open(&ring(&[old]), For::Gateway, &again).unwrap(), b"text");
        assert_ne!(again[HEADER_BYTES..], sealed[HEADER_BYTES..], "no two are alike");
    }

    #[test]
    fn what_was_changed_anywhere_does_not_open() {
        let ring = ring(&[ROOT]);
        let sealed = seal(&ring, For::Gateway, b"some text").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&ring, For::Gateway, &changed).is_err(), "{at}");
            assert!(open(&ring, For::Gateway, &sealed[..at]).is_err(), "{at}");
        }
    }

    /// Every later version must open what this one has written.
    #[test]
    fn the_format_is_pinned() {
        let sealed = concat!(
            "01b8eee158000102030405060708090a0b0c0d0e0fc28e55b9e49679822a13131ed88301a853c0a7",
            "69b153a5964eb5aef1aa",
        );
        let byte = |at: usize| u8::from_str_radix(&sealed[at..at + 2], 16).unwrap();
        let sealed: Vec<u8> = (0..sealed.len()).step_by(2).map(byte).collect();
        assert_eq!(open(&ring(&[ROOT]), For::Gateway, &sealed).unwrap(), b"{\"routes\":{}}");
    }
}
