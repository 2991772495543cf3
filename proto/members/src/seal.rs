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
//! A key has two forms ([`Form`]), and each seals under secrets of its own. What the cluster key itself
//! has sealed is as the version before had it, and edges cannot open it.
//!
//! What a replay window cannot know: datagrams of a session that the receiver has never seen or
//! has forgotten open once more. Gossip bears that: versions and heartbeats in it only rise.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::key::{Form, HINT_BYTES, Hint, KEYS_MAX, KeyRing, Secret};
use window::Window;

mod window;

/// The format's version, the first byte.
pub const VERSION: u8 = 1;

/// Bytes before the ciphertext.
pub const HEADER_BYTES: usize = 1 + HINT_BYTES + SESSION_BYTES + COUNTER_BYTES;

/// Bytes that sealing adds.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// Counters this far behind a session's newest, or farther, are taken for replays.
pub const WINDOW: u64 = 2048;

/// Most sessions of each form that are remembered; the one unused for longest goes first. An edge that begins
/// many lets none of the members' be forgotten, whose datagrams would open once more.
pub const SESSIONS_MAX: usize = 1024;

/// Most own sessions that are refused.
const OWN_SESSIONS_MAX: usize = 2 * KEYS_MAX;

/// Datagrams of one session; then the sealer starts another.
const COUNTER_MAX: u64 = 1 << 48;

const SESSION_BYTES: usize = 16;
const COUNTER_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// What the datagram key is derived for; the session follows.
const SESSION_PURPOSE: &[u8] = b"skep datagram session 1";

type SessionId = [u8; SESSION_BYTES];

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
    /// Of this process's cluster, if it is true; an edge key does not open it.
    #[error("sealed with the cluster key itself, of which this process has the edge key alone")]
    Members,
    #[error("changed on the way, or forged")]
    Forged,
    #[error("seen before, or too old to tell")]
    Replayed,
    #[error("one of this process's own, sent back")]
    Reflected,
}

fn session_key(key: &Secret, session: &SessionId) -> Option<LessSafeKey> {
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
    edge: FormSealer,
    /// None where the process is an edge.
    root: Option<FormSealer>,
}

impl Sealer {
    /// A sealer with sessions of its own. An edge that also has a cluster key, in a rotation, seals as one
    /// that has none: it would be answered under the other key, of which it has the edge key alone.
    pub fn new(ring: &KeyRing) -> Result<Self, SealError> {
        let key = ring.keys().first().ok_or(SealError)?;
        let root = key.root().filter(|_| !ring.has_edge_alone());
        Ok(Self { edge: FormSealer::new(key.edge())?, root: root.map(FormSealer::new).transpose()? })
    }

    /// From now on, seals as [`Sealer::new`] of this ring does. Its sessions go on where the key is the same.
    pub fn rekey(&mut self, ring: &KeyRing) -> Result<(), SealError> {
        let new = Self::new(ring)?;
        let same_root = new.root.as_ref().map(|root| &root.key) == self.root.as_ref().map(|root| &root.key);
        if !same_root || new.edge.key != self.edge.key {
            *self = new;
        }
        Ok(())
    }

    /// The sessions that the next datagrams belong to.
    pub fn sessions(&self) -> Vec<[u8; SESSION_BYTES]> {
        self.root.iter().chain([&self.edge]).map(|sealer| sealer.session).collect()
    }

    /// The sealed datagram; [`OVERHEAD_BYTES`] longer than `plain`. An edge has one form alone.
    pub fn seal(&mut self, form: Form, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        match (form, &mut self.root) {
            (Form::Root, Some(root)) => root.seal(plain),
            _ => self.edge.seal(plain),
        }
    }
}

/// Seals in one form.
struct FormSealer {
    key: Secret,
    hint: Hint,
    session: SessionId,
    session_key: LessSafeKey,
    counter: u64,
}

impl FormSealer {
    fn new(key: &Secret) -> Result<Self, SealError> {
        let hint = key.hint().ok_or(SealError)?;
        let (session, session_key) = Self::new_session(key)?;
        Ok(Self { key: key.clone(), hint, session, session_key, counter: 0 })
    }

