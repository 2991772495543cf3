//! Answers that are stored, for all cores; and what is fetched to be stored (see `flight`).
//!
//! What is stored is found by its URL, as clients ask for it, and below that by the realm (scheme, route, service, and all
//! that a document says of these) and what the answer varies by: so that an unsafe request invalidates a URL whatever
//! its route, and none is answered with what is another's. A lock is held for a look and a change, never across an
//! await; what is dropped is dropped outside of it. Bounded by bytes, also of what is still read (see `room`).

pub mod flight;
pub mod hot;
pub mod purges;
mod room;
mod shard;
pub mod stored;
pub mod untold;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skep_cache::Field;

use self::flight::{End, Flight, Reader};
use self::purges::{PurgeCounts, Purges, Subject};
pub use self::room::{Budget, Room};
use self::shard::{Open, Shard};
use self::stored::{PLACE_BYTES, Stored};
use self::untold::Untold;

/// Bytes of a cache of which nothing is said.
pub const CACHE_BYTES: u64 = 64 << 20;
/// Most that go for room and are read still, so that nothing is won by it: the rest is not to go for that.
const HELD_MAX: usize = 16;
/// Most answers that a sweep looks at before it lets others have the part that they are of.
const SWEPT_AT_ONCE: usize = 256;
/// Parts of it, each with a lock of its own: so many that who looks through one holds nobody up.
const SHARDS: usize = 256;
/// Most answers of one URL.
pub const VARIANTS_MAX: usize = 32;
/// Most fetches of one URL at a time; what is more is stored nowhere.
const FETCHES_MAX: usize = 32;
/// Most fetches that nobody waits for.
const UNATTENDED_MAX: usize = 64;
/// How long it is remembered of a URL that its answers are not stored.
const NOT_STORED: Duration = Duration::from_secs(120);

