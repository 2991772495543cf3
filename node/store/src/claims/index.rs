//! Finding a claim by its key: a table of fingerprints, of at most 16 bytes a claim.
//!
//! A fingerprint is part of a keyed hash, under a key that this process draws, so that nobody makes keys
//! that meet on purpose. It says which claims may be the one; their records say which is. The table is many
//! small ones, so that none takes long to grow. What is forgotten is not taken out: its number is below the
//! first one, so that its slot counts as free, and goes when its small table is made anew.
//!
//! ```text
//! slot   fingerprint:32 number:32      0: free. The number's lower half; claims are fewer than that
//! ```

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use skep_state::command::ClaimKey;

/// Small tables.
const TABLES: usize = 1024;
const TABLE_BITS: u32 = TABLES.ilog2();
const SLOTS_MIN: usize = 16;
/// A table with more than this share of its slots in use is made anew.
const FULL: (usize, usize) = (4, 5);
/// With so many slots for each claim: 14 bytes.
const SLOTS_PER_CLAIM: (usize, usize) = (7, 4);

#[derive(Debug)]
pub(crate) struct ClaimIndex {
    hasher: RandomState,
    tables: Vec<Table>,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<u64>,
    /// Slots that are not free, though what is in them may be forgotten.
    used: usize,
}

impl Default for ClaimIndex {
    fn default() -> Self {
        let tables = (0..TABLES).map(|_| Table::default()).collect();
        Self { hasher: RandomState::new(), tables }
    }
}

/// The number that a slot says, among those that there are.
fn number(slot: u64, there: &Range<u64>) -> Option<u64> {
    let from_first = (slot as u32).wrapping_sub(there.start as u32);
    let number = there.start + u64::from(from_first);
    there.contains(&number).then_some(number)
}

impl ClaimIndex {
    /// The table of a key, and its fingerprint, which is never 0.
    fn place(&self, key: ClaimKey) -> (usize, u32) {
        let hash = self.hasher.hash_one(key.0);
        ((hash >> (u64::BITS - TABLE_BITS)) as usize, hash as u32 | 1)
    }

    /// The claims that may be this key's: mostly none, or the one.
    pub(crate) fn candidates(&self, key: ClaimKey, there: Range<u64>) -> impl Iterator<Item = u64> {
        let (table, fingerprint) = self.place(key);
        self.tables[table].from(fingerprint).filter_map(move |(_, slot)| {
            if (slot >> 32) as u32 == fingerprint { number(slot, &there) } else { None }
        })
    }

    /// Notes a claim; `instead_of` one of the same key.
    pub(crate) fn insert(&mut self, key: ClaimKey, claim: u64, instead_of: Option<u64>, there: Range<u64>) {
        let (table, fingerprint) = self.place(key);
        let slot = u64::from(fingerprint) << 32 | u64::from(claim as u32);
        let table = &mut self.tables[table];
        if let Some(old) = instead_of {
            let old = u64::from(fingerprint) << 32 | u64::from(old as u32);
            let place = table.from(fingerprint).find(|(_, slot)| *slot == old);
            if let Some((at, _)) = place {
                table.slots[at] = slot;
                return;
            }
        }
        if (table.used + 1) * FULL.1 > table.slots.len() * FULL.0 {
            table.make_anew(&there);
        }
        table.put(slot, &there);
    }

    /// Nothing is left of what was noted.
    pub(crate) fn clear(&mut self) {
        self.tables.iter_mut().for_each(|table| *table = Table::default());
    }

    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        let slots: usize = self.tables.iter().map(|table| table.slots.capacity()).sum();
        (slots * size_of::<u64>() + TABLES * size_of::<Table>()) as u64
    }
}

impl Table {
    fn start(&self, fingerprint: u32) -> usize {
        ((u64::from(fingerprint) * self.slots.len() as u64) >> 32) as usize
    }

