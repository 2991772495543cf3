//! Data keys: what secrets that are replicated are sealed under.
//!
//! ```text
//! wrapped   version 1 | for each cluster key of the ring: key hint 4 | salt 16 | data key 32 | tag 16
//! sealed    version 1 | data key's id 16 | salt 16 | secret | tag 16
//! ```
//!
//! A data key is drawn, and wrapped under each cluster key of the ring itself, so that who has one of them opens it, and
//! no edge does. A key that comes into the ring or goes out of it wraps data keys anew, and nothing that they seal is
//! touched. Each wrapping and each secret has a key of its own, by HKDF over its salt, so that no nonce is used twice;
//! ChaCha20-Poly1305 authenticates what stands before, the data key's id, and the place that a secret is for: moved to
//! another place it does not open. A lineage of documents is no part of that, for it is renewed where nobody may have a key
//! (a recovered folder); the data key's id, which no other lineage draws, stands for it. No tasks, no I/O.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::key::{HINT_BYTES, Hint, KEY_BYTES, KEYS_MAX, KeyRing, Secret};
use crate::stored::SealError;

/// The version of both formats, the first byte.
const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// Bytes of a data key under one key of the ring.
const WRAP_BYTES: usize = HINT_BYTES + SALT_BYTES + KEY_BYTES + TAG_BYTES;
/// Most bytes of a data key that is wrapped for a whole ring.
pub const WRAPPED_BYTES_MAX: usize = 1 + KEYS_MAX * WRAP_BYTES;
const ID_BYTES: usize = 16;
/// Bytes that sealing a secret adds.
pub const OVERHEAD_BYTES: usize = 1 + ID_BYTES + SALT_BYTES + TAG_BYTES;

/// What keys are derived for; a salt follows.
const WRAP_PURPOSE: &[u8] = b"skep data key 1 ";
const SEAL_PURPOSE: &[u8] = b"skep sealed secret 1 ";
const ABSENT_PURPOSE: &[u8] = b"skep absent secret 1 ";

/// A data key, as who opened it has it; wiped when dropped.
pub struct DataKey {
    id: u128,
    secret: Secret,
}

fn aead(secret: &Secret, purpose: &[u8], salt: &[u8]) -> Option<LessSafeKey> {
    let key = secret.derive(&[purpose, salt])?;
    Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).ok()?))
}

/// Each key seals one value.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn drawn<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SealError)?;
    Ok(bytes)
}

/// What is authenticated with a wrapping.
fn wrap_aad(id: u128, hint: &[u8], salt: &[u8]) -> Vec<u8> {
    [&[VERSION][..], &id.to_le_bytes(), hint, salt].concat()
}

/// The wrappings: none where this version does not know their format.
fn wraps(wrapped: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
    let rest = wrapped.strip_prefix(&[VERSION]).filter(|rest| rest.len().is_multiple_of(WRAP_BYTES));
    rest.unwrap_or_default().chunks_exact(WRAP_BYTES).map(|wrap| {
        let (hint, rest) = wrap.split_at(HINT_BYTES);
        let (salt, text) = rest.split_at(SALT_BYTES);
        (hint, salt, text)
    })
}

/// The cluster keys of a ring, each with its hint.
fn roots(ring: &KeyRing) -> impl Iterator<Item = (Hint, &Secret)> {
    ring.keys().iter().filter_map(|key| Some((key.root_hint(), key.root()?)))
}

impl DataKey {
    /// A new one.
    pub fn draw() -> Result<Self, SealError> {
        Ok(Self { id: u128::from_le_bytes(drawn()?), secret: Secret::of(drawn()?) })
    }

    /// What is no other's.
    pub fn id(&self) -> u128 {
        self.id
    }

    /// Wraps it for each cluster key of a ring.
    pub fn wrap(&self, ring: &KeyRing) -> Result<Vec<u8>, SealError> {
        let mut wrapped = vec![VERSION];
        for (hint, root) in roots(ring) {
            let salt: [u8; SALT_BYTES] = drawn()?;
            let key = aead(root, WRAP_PURPOSE, &salt).ok_or(SealError)?;
            let mut text = *self.secret.bytes();
            let sealed = key.seal_in_place_separate_tag(
                nonce(),
                Aad::from(wrap_aad(self.id, &hint, &salt)),
                &mut text,
            );
            let tag = sealed.map_err(|_| SealError)?;
            for part in [&hint[..], &salt, &text, tag.as_ref()] {
                wrapped.extend_from_slice(part);
            }
        }
        // Without a cluster key nobody would ever open it.
        if wrapped.len() > 1 { Ok(wrapped) } else { Err(SealError) }
    }