/// Where an answer is good: a scheme, and a digest of its route, its service and what a document says of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Realm {
    pub secure: bool,
    pub digest: u128,
    /// Marks of the names of its route and its service (see `purges`).
    pub route: u64,
    pub service: u64,
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
    /// It is there by now; or what was there is not good any more: it is to be looked for again.
    Found(Arc<Stored>),
    Waits(Reader),
    /// It is to be fetched; with nobody to read it where that is done beside.
    Leads(Option<Reader>, Fetch),
    /// It is fetched already, beside; or as much is fetched as may be.
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
    pub purged: AtomicU64,
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
    /// Fetches that nobody waits for.
    unattended: AtomicUsize,
    pub counts: Counts,
    pub purges: Purges,
    pub purged: PurgeCounts,
    /// What other balancers are to be told of.
    pub untold: Untold,
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
            unattended: AtomicUsize::new(0),
            counts: Counts::default(),
            purges: Purges::default(),
            purged: PurgeCounts::default(),
            untold: Untold::default(),
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
        let mut shard = self.of(place.key);
        let mut gone = Vec::new();
        let found = loop {
            let site = shard.site(place.key);
            let found = site.map(|it| it.find(place.realm, fields.clone(), place.for_all, now));
            match found {
                Some(Found::Stored(stored)) if !self.is_good(place, &stored) => {
                    gone.extend(shard.remove(place.key, &stored));
                    self.counts.purged.fetch_add(1, Relaxed);
                }
                found => break found.unwrap_or(Found::Nothing),
            }
        };
        drop(shard);
        drop(gone);
        found
    }

    /// Whether a stored answer may still be used, by what was purged.
    pub fn is_good(&self, place: Place<'_>, stored: &Stored) -> bool {
        let now = self.purges.number();
        if stored.held_to() >= now {
            return !stored.is_purged();
        }
        let subject = Subject::new(place.key, place.realm, Some(&stored.head));
        match self.purges.hold(&subject, stored.held_to()) {
            Some(number) => stored.hold_to(number),
            None => stored.purge(),
        }
        !stored.is_purged()
    }

    /// Whether one more may be fetched that nobody waits for.
    fn attends_itself(&self, most: usize) -> bool {
        let more = |count: usize| (count < most).then_some(count + 1);
        self.unattended.fetch_update(Relaxed, Relaxed, more).is_ok()
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
        // Before what is there is looked at: a purge that comes meanwhile is one that comes after it has begun.
        let born = self.purges.number();
        if let Some(seen) = seen.filter(|seen| !self.is_good(place, seen)) {
            return Entered::Found(seen.clone());
        }
        let mut shard = self.of(place.key);
        let is_seen = |it: &Arc<Stored>| seen.is_some_and(|seen| Arc::ptr_eq(seen, it));
        if let Some(site) = shard.site(place.key) {
            let found = site.find(place.realm, fields.clone(), place.for_all, Instant::now());
            // Who wants it anew takes none that another has just fetched.
            if let Found::Stored(stored) = found
                && joins
                && !is_seen(&stored)
                && self.is_good(place, &stored)
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
                        Ok(head) => {
                            head.as_ref().is_none_or(|it| it.variant.matches(fields.clone()))
                                && self.is_of_now(place, open, head.as_deref())
                        }
                        Err(()) => false,
                    }
            };
            if joins && let Some(open) = site.open.iter().find(fits) {
                return if beside { Entered::Fetched } else { Entered::Waits(open.flight.reader(false)) };
            }
            if site.open.iter().filter(|it| !it.flight.is_void()).count() >= FETCHES_MAX {
                return Entered::Fetched;
            }
        }
        if beside && !self.attends_itself(UNATTENDED_MAX / 2) {
            return Entered::Fetched;
        }
        let flight = Flight::new(seen.cloned(), beside, born);
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
        let (mut freed, mut without, mut held) = (0, 0, 0);
        // One of each part, in turn. What was used is passed over once.
        while freed < bytes && without < 2 * SHARDS && held < HELD_MAX {
            let evicted = self.shard(self.hand.fetch_add(1, Relaxed) % SHARDS).evict();
            let Some((bytes, stored)) = evicted else {
                without += 1;
                continue;
            };
            // What is read still, or at hand of a core, is not free by that.
            let is_held = stored.as_ref().is_some_and(|it| Arc::strong_count(it) > 1);
            drop(stored);
            without = 0;
            if is_held {
                held += 1;
            } else {
                freed += bytes;
            }
            self.counts.evicted.fetch_add(1, Relaxed);
        }
        freed > 0
    }

    /// Nothing of what is stored of that URL is used again, and nothing of what is fetched of it by now is stored.
    pub fn invalidate(&self, key: &[u8]) {
        let gone = self.of(key).invalidate(key);
        self.counts.invalidated.fetch_add(gone.len() as u64, Relaxed);
    }

    /// Lets go of all that may not be used any more, some at a time: none is held to a rule with a lock held.
    pub async fn sweep(&self) {
        let number = self.purges.number();
        for at in 0..SHARDS {
            loop {
                let some = self.shard(at).not_held_to(number, SWEPT_AT_ONCE);
                if some.is_empty() {
                    break;
                }
                for (key, realm, stored) in some {
                    if !self.is_good(Place { key: &key, realm, for_all: false }, &stored) {
                        let gone = self.shard(at).remove(&key, &stored);
                        self.counts.purged.fetch_add(gone.len() as u64, Relaxed);
                    }
                }
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether what is fetched is not of a time before it was purged.
    fn is_of_now(&self, place: Place<'_>, open: &Open, head: Option<&stored::Head>) -> bool {
        let subject = Subject::new(place.key, place.realm, head);
        self.purges.hold(&subject, open.flight.born).is_some()
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
        if self.flight.is_unattended() {
            self.cache.unattended.fetch_sub(1, Relaxed);
        }
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

    /// Ready where nobody is there for it, and it does not go on by itself.
    pub fn poll_left(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.flight.poll_left(cx, || self.cache.attends_itself(UNATTENDED_MAX))
    }

    /// Nobody joins it any more: it is stored nowhere.
    pub fn part(&self) {
        self.close();
    }

    /// Stores it, where it still may be.
    pub fn store(&self, stored: &Arc<Stored>) {
        let mut shard = self.cache.of(&self.key);
        // Asked with the lock, so that what is invalidated meanwhile is not stored after that.
        if self.flight.is_void() {
            return;
        }
        let subject = Subject::new(&self.key, self.realm, Some(&stored.head));
        let Some(held) = self.cache.purges.hold_new(&subject, self.flight.born) else {
            drop(shard);
            self.cache.counts.purged.fetch_add(1, Relaxed);
            return;
        };
        stored.hold_to(held);
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

    /// Whether what was asked for anew may still be used, by what was purged.
    pub fn may_use(&self, stale: &Stored) -> bool {
        self.cache.is_good(Place { key: &self.key, realm: self.realm, for_all: false }, stale)
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
