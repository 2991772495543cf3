//! What changes schedules, and what that comes to.
//!
//! When a schedule fires is text here: who proposes a fire has read it, and has the clock. So programs of two versions,
//! of which one knows more of calendars, apply alike.

use serde::{Deserialize, Serialize};

use crate::task::{DURATION_MS_MAX, NewTask, TaskId, When, is_queue};

/// Longest name of a schedule, in bytes.
pub const SCHEDULE_NAME_BYTES_MAX: usize = 64;
/// Longest expression.
pub const CRON_BYTES_MAX: usize = 256;
/// Longest name of a time zone.
pub const ZONE_BYTES_MAX: usize = 64;
/// Shortest time between two fires that are so far apart.
pub const EVERY_MS_MIN: u64 = 1000;
/// Longest.
pub const EVERY_MS_MAX: u64 = DURATION_MS_MAX;

/// When a schedule fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Timing {
    /// At the minutes that an expression of five fields says, by the clocks of a zone.
    Cron { expression: String, zone: String },
    /// So far apart, from when it was set.
    Every { ms: u64 },
}

/// What is put, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub timing: Timing,
    /// It does not fire.
    pub is_paused: bool,
    /// A fire that was missed is made up for: once, however many were.
    pub catches_up: bool,
    /// What is put at each fire.
    pub task: NewTask,
}

/// What has come of a schedule's fires, or of those of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fires {
    /// That put a task.
    pub fired: u64,
    /// That met an unfinished task of the same unique key.
    pub met: u64,
    /// That never were.
    pub missed: u64,
    /// Tries for whose tasks there was no room.
    pub refused: u64,
}

impl Fires {
    pub(crate) fn plus(self, other: Fires) -> Fires {
        Fires {
            fired: self.fired.saturating_add(other.fired),
            met: self.met.saturating_add(other.met),
            missed: self.missed.saturating_add(other.missed),
            refused: self.refused.saturating_add(other.refused),
        }
    }
}

/// A schedule, and how far it is. Times are in milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSchedule {
    /// Rises with each change of any schedule: a fire is of the schedule as its proposer saw it.
    pub revision: u64,
    pub schedule: Schedule,
    /// Since when it fires at these times.
    pub anchor_ms: u64,
    /// Fires up to this time are over with.
    pub after_ms: u64,
    /// The last fire's time; 0 where there was none.
    pub last_ms: u64,
    /// What it put, or met.
    pub last_task: Option<TaskId>,
    pub fires: Fires,
}

/// A schedule as a snapshot has it, on its way into another cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSchedule {
    pub name: String,
    pub held: HeldSchedule,
}

/// That a schedule's time has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fire {
    pub name: String,
    /// Of the schedule that was looked at: of another one, nothing is done.
    pub revision: u64,
    /// Up to where its proposer saw the fires over with: where they are no more, nothing is done.
    pub after_ms: u64,
    /// The time, which is later.
    pub at_ms: u64,
    /// Fires before it that are over with by it, and never were.
    pub passed: u32,
    /// Whether it is still to be, or was missed for good.
    pub runs: bool,
    /// What the task's id is drawn of.
    pub nonce: u64,
}

/// One change. Variants are only ever added at the end: the codec numbers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleOp {
    /// Makes a schedule, or another of it. The `nonce` tells this request, carried again, from another.
    Set {
        nonce: u64,
        name: String,
        schedule: Box<Schedule>,
    },
    Remove {
        nonce: u64,
        name: String,
    },
    Fire(Fire),
    /// One of a snapshot, as it was.
    Restore(Box<SavedSchedule>),
}

/// What a change came to. Variants are only ever added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleOutcome {
    /// It is so; `created` where there was none of this name.
    Set {
        created: bool,
    },
    Removed,
    /// There is none of this name.
    Unknown,
    /// There is no room for it.
    Full,
    /// It is not within its bounds.
    Invalid,
    /// The task was put.
    Fired {
        id: TaskId,
    },
    /// An unfinished task has the unique key.
    Met {
        id: TaskId,
    },
    /// It was missed for good.
    Missed,
    /// There is no room for its task: it is still owed.
    Refused,
    /// It was over with, or the schedule is another one by now, or its time has not come: nothing was done.
    Stale,
}

impl Schedule {
    /// Whether each is within its bounds, as one of a name.
    pub fn is_bounded(&self, bytes_max: usize) -> bool {
        let is_text = |text: &str, bytes_max: usize| (1..=bytes_max).contains(&text.len());
        let is_timing = match &self.timing {
            Timing::Cron { expression, zone } => {
                is_text(expression, CRON_BYTES_MAX) && is_text(zone, ZONE_BYTES_MAX)
            }
            Timing::Every { ms } => (EVERY_MS_MIN..=EVERY_MS_MAX).contains(ms),
        };
        // A task of one time would be put again and again for it.
        let is_template = matches!(self.task.when, When::After { .. }) && self.task.is_bounded();
        is_timing && is_template && self.bytes() <= bytes_max
    }

    /// What it takes of the room that there is for schedules.
    pub fn bytes(&self) -> usize {
        let NewTask { queue, kind, payload, unique, key, .. } = &self.task;
        let timing = match &self.timing {
            Timing::Cron { expression, zone } => expression.len() + zone.len(),
            Timing::Every { .. } => 0,
        };
        let len = |key: &Option<String>| key.as_ref().map_or(0, String::len);
        timing + queue.len() + kind.len() + payload.len() + len(unique) + len(key)
    }
}

/// Whether it can be a schedule's name: as a queue's.
pub fn is_schedule(name: &str) -> bool {
    name.len() <= SCHEDULE_NAME_BYTES_MAX && is_queue(name)
}

impl ScheduleOp {
    /// About how many bytes it takes in a log or a frame.
    pub fn size_estimate(&self) -> usize {
        match self {
            Self::Set { name, schedule, .. } => 160 + name.len() + schedule.bytes(),
            Self::Remove { name, .. } => 32 + name.len(),
            Self::Fire(fire) => 72 + fire.name.len(),
            Self::Restore(saved) => 256 + saved.name.len() + saved.held.schedule.bytes(),
        }
    }

    /// Whether a client's data takes room by it.
    pub fn takes_room(&self) -> bool {
        match self {
            Self::Set { .. } | Self::Restore(_) => true,
            Self::Fire(fire) => fire.runs,
            Self::Remove { .. } => false,
        }
    }

    /// Tells the request that it is of, carried again, from one that repeats it; 0 of what has none.
    pub fn nonce(&self) -> u64 {
        match self {
            Self::Set { nonce, .. } | Self::Remove { nonce, .. } => *nonce,
            Self::Fire(_) | Self::Restore(_) => 0,
        }
    }
}
