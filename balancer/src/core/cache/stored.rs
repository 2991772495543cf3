//! A stored answer. It is never changed: what a 304 brings makes another of the same body.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use bytes::Bytes;
use skep_cache::conditions::Validators;
use skep_cache::fields::lines;
use skep_cache::kept::Kept;
use skep_cache::vary::Variant;

use super::room::Room;

/// What a place takes beside what is in it: its own parts, its entries in the map and in the order, and what the allocator
/// rounds up. Seen: with a million keys, `scripts/bench/cache --rows keys`.
pub(super) const PLACE_BYTES: u64 = 1200;

/// An answer's head, as it is stored.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub reason: Vec<u8>,
    /// It came by HTTP/1.0.
    pub is_old: bool,
    /// Its fields, each a line.
    pub lines: Vec<u8>,
    pub kept: Kept,
    pub variant: Variant,
    pub received: Instant,
    /// It had an `Age`.
    pub says_age: bool,
    /// Marks of its groups (RFC 9875).
    pub groups: Box<[u64]>,
    /// Which message it is, of a node's.
    pub message: Option<u64>,
}

impl Head {
    /// Seconds since it was received.
    pub fn resident_s(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.received).as_secs()
    }

    pub fn validators(&self) -> Validators<'_> {
        let mut found = Validators::default();
        for (name, value) in lines(&self.lines) {
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            let place = match name.len() {
                4 if is("etag") => &mut found.etag,
                4 if is("date") => &mut found.date,
                13 if is("last-modified") => &mut found.last_modified,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        found
    }

    pub fn bytes(&self) -> u64 {
        let groups = size_of_val(&*self.groups);
        (self.lines.len() + self.reason.len() + self.variant.bytes() + groups) as u64
    }
}

/// The body of one answer, or of several that a 304 has made of one.
#[derive(Debug)]
pub struct Body {
    pub bytes: Bytes,
    /// For them.
    room: Room,
}

impl Body {
    pub fn new(bytes: Bytes, mut room: Room) -> Arc<Self> {
        room.shrink(bytes.len() as u64);
        Arc::new(Self { bytes, room })
    }
}

/// A stored answer.
#[derive(Debug)]
pub struct Stored {
    pub head: Arc<Head>,
    pub body: Arc<Body>,
    /// Somebody had it since it was last looked at.
    used: AtomicBool,
    /// It is stored no more, or no more alone for who asks what it is for: no core has it at hand.
    gone: AtomicBool,
    /// It may not be used any more, not even where its service fails.
    purged: AtomicBool,
    /// The last purge of which it is known that it is not of this.
    held_to: AtomicU64,
    /// For all but the body.
    room: Room,
}

impl Stored {
    pub fn new(head: Arc<Head>, body: Arc<Body>, room: Room) -> Arc<Self> {
        let no = || AtomicBool::new(false);
        let (used, gone, purged, held_to) = (no(), no(), no(), AtomicU64::new(0));
        Arc::new(Self { head, body, used, gone, purged, held_to, room })
    }

    /// What is to be had for it beside its body.
    pub fn room_bytes(head: &Head, key_bytes: usize) -> u64 {
        head.bytes() + key_bytes as u64 + PLACE_BYTES
    }

    pub(super) fn bytes(&self) -> u64 {
        self.room.bytes() + self.body.room.bytes()
    }

    pub(super) fn let_go(&self) {
        self.gone.store(true, Release);
    }

    pub(super) fn purge(&self) {
        self.purged.store(true, Release);
        self.let_go();
    }

    pub(super) fn is_purged(&self) -> bool {
        self.purged.load(Acquire)
    }

    pub(super) fn held_to(&self) -> u64 {
        self.held_to.load(Relaxed)
    }

    /// Nothing is written where it is known already.
    pub(super) fn hold_to(&self, number: u64) {
        if self.held_to() < number {
            self.held_to.fetch_max(number, Relaxed);
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Acquire)
    }

    /// Nothing is written where it is known already: other cores read it.
    pub fn use_it(&self) {
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.used.load(Relaxed)
    }

    /// Whether it was used since this was asked.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Relaxed)
    }
}
