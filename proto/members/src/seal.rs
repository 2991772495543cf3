//! Sealed datagrams: authenticated, encrypted, each accepted once.
//!
//! ```text
//! version 1 | key hint 4 | session 16 | counter 8 | ciphertext | tag 16
//! ```
//!
//! Integers are big-endian. A process draws a random session at its start and counts its
//! datagrams; the session's own key comes from the cluster key by HKDF over the session, so a
//! counter as nonce never repeats under one key. ChaCha20-Poly1305 authenticates the header as
//! associated data. The receiver keeps a replay window (as in RFC 4303, section 3.4.3) for each
//! session that it has opened something of. No tasks, no I/O.
//!
//! What a replay window cannot know: datagrams of a session that the receiver has never seen or
//! has forgotten open once more. Gossip bears that: versions and heartbeats in it only rise.

use std::collections::HashMap;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::key::{Key, KeyRing};

/// The format's version, the first byte.
pub const VERSION: u8 = 1;

/// Bytes before the ciphertext.
pub const HEADER_BYTES: usize = 1 + HINT_BYTES + SESSION_BYTES + COUNTER_BYTES;

/// Bytes that sealing adds.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// Counters this far behind a session's newest, or farther, are taken for replays.
pub const WINDOW: u64 = 2048;

/// Most sessions that are remembered; the one unused for longest goes first.
pub const SESSIONS_MAX: usize = 1024;

/// Datagrams of one session; then the sealer starts another.
const COUNTER_MAX: u64 = 1 << 48;

const HINT_BYTES: usize = 4;
const SESSION_BYTES: usize = 16;
const COUNTER_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const WINDOW_WORDS: usize = (WINDOW / 64) as usize;

/// What the datagram key is derived for; the session follows.
const SESSION_PURPOSE: &[u8] = b"skep datagram session 1";
/// What tells keys of a ring apart in the header, with no word about the key.
const HINT_PURPOSE: &[u8] = b"skep datagram hint 1";

type SessionId = [u8; SESSION_BYTES];
type Hint = [u8; HINT_BYTES];

/// The cryptography refused; not a matter of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the datagram cannot be sealed")]
pub struct SealError;

/// Why a datagram does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("too short to be a sealed datagram")]
    TooShort,
    #[error("sealed in a format of another version")]
    Version,
    /// Most likely another cluster's.
    #[error("sealed with a key that is not in the ring")]
    UnknownKey,
    #[error("changed on the way, or forged")]
    Forged,
    #[error("seen before, or too old to tell")]
    Replayed,
    #[error("one of this process's own, sent back")]
    Reflected,
}

fn hint_of(key: &Key) -> Option<Hint> {
    key.derive(&[HINT_PURPOSE])?.first_chunk().copied()
}

fn session_key(key: &Key, session: &SessionId) -> Option<LessSafeKey> {
    let secret = key.derive(&[SESSION_PURPOSE, session])?;
    Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &secret).ok()?))
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - COUNTER_BYTES..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Seals what this process sends, with the ring's first key.
pub struct Sealer {
    key: Key,
    hint: Hint,
    session: SessionId,
    session_key: LessSafeKey,
    counter: u64,
}

impl Sealer {
    /// A sealer with a session of its own.
    pub fn new(ring: &KeyRing) -> Result<Self, SealError> {
        let key = ring.keys().first().ok_or(SealError)?.clone();
        let hint = hint_of(&key).ok_or(SealError)?;
        let (session, session_key) = Self::new_session(&key)?;
        Ok(Self { key, hint, session, session_key, counter: 0 })
    }

    fn new_session(key: &Key) -> Result<(SessionId, LessSafeKey), SealError> {
        let mut session = [0; SESSION_BYTES];
        aws_lc_rs::rand::fill(&mut session).map_err(|_| SealError)?;
        let session_key = session_key(key, &session).ok_or(SealError)?;
        Ok((session, session_key))
    }

    /// The session that the next datagram belongs to.
    pub fn session(&self) -> [u8; SESSION_BYTES] {
        self.session
    }

    /// The sealed datagram; [`OVERHEAD_BYTES`] longer than `plain`.
    pub fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        if self.counter == COUNTER_MAX {
            (self.session, self.session_key) = Self::new_session(&self.key)?;
            self.counter = 0;
        }
        self.counter += 1;
        let mut datagram = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
        datagram.push(VERSION);
        datagram.extend(self.hint);
        datagram.extend(self.session);
        datagram.extend(self.counter.to_be_bytes());
        datagram.extend(plain);
        let (header, text) = datagram.split_at_mut(HEADER_BYTES);
        let tag = self
            .session_key
            .seal_in_place_separate_tag(nonce(self.counter), Aad::from(&*header), text)
            .map_err(|_| SealError)?;
        datagram.extend(tag.as_ref());
        Ok(datagram)
    }
}

/// Opens what came, with any key of the ring.
pub struct Opener {
    keys: Vec<(Hint, Key)>,
    own: Option<SessionId>,
    sessions: HashMap<(Hint, SessionId), Session>,
    /// Counts datagrams: the clock of `last_used`.
    now: u64,
}

