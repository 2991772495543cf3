//! What of each limit's keys was asked for of late, over all cores: a time each, in tables of a fixed size.
//!
//! No tasks. A core holds one lock out of thousands for a moment, and that at requests of routes with limits alone. A key
//! is the limit's and who asks: so what is known outlives the document, and who owes goes on to owe by a limit that says
//! something else. A time that is past says the same as none, so that a slot with one is free. Where all that a key may
//! lie in are taken, the one that has spent the least part of its burst is forgotten: a new key is let in, and is counted from
//! then on. Which those are hangs on a number of this run, so that nobody can have many keys meet in one place.
//!
//! What other balancers are to hear is summed up in the slots, and taken out by `control::exchange`. What another run is
//! told of them as it starts (`debts`) is how long each debt lasts.

mod debts;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use skep_gateway::exchange::Entry;
use skep_gateway::limit::{By, Limit, Neighbours, Scope, Taken, Who, ticks};

pub use self::debts::Handed;

/// Most keys that a table has. There are three: who has many addresses takes no consumer's place, and whoever an issuer's
/// tokens name none of the routes as a whole.
pub const KEYS_MAX: usize = 65_536;
/// Slots that a key may lie in.
const WAYS: usize = 8;
const SETS: usize = KEYS_MAX / WAYS;

/// A limit of a route that is in force.
#[derive(Debug)]
pub struct Held {
    pub limit: Limit,
    pub id: u64,
    /// What answers call it.
    pub name: String,
}

impl Held {
    /// `counted`: whose requests it counts together.
    pub fn new(counted: &str, limit: Limit) -> Self {
        Self { limit, id: limit.id(counted), name: limit.name() }
    }
}

/// Of one key.
#[derive(Debug, Clone, Copy)]
struct Slot {
    limit: u64,
    who: Who,
    tat: u64,
    /// Between two requests by its limit.
    step: u64,
    /// How far ahead its limit lets it come.
    depth: u64,
    /// Requests that others are to hear of; fewer than none where one was told and given back.
    untold: i32,
}

impl Default for Slot {
    fn default() -> Self {
        Self { limit: 0, who: Who::Anybody, tat: 0, step: 1, depth: 1, untold: 0 }
    }
}

type Set = [Slot; WAYS];

/// A set and its lock: what most requests look at of it, which is the first of its slots, is in one line of memory.
#[derive(Default)]
#[repr(align(64))]
struct Locked(Mutex<Set>);

impl Locked {
    fn lock(&self) -> MutexGuard<'_, Set> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Made at the first request of a route with a limit.
#[derive(Default)]
struct Keys {
    sets: OnceLock<Box<[Locked]>>,
    /// Sets in which there is something that others are to hear: a bit each.
    untold: OnceLock<Box<[AtomicU64]>>,
    /// Keys that were forgotten before their time.
    forgotten: AtomicU64,
}

/// The tables.
pub struct Rates {
    started: Instant,
    random: RandomState,
    addresses: Keys,
    consumers: Keys,
    /// As a whole.
    routes: Keys,
    /// Other balancers who hear of it.
    peers: AtomicUsize,
    pub exchanged: Exchanged,
    pub handed: Handed,
}

/// What other balancers were told, and told.
#[derive(Debug, Default)]
pub struct Exchanged {
    /// Requests that were let in here, each as often as there are others.
    pub told: AtomicU64,
    /// For which there was no room.
    pub untold: AtomicU64,
    /// Requests that others let in.
    pub heard: AtomicU64,
    /// Those by limits that are not in force here.
    pub strange: AtomicU64,
}

/// How full a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// What it is of.
    pub table: &'static str,
    pub keys: usize,
    pub forgotten: u64,
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").field("started", &self.started).finish_non_exhaustive()
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            random: RandomState::new(),
            addresses: Keys::default(),
            consumers: Keys::default(),
            routes: Keys::default(),
            peers: AtomicUsize::new(0),
            exchanged: Exchanged::default(),
            handed: Handed::default(),
        }
    }
}

impl Rates {
    /// In ticks, by a clock that nobody sets.
    pub fn now(&self) -> u64 {
        ticks(self.started.elapsed())
    }

    /// Counts a request; or says how many ticks it is too early, and counts nothing.
    pub fn take(&self, held: &Held, who: Who, now: u64) -> Result<Taken, u64> {
        let table = self.table(held.limit.by);
        let at = self.set_of(held.id, who);
        let mut set = table.set(at);
        let Some(slot) = table.slot(&mut set, held, who, now) else { return Err(0) };
        let taken = held.limit.take(slot.tat, now)?;
        slot.tat = taken.tat;
        if self.is_told(held) {
            slot.untold = slot.untold.saturating_add(1);
            table.mark(at);
        }
        Ok(taken)
    }

    /// How many ticks a request would come too early.
    pub fn too_early(&self, held: &Held, who: Who, now: u64) -> Option<u64> {
        let mut set = self.table(held.limit.by).set(self.set_of(held.id, who));
        let slot = set.iter_mut().find(|it| it.is_of(held.id, who))?;
        slot.obey(held, now);
        held.limit.take(slot.tat, now).err()
    }

    /// Of a request that was counted and is not let in after all.
    pub fn give_back(&self, held: &Held, who: Who) {
        let mut set = self.table(held.limit.by).set(self.set_of(held.id, who));
        if let Some(slot) = set.iter_mut().find(|it| it.is_of(held.id, who)) {
            slot.tat = held.limit.give_back(slot.tat);
            if self.is_told(held) {
                slot.untold = slot.untold.saturating_sub(1);
            }
        }
    }

