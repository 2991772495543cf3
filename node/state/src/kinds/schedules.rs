//! Schedules: what puts a task again and again, and how far each is.
//!
//! Nothing here knows what time it is, nor reads when a schedule fires: a leader does both, and proposes a [`Fire`] of
//! the time that has come. It holds only where the schedule, and what of it is over with, are as they were seen, and
//! puts the task itself: so a fire is once, whoever leads, and however often it is proposed. Where there is no room for
//! the task, the fire is owed still, and is proposed again.

mod noted;
mod record;

use crate::clock::Stamp;
use crate::clock::mends::Mends;
use crate::command::{Op as Proposed, OpOutcome};
use crate::kind::{At, Invalid, Kind, Stopped};
use crate::kinds::tasks::Tasks;
use crate::level::Limits;
use crate::schedule::{
    Fire, Fires, HeldSchedule, SavedSchedule, Schedule, ScheduleOp, ScheduleOutcome, is_schedule,
};
use crate::task::{TaskOp, TaskOutcome};
pub use record::SchedulesRecord;

/// Revisions of what is restored are below this: so many are left for the changes that follow.
const RESTORED_MAX: u64 = 1 << 48;
/// Requests that are remembered, so that one that is carried again is known for what it is.
const REMEMBERED_MAX: usize = 1024;

/// All schedules.
#[derive(Debug, Default)]
pub struct Schedules {
    held: SchedulesRecord,
    /// What they take of the room that there is.
    bytes: usize,
}

impl Kind for Schedules {
    /// With the tasks, of which a fire puts one.
    type Op<'a> = (&'a ScheduleOp, Stamp, &'a mut Tasks);
    type Outcome = OpOutcome;
    type Record = SchedulesRecord;
    type Ground = ();

    fn apply(&mut self, (op, told, tasks): Self::Op<'_>, at: &mut At<'_>) -> Result<OpOutcome, Stopped> {
        let now = at.clock.time(told);
        at.clock.note(now);
        let outcome = match op {
            ScheduleOp::Set { nonce, name, schedule } => self.set(*nonce, name, schedule, now, at),
            ScheduleOp::Remove { nonce, name } => self.remove(*nonce, name, at),
            ScheduleOp::Fire(fire) => self.fire(fire, now, tasks, at)?,
            ScheduleOp::Restore(saved) => self.restore(saved, now, at),
        };
        Ok(OpOutcome::Schedules(outcome))
    }

    fn again(&self, _mends: &Mends) -> impl Iterator<Item = Result<Proposed, Stopped>> {
        self.held.all.iter().map(|(name, held)| {
            let saved = SavedSchedule { name: name.clone(), held: held.clone() };
            // It was so by then at the latest.
            let time_ms = held.after_ms;
            Ok(Proposed::Schedules { time_ms, op: ScheduleOp::Restore(Box::new(saved)) })
        })
    }

    fn revision(&self) -> u64 {
        self.held.changes
    }

    fn record(&self) -> SchedulesRecord {
        self.held.clone()
    }

    fn open(held: SchedulesRecord, (): ()) -> Result<Self, Invalid> {
        let bytes = held.bytes();
        Ok(Self { held, bytes })
    }
}

impl Schedules {
    /// By their names.
    pub fn all(&self) -> impl Iterator<Item = (&str, &HeldSchedule)> {
        self.held.all.iter().map(|(name, held)| (name.as_str(), held))
    }

    pub fn get(&self, name: &str) -> Option<&HeldSchedule> {
        self.held.all.get(name)
    }

