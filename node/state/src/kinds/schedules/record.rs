//! Schedules as a checkpoint and a snapshot carry them: one value in the codec's encoding, which all of them together
//! are small enough for.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::REMEMBERED_MAX;
use crate::kind::{Invalid, KindId, Record};
use crate::level::Limits;
use crate::schedule::{Fires, HeldSchedule, is_schedule};

/// More changes than there ever are.
const CHANGES_MAX: u64 = 1 << 62;

/// All that is carried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulesRecord {
    /// Rises with each change: of what changes, the last one's revision is no higher.
    pub(super) changes: u64,
    pub(super) all: BTreeMap<String, HeldSchedule>,
    /// Of all that there ever were.
    pub(super) fires: Fires,
    /// The latest requests, the oldest first: their nonces, and whether they made something.
    pub(super) recent: VecDeque<(u64, bool)>,
}

impl SchedulesRecord {
    /// Whether there are schedules.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.all.values().map(|held| held.schedule.bytes()).sum()
    }

    /// What a request made that came before.
    pub(super) fn remembered(&self, nonce: u64) -> Option<bool> {
        self.recent.iter().find(|(known, _)| *known == nonce).map(|(_, created)| *created)
    }
}

impl Record for SchedulesRecord {
    const ID: KindId = KindId(9);
    const NAME: &'static str = "schedules";
    const FORMATS: (u16, u16) = (1, 1);

    fn check(&self) -> Result<(), Invalid> {
        let invalid = |what: String| Err(Invalid(what));
        let limits = &Limits::WIDEST;
        let (count, bytes) = (self.all.len(), self.bytes());
        if count > limits.schedules_max || bytes > limits.schedules_bytes_max {
            return invalid(format!("{count} schedules of {bytes} bytes"));
        }
        for (name, held) in &self.all {
            let is_sound = is_schedule(name) && held.schedule.is_bounded(limits.schedule_bytes_max);
            if !is_sound || held.revision > self.changes || held.last_ms > held.after_ms {
                return invalid(format!("a schedule that cannot be: {name:?}"));
            }
        }
        match self.recent.len() <= REMEMBERED_MAX && self.changes < CHANGES_MAX {
            true => Ok(()),
            false => invalid(format!("{} remembered requests of schedules", self.recent.len())),
        }
    }
}
