//! Purges as a checkpoint and a snapshot carry them: one value in the codec's encoding, which all of them together are
//! small enough for.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{KEPT_BYTES_MAX, KEPT_MAX, REMEMBERED_MAX};
use crate::kind::{Invalid, KindId, Record};
use crate::level::Limits;
use crate::purge::PURGE_BYTES_MAX;

/// More purges than there ever are.
const NUMBER_MAX: u64 = 1 << 62;

/// All that is carried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgesRecord {
    /// The number of the last.
    pub(super) last: u64,
    /// That of the last that went for others: those up to here are not known any more.
    pub(super) gone: u64,
    /// What operators said, with their numbers, which rise.
    pub(super) kept: VecDeque<(u64, Bytes)>,
    /// Messages up to which were taken out, behind the number of that.
    pub(super) floor: (u64, u64),
    /// Numbers and messages above it that were taken out one by one.
    pub(super) removed: VecDeque<(u64, u64)>,
    /// The latest requests, the oldest first: their nonces and their purges' numbers.
    pub(super) recent: VecDeque<(u64, u64)>,
}

impl PurgesRecord {
    pub(super) fn bytes(&self) -> usize {
        self.kept.iter().map(|(_, said)| super::room(said)).sum()
    }
}

impl Record for PurgesRecord {
    const ID: KindId = KindId(10);
    const NAME: &'static str = "purges";
    const FORMATS: (u16, u16) = (1, 1);

    fn check(&self) -> Result<(), Invalid> {
        let (count, bytes) = (self.kept.len(), self.bytes());
        if count > KEPT_MAX || bytes > KEPT_BYTES_MAX || self.recent.len() > REMEMBERED_MAX {
            let recent = self.recent.len();
            return Err(Invalid(format!("{count} purges of {bytes} bytes, {recent} remembered requests")));
        }
        let mut before = self.gone;
        for (number, said) in &self.kept {
            let is_sound = !said.is_empty() && said.len() <= PURGE_BYTES_MAX;
            if *number <= before || *number > self.last || !is_sound {
                return Err(Invalid(format!("a purge {number} that cannot be after {before}")));
            }
            before = *number;
        }
        let (mut before, count) = (0, self.removed.len());
        for (number, seq) in &self.removed {
            if *number <= before || *number > self.last || *seq <= self.floor.1 {
                return Err(Invalid(format!("a message {seq} that cannot be taken out by {number}")));
            }
            before = *number;
        }
        if count > Limits::WIDEST.removed_singly_max || self.floor.0 > self.last {
            return Err(Invalid(format!(
                "{count} messages that were taken out, and a floor of {}",
                self.floor.0
            )));
        }
        let are_known = self.recent.iter().all(|(_, number)| (1..=self.last).contains(number));
        match are_known && self.gone <= self.last && self.last < NUMBER_MAX {
            true => Ok(()),
            false => Err(Invalid(format!("purges up to {}, of which {} are gone", self.last, self.gone))),
        }
    }
}
