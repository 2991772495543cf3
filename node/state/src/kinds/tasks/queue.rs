//! A queue: its lists, its settings, and what it has counted. And a worker: what it was given.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::table::{List, Table};
use crate::task::{Lease, PRIORITIES, QueueSettings, TaskState};

/// Tasks of a higher priority in a row, before one of a lower that waits.
const STREAK_MAX: u8 = 64;
/// Ready tasks that are passed over for a worker that must not have them.
const PASSED_OVER_MAX: usize = 16;

/// A queue as it is carried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Queue {
    pub name: Arc<str>,
    pub settings: QueueSettings,
    /// By priority.
    pub ready: [List; PRIORITIES],
    pub active: List,
    pub dead: List,
    pub due: u32,
    /// Finished tasks that are still known.
    pub kept: u32,
    /// Tasks taken in a row while one of a lower priority waited.
    pub streak: u8,
    pub counts: Counts,
}

/// What has happened in a queue since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub put: u64,
    pub done: u64,
    /// Tries that failed or took too long.
    pub failed: u64,
    /// Tries whose worker was lost.
    pub lost: u64,
    pub dead: u64,
    pub cancelled: u64,
    /// Dead tasks that were dropped for later ones.
    pub dropped: u64,
}

/// A worker as it is carried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Worker {
    /// That of its last claim that came to something.
    pub number: u64,
    /// When it last claimed.
    pub seen_ms: u64,
    /// What it was given earlier and said to hold.
    pub kept: Vec<Lease>,
    /// What its last claim came to.
    pub given: Vec<Lease>,
}

impl Counts {
    /// Whether it can have come to them one by one.
    pub(super) fn are_possible(&self) -> bool {
        let Counts { put, done, failed, lost, dead, cancelled, dropped } = *self;
        [put, done, failed, lost, dead, cancelled, dropped].iter().all(|count| *count < 1 << 62)
    }
}

impl Queue {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            settings: QueueSettings::default(),
            ready: [List::default(); PRIORITIES],
            active: List::default(),
            dead: List::default(),
            due: 0,
            kept: 0,
            streak: 0,
            counts: Counts::default(),
        }
    }

    /// How many are ready.
    pub fn ready_len(&self) -> u32 {
        self.ready.iter().map(|list| list.len).sum()
    }

    /// How many are to be done.
    pub fn unfinished(&self) -> u32 {
        self.ready_len() + self.active.len + self.due
    }

    /// Whether nothing is lost where another queue has its place.
    pub fn is_idle(&self) -> bool {
        self.unfinished() + self.dead.len + self.kept == 0 && self.settings == QueueSettings::default()
    }

    /// How many may be claimed now.
    pub fn claimable(&self) -> u32 {
        match self.settings.paused {
            true => 0,
            false => self.ready_len().min(self.settings.active_max.saturating_sub(self.active.len)),
        }
    }

    /// The task that is claimed next; without suspects, one whose worker was never lost.
    pub fn next(&mut self, table: &Table, suspects: bool) -> Option<u32> {
        if self.claimable() == 0 {
            return None;
        }
        let fits = |list: &List| {
            let mut first = table.walk(list).take(PASSED_OVER_MAX);
            first.find(|slot| table.get(*slot).is_some_and(|task| suspects || task.lost == 0))
        };
        let mut found = (0..PRIORITIES).rev().filter_map(|priority| fits(&self.ready[priority]));
        let (highest, lower) = (found.next()?, found.next());
        match lower {
            Some(lower) if self.streak >= STREAK_MAX => {
                self.streak = 0;
                Some(lower)
            }
            Some(_) => {
                self.streak += 1;
                Some(highest)
            }
            None => {
                self.streak = 0;
                Some(highest)
            }
        }
    }

    /// How many there are of what is in none of its lists.
    pub fn unlisted(&mut self, state: TaskState) -> Option<&mut u32> {
        match state {
            TaskState::Due => Some(&mut self.due),
            TaskState::Done | TaskState::Cancelled => Some(&mut self.kept),
            TaskState::Ready | TaskState::Active | TaskState::Dead => None,
        }
    }

    /// The list of those of a state; those that are due or finished are in none of a queue.
    pub fn list(&mut self, state: TaskState, priority: u8) -> Option<&mut List> {
        match state {
            TaskState::Ready => self.ready.get_mut(usize::from(priority)),
            TaskState::Active => Some(&mut self.active),
            TaskState::Dead => Some(&mut self.dead),
            TaskState::Due | TaskState::Done | TaskState::Cancelled => None,
        }
    }
}
