//! Answers that are stored, for all cores; and what is fetched to be stored (see `flight`).
//!
//! What is stored is found by its URL, as clients ask for it, and below that by the realm (scheme, route, service, and all
//! that a document says of these) and what the answer varies by: so that an unsafe request invalidates a URL whatever
//! its route, and none is answered with what is another's. A lock is held for a look and a change, never across an
//! await; what is dropped is dropped outside of it. Bounded by bytes, also of what is still read (see `room`).

pub mod flight;
pub mod hot;
mod room;
mod shard;
pub mod stored;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skep_cache::Field;

use self::flight::{End, Flight, Reader};
pub use self::room::{Budget, Room};
use self::shard::{Open, Shard};
use self::stored::{PLACE_BYTES, Stored};

/// Bytes of a cache of which nothing is said.
pub const CACHE_BYTES: u64 = 64 << 20;
/// Parts of it, each with a lock of its own.
const SHARDS: usize = 16;
/// Most answers of one URL.
pub const VARIANTS_MAX: usize = 32;
/// How long it is remembered of a URL that its answers are not stored.
const NOT_STORED: Duration = Duration::from_secs(120);

/// Where an answer is good: a scheme, and a digest of its route, its service and what a document says of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Realm {
    pub secure: bool,
    pub digest: u128,
}

/// What there is for a request.
#[derive(Debug, Clone)]
pub enum Found {
    Stored(Arc<Stored>),
    /// Answers to it are not stored: it is no use to wait for one.
    NotStored,
    Nothing,
}

/// How a request comes to an answer that is not there.
#[derive(Debug)]
pub enum Entered {
    /// It is there by now.
    Found(Arc<Stored>),
    Waits(Reader),
    /// It is to be fetched; with nobody to read it where that is done beside.
    Leads(Option<Reader>, Fetch),
    /// It is fetched already, beside.
    Fetched,
}

/// A request, as the cache finds what is for it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub key: &'a Arc<[u8]>,
    pub realm: Realm,
    /// Only what is for all: who asks has proved who it is.
    pub for_all: bool,
}

/// What was done, from the start on.
#[derive(Debug, Default)]
pub struct Counts {
    pub stored: AtomicU64,
    pub evicted: AtomicU64,
    pub invalidated: AtomicU64,
    /// Answers for which there was no room.
    pub refused: AtomicU64,
}

/// The cache of a process.
#[derive(Debug)]
pub struct Cache {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    budget: Arc<Budget>,
    /// The part of which the next goes that has to.
    hand: AtomicUsize,
    pub counts: Counts,
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(CACHE_BYTES)
    }
}

impl Cache {
    pub fn new(bytes_max: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            budget: Budget::new(bytes_max),
            hand: AtomicUsize::new(0),
            counts: Counts::default(),
        }
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Answers that are stored, and URLs of which it is known that theirs are not.
    pub fn count(&self) -> usize {
        (0..SHARDS).map(|at| self.shard(at).count()).sum()
    }