    /// Others have let in so many.
    pub fn owe(&self, held: &Held, who: Who, count: u32, now: u64) {
        let table = self.table(held.limit.by);
        let mut set = table.set(self.set_of(held.id, who));
        if let Some(slot) = table.slot(&mut set, held, who, now) {
            slot.tat = held.limit.owe(slot.tat, now, count);
        }
    }

    /// Whether others are to hear of its requests.
    fn is_told(&self, held: &Held) -> bool {
        held.limit.scope == Scope::Cluster && self.peers() > 0
    }

    /// Other balancers who hear of it.
    pub fn peers(&self) -> usize {
        self.peers.load(Relaxed)
    }

    /// From now on there are so many who hear of it.
    pub fn tell(&self, peers: usize) {
        self.peers.store(peers, Relaxed);
    }

    /// What others are to hear since it was asked last.
    pub fn take_untold(&self, mut each: impl FnMut(Entry)) {
        self.addresses.take_untold(&mut each);
        self.consumers.take_untold(&mut each);
        self.routes.take_untold(&mut each);
    }

    /// Of each table.
    pub fn fill(&self) -> [Fill; 3] {
        let now = self.now();
        let tables =
            [("addresses", &self.addresses), ("consumers", &self.consumers), ("routes", &self.routes)];
        tables.map(|(table, of)| Fill { table, keys: of.living(now), forgotten: of.forgotten.load(Relaxed) })
    }

    fn set_of(&self, limit: u64, who: Who) -> usize {
        // Those who are told apart where they lie may meet here.
        let who = match who {
            Who::Client(Neighbours::V4(ip)) => u64::from(ip),
            Who::Client(Neighbours::V6(id)) | Who::Consumer(id) => id,
            Who::Anybody => 0,
        };
        self.random.hash_one(u128::from(limit) << 64 | u128::from(who)) as usize % SETS
    }

    fn table(&self, by: By) -> &Keys {
        match by {
            By::Address => &self.addresses,
            By::Consumer => &self.consumers,
            By::Route => &self.routes,
        }
    }
}

impl Slot {
    /// Which part of its burst is spent: 0 where its time is past. By time alone, who owes hours of a slow limit would
    /// leave no room for those of a fast one.
    fn owes(&self, now: u64) -> u64 {
        const PARTS: u64 = 1 << 16;
        let ahead = self.tat.saturating_sub(now);
        ahead.div_ceil((self.depth / PARTS).max(1))
    }

    fn is_of(&self, limit: u64, who: Who) -> bool {
        self.limit == limit && self.who == who
    }

    /// By what its limit says now.
    fn obey(&mut self, held: &Held, now: u64) {
        let step = held.limit.step();
        if self.step != step {
            self.tat = held.limit.rescaled(self.tat, now, self.step);
            self.step = step;
        }
        self.depth = held.limit.depth();
    }
}

impl Keys {
    fn set(&self, at: usize) -> MutexGuard<'_, Set> {
        self.sets.get_or_init(|| (0..SETS).map(|_| Locked::default()).collect())[at].lock()
    }

    /// The slot of a key: where it has none, that of who owes least.
    fn slot<'a>(&self, set: &'a mut Set, held: &Held, who: Who, now: u64) -> Option<&'a mut Slot> {
        if let Some(at) = set.iter().position(|it| it.is_of(held.id, who)) {
            let slot = set.get_mut(at)?;
            slot.obey(held, now);
            return Some(slot);
        }
        let slot = set.iter_mut().min_by_key(|it| it.owes(now))?;
        if slot.tat > now {
            self.forgotten.fetch_add(1, Relaxed);
        }
        let (step, depth) = (held.limit.step(), held.limit.depth());
        *slot = Slot { limit: held.id, who, tat: 0, step, depth, untold: 0 };
        Some(slot)
    }

    fn words(&self) -> &[AtomicU64] {
        self.untold.get_or_init(|| (0..SETS / 64).map(|_| AtomicU64::new(0)).collect())
    }

    /// Something in the set is to be told. To be called while it is locked.
    fn mark(&self, set: usize) {
        let (word, bit) = (&self.words()[set / 64], 1 << (set % 64));
        // Most often it is there already: then nothing is written that other cores look at.
        if word.load(Relaxed) & bit == 0 {
            word.fetch_or(bit, Relaxed);
        }
    }

    fn take_untold(&self, each: &mut impl FnMut(Entry)) {
        let words = self.untold.get().into_iter().flatten();
        for (at, word) in words.enumerate() {
            if word.load(Relaxed) == 0 {
                continue;
            }
            for bit in (0..64).filter(|bit| word.load(Relaxed) >> bit & 1 == 1) {
                let mut set = self.set(at * 64 + bit);
                // Under the lock under which it is set: what comes behind sets it again.
                word.fetch_and(!(1 << bit), Relaxed);
                for slot in set.iter_mut().filter(|it| it.untold > 0) {
                    let count = std::mem::take(&mut slot.untold).unsigned_abs();
                    each(Entry { limit: slot.limit, who: slot.who, count });
                }
            }
        }
    }

    /// Keys whose time is not past.
    fn living(&self, now: u64) -> usize {
        let living = |set: &Locked| set.lock().iter().filter(|it| it.tat > now).count();
        self.sets.get().map_or(0, |sets| sets.iter().map(living).sum())
    }
}

#[cfg(test)]
mod tests;