    pub fn is_empty(&self) -> bool {
        self.held.all.is_empty()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What has come of the fires of all, also of those that are no more.
    pub fn fires(&self) -> Fires {
        self.held.fires
    }

    /// The clock was set back: what is over with was so by then.
    pub fn mend_time(&mut self, ceiling: Stamp) {
        for held in self.held.all.values_mut() {
            let HeldSchedule { anchor_ms, after_ms, last_ms, .. } = held;
            for time in [anchor_ms, after_ms, last_ms] {
                *time = (*time).min(ceiling.0);
            }
        }
        // Who waits for their times looks at them anew.
        self.held.changes += u64::from(!self.held.all.is_empty());
    }

    fn set(
        &mut self,
        nonce: u64,
        name: &str,
        schedule: &Schedule,
        now: Stamp,
        at: &mut At<'_>,
    ) -> ScheduleOutcome {
        if let Some(created) = self.held.remembered(nonce) {
            return ScheduleOutcome::Set { created };
        }
        if !is_schedule(name) || !schedule.is_bounded(at.limits.schedule_bytes_max) {
            return ScheduleOutcome::Invalid;
        }
        let before = self.held.all.get(name);
        let created = before.is_none();
        let bytes = self.bytes_with(before, schedule);
        if !self.has_room(created, bytes, at.limits) {
            return ScheduleOutcome::Full;
        }
        // A copy: the payload must not keep a whole log entry's memory alive.
        let mut schedule = schedule.clone();
        schedule.task.payload = bytes::Bytes::copy_from_slice(&schedule.task.payload);
        let revision = self.held.changes + 1;
        let held = match before {
            None => HeldSchedule {
                revision,
                schedule,
                anchor_ms: now.0,
                after_ms: now.0,
                last_ms: 0,
                last_task: None,
                fires: Fires::default(),
            },
            Some(before) => {
                let is_other = before.schedule.timing != schedule.timing;
                // What was to fire while it was paused was not to fire.
                let goes_on = before.schedule.is_paused && !schedule.is_paused;
                HeldSchedule {
                    revision,
                    anchor_ms: if is_other { now.0 } else { before.anchor_ms },
                    after_ms: if is_other || goes_on { now.0 } else { before.after_ms },
                    schedule,
                    ..before.clone()
                }
            }
        };
        noted::schedule(at.rolling, name, &held);
        self.held.all.insert(name.to_owned(), held);
        (self.held.changes, self.bytes) = (revision, bytes);
        self.remember(nonce, created, at);
        ScheduleOutcome::Set { created }
    }

    fn remove(&mut self, nonce: u64, name: &str, at: &mut At<'_>) -> ScheduleOutcome {
        if self.held.remembered(nonce).is_some() {
            return ScheduleOutcome::Removed;
        }
        let Some(held) = self.held.all.remove(name) else { return ScheduleOutcome::Unknown };
        noted::removed(at.rolling, name);
        self.bytes -= held.schedule.bytes();
        self.held.changes += 1;
        self.remember(nonce, true, at);
        ScheduleOutcome::Removed
    }

    fn fire(
        &mut self,
        fire: &Fire,
        now: Stamp,
        tasks: &mut Tasks,
        at: &mut At<'_>,
    ) -> Result<ScheduleOutcome, Stopped> {
        let all = &mut self.held.fires;
        let Some(held) = self.held.all.get_mut(&fire.name) else { return Ok(ScheduleOutcome::Stale) };
        let is_owed = held.revision == fire.revision
            && held.after_ms == fire.after_ms
            && !held.schedule.is_paused
            && fire.at_ms > held.after_ms
            && fire.at_ms <= now.0;
        if !is_owed {
            return Ok(ScheduleOutcome::Stale);
        }
        let outcome = match fire.runs {
            false => ScheduleOutcome::Missed,
            true => {
                let put = TaskOp::Put { nonce: fire.nonce, tasks: vec![held.schedule.task.clone()] };
                came_to(&tasks.apply((&put, now), at)?)
            }
        };
        let mut count = |count: fn(&mut Fires) -> &mut u64, more: u64| {
            for fires in [&mut *all, &mut held.fires] {
                let count = count(fires);
                *count = count.saturating_add(more);
            }
        };
        match outcome {
            ScheduleOutcome::Fired { .. } => count(|fires| &mut fires.fired, 1),
            ScheduleOutcome::Met { .. } => count(|fires| &mut fires.met, 1),
            ScheduleOutcome::Missed => count(|fires| &mut fires.missed, 1),
            _ => count(|fires| &mut fires.refused, 1),
        }
        if outcome != ScheduleOutcome::Refused {
            count(|fires| &mut fires.missed, fire.passed.into());
            held.after_ms = fire.at_ms;
        }
        if let ScheduleOutcome::Fired { id } | ScheduleOutcome::Met { id } = outcome {
            (held.last_ms, held.last_task) = (fire.at_ms, Some(id));
        }
        noted::fired(at.rolling, &fire.name, held);
        self.held.changes += 1;
        Ok(outcome)
    }

    /// A schedule of a snapshot, as it was: what fired then is over with.
    fn restore(&mut self, saved: &SavedSchedule, now: Stamp, at: &mut At<'_>) -> ScheduleOutcome {
        let SavedSchedule { name, held } = saved;
        let bytes_max = at.limits.schedule_bytes_max;
        let is_sound = is_schedule(name) && held.schedule.is_bounded(bytes_max);
        if !is_sound || held.last_ms > held.after_ms || held.revision >= RESTORED_MAX {
            return ScheduleOutcome::Invalid;
        }
        if let Some(there) = self.held.all.get(name) {
            // The same, carried again.
            let is_same = there.revision == held.revision && there.schedule == held.schedule;
            return if is_same { ScheduleOutcome::Set { created: true } } else { ScheduleOutcome::Full };
        }
        let bytes = self.bytes_with(None, &held.schedule);
        if !self.has_room(true, bytes, at.limits) {
            return ScheduleOutcome::Full;
        }
        let mut held = held.clone();
        held.schedule.task.payload = bytes::Bytes::copy_from_slice(&held.schedule.task.payload);
        // Of a clock that was ahead nothing waits for that time to come.
        for time in [&mut held.anchor_ms, &mut held.after_ms, &mut held.last_ms] {
            *time = (*time).min(now.0);
        }
        noted::schedule(at.rolling, name, &held);
        self.held.changes = held.revision.max(self.held.changes + 1);
        self.held.fires = self.held.fires.plus(held.fires);
        self.held.all.insert(name.clone(), held);
        self.bytes = bytes;
        ScheduleOutcome::Set { created: true }
    }

    fn bytes_with(&self, before: Option<&HeldSchedule>, schedule: &Schedule) -> usize {
        self.bytes - before.map_or(0, |before| before.schedule.bytes()) + schedule.bytes()
    }

    fn has_room(&self, is_new: bool, bytes: usize, limits: &Limits) -> bool {
        self.held.all.len() + usize::from(is_new) <= limits.schedules_max
            && bytes <= limits.schedules_bytes_max
    }

    fn remember(&mut self, nonce: u64, created: bool, at: &mut At<'_>) {
        noted::remembered(at.rolling, nonce, created);
        self.held.recent.push_back((nonce, created));
        if self.held.recent.len() > REMEMBERED_MAX {
            self.held.recent.pop_front();
        }
    }
}

/// What the put of its task makes of a fire.
fn came_to(put: &OpOutcome) -> ScheduleOutcome {
    match put {
        OpOutcome::Tasks(TaskOutcome::Put { first, nonce, .. }) => {
            ScheduleOutcome::Fired { id: crate::task::TaskId::nth(*first, *nonce, 0) }
        }
        OpOutcome::Tasks(TaskOutcome::Met { id }) => ScheduleOutcome::Met { id: *id },
        // No room; and what else there is, another version may take.
        _ => ScheduleOutcome::Refused,
    }
}

#[cfg(test)]
mod tests;
