//! Shifts as a checkpoint and a snapshot carry them: one value in the codec's encoding, for there are few.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kind::{Invalid, KindId, Record};
use crate::level::Limits;
use crate::shift::{HeldShift, Phase, is_name};

/// More changes than there ever are.
const CHANGES_MAX: u64 = 1 << 62;

/// How many ended, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    pub done: u64,
    pub back: u64,
    pub superseded: u64,
}

impl Ends {
    pub(super) fn count(&mut self, phase: Phase) {
        let count = match phase {
            Phase::Done => &mut self.done,
            Phase::Back => &mut self.back,
            Phase::Superseded => &mut self.superseded,
            Phase::Running | Phase::Held | Phase::Settling => return,
        };
        *count = count.saturating_add(1);
    }
}

/// All that is carried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShiftsRecord {
    /// Rises with each change: of what changes, the last one's revision is no higher.
    pub(super) changes: u64,
    /// By the names of their routes.
    pub(super) all: BTreeMap<String, HeldShift>,
    /// Of all that there ever were here.
    pub(super) ends: Ends,
}

impl ShiftsRecord {
    /// Whether there are shifts.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl Record for ShiftsRecord {
    const ID: KindId = KindId(11);
    const NAME: &'static str = "shifts";
    const FORMATS: (u16, u16) = (1, 1);

    fn check(&self) -> Result<(), Invalid> {
        let count = self.all.len();
        if count > Limits::WIDEST.shifts_max || self.changes >= CHANGES_MAX {
            return Err(Invalid(format!("{count} shifts after {} changes", self.changes)));
        }
        let is_sound = |(route, held): (&String, &HeldShift)| {
            is_name(route) && held.is_sound() && held.revision <= self.changes
        };
        match self.all.iter().find(|it| !is_sound(*it)) {
            None => Ok(()),
            Some((route, _)) => Err(Invalid(format!("a shift that cannot be, of {route:?}"))),
        }
    }
}
