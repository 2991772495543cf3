//! Shifts: how far each has led a route's requests from one service to another, and what became of those that are over.
//!
//! Nothing here knows what time it is: a leader does, and proposes each step; nor what of a service's answers is amiss:
//! balancers see it, and the leader proposes that it goes back. Who proposes names the shift that was looked at, so that
//! what two leaders propose is done once, and what is over stays so.

mod record;

use crate::clock::Stamp;
use crate::clock::mends::Mends;
use crate::command::{Op as Proposed, OpOutcome};
use crate::kind::{At, Invalid, Kind, Stopped};
use crate::rolling::{Effect, Rolling};
use crate::shift::{
    HeldShift, Phase, SavedShift, Shift, ShiftOp, ShiftOutcome, WHOLE, WHY_BYTES_MAX, is_name,
};
pub use record::{Ends, ShiftsRecord};

/// Revisions of what is restored are below this: so many are left for the changes that follow.
const RESTORED_MAX: u64 = 1 << 48;

/// All shifts.
#[derive(Debug, Default)]
pub struct Shifts {
    held: ShiftsRecord,
}

impl Kind for Shifts {
    type Op<'a> = (&'a ShiftOp, Stamp);
    type Outcome = OpOutcome;
    type Record = ShiftsRecord;
    type Ground = ();

    fn apply(&mut self, (op, told): Self::Op<'_>, at: &mut At<'_>) -> Result<OpOutcome, Stopped> {
        let now = at.clock.time(told);
        at.clock.note(now);
        let outcome = match op {
            ShiftOp::Begin { id, after, route, shift } => self.begin((*id, *after), route, shift, now, at),
            ShiftOp::Step { id, route, share } => self.change(*id, route, now, at, |held| {
                let rises = held.phase == Phase::Running && (held.share + 1..=WHOLE).contains(share);
                rises.then(|| held.share = *share)
            }),
            ShiftOp::Hold { id, route } => self.change(*id, route, now, at, |held| {
                (held.phase == Phase::Running).then(|| held.phase = Phase::Held)
            }),
            ShiftOp::Resume { id, route } => self.change(*id, route, now, at, |held| {
                (held.phase == Phase::Held).then(|| held.phase = Phase::Running)
            }),
            ShiftOp::End { id, route, phase, why } => self.end((*id, route), *phase, why, now, at),
            ShiftOp::Restore(saved) => self.restore(saved, now, at),
            ShiftOp::Settle { id, route } => self.change(*id, route, now, at, |held| {
                let is_whole = held.phase == Phase::Running && held.share == WHOLE;
                is_whole.then(|| held.phase = Phase::Settling)
            }),
        };
        Ok(OpOutcome::Shifts(outcome))
    }

    fn again(&self, _mends: &Mends) -> impl Iterator<Item = Result<Proposed, Stopped>> {
        // In the order of their last changes, so that what is forgotten first is the same.
        let mut all: Vec<_> = self.held.all.iter().collect();
        all.sort_by_key(|(_, held)| held.revision);
        all.into_iter().map(|(route, held)| {
            let saved = SavedShift { route: route.clone(), held: held.clone() };
            Ok(Proposed::Shifts { time_ms: held.changed_ms, op: ShiftOp::Restore(Box::new(saved)) })
        })
    }

    fn revision(&self) -> u64 {
        self.held.changes
    }

    fn record(&self) -> ShiftsRecord {
        self.held.clone()
    }

    fn open(held: ShiftsRecord, (): ()) -> Result<Self, Invalid> {
        Ok(Self { held })
    }
}

impl Shifts {
    /// By the names of their routes: those that are open, and of others the last of each route, as long as there is
    /// room.
    pub fn all(&self) -> impl Iterator<Item = (&str, &HeldShift)> {
        self.held.all.iter().map(|(route, held)| (route.as_str(), held))
    }

    pub fn get(&self, route: &str) -> Option<&HeldShift> {
        self.held.all.get(route)
    }

    /// By which requests are led.
    pub fn open_ones(&self) -> impl Iterator<Item = (&str, &HeldShift)> {
        self.all().filter(|(_, held)| held.phase.is_open())
    }

    pub fn is_empty(&self) -> bool {
        self.held.all.is_empty()
    }

    /// How many ended, and how.
    pub fn ends(&self) -> Ends {
        self.held.ends
    }

    /// The clock was set back: what is there was so by then.
    pub fn mend_time(&mut self, ceiling: Stamp) {
        for held in self.held.all.values_mut() {
            held.began_ms = held.began_ms.min(ceiling.0);
            held.changed_ms = held.changed_ms.min(ceiling.0);
        }
    }