struct Session {
    key: LessSafeKey,
    window: Window,
    last_used: u64,
}

impl Opener {
    pub fn new(ring: &KeyRing) -> Result<Self, SealError> {
        let keys = ring
            .keys()
            .iter()
            .map(|key| Some((hint_of(key)?, key.clone())))
            .collect::<Option<_>>()
            .ok_or(SealError)?;
        Ok(Self { keys, own: None, sessions: HashMap::new(), now: 0 })
    }

    /// From now on, refuses this process's own session: what an attacker sends back.
    pub fn refuse_own(&mut self, session: [u8; SESSION_BYTES]) {
        self.own = Some(session);
    }

    /// How many sessions are remembered.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// What was sealed. A datagram opens once; one that does not open leaves no trace.
    ///
    /// Allocates no more than the datagram's length; an unknown session costs one derivation and
    /// is remembered only once it has proved that it knows the key.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Vec<u8>, OpenError> {
        if datagram.len() < OVERHEAD_BYTES {
            return Err(OpenError::TooShort);
        }
        let (header, sealed) = datagram.split_at(HEADER_BYTES);
        let (version, rest) = header.split_first().ok_or(OpenError::TooShort)?;
        let (hint, rest) = rest.split_first_chunk::<HINT_BYTES>().ok_or(OpenError::TooShort)?;
        let (session, rest) = rest.split_first_chunk::<SESSION_BYTES>().ok_or(OpenError::TooShort)?;
        let counter = rest.first_chunk::<COUNTER_BYTES>().ok_or(OpenError::TooShort)?;
        let counter = u64::from_be_bytes(*counter);
        if *version != VERSION {
            return Err(OpenError::Version);
        }
        if self.own.as_ref() == Some(session) {
            return Err(OpenError::Reflected);
        }

        let id = (*hint, *session);
        self.now += 1;
        if let Some(known) = self.sessions.get_mut(&id) {
            if known.window.has(counter) {
                return Err(OpenError::Replayed);
            }
            let plain = decrypt(&known.key, counter, header, sealed)?;
            known.window.insert(counter);
            known.last_used = self.now;
            return Ok(plain);
        }

        let mut unknown = OpenError::UnknownKey;
        // Hints may collide; the tag decides.
        for (_, key) in self.keys.iter().filter(|(known, _)| known == hint) {
            unknown = OpenError::Forged;
            let Some(key) = session_key(key, session) else { continue };
            let Ok(plain) = decrypt(&key, counter, header, sealed) else { continue };
            let mut window = Window::default();
            window.insert(counter);
            self.make_room();
            self.sessions.insert(id, Session { key, window, last_used: self.now });
            return Ok(plain);
        }
        Err(unknown)
    }

    fn make_room(&mut self) {
        if self.sessions.len() < SESSIONS_MAX {
            return;
        }
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.last_used).map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.sessions.remove(&id);
        }
    }
}

fn decrypt(key: &LessSafeKey, counter: u64, header: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut text = sealed.to_vec();
    let plain = key.open_in_place(nonce(counter), Aad::from(header), &mut text);
    let length = plain.map_err(|_| OpenError::Forged)?.len();
    text.truncate(length);
    Ok(text)
}

/// Which of the last [`WINDOW`] counters of a session were seen: a ring of bits.
struct Window {
    newest: u64,
    seen: [u64; WINDOW_WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self { newest: 0, seen: [0; WINDOW_WORDS] }
    }
}

