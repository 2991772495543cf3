//! A lane: the tasks of one key in a queue, counted, and those of them that wait for others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Task;
use super::table::List;
use crate::task::{QueueSettings, TaskState};

/// The tasks of a key, as they are carried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Lane {
    /// All that are unfinished.
    pub tasks: u32,
    /// Of them those that workers have,
    pub active: u32,
    /// and those that may be claimed.
    pub listed: u32,
    /// The other ready ones, by their ranks; no list is empty.
    pub waiting: BTreeMap<u8, List>,
    /// Until when none is claimed; 0 where there is no rest.
    pub rests_until_ms: u64,
}

impl Lane {
    /// Whether one more may be claimed.
    pub fn has_room(&self, settings: &QueueSettings) -> bool {
        // Of two that may be claimed at once, the second would have no rest before it.
        let rests = self.rests_until_ms > 0 || settings.key_pause_ms > 0 && self.listed > 0;
        !rests && self.active.saturating_add(self.listed) < settings.per_key
    }

    /// Whether nothing is to be known of it.
    pub fn is_over(&self) -> bool {
        self.tasks == 0 && self.rests_until_ms == 0
    }

    /// A task of it comes, or goes.
    pub fn count(&mut self, task: &Task, step: fn(&mut u32)) {
        if task.state.is_unfinished() {
            step(&mut self.tasks);
        }
        match task.state {
            TaskState::Active => step(&mut self.active),
            TaskState::Ready if !task.is_aside() => step(&mut self.listed),
            _ => {}
        }
    }
}