    fn shard(&self, at: usize) -> MutexGuard<'_, Shard> {
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        self.shard((self.hasher.hash_one(key) % SHARDS as u64) as usize)
    }

    /// What there is for a request with these fields.
    pub fn find<'a>(
        &self,
        place: Place<'_>,
        fields: impl Iterator<Item = Field<'a>> + Clone,
        now: Instant,
    ) -> Found {
        let shard = self.of(place.key);
        let found = shard.site(place.key).map(|it| it.find(place.realm, fields, place.for_all, now));
        found.unwrap_or(Found::Nothing)
    }

    /// Joins who fetches that, where a request `joins`, or begins to; `seen` is what was there and is not good enough.
    /// With `beside` nobody waits for it.
    pub fn enter<'a>(
        self: &Arc<Self>,
        place: Place<'_>,
        fields: impl Iterator<Item = Field<'a>> + Clone,
        seen: Option<&Arc<Stored>>,
        joins: bool,
        beside: bool,
    ) -> Entered {
        let mut shard = self.of(place.key);
        let is_seen = |it: &Arc<Stored>| seen.is_some_and(|seen| Arc::ptr_eq(seen, it));
        if let Some(site) = shard.site(place.key) {
            let found = site.find(place.realm, fields.clone(), place.for_all, Instant::now());
            // Who wants it anew takes none that another has just fetched.
            if let Found::Stored(stored) = found
                && joins
                && !is_seen(&stored)
            {
                return Entered::Found(stored);
            }
            let fits = |open: &&Open| {
                let of_same = match (&open.flight.stale, seen) {
                    (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                    (one, other) => one.is_none() && other.is_none(),
                };
                of_same
                    && open.joins
                    && open.realm == place.realm
                    && match open.flight.head() {
                        Ok(head) => head.is_none_or(|it| it.variant.matches(fields.clone())),
                        Err(()) => false,
                    }
            };
            if joins && let Some(open) = site.open.iter().find(fits) {
                return if beside { Entered::Fetched } else { Entered::Waits(open.flight.reader(false)) };
            }
        }
        let flight = Flight::new(seen.cloned(), beside);
        let reader = (!beside).then(|| flight.reader(true));
        shard.open(place.key, Open { realm: place.realm, joins, flight: flight.clone() });
        let (cache, key, realm) = (self.clone(), place.key.clone(), place.realm);
        Entered::Leads(reader, Fetch { cache, key, realm, flight })
    }

    /// Room for so many bytes; others go for it.
    pub fn room(&self, bytes: u64) -> Option<Room> {
        let room = self.budget.room(bytes);
        if room.is_none() && self.make_room(bytes) {
            return self.budget.room(bytes);
        }
        room
    }

    pub fn grow(&self, room: &mut Room, bytes: u64) -> bool {
        let more = bytes.saturating_sub(room.bytes());
        room.grow(bytes) || (self.make_room(more) && room.grow(bytes))
    }

    /// Evicts as much as is asked for, or what there is. What goes may be read still: it is no reason to evict more.
    fn make_room(&self, bytes: u64) -> bool {
        if bytes > self.budget.bytes_max() {
            return false;
        }
        let (mut freed, mut without) = (0, 0);
        // One of each part, in turn. What was used is passed over once.
        while freed < bytes && without < 2 * SHARDS {
            let evicted = self.shard(self.hand.fetch_add(1, Relaxed) % SHARDS).evict();
            let Some((bytes, stored)) = evicted else {
                without += 1;
                continue;
            };
            drop(stored);
            (freed, without) = (freed + bytes, 0);
            self.counts.evicted.fetch_add(1, Relaxed);
        }
        freed > 0
    }

    /// Nothing of what is stored of that URL is used again, and nothing of what is fetched of it by now is stored.
    pub fn invalidate(&self, key: &[u8]) {
        let gone = self.of(key).invalidate(key);
        self.counts.invalidated.fetch_add(gone.len() as u64, Relaxed);
    }

    /// An answer of that URL may be stored, after all.
    pub fn unmark(&self, place: Place<'_>) {
        self.of(place.key).unmark(place.key, place.realm);
    }
}

/// What is fetched, for who does. Dropping it ends it.
#[derive(Debug)]
pub struct Fetch {
    cache: Arc<Cache>,
    pub key: Arc<[u8]>,
    realm: Realm,
    pub flight: Arc<Flight>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.flight.end(End::Failed);
        self.close();
    }
}

impl Fetch {
    fn close(&self) {
        self.cache.of(&self.key).close(&self.key, &self.flight);
    }

    pub fn room(&self, bytes: u64) -> Option<Room> {
        let room = self.cache.room(bytes);
        if room.is_none() {
            self.cache.counts.refused.fetch_add(1, Relaxed);
        }
        room
    }

    pub fn grow(&self, room: &mut Room, bytes: u64) -> bool {
        self.cache.grow(room, bytes)
    }

    /// Nobody joins it any more.
    pub fn part(&self) {
        self.cache.of(&self.key).part(&self.key, &self.flight);
    }

    /// Stores it, where it still may be.
    pub fn store(&self, stored: &Arc<Stored>) {
        let mut shard = self.cache.of(&self.key);
        // Asked with the lock, so that what is invalidated meanwhile is not stored after that.
        if self.flight.is_void() {
            return;
        }
        let stale = self.flight.stale.as_ref().map(|stale| shard.remove(&self.key, stale));
        let gone = shard.put(&self.key, self.realm, stored.clone());
        drop(shard);
        drop((stale, gone));
        self.cache.counts.stored.fetch_add(1, Relaxed);
    }

    /// What was asked for anew is not good any more.
    pub fn forget_stale(&self) {
        if let Some(stale) = &self.flight.stale {
            let gone = self.cache.of(&self.key).remove(&self.key, stale);
            drop(gone);
        }
    }

    /// For a while, nobody waits for what is not stored.
    pub fn mark(&self) {
        let Some(room) = self.cache.room(PLACE_BYTES + self.key.len() as u64) else { return };
        let until = Instant::now() + NOT_STORED;
        let mut shard = self.cache.of(&self.key);
        if !self.flight.is_void() {
            shard.put_not(&self.key, self.realm, until, room);
        }
    }
}

#[cfg(test)]
mod tests;