impl Window {
    fn place(counter: u64) -> (usize, u64) {
        let bit = counter % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Whether the counter was seen or is too old to tell. Sealers count from 1.
    fn has(&self, counter: u64) -> bool {
        if counter > self.newest {
            return false;
        }
        let (word, bit) = Self::place(counter);
        self.newest - counter >= WINDOW || self.seen[word] & bit != 0
    }

    fn insert(&mut self, counter: u64) {
        if counter > self.newest {
            // The places between the newest and this one belonged to older counters.
            for skipped in 1..=(counter - self.newest).min(WINDOW) {
                let (word, bit) = Self::place(counter - (skipped - 1));
                self.seen[word] &= !bit;
            }
            self.newest = counter;
        }
        let (word, bit) = Self::place(counter);
        self.seen[word] |= bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair() -> (Sealer, Opener) {
        let ring = KeyRing::insecure_loopback();
        (Sealer::new(&ring).unwrap(), Opener::new(&ring).unwrap())
    }

    fn rings() -> [KeyRing; 4] {
        let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
        [old.clone(), format!("{old}\n{new}"), format!("{new}\n{old}"), new]
            .map(|text| KeyRing::parse(&text).unwrap())
    }

    #[test]
    fn what_is_sealed_opens_once() {
        let (mut sealer, mut opener) = pair();
        let datagram = sealer.seal(b"hello").unwrap();
        assert_eq!(datagram.len(), 5 + OVERHEAD_BYTES);
        assert!(!datagram.windows(5).any(|bytes| bytes == b"hello"));
        assert_eq!(opener.open(&datagram).unwrap(), b"hello");
        assert_eq!(opener.open(&datagram), Err(OpenError::Replayed));
    }

    #[test]
    fn an_empty_datagram_can_be_sealed() {
        let (mut sealer, mut opener) = pair();
        assert_eq!(opener.open(&sealer.seal(b"").unwrap()).unwrap(), b"");
    }

    #[test]
    fn datagrams_out_of_order_open_inside_the_window_alone() {
        let (mut sealer, mut opener) = pair();
        let datagrams: Vec<_> = (0..WINDOW + 10).map(|_| sealer.seal(b"x").unwrap()).collect();
        let newest = datagrams.len() - 1;
        opener.open(&datagrams[newest]).unwrap();
        assert_eq!(opener.open(&datagrams[9]), Err(OpenError::Replayed));
        for datagram in datagrams[10..newest].iter().rev() {
            opener.open(datagram).unwrap();
        }
        for datagram in &datagrams {
            assert_eq!(opener.open(datagram), Err(OpenError::Replayed));
        }
    }

    #[test]
    fn a_reflected_datagram_is_refused() {
        let (mut sealer, mut opener) = pair();
        opener.refuse_own(sealer.session());
        assert_eq!(opener.open(&sealer.seal(b"x").unwrap()), Err(OpenError::Reflected));
    }

    #[test]
    fn neighbouring_steps_of_a_rotation_understand_each_other() {
        let rings = rings();
        for (i, one) in rings.iter().enumerate() {
            for (j, two) in rings.iter().enumerate() {
                let datagram = Sealer::new(one).unwrap().seal(b"x").unwrap();
                let opened = Opener::new(two).unwrap().open(&datagram);
                // A ring with both keys opens all; one key alone opens what that key sealed.
                let understood = (i < 2 && j < 3) || (i >= 2 && j >= 1);
                let expected = if understood { Ok(b"x".to_vec()) } else { Err(OpenError::UnknownKey) };
                assert_eq!(opened, expected, "step {i} to step {j}");
            }
        }
    }

    #[test]
    fn a_truncated_datagram_never_opens() {
        let (mut sealer, mut opener) = pair();
        let datagram = sealer.seal(b"hello").unwrap();
        for end in 0..datagram.len() {
            let error = if end < OVERHEAD_BYTES { OpenError::TooShort } else { OpenError::Forged };
            assert_eq!(opener.open(&datagram[..end]), Err(error), "{end}");
        }
        assert_eq!(opener.sessions(), 0);
        opener.open(&datagram).unwrap();
    }

    #[test]
    fn sessions_are_bounded_and_the_one_unused_for_longest_goes() {
        let ring = KeyRing::insecure_loopback();
        let mut opener = Opener::new(&ring).unwrap();
        let mut kept = Sealer::new(&ring).unwrap();
        for _ in 0..SESSIONS_MAX + 20 {
            opener.open(&kept.seal(b"x").unwrap()).unwrap();
            opener.open(&Sealer::new(&ring).unwrap().seal(b"x").unwrap()).unwrap();
        }
        assert_eq!(opener.sessions(), SESSIONS_MAX);
        assert!(opener.sessions.keys().any(|(_, session)| *session == kept.session()));
    }

    #[test]
    fn a_worn_out_session_is_replaced() {
        let (mut sealer, mut opener) = pair();
        let session = sealer.session();
        sealer.counter = COUNTER_MAX - 1;
        opener.open(&sealer.seal(b"last").unwrap()).unwrap();
        assert_eq!(opener.open(&sealer.seal(b"first").unwrap()).unwrap(), b"first");
        assert_ne!(sealer.session(), session);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_opens(plain in prop::collection::vec(any::<u8>(), 0..200), bit in any::<prop::sample::Index>()) {
            let (mut sealer, mut opener) = pair();
            let mut datagram = sealer.seal(&plain).unwrap();
            let bit = bit.index(datagram.len() * 8);
            datagram[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(opener.open(&datagram).is_err());
            datagram[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(opener.open(&datagram).unwrap(), plain);
        }

        #[test]
        fn hostile_bytes_never_open_nor_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (sealer, mut opener) = pair();
            prop_assert!(opener.open(&bytes).is_err());
            let guided = [&[VERSION][..], &sealer.hint, &bytes].concat();
            prop_assert!(opener.open(&guided).is_err());
        }

        #[test]
        fn the_window_agrees_with_a_set_of_all_that_was_seen(counters in prop::collection::vec(1..6000u64, 1..300)) {
            let (mut window, mut seen, mut newest) = (Window::default(), std::collections::HashSet::new(), 0);
            for counter in counters {
                let old = newest >= counter && newest - counter >= WINDOW;
                prop_assert_eq!(window.has(counter), old || seen.contains(&counter));
                if !window.has(counter) {
                    window.insert(counter);
                    seen.insert(counter);
                    newest = newest.max(counter);
                }
            }
        }
    }
}
