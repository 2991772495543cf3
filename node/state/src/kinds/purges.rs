//! Purges: numbers that rise, and what the last of them said.
//!
//! A balancer says up to which number it has obeyed, and is told what came since; where that is not kept any more, it
//! forgets all that it has stored. So few have to be kept, and those that go for others are lost to nobody. Numbers are
//! of a cluster: one that is made of a snapshot or of a folder has another id, by which a balancer knows that. Of messages
//! that are taken out all are kept: the floor, and those above it.

mod record;

use bytes::Bytes;

use crate::clock::mends::Mends;
use crate::command::{Op as Proposed, OpOutcome};
use crate::kind::{At, Invalid, Kind, Stopped};
use crate::level::Level;
use crate::purge::{PURGE_BYTES_MAX, Purge, PurgeOp, PurgeOutcome};
use crate::rolling::{Effect, Rolling};
pub use record::PurgesRecord;

/// Purges that are kept, and what they may take.
pub const KEPT_MAX: usize = 1024;
pub const KEPT_BYTES_MAX: usize = 512 * 1024;
/// Requests that are remembered, so that one that is carried again is known for what it is.
const REMEMBERED_MAX: usize = 1024;

/// The last purges.
#[derive(Debug, Default)]
pub struct Purges {
    held: PurgesRecord,
    /// What those that are kept take.
    bytes: usize,
}

impl Kind for Purges {
    type Op<'a> = &'a PurgeOp;
    type Outcome = OpOutcome;
    type Record = PurgesRecord;
    type Ground = ();

    fn apply(&mut self, op: &PurgeOp, at: &mut At<'_>) -> Result<OpOutcome, Stopped> {
        let PurgeOp::Add { nonce, what } = op;
        Ok(OpOutcome::Purges(self.add_said(*nonce, what, at)))
    }

    /// What was purged is stored nowhere by those who obey a cluster that is made anew.
    fn again(&self, _mends: &Mends) -> impl Iterator<Item = Result<Proposed, Stopped>> {
        std::iter::empty()
    }

    fn revision(&self) -> u64 {
        self.held.last
    }

    fn record(&self) -> PurgesRecord {
        self.held.clone()
    }

    fn open(held: PurgesRecord, (): ()) -> Result<Self, Invalid> {
        let bytes = held.bytes();
        Ok(Self { held, bytes })
    }
}

impl Purges {
    /// The number of the last; 0 where there never was one.
    pub fn last(&self) -> u64 {
        self.held.last
    }

    /// What operators said behind a number, in order; None where not all of it is kept.
    pub fn since(&self, number: u64) -> Option<impl Iterator<Item = (u64, Purge)>> {
        let kept = self.held.kept.iter().filter(move |(it, _)| *it > number);
        (number >= self.held.gone).then(|| kept.map(|(number, said)| (*number, Purge::Said(said.clone()))))
    }

    /// What follows behind a number of messages that were taken out: all of them are known.
    pub fn messages_since(&self, number: u64) -> impl Iterator<Item = (u64, Purge)> {
        let (floor_at, upto) = self.held.floor;
        let floor = (floor_at > number).then_some((floor_at, Purge::Messages { upto }));
        let removed = self.held.removed.iter().filter(move |(it, _)| *it > number);
        floor.into_iter().chain(removed.map(|(number, seq)| (*number, Purge::Message { seq: *seq })))
    }

    /// The message of this `seq` was taken out.
    pub(super) fn message(&mut self, seq: u64, at: &mut At<'_>) {
        if at.level < Level::PURGES {
            return;
        }
        let number = self.next(2, seq, &[], at.rolling);
        self.held.removed.push_back((number, seq));
        // No more are taken out one by one above the floor.
        if self.held.removed.len() > at.limits.removed_singly_max {
            self.held.removed.pop_front();
        }
    }

    /// All messages up to this one were.
    pub(super) fn messages(&mut self, upto: u64, at: &mut At<'_>) {
        if at.level < Level::PURGES {
            return;
        }
        // It says what they say.
        self.held.removed.retain(|(_, seq)| *seq > upto);
        self.held.floor = (self.next(3, upto, &[], at.rolling), upto);
    }

    fn add_said(&mut self, nonce: u64, what: &Bytes, at: &mut At<'_>) -> PurgeOutcome {
        if let Some((_, number)) = self.held.recent.iter().find(|(known, _)| *known == nonce) {
            return PurgeOutcome::Added { number: *number };
        }
        if what.is_empty() || what.len() > PURGE_BYTES_MAX {
            return PurgeOutcome::TooLarge;
        }
        let number = self.next(1, 0, what, at.rolling);
        // A copy: it must not keep a whole log entry's memory alive.
        self.held.kept.push_back((number, Bytes::copy_from_slice(what)));
        self.bytes += room(what);
        while self.held.kept.len() > KEPT_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some((number, gone)) = self.held.kept.pop_front() else { break };
            self.bytes -= room(&gone);
            self.held.gone = number;
        }
        at.rolling.note(Effect::Purges { what: 4, numbers: &[nonce, number], texts: &[] });
        self.held.recent.push_back((nonce, number));
        if self.held.recent.len() > REMEMBERED_MAX {
            self.held.recent.pop_front();
        }
        PurgeOutcome::Added { number }
    }

    /// The number of one that says this.
    fn next(&mut self, what: u8, subject: u64, text: &[u8], rolling: &mut Rolling) -> u64 {
        let number = self.held.last + 1;
        rolling.note(Effect::Purges { what, numbers: &[number, subject], texts: &[text] });
        self.held.last = number;
        number
    }
}

/// What one takes of the room that there is.
fn room(said: &Bytes) -> usize {
    16 + said.len()
}

#[cfg(test)]
mod tests;
