//! What of each limit's keys was asked for of late, over all cores: a time each, in tables of a fixed size.
//!
//! No tasks. A core holds one lock out of thousands for a moment, and that at requests of routes with limits alone. A key
//! is a keyed hash of the route's name, what the limit says, and who asks: so what is known outlives the document, and a
//! limit that says something else begins anew. A time that is past says the same as none, so that a slot with one is free.
//! Where all that a key may lie in are taken, the one whose time is over first is forgotten: a new key is let in, and is
//! counted from then on.

use std::fmt;
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use skep_gateway::limit::{By, Limit, Neighbours, Taken, ticks};

/// Most keys that a table has. There are two: who has many addresses takes no consumer's place.
pub const KEYS_MAX: usize = 65_536;
/// Slots that a key may lie in.
const WAYS: usize = 8;
const SETS: usize = KEYS_MAX / WAYS;

/// Who asks, as far as a limit tells one from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who<'a> {
    Client(Neighbours),
    Consumer(&'a str),
    Anybody,
}

/// A limit of a route that is in force.
#[derive(Debug)]
pub struct Held {
    pub limit: Limit,
    /// Of the route's name and what the limit says.
    seed: u64,
}

impl Held {
    pub fn new(route: &str, limit: Limit) -> Self {
        // Operators write both: nobody else can have them come to the same.
        let mut hasher = DefaultHasher::new();
        (route, limit).hash(&mut hasher);
        Self { limit, seed: hasher.finish() }
    }
}

/// Of one key.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u64,
    tat: u64,
}

type Set = [Slot; WAYS];

/// Made at the first request of a route with a limit.
#[derive(Default)]
struct Keys {
    sets: OnceLock<Box<[Mutex<Set>]>>,
    /// Keys that were forgotten before their time.
    forgotten: AtomicU64,
}

/// The tables.
pub struct Rates {
    started: Instant,
    random: RandomState,
    addresses: Keys,
    /// Of consumers, and of routes as a whole.
    others: Keys,
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
            others: Keys::default(),
        }
    }
}

impl Rates {
    /// In ticks, by a clock that nobody sets.
    pub fn now(&self) -> u64 {
        ticks(self.started.elapsed())
    }

    /// Counts a request; or says how many ticks it is too early, and counts nothing.
    pub fn take(&self, held: &Held, who: Who<'_>, now: u64) -> Result<Taken, u64> {
        let key = self.key(held, who);
        let table = self.table(held.limit.by);
        let mut set = table.set(key);
        let slot = match set.iter().position(|it| it.key == key) {
            Some(at) => &mut set[at],
            None => {
                let Some(slot) = set.iter_mut().min_by_key(|it| it.tat) else { return Err(0) };
                if slot.tat > now {
                    table.forgotten.fetch_add(1, Relaxed);
                }
                *slot = Slot { key, tat: 0 };
                slot
            }
        };
        let taken = held.limit.take(slot.tat, now)?;
        slot.tat = taken.tat;
        Ok(taken)
    }

    /// How many ticks a request would come too early.
    pub fn too_early(&self, held: &Held, who: Who<'_>, now: u64) -> Option<u64> {
        let key = self.key(held, who);
        let set = self.table(held.limit.by).set(key);
        let slot = set.iter().find(|it| it.key == key)?;
        held.limit.take(slot.tat, now).err()
    }

    /// Of a request that was counted and is not let in after all.
    pub fn give_back(&self, held: &Held, who: Who<'_>) {
        let key = self.key(held, who);
        let mut set = self.table(held.limit.by).set(key);
        if let Some(slot) = set.iter_mut().find(|it| it.key == key) {
            slot.tat = held.limit.give_back(slot.tat);
        }
    }

    /// Of each table.
    pub fn fill(&self) -> [Fill; 2] {
        let now = self.now();
        [("addresses", &self.addresses), ("others", &self.others)].map(|(table, of)| Fill {
            table,
            keys: of.living(now),
            forgotten: of.forgotten.load(Relaxed),
        })
    }

    fn key(&self, held: &Held, who: Who<'_>) -> u64 {
        self.random.hash_one((held.seed, who))
    }

    fn table(&self, by: By) -> &Keys {
        match by {
            By::Address => &self.addresses,
            By::Consumer | By::Route => &self.others,
        }
    }
}

impl Keys {
    fn set(&self, key: u64) -> MutexGuard<'_, Set> {
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect());
        sets[key as usize % SETS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys whose time is not past.
    fn living(&self, now: u64) -> usize {
        let living = |set: &Mutex<Set>| {
            let set = set.lock().unwrap_or_else(PoisonError::into_inner);
            set.iter().filter(|it| it.tat > now).count()
        };
        self.sets.get().map_or(0, |sets| sets.iter().map(living).sum())
    }
}

#[cfg(test)]
mod tests;