    /// Opens one by any key of a ring. Any bytes.
    pub fn unwrap(ring: &KeyRing, id: u128, wrapped: &[u8]) -> Option<Self> {
        wraps(wrapped).find_map(|(hint, salt, text)| {
            // Hints may collide; the tag decides.
            roots(ring).filter(|(of, _)| of == hint).find_map(|(_, root)| {
                let key = aead(root, WRAP_PURPOSE, salt)?;
                let mut text = <[u8; KEY_BYTES + TAG_BYTES]>::try_from(text).ok()?;
                let opened = key.open_in_place(nonce(), Aad::from(wrap_aad(id, hint, salt)), &mut text);
                let secret = opened.ok()?.first_chunk().copied().map(Secret::of);
                text.fill(0);
                Some(Self { id, secret: secret? })
            })
        })
    }

    /// Seals a secret for a place.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let salt: [u8; SALT_BYTES] = drawn()?;
        let key = aead(&self.secret, SEAL_PURPOSE, &salt).ok_or(SealError)?;
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id.to_le_bytes());
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(plain);
        let text = &mut sealed[1 + ID_BYTES + SALT_BYTES..];
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(self.aad(place)), text);
        sealed.extend_from_slice(tag.map_err(|_| SealError)?.as_ref());
        Ok(sealed)
    }

    /// What was sealed for this place. Any bytes.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        if id_of(sealed) != Some(self.id) {
            return None;
        }
        let (salt, text) = sealed.get(1 + ID_BYTES..)?.split_first_chunk::<SALT_BYTES>()?;
        let key = aead(&self.secret, SEAL_PURPOSE, salt)?;
        let mut plain = text.to_vec();
        let length = key.open_in_place(nonce(), Aad::from(self.aad(place)), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    fn aad(&self, place: &[u8]) -> Vec<u8> {
        [&[VERSION][..], &self.id.to_le_bytes(), place].concat()
    }
}

/// Under which data key a secret was sealed. Any bytes.
pub fn id_of(sealed: &[u8]) -> Option<u128> {
    let (id, _) = sealed.strip_prefix(&[VERSION])?.split_first_chunk::<ID_BYTES>()?;
    Some(u128::from_le_bytes(*id))
}

/// Whether a data key is wrapped for each cluster key of a ring and for no other.
pub fn is_wrapped_for(ring: &KeyRing, wrapped: &[u8]) -> bool {
    let all = roots(ring).all(|(hint, _)| wraps(wrapped).any(|(of, ..)| of == hint));
    all && !is_wrapped_for_others(ring, wrapped)
}

/// Whether it is wrapped for a key that the ring has not: who has that one can open it.
pub fn is_wrapped_for_others(ring: &KeyRing, wrapped: &[u8]) -> bool {
    wraps(wrapped).any(|(of, ..)| roots(ring).all(|(hint, _)| hint != of))
}

/// Whether no key of the ring opens it, as far as that shows without trying.
pub fn is_wrapped_for_none(ring: &KeyRing, wrapped: &[u8]) -> bool {
    wraps(wrapped).all(|(of, ..)| roots(ring).all(|(hint, _)| hint != of))
}

