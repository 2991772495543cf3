//! Which messages were taken out: all up to a floor, and some one by one; and for how many of them
//! it is remembered that they once were.
//!
//! Part of the replicated state: every node takes out the same messages at the same command,
//! wherever its segments begin and end. A removed message's bytes stay on disk until all of its
//! segment is below the floor.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kind::{Invalid, KindId, Record};
use crate::level::Limits;
use crate::message::Digest;

/// What was taken out, as a checkpoint and a snapshot carry it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedRecord {
    /// Messages up to this `seq` are gone.
    pub floor: u64,
    /// The last message's `seq`, which no segment tells where all of them are gone.
    pub last_seq: u64,
    /// Taken out one by one, above the floor, in order.
    pub singly: Vec<u64>,
    /// Of those that were taken out last, the oldest first.
    pub remembered: Vec<Digest>,
}

impl Record for RemovedRecord {
    const ID: KindId = KindId(1);
    const NAME: &'static str = "messages";
    const FORMATS: (u16, u16) = (1, 1);

    fn check(&self) -> Result<(), Invalid> {
        let RemovedRecord { floor, last_seq, singly, remembered } = self;
        let widest = Limits::WIDEST;
        if singly.len() > widest.removed_singly_max || remembered.len() > widest.remembered_max {
            let (singly, remembered) = (singly.len(), remembered.len());
            return Err(Invalid(format!("{singly} removed and {remembered} remembered messages")));
        }
        if floor > last_seq
            || !singly.iter().all(|seq| seq > floor && seq <= last_seq)
            || !singly.is_sorted_by(|a, b| a < b)
        {
            return Err(Invalid(format!("removed messages up to {floor} and beyond, of {last_seq}")));
        }
        Ok(())
    }
}

/// The same in use.
#[derive(Debug, Default)]
pub struct Removed {
    floor: u64,
    /// Shared with readers, who look at it outside the lock.
    singly: Arc<BTreeSet<u64>>,
    order: VecDeque<Digest>,
    remembered: HashSet<Digest>,
}

/// What a reader needs to pass over removed messages.
#[derive(Debug, Clone, Default)]
pub struct Gaps {
    floor: u64,
    singly: Arc<BTreeSet<u64>>,
}

impl Gaps {
    pub fn has(&self, seq: u64) -> bool {
        seq <= self.floor || self.singly.contains(&seq)
    }

    /// Messages that are there after one `seq`, up to another.
    pub fn count_between(&self, after: u64, upto: u64) -> u64 {
        let after = after.max(self.floor);
        if upto <= after {
            return 0;
        }
        upto - after - self.singly.range(after + 1..=upto).count() as u64
    }
}

impl Removed {
    pub fn new(record: &RemovedRecord) -> Removed {
        Removed {
            floor: record.floor,
            singly: Arc::new(record.singly.iter().copied().collect()),
            order: record.remembered.iter().copied().collect(),
            remembered: record.remembered.iter().copied().collect(),
        }
    }

    pub fn record(&self, last_seq: u64) -> RemovedRecord {
        if self.floor == 0 && self.singly.is_empty() && self.order.is_empty() {
            // Nothing was ever taken out: older programs can read the checkpoint.
            return RemovedRecord::default();
        }
        RemovedRecord {
            floor: self.floor,
            last_seq,
            singly: self.singly.iter().copied().collect(),
            remembered: self.order.iter().copied().collect(),
        }
    }

    pub fn gaps(&self) -> Gaps {
        Gaps { floor: self.floor, singly: self.singly.clone() }
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// How many were taken out one by one.
    pub fn singly(&self) -> usize {
        self.singly.len()
    }

    pub fn has(&self, seq: u64) -> bool {
        seq <= self.floor || self.singly.contains(&seq)
    }

    pub fn remembers(&self, digest: &Digest) -> bool {
        self.remembered.contains(digest)
    }

    /// Notes that a message is gone. False where as many are as can be noted.
    pub fn remove(&mut self, seq: u64, digest: Digest, limits: &Limits) -> bool {
        if self.singly.len() >= limits.removed_singly_max {
            return false;
        }
        Arc::make_mut(&mut self.singly).insert(seq);
        self.remember(digest, limits);
        true
    }

    /// Notes that all up to `floor` are gone.
    pub fn raise_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            if self.singly.first().is_some_and(|first| *first <= floor) {
                self.singly = Arc::new(self.singly.range(floor + 1..).copied().collect());
            }
        }
    }

    pub fn remember(&mut self, digest: Digest, limits: &Limits) {
        if self.remembered.insert(digest) {
            self.order.push_back(digest);
        }
        while self.order.len() > limits.remembered_max {
            if let Some(oldest) = self.order.pop_front() {
                self.remembered.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &Limits = &Limits::WIDEST;

    fn digest(i: u64) -> Digest {
        Digest::of(&i.to_le_bytes())
    }

    #[test]
    fn what_is_gone_is_known_after_a_checkpoint_and_counted() {
        let mut removed = Removed::default();
        assert!(removed.remove(5, digest(5), LIMITS) && removed.remove(9, digest(9), LIMITS));
        removed.raise_floor(6);
        let removed = Removed::new(&removed.record(10));
        assert_eq!(removed.record(10).singly, [9]);
        for seq in 1..=10 {
            assert_eq!(removed.has(seq), seq <= 6 || seq == 9);
            assert_eq!(removed.gaps().has(seq), removed.has(seq));
        }
        assert_eq!(removed.gaps().count_between(0, 10), 3);
        assert_eq!(removed.gaps().count_between(8, 9), 0);
        assert_eq!(removed.gaps().count_between(9, 8), 0);
        assert!(removed.remembers(&digest(5)) && !removed.remembers(&digest(6)));
    }

    #[test]
    fn the_memory_of_what_is_gone_is_bounded() {
        let mut removed = Removed::default();
        for seq in 1..=LIMITS.removed_singly_max as u64 {
            assert!(removed.remove(seq, digest(seq), LIMITS));
        }
        assert!(!removed.remove(1 << 40, digest(0), LIMITS));
        removed.remember(digest(1 << 40), LIMITS);
        assert!(!removed.remembers(&digest(1)) && removed.remembers(&digest(2)));
        assert_eq!(removed.record(0).remembered.len(), LIMITS.remembered_max);
    }

    #[test]
    fn a_store_from_which_nothing_was_taken_writes_what_older_programs_read() {
        assert_eq!(Removed::default().record(7), RemovedRecord::default());
    }
}
