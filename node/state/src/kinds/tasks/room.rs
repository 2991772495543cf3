//! What tasks take of the room that there is: bytes of all, and what of them is held in memory.
//!
//! The second is what memory really gives for it, with all that an allocator and a tree leave between: a bound of it
//! is worth nothing else. It follows from what a task is, not from what a node has done with it: all nodes count alike,
//! and so does one that was just started.

use super::seqs::{PAGE_BYTES, PAGE_SEQS};
use super::{Body, Task, Tasks};
use crate::level::Limits;
use crate::task::{NewTask, When};

/// What a task counts as beside its bytes.
const TASK_OVERHEAD_BYTES: usize = 256;

/// A slot (80 bytes), and a part of one more: slots that were needed once stay, and the last checkpoint has the former
/// contents of those that have changed since.
pub(super) const SLOT_BYTES: usize = 160;
/// What is there once something has come of a task, or it waits for a time.
const REST_BYTES: usize = 128;
/// A place among the times.
const TIMER_BYTES: usize = 80;
/// A place among those of a batch.
const MEMBER_BYTES: usize = 64;
/// A body, and its place among those that tasks share.
const BODY_BYTES: usize = 208;
/// A unique key's place where it is looked up.
const UNIQUE_BYTES: usize = 96;
/// Text, beside itself.
const TEXT_BYTES: usize = 24;
/// What a worker said of how far it is, beside itself.
const PROGRESS_BYTES: usize = 64;

/// So many times the bound may be held: a task that was put takes more once it is claimed, and nobody is kept from that.
pub(super) const MEMORY_BEYOND: usize = 3;

/// What is taken of the room that there is for tasks: bytes of all, and those that are in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub bytes: usize,
    pub memory: usize,
}

impl Room {
    /// So much of both.
    pub fn both(bytes: usize) -> Room {
        Room { bytes, memory: bytes }
    }

    /// So much that may be in files.
    pub fn filed(bytes: usize) -> Room {
        Room { bytes, memory: 0 }
    }

    /// So much that counts in memory alone.
    pub fn memory(memory: usize) -> Room {
        Room { bytes: 0, memory }
    }

    /// What a task takes beside once it is in a worker's hands, or comes back from there.
    pub fn claimed() -> Room {
        Room::memory(REST_BYTES + TIMER_BYTES)
    }

    /// So much that a worker said of how far it is.
    pub fn progress(bytes: usize) -> Room {
        Room { bytes, memory: PROGRESS_BYTES + bytes }
    }

    /// What so many tasks take because they are of a batch.
    pub fn members(count: usize) -> Room {
        Room::memory(count * (REST_BYTES + MEMBER_BYTES))
    }

    pub fn plus(self, other: Room) -> Room {
        Room {
            bytes: self.bytes.saturating_add(other.bytes),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    pub fn less(self, other: Room) -> Room {
        Room { bytes: self.bytes - other.bytes, memory: self.memory - other.memory }
    }

    /// Whether so much is there beside what is taken. What takes no memory does not ask for any: an end is not held
    /// back where claims have brought it to its bound.
    pub fn has(self, wanted: Room, limits: &Limits) -> bool {
        let all = self.plus(wanted);
        all.bytes <= limits.task_bytes_max && (wanted.memory == 0 || all.memory <= limits.task_memory_max)
    }
}

fn text_bytes(text: &str) -> usize {
    TEXT_BYTES + text.len()
}

/// A key is held where it is looked up as well.
fn key_bytes(key: Option<&String>) -> usize {
    2 * key.map_or(0, String::len)
}

/// That of a unique key, in its body and where it is looked up.
fn unique_bytes(unique: &str) -> usize {
    UNIQUE_BYTES + 2 * text_bytes(unique)
}

impl Body {
    /// What it holds in memory, but for its unique key.
    pub(super) fn memory(&self) -> usize {
        BODY_BYTES + text_bytes(&self.kind) + self.key.as_deref().map_or(0, text_bytes)
    }
}

impl Task {
    /// What it takes of the room that there is, as it is counted.
    pub(super) fn charge(&self) -> Room {
        let body = &self.body;
        let bytes = TASK_OVERHEAD_BYTES
            + body.kind.len()
            + key_bytes(body.unique.as_ref())
            + key_bytes(body.key.as_ref())
            + self.progress.len()
            + self.payload.len()
            + self.outcome.len();
        Room { bytes, memory: self.counted as usize }
    }

    /// What it holds in memory by itself: a body that has no unique key is shared.
    pub(super) fn memory(&self) -> u32 {
        let own = self.body.unique.as_deref().map_or(0, |unique| self.body.memory() + unique_bytes(unique));
        let some = |is_there: bool, bytes: usize| if is_there { bytes } else { 0 };
        let all = SLOT_BYTES
            + own
            + some(!self.rest.is_none(), REST_BYTES)
            + some(self.timer_ms != 0, TIMER_BYTES)
            + some(self.member.is_some(), MEMBER_BYTES)
            + some(!self.progress.is_empty(), PROGRESS_BYTES + self.progress.len());
        u32::try_from(all).unwrap_or(u32::MAX)
    }
}

impl Tasks {
    /// What all take.
    pub(super) fn taken(&self) -> Room {
        self.room.plus(Room::memory(self.by_seq.memory() + self.bodies.memory()))
    }

    /// Counts a task with what it holds by now.
    pub(super) fn recount(&mut self, slot: u32) {
        let Some(task) = self.held.table.get(slot) else { return };
        let (former, now) = (task.counted, task.memory());
        if former != now
            && let Some(task) = self.held.table.get_mut(slot)
        {
            task.counted = now;
            self.room = self.room.less(Room::memory(former as usize)).plus(Room::memory(now as usize));
        }
    }

    /// Whether there is room for so much, once the oldest of what is finished is forgotten that stands in
    /// the way.
    pub(super) fn make_room(&mut self, wanted: Room, limits: &Limits) -> bool {
        while !self.taken().has(wanted, limits) {
            if !self.forget_oldest() {
                return false;
            }
        }
        true
    }
}

/// What a task takes of the room that there is, as it comes; no less than it will be counted with.
pub(super) fn wanted(task: &NewTask) -> Room {
    let bytes = TASK_OVERHEAD_BYTES
        + task.kind.len()
        + key_bytes(task.unique.as_ref())
        + key_bytes(task.key.as_ref())
        + task.payload.len();
    let waits = if task.when == (When::After { delay_ms: 0 }) { 0 } else { REST_BYTES + TIMER_BYTES };
    let memory = SLOT_BYTES
        + PAGE_BYTES.div_ceil(PAGE_SEQS)
        + BODY_BYTES
        + text_bytes(&task.kind)
        + task.key.as_deref().map_or(0, text_bytes)
        + task.unique.as_deref().map_or(0, unique_bytes)
        + waits;
    Room { bytes, memory }
}
