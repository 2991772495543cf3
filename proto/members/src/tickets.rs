//! Keys of TLS session tickets, by epoch, from the edge key: a session that one process began is resumed by
//! every other of its cluster, whichever of the two keys each was given (RFC 5077, section 4; RFC 8446,
//! section 4.6.1), also after a restart and after a virtual address has moved, when all clients come at once.
//!
//! ```text
//! version 1 | epoch 4 | key hint 4 | nonce 12 | ciphertext | tag 16
//! ```
//!
//! For TLS 1.3 alone, where what is resumed has a fresh exchange of keys all the same. In 1.2 a ticket holds
//! the secret of the connection that it is sent over: keys that can be derived again would open what was
//! recorded long ago.
//!
//! An epoch is six hours of Unix time; what the one before sealed is opened as well, and the one after, for
//! clocks that differ. A fresh key for each ring's key and epoch, ChaCha20-Poly1305, random nonces: two to
//! the thirtieth tickets of one epoch give two equal nonces with a chance of 2^-37. No tasks, no I/O.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::server::ProducesTickets;

use crate::key::{Key, KeyRing, Secret};

const VERSION: u8 = 1;
/// As long as a client may keep a ticket, too: what is sealed at an epoch's end is opened for one more.
const EPOCH_S: u32 = 6 * 3600;
const HINT_BYTES: usize = 4;
const HEADER_BYTES: usize = 1 + 4 + HINT_BYTES + NONCE_LEN;
/// Epochs whose keys are kept: before, now, after.
const EPOCHS: u32 = 3;

const PURPOSE: &[u8] = b"skep session tickets 1";
const HINT_PURPOSE: &[u8] = b"skep session tickets hint 1";

/// Seals with the ring's first key, and opens with each. Of a key that is taken away they open nothing: who has such a
/// ticket makes a whole handshake.
pub struct Tickets {
    keys: Vec<(Secret, [u8; HINT_BYTES])>,
    /// Of one epoch and the two around it: for each key of the ring those three.
    derived: ArcSwapOption<Derived>,
    now_s: fn() -> u64,
}

