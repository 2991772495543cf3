//! A queue: its lists, its settings, and what it has counted. And a worker: what it was given.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Task;
use super::lane::Lane;
use super::table::{List, NONE, Table};
use crate::task::{Lease, PRIORITIES, QueueSettings, TaskState};

/// Tasks of a higher priority in a row, before one of a lower that waits.
const STREAK_MAX: u8 = 64;

/// Tasks at the head of a list that are looked at for the oldest.
const OLDEST_MAX: usize = 16;

/// A queue as it is carried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Queue {
    pub name: Arc<str>,
    pub settings: QueueSettings,
    /// By priority.
    pub ready: [List; PRIORITIES],
    /// Those of them that a worker was lost with: not each worker may have them. They go first.
    pub suspects: [List; PRIORITIES],
    pub active: List,
    pub dead: List,
    pub due: u32,
    /// Finished tasks that are still known.
    pub kept: u32,
    /// Dead tasks that are known as long as their batches.
    pub dead_kept: u32,
    /// Ready tasks that wait for others of their keys.
    pub aside: u32,
    /// By key, where tasks of a key wait for each other.
    pub lanes: BTreeMap<Arc<str>, Lane>,
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
    /// Since that claim it was lost with a suspect: what else it had is not what ended it.
    pub fell: bool,
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
            settings: QueueSettings::of(name),
            ready: [List::default(); PRIORITIES],
            suspects: [List::default(); PRIORITIES],
            active: List::default(),
            dead: List::default(),
            due: 0,
            kept: 0,
            dead_kept: 0,
            aside: 0,
            lanes: BTreeMap::new(),
            streak: 0,
            counts: Counts::default(),
        }
    }

    /// How many are ready, also those that wait for others of their keys.
    pub fn ready_len(&self) -> u32 {
        self.aside + self.ready.iter().chain(&self.suspects).map(|list| list.len).sum::<u32>()
    }

    /// How many are dead, also those of batches.
    pub fn dead_len(&self) -> u32 {
        self.dead.len + self.dead_kept
    }

    /// The key of a task that waits for others of it.
    pub fn lane_of<'a>(&self, task: &'a Task) -> Option<&'a str> {
        task.body.key.as_deref().filter(|_| self.settings.has_lanes())
    }

    /// The lists of a priority that a worker may have tasks of, the first first.
    fn lists(&self, priority: usize, with_suspects: bool) -> impl Iterator<Item = &List> {
        let suspects = self.suspects.get(priority).filter(|_| with_suspects);
        suspects.into_iter().chain(self.ready.get(priority))
    }

    /// Since when the oldest ready task is ready. What came back is at the head, whatever is behind it.
    pub fn oldest_ms(&self, table: &Table) -> Option<u64> {
        let lists = self.ready.iter().chain(&self.suspects);
        lists.flat_map(|list| table.tasks(list).take(OLDEST_MAX)).map(|task| task.since_ms()).min()
    }

    /// How many are to be done.
    pub fn unfinished(&self) -> u32 {
        self.ready_len() + self.active.len + self.due
    }

    /// Whether nothing is lost where another queue has its place.
    pub fn is_idle(&self) -> bool {
        let is_empty = self.unfinished() + self.dead_len() + self.kept == 0 && self.lanes.is_empty();
        is_empty && self.settings == QueueSettings::of(&self.name)
    }

    /// How many may be claimed now, by one who may have suspects or may not.
    pub fn claimable(&self, with_suspects: bool) -> u32 {
        if self.settings.paused {
            return 0;
        }
        let lists = (0..PRIORITIES).flat_map(|priority| self.lists(priority, with_suspects));
        let ready: u32 = lists.map(|list| list.len).sum();
        ready.min(self.settings.active_max.saturating_sub(self.active.len))
    }

    /// The task that is claimed next; without suspects, one whose worker was never lost.
    pub fn next(&mut self, with_suspects: bool) -> Option<u32> {
        if self.claimable(with_suspects) == 0 {
            return None;
        }
        let head =
            |priority| self.lists(priority, with_suspects).map(|list| list.head).find(|head| *head != NONE);
        let mut found = (0..PRIORITIES).rev().filter_map(head);
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

    /// A task comes to it in a state.
    pub fn join(&mut self, task: &Task) {
        if let Some(key) = self.lane_of(task)
            && task.state.is_unfinished()
            && !self.lanes.contains_key(key)
        {
            self.lanes.insert(key.into(), Lane::default());
        }
        self.count(task, |count| *count += 1);
    }

    /// A task leaves it, or goes into another state.
    pub fn leave(&mut self, task: &Task) {
        self.count(task, |count| *count -= 1);
        if task.is_aside()
            && let Some(key) = &task.body.key
            && let Some(lane) = self.lanes.get_mut(&**key)
        {
            lane.waiting.retain(|_, list| list.len > 0);
        }
    }

    fn count(&mut self, task: &Task, step: fn(&mut u32)) {
        match task.state {
            TaskState::Due => step(&mut self.due),
            TaskState::Done | TaskState::Cancelled => step(&mut self.kept),
            TaskState::Ready if task.is_aside() => step(&mut self.aside),
            TaskState::Dead if task.member.is_some() => step(&mut self.dead_kept),
            TaskState::Ready | TaskState::Active | TaskState::Dead => {}
        }
        if let Some(key) = self.lane_of(task)
            && let Some(lane) = self.lanes.get_mut(key)
        {
            lane.count(task, step);
        }
    }

    /// The list that a task is in; one that is due or finished is in none of a queue.
    pub fn list(&mut self, task: &Task) -> Option<&mut List> {
        match task.state {
            TaskState::Ready if task.is_aside() => {
                let lane = self.lanes.get_mut(task.body.key.as_deref()?)?;
                Some(lane.waiting.entry(task.rank()).or_default())
            }
            TaskState::Ready if task.is_suspect() => self.suspects.get_mut(usize::from(task.priority)),
            TaskState::Ready => self.ready.get_mut(usize::from(task.priority)),
            TaskState::Active => Some(&mut self.active),
            TaskState::Dead => Some(&mut self.dead),
            TaskState::Due | TaskState::Done | TaskState::Cancelled => None,
        }
    }
}