    /// The slots in use from a fingerprint's place on, up to a free one, with their places.
    fn from(&self, fingerprint: u32) -> impl Iterator<Item = (usize, u64)> {
        let start = self.start(fingerprint);
        let slots = self.slots.iter().copied().enumerate();
        slots.clone().skip(start).chain(slots.take(start)).take_while(|(_, slot)| *slot != 0)
    }

    /// Puts a slot where there is a free one, or one of a claim that is forgotten. There is one.
    fn put(&mut self, slot: u64, there: &Range<u64>) {
        let mut at = self.start((slot >> 32) as u32);
        for _ in 0..self.slots.len() {
            if self.slots[at] == 0 {
                self.used += 1;
                self.slots[at] = slot;
                return;
            }
            if number(self.slots[at], there).is_none() {
                self.slots[at] = slot;
                return;
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }

    /// Of the size that what is left of it takes, and one more.
    fn make_anew(&mut self, there: &Range<u64>) {
        let before = std::mem::take(&mut self.slots);
        let left = || before.iter().copied().filter(|slot| *slot != 0 && number(*slot, there).is_some());
        let slots = (left().count() + 1) * SLOTS_PER_CLAIM.0 / SLOTS_PER_CLAIM.1;
        self.slots = vec![0; slots.max(SLOTS_MIN)];
        self.used = 0;
        left().for_each(|slot| self.put(slot, there));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(index: &ClaimIndex, key: u64, there: &Range<u64>) -> Vec<u64> {
        index.candidates(ClaimKey(key.into()), there.clone()).collect()
    }

    #[test]
    fn a_claim_takes_16_bytes_at_most_however_many_there_are() {
        let mut index = ClaimIndex::default();
        let mut most = 0.0f64;
        for claim in 0..2_000_000u64 {
            index.insert(ClaimKey(claim.into()), claim, None, 0..claim + 1);
            if claim >= 100_000 && claim % 20_000 == 0 {
                most = most.max(index.bytes() as f64 / claim as f64);
            }
        }
        println!("{most:.1} bytes a claim at most");
        assert!(most <= 16.0, "{most} bytes a claim");
        assert!((0..2_000_000).step_by(1_000).all(|key| found(&index, key, &(0..2_000_000)).contains(&key)));
    }

    #[test]
    fn what_is_forgotten_gives_its_room_to_what_comes() {
        let mut index = ClaimIndex::default();
        // A window of claims that goes on and on, also past what half a number holds.
        let begin = u64::from(u32::MAX) - 300_000;
        for claim in begin..begin + 600_000 {
            let there = claim.saturating_sub(100_000).max(begin)..claim + 1;
            index.insert(ClaimKey(claim.into()), claim, None, there.clone());
            if claim % 1_000 == 0 {
                let oldest = there.start;
                assert!(found(&index, claim, &there).contains(&claim));
                assert!(found(&index, oldest, &there).contains(&oldest));
                assert!(!found(&index, oldest.wrapping_sub(1), &there).contains(&oldest.wrapping_sub(1)));
            }
        }
        let each = index.bytes() as f64 / 100_000.0;
        assert!(each <= 16.0, "{each} bytes a claim");
    }

    #[test]
    fn a_claim_instead_of_another_takes_its_slot() {
        let mut index = ClaimIndex::default();
        let key = ClaimKey(7);
        for claim in 0..10_000u64 {
            index.insert(key, claim, claim.checked_sub(1), 0..claim + 1);
        }
        assert_eq!(found(&index, 7, &(0..10_000)), [9_999]);
        assert_eq!(index.tables.iter().map(|table| table.used).sum::<usize>(), 1);
    }

    #[test]
    fn a_key_that_is_not_there_has_mostly_no_candidate() {
        let mut index = ClaimIndex::default();
        (0..100_000u64).for_each(|claim| index.insert(ClaimKey(claim.into()), claim, None, 0..claim + 1));
        let there = 0..100_000;
        let wrong = (100_000..200_000).filter(|key| !found(&index, *key, &there).is_empty()).count();
        assert!(wrong < 10, "{wrong}");
    }
}