struct Derived {
    /// The one in the middle.
    epoch: u32,
    keys: Vec<[Option<LessSafeKey>; EPOCHS as usize]>,
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Tickets {
    pub fn new(ring: &KeyRing) -> Self {
        Self::at(ring, unix_s)
    }

    fn at(ring: &KeyRing, now_s: fn() -> u64) -> Self {
        let hint = |key: &Secret| key.derive(&[HINT_PURPOSE])?.first_chunk().copied();
        let keys = ring.keys().iter().map(Key::edge).filter_map(|key| Some((key.clone(), hint(key)?)));
        Self { keys: keys.collect(), derived: ArcSwapOption::empty(), now_s }
    }

    fn epoch(&self) -> u32 {
        u32::try_from((self.now_s)() / u64::from(EPOCH_S)).unwrap_or(u32::MAX - 1)
    }

    /// Does something with the key of an epoch, where that is one around now.
    fn with<T>(&self, at: usize, epoch: u32, act: impl FnOnce(&LessSafeKey) -> Option<T>) -> Option<T> {
        let now = self.epoch();
        let place = epoch.checked_add(1)?.checked_sub(now).filter(|place| *place < EPOCHS)?;
        let mut derived = self.derived.load_full();
        if derived.as_ref().is_none_or(|derived| derived.epoch != now) {
            let of = |key: &Secret, place: usize| key_of(key, now.checked_add(place as u32)?.checked_sub(1)?);
            let around = |key: &Secret| std::array::from_fn(|place| of(key, place));
            let keys = self.keys.iter().map(|(key, _)| around(key)).collect();
            derived = Some(Arc::new(Derived { epoch: now, keys }));
            self.derived.store(derived.clone());
        }
        act(derived?.keys.get(at)?.get(place as usize)?.as_ref()?)
    }
}

fn key_of(key: &Secret, epoch: u32) -> Option<LessSafeKey> {
    let secret = key.derive(&[PURPOSE, &epoch.to_be_bytes()])?;
    Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &secret).ok()?))
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        !self.keys.is_empty()
    }

    fn lifetime(&self) -> u32 {
        EPOCH_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let (epoch, (_, hint)) = (self.epoch(), self.keys.first()?);
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(HEADER_BYTES + plain.len() + CHACHA20_POLY1305.tag_len());
        ticket.push(VERSION);
        ticket.extend(epoch.to_be_bytes());
        ticket.extend(hint);
        ticket.extend(nonce);
        ticket.extend(plain);
        let (header, text) = ticket.split_at_mut(HEADER_BYTES);
        let (nonce, header) = (Nonce::assume_unique_for_key(nonce), Aad::from(&*header));
        let tag = self.with(0, epoch, |key| key.seal_in_place_separate_tag(nonce, header, text).ok())?;
        ticket.extend(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (header, sealed) = ticket.split_at_checked(HEADER_BYTES)?;
        let (version, rest) = header.split_first()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (hint, nonce) = rest.split_first_chunk::<HINT_BYTES>()?;
        if *version != VERSION {
            return None;
        }
        let at = self.keys.iter().position(|(_, own)| own == hint)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = sealed.to_vec();
        let opened = self.with(at, u32::from_be_bytes(*epoch), |key| {
            key.open_in_place(nonce, Aad::from(header), &mut text).ok().map(|plain| plain.len())
        })?;
        text.truncate(opened);
        Some(text)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 20_000 * 86_400;

    fn at(ring: &KeyRing, now_s: fn() -> u64) -> Tickets {
        Tickets::at(ring, now_s)
    }

    fn ring(lines: &[&str]) -> KeyRing {
        KeyRing::parse(&lines.join("\n")).unwrap()
    }

    #[test]
    fn what_one_process_seals_another_with_the_key_opens_for_an_epoch_and_no_longer() {
        let key = KeyRing::generate_line();
        let ring = ring(&[&key]);
        let sealed = at(&ring, || DAY).encrypt(b"session").unwrap();
        for now in [|| DAY, || DAY + 2 * 6 * 3600 - 1, || DAY - 1] {
            assert_eq!(at(&ring, now).decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        }
        for now in [|| DAY + 2 * 6 * 3600, || DAY - 6 * 3600 - 1, || 0, || u64::MAX] {
            assert_eq!(at(&ring, now).decrypt(&sealed), None);
        }
        // The keys of an epoch that is over are let go.
        static NOW: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(DAY);
        let moving = at(&ring, || NOW.load(std::sync::atomic::Ordering::Relaxed));
        let (before, sealed) = (moving.encrypt(b"a").unwrap(), moving.encrypt(b"a").unwrap());
        assert_ne!(before, sealed, "no nonce comes twice");
        NOW.store(DAY + 3 * 6 * 3600, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(moving.decrypt(&sealed), None);
        assert!(moving.decrypt(&moving.encrypt(b"b").unwrap()).is_some());
    }

    #[test]
    fn another_key_opens_nothing_and_a_rotation_loses_nothing() {
        let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
        let sealed = at(&ring(&[&old]), || DAY).encrypt(b"session").unwrap();
        assert_eq!(at(&ring(&[&new]), || DAY).decrypt(&sealed), None);
        for both in [[&*old, &new], [&*new, &old]] {
            let both = at(&ring(&both), || DAY);
            assert!(both.decrypt(&sealed).is_some());
            assert_eq!(both.decrypt(&both.encrypt(b"x").unwrap()).as_deref(), Some(&b"x"[..]));
        }
    }

    #[test]
    fn who_has_the_edge_key_alone_resumes_with_who_has_the_cluster_key() {
        let root = ring(&[&KeyRing::generate_line()]);
        let edge = ring(&[&root.edge_lines()[0]]);
        for (one, other) in [(&root, &edge), (&edge, &root), (&edge, &edge)] {
            let sealed = at(one, || DAY).encrypt(b"session").unwrap();
            assert_eq!(at(other, || DAY).decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        }
    }

    #[test]
    fn what_was_changed_or_cut_is_no_ticket() {
        let tickets = at(&ring(&[&KeyRing::generate_line()]), || DAY);
        let sealed = tickets.encrypt(b"session").unwrap();
        for cut in 0..sealed.len() {
            assert_eq!(tickets.decrypt(&sealed[..cut]), None, "{cut}");
            let mut changed = sealed.clone();
            changed[cut] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "{cut}");
            changed[cut] = 0xff;
            changed[1..5].fill(0xff);
            assert_eq!(tickets.decrypt(&changed), None, "{cut}");
        }
    }
}