/// What takes the place of a secret that cannot be opened: nobody can know it without the cluster's key, and all who
/// have that one come to the same.
pub fn in_place_of(ring: &KeyRing, sealed: &[u8]) -> Option<[u8; KEY_BYTES]> {
    ring.keys().first()?.root()?.derive(&[ABSENT_PURPOSE, sealed])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOT: &str = "skep1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn ring(lines: &[&str]) -> KeyRing {
        KeyRing::parse(&lines.join("\n")).unwrap()
    }

    fn bytes(digits: &str) -> Vec<u8> {
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn whoever_has_one_of_the_cluster_keys_opens_a_data_key_and_no_edge_does() {
        let [old, new] = [KeyRing::generate_line(), KeyRing::generate_line()];
        let (old, new) = (&*old, &*new);
        let edge = ring(&[old]).edge_lines().remove(0);
        let key = DataKey::draw().unwrap();
        let sealed = key.seal(b"place", b"secret").unwrap();
        let wrapped = key.wrap(&ring(&[old, new])).unwrap();
        assert!(wrapped.len() <= WRAPPED_BYTES_MAX);
        for lines in [&[old][..], &[new], &[new, old]] {
            let opened = DataKey::unwrap(&ring(lines), key.id(), &wrapped).unwrap();
            assert_eq!(opened.open(b"place", &sealed).as_deref(), Some(&b"secret"[..]));
        }
        let other = KeyRing::generate_line();
        assert!(DataKey::unwrap(&ring(&[&other]), key.id(), &wrapped).is_none());
        assert!(DataKey::unwrap(&ring(&[&edge]), key.id(), &wrapped).is_none());
        assert!(DataKey::unwrap(&ring(&[old]), key.id() ^ 1, &wrapped).is_none(), "it is of another id");
        assert_eq!(key.wrap(&ring(&[&edge])), Err(SealError), "nobody could open it");
    }

    #[test]
    fn for_whom_it_is_wrapped_shows_without_opening_it() {
        let [old, new] = [KeyRing::generate_line(), KeyRing::generate_line()];
        let (old, new) = (&*old, &*new);
        let wrapped = DataKey::draw().unwrap().wrap(&ring(&[old])).unwrap();
        let shown = |lines: &[&str]| {
            let ring = ring(lines);
            let none = is_wrapped_for_none(&ring, &wrapped);
            (is_wrapped_for(&ring, &wrapped), none, is_wrapped_for_others(&ring, &wrapped))
        };
        assert_eq!(shown(&[old]), (true, false, false));
        assert_eq!(shown(&[old, new]), (false, false, false));
        assert_eq!(shown(&[new, old]), (false, false, false));
        assert_eq!(shown(&[new]), (false, true, true));
    }

    #[test]
    fn a_secret_opens_in_its_place_under_its_key_alone_and_no_two_are_alike() {
        let [key, other] = [DataKey::draw().unwrap(), DataKey::draw().unwrap()];
        let sealed = key.seal(b"place", b"secret").unwrap();
        assert_eq!(sealed.len(), b"secret".len() + OVERHEAD_BYTES);
        assert_eq!((id_of(&sealed), id_of(&sealed[..16])), (Some(key.id()), None));
        assert_ne!(key.seal(b"place", b"secret").unwrap(), sealed);
        assert_eq!(key.open(b"another place", &sealed), None);
        assert_eq!(other.open(b"place", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(b"place", &changed), None, "{at}");
            assert_eq!(key.open(b"place", &sealed[..at]), None, "{at}");
        }
    }

    #[test]
    fn what_was_changed_anywhere_in_a_wrapping_does_not_open() {
        let ring = ring(&[ROOT]);
        let key = DataKey::draw().unwrap();
        let wrapped = key.wrap(&ring).unwrap();
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert!(DataKey::unwrap(&ring, key.id(), &changed).is_none(), "{at}");
            assert!(DataKey::unwrap(&ring, key.id(), &wrapped[..at]).is_none(), "{at}");
        }
    }

    #[test]
    fn what_stands_for_an_absent_secret_follows_from_the_cluster_key_alone() {
        let one = in_place_of(&ring(&[ROOT]), b"sealed");
        assert!(one.is_some() && one == in_place_of(&ring(&[ROOT]), b"sealed"));
        assert_ne!(one, in_place_of(&ring(&[ROOT]), b"other"));
        assert_ne!(one, in_place_of(&ring(&[&KeyRing::generate_line()]), b"sealed"));
        assert_eq!(in_place_of(&ring(&[&ring(&[ROOT]).edge_lines()[0]]), b"sealed"), None);
    }

    /// Every later version must open what this one has written.
    #[test]
    fn the_formats_are_pinned() {
        let wrapped = bytes(WRAPPED);
        let key = DataKey::unwrap(&ring(&[ROOT]), 7, &wrapped).unwrap();
        assert_eq!(key.open(b"place", &bytes(SEALED)).unwrap(), b"a secret");
    }

    const WRAPPED: &str = concat!(
        "01ba6581e4000102030405060708090a0b0c0d0e0f9bb5d84dd77a9268afe388a215979a1899c92c",
        "74614f75929055e6338fbbcda0486024045fe6764e0c86317c08d6d843",
    );
    const SEALED: &str = concat!(
        "0107000000000000000000000000000000101112131415161718191a1b1c1d1e1f08f8fd42775881",
        "314e944159b23fdd58df697996e5c98c40",
    );

    proptest! {
        #[test]
        fn hostile_bytes_open_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let ring = ring(&[ROOT]);
            prop_assert!(DataKey::unwrap(&ring, 7, &bytes).is_none());
            prop_assert!(DataKey::unwrap(&ring, 7, &[&[VERSION][..], &bytes].concat()).is_none());
            let _ = (is_wrapped_for(&ring, &bytes), is_wrapped_for_others(&ring, &bytes));
            prop_assert_eq!(DataKey::draw().unwrap().open(b"place", &bytes), None);
        }
    }
}