    fn new_session(key: &Secret) -> Result<(SessionId, LessSafeKey), SealError> {
        let mut session = [0; SESSION_BYTES];
        aws_lc_rs::rand::fill(&mut session).map_err(|_| SealError)?;
        let session_key = session_key(key, &session).ok_or(SealError)?;
        Ok((session, session_key))
    }

    fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, SealError> {
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
    keys: Vec<Arc<Opens>>,
    /// Hints of cluster keys of which there is the edge key alone.
    members: Vec<Hint>,
    own: Vec<SessionId>,
    sessions: HashMap<(Hint, SessionId), Session>,
    /// Counts datagrams: the clock of `last_used`.
    now: u64,
}

/// A secret that opens.
#[derive(PartialEq, Eq)]
struct Opens {
    hint: Hint,
    form: Form,
    secret: Secret,
}

struct Session {
    /// What it was opened with first.
    by: Arc<Opens>,
    key: LessSafeKey,
    window: Window,
    last_used: u64,
}

impl Opener {
    pub fn new(ring: &KeyRing) -> Result<Self, SealError> {
        let mut opener =
            Self { keys: Vec::new(), members: Vec::new(), own: Vec::new(), sessions: HashMap::new(), now: 0 };
        opener.rekey(ring)?;
        Ok(opener)
    }

    /// From now on, opens with these keys. Sessions of a key that is not among them are forgotten; of the others
    /// it is known what they said already.
    pub fn rekey(&mut self, ring: &KeyRing) -> Result<(), SealError> {
        let secrets = ring.keys().iter().flat_map(|key| key.secrets());
        let opens = |(form, secret): (Form, &Secret)| {
            Some(Arc::new(Opens { hint: secret.hint()?, form, secret: secret.clone() }))
        };
        self.keys = secrets.map(opens).collect::<Option<_>>().ok_or(SealError)?;
        let edges = ring.keys().iter().filter(|key| key.root().is_none());
        self.members = edges.map(|key| key.root_hint()).collect();
        self.sessions.retain(|_, session| self.keys.contains(&session.by));
        Ok(())
    }

    /// From now on, refuses these sessions of this process as well: what an attacker sends back. The newest are
    /// remembered, those of one sealer for each key that a ring has room for.
    pub fn refuse_own(&mut self, sessions: Vec<[u8; SESSION_BYTES]>) {
        self.own.retain(|own| !sessions.contains(own));
        self.own.extend(sessions);
        let over = self.own.len().saturating_sub(OWN_SESSIONS_MAX);
        self.own.drain(..over);
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
        self.open_telling_form(datagram).map(|(_, plain)| plain)
    }

    /// The same, with the form that it was sealed in.
    pub fn open_telling_form(&mut self, datagram: &[u8]) -> Result<(Form, Vec<u8>), OpenError> {
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
        if self.own.contains(session) {
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
            return Ok((known.by.form, plain));
        }

        let mut unknown =
            if self.members.contains(hint) { OpenError::Members } else { OpenError::UnknownKey };
        // Hints may collide; the tag decides.
        for by in self.keys.iter().filter(|by| by.hint == *hint) {
            unknown = OpenError::Forged;
            let Some(key) = session_key(&by.secret, session) else { continue };
            let Ok(plain) = decrypt(&key, counter, header, sealed) else { continue };
            let (by, form) = (by.clone(), by.form);
            let mut window = Window::default();
            window.insert(counter);
            self.make_room(form);
            self.sessions.insert(id, Session { by, key, window, last_used: self.now });
            return Ok((form, plain));
        }
        Err(unknown)
    }

    fn make_room(&mut self, form: Form) {
        let alike = || self.sessions.iter().filter(move |(_, session)| session.by.form == form);
        if alike().count() < SESSIONS_MAX {
            return;
        }
        let oldest = alike().min_by_key(|(_, session)| session.last_used).map(|(id, _)| *id);
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

#[cfg(test)]
mod tests;