    fn begin(
        &mut self,
        (id, after): (u64, u64),
        route: &str,
        shift: &Shift,
        now: Stamp,
        at: &mut At<'_>,
    ) -> ShiftOutcome {
        if id == 0 || !is_name(route) || !shift.is_bounded() {
            return ShiftOutcome::Invalid;
        }
        let there = self.held.all.get(route);
        match there {
            // The same, carried again.
            Some(held) if held.id == id => return ShiftOutcome::Set,
            Some(held) if held.phase.is_open() => return ShiftOutcome::Busy,
            _ => {}
        }
        if there.map_or(0, |held| held.id) != after {
            return ShiftOutcome::Stale;
        }
        if there.is_none() && !self.make_room(at) {
            return ShiftOutcome::Full;
        }
        let revision = self.held.changes + 1;
        let held = HeldShift {
            id,
            revision,
            shift: shift.clone(),
            phase: Phase::Running,
            share: 0,
            began_ms: now.0,
            changed_ms: now.0,
            why: String::new(),
        };
        noted(at.rolling, route, &held);
        self.held.all.insert(route.to_owned(), held);
        self.held.changes = revision;
        ShiftOutcome::Set
    }

    /// Changes one that is open, where the change says that there is one.
    fn change(
        &mut self,
        id: u64,
        route: &str,
        now: Stamp,
        at: &mut At<'_>,
        change: impl FnOnce(&mut HeldShift) -> Option<()>,
    ) -> ShiftOutcome {
        let is_it = |held: &&mut HeldShift| held.id == id && held.phase.is_open();
        let Some(held) = self.held.all.get_mut(route).filter(is_it) else { return ShiftOutcome::Stale };
        if change(held).is_none() {
            return ShiftOutcome::Stale;
        }
        self.held.changes += 1;
        (held.revision, held.changed_ms) = (self.held.changes, now.0);
        noted(at.rolling, route, held);
        ShiftOutcome::Set
    }

    fn end(
        &mut self,
        (id, route): (u64, &str),
        phase: Phase,
        why: &str,
        now: Stamp,
        at: &mut At<'_>,
    ) -> ShiftOutcome {
        if phase.is_open() || why.len() > WHY_BYTES_MAX {
            return ShiftOutcome::Invalid;
        }
        let outcome = self.change(id, route, now, at, |held| {
            // Nobody says that all went over where it did not, nor takes back what the document may say by now.
            let is_early = phase == Phase::Done && held.share != WHOLE;
            let is_late = phase == Phase::Back && held.phase == Phase::Settling;
            if is_early || is_late {
                return None;
            }
            (held.phase, held.why) = (phase, why.to_owned());
            Some(())
        });
        if outcome == ShiftOutcome::Set {
            self.held.ends.count(phase);
        }
        outcome
    }

    /// One of a snapshot, as it was: what is open goes on.
    fn restore(&mut self, saved: &SavedShift, now: Stamp, at: &mut At<'_>) -> ShiftOutcome {
        let SavedShift { route, held } = saved;
        if !is_name(route) || !held.is_sound() || held.revision >= RESTORED_MAX {
            return ShiftOutcome::Invalid;
        }
        if let Some(there) = self.held.all.get(route) {
            // The same, carried again.
            return if there.id == held.id { ShiftOutcome::Set } else { ShiftOutcome::Busy };
        }
        if !self.make_room(at) {
            return ShiftOutcome::Full;
        }
        let mut held = held.clone();
        // Of a clock that was ahead nothing is later than now.
        held.began_ms = held.began_ms.min(now.0);
        held.changed_ms = held.changed_ms.min(now.0);
        noted(at.rolling, route, &held);
        self.held.changes = held.revision.max(self.held.changes + 1);
        self.held.all.insert(route.clone(), held);
        ShiftOutcome::Set
    }

    /// Whether there is room for another, once the one is forgotten that is over the longest.
    fn make_room(&mut self, at: &mut At<'_>) -> bool {
        if self.held.all.len() < at.limits.shifts_max {
            return true;
        }
        let over = self.held.all.iter().filter(|(_, held)| !held.phase.is_open());
        let Some(route) = over.min_by_key(|(_, held)| held.revision).map(|(route, _)| route.clone()) else {
            return false;
        };
        self.held.all.remove(&route);
        at.rolling.note(Effect::Shifts { what: FORGOTTEN, numbers: &[], texts: &[route.as_bytes()] });
        true
    }
}

const SHIFT: u8 = 1;
const FORGOTTEN: u8 = 2;

/// What the rolling hash is told of shifts: all of one, as it is after a change.
///
/// ```text
/// shift       1 id revision phase share began_ms changed_ms from_weight to_weight over_ms, route from to abort why
/// forgotten   2 , route
/// ```
///
/// Numbers of 64 bits, and texts after their lengths. How many have ended follows from that.
fn noted(rolling: &mut Rolling, route: &str, held: &HeldShift) {
    let HeldShift { id, revision, shift, phase, share, began_ms, changed_ms, why } = held;
    let Shift { from, to, from_weight, to_weight, over_ms, abort } = shift;
    let of = [*share, *from_weight, *to_weight].map(u64::from);
    let numbers = [*id, *revision, phase.number(), of[0], *began_ms, *changed_ms, of[1], of[2], *over_ms];
    let texts = [route, from, to, abort, why].map(str::as_bytes);
    rolling.note(Effect::Shifts { what: SHIFT, numbers: &numbers, texts: &texts });
}

#[cfg(test)]
mod tests;
