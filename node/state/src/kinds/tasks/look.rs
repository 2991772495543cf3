//! What readers ask of tasks.

use std::sync::Arc;

use super::queue::Counts;
use super::{Task, Tasks};
use crate::heap::{Blob, Heap, Held};
use crate::task::{Lease, QueueSettings, TaskId, TaskOutcome, TaskState};

/// A queue as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    pub name: Arc<str>,
    pub settings: QueueSettings,
    pub ready: u32,
    /// Of the ready ones those that wait for others of their keys.
    pub aside: u32,
    pub due: u32,
    pub active: u32,
    pub dead: u32,
    pub counts: Counts,
    /// Since when the oldest task that can be claimed can be; 0 where none can.
    pub oldest_ready_ms: u64,
}

impl Tasks {
    /// The task of an id; what stands in its way where there is none.
    pub fn find(&self, id: TaskId) -> Result<&Task, TaskOutcome> {
        let slot = self.slot_of(id)?;
        self.held.table.get(slot).ok_or(TaskOutcome::Unknown)
    }

    /// The same, to keep: its bytes are shared; with the name of its queue.
    pub fn with_queue(&self, id: TaskId) -> Result<(Arc<str>, Task), TaskOutcome> {
        let task = self.find(id)?;
        let queue = self.held.queues.get(usize::from(task.queue)).ok_or(TaskOutcome::Unknown)?;
        Ok((queue.name.clone(), task.clone()))
    }

    /// The name of a task's queue.
    pub fn queue_of(&self, task: &Task) -> &str {
        self.held.queues.get(usize::from(task.queue)).map_or("", |queue| &queue.name)
    }

    /// All queues, by their names.
    pub fn queues(&self) -> impl Iterator<Item = QueueView> {
        self.by_queue.values().filter_map(|number| {
            let queue = self.held.queues.get(usize::from(*number))?;
            Some(QueueView {
                name: queue.name.clone(),
                settings: queue.settings,
                ready: queue.ready_len(),
                aside: queue.aside,
                due: queue.due,
                active: queue.active.len,
                dead: queue.dead_len(),
                counts: queue.counts,
                oldest_ready_ms: queue.oldest_ms(&self.held.table).unwrap_or(0),
            })
        })
    }

    /// How many tasks of a queue may be claimed now, by one worker or another.
    pub fn claimable(&self, queue: &str) -> u32 {
        self.claimable_of(queue, true)
    }

    fn claimable_of(&self, queue: &str, with_suspects: bool) -> u32 {
        let number = self.by_queue.get(queue);
        number
            .and_then(|number| self.held.queues.get(usize::from(*number)))
            .map_or(0, |queue| queue.claimable(with_suspects))
    }

    /// Whether there is something in these queues for a worker that holds these.
    pub fn has_for(&self, worker: &str, holds: &[u64], queues: &[String]) -> bool {
        let known = self.held.workers.get(worker);
        let leases = known.iter().flat_map(|worker| worker.kept.iter().chain(&worker.given));
        let has_suspect =
            leases.filter(|lease| holds.contains(&lease.fence)).any(|lease| self.is_suspect(lease));
        queues.iter().any(|queue| self.claimable_of(queue, !has_suspect) > 0)
    }

    /// Whether a worker was given what it neither ended nor holds.
    pub fn has_unheld(&self, worker: &str, holds: &[u64]) -> bool {
        let Some(worker) = self.held.workers.get(worker) else { return false };
        let mut given = worker.kept.iter().chain(&worker.given);
        given.any(|lease| !holds.contains(&lease.fence) && self.is_current(lease))
    }

    /// The fences of what a worker has.
    pub fn fences_of(&self, worker: &str) -> Vec<u64> {
        let worker = self.held.workers.get(worker);
        let leases = worker.into_iter().flat_map(|worker| worker.kept.iter().chain(&worker.given));
        leases.filter(|lease| self.is_current(lease)).map(|lease| lease.fence).collect()
    }

    /// Those fences that a worker takes for its own and that are not any more. One that is newer than all that is
    /// known here may be its own.
    pub fn lost_of(&self, worker: &str, holds: &[u64]) -> Vec<u64> {
        let worker = self.held.workers.get(worker);
        let leases = || worker.iter().flat_map(|worker| worker.kept.iter().chain(&worker.given));
        let is_lost = |fence: &u64| {
            let lease = leases().find(|lease| lease.fence == *fence);
            *fence <= self.held.fence && !lease.is_some_and(|lease| self.is_current(lease))
        };
        holds.iter().copied().filter(is_lost).collect()
    }

    /// The number of a worker's last claim; 0 where it is not known.
    pub fn number_of(&self, worker: &str) -> u64 {
        self.held.workers.get(worker).map_or(0, |worker| worker.number)
    }

    /// Whether the lease is its task's.
    pub fn is_current(&self, lease: &Lease) -> bool {
        let task = self.find(lease.id);
        task.is_ok_and(|task| task.state == TaskState::Active && task.fence == lease.fence)
    }

    /// Whether the lease is current, and its task one that a worker was lost with.
    pub(super) fn is_suspect(&self, lease: &Lease) -> bool {
        self.is_current(lease) && self.find(lease.id).is_ok_and(Task::is_suspect)
    }

    /// All that is in workers' hands.
    pub fn leases(&self) -> impl Iterator<Item = Lease> {
        let lists = self.held.queues.iter().map(|queue| &queue.active);
        lists
            .flat_map(|list| self.held.table.tasks(list))
            .map(|task| Lease { id: task.id, fence: task.fence })
    }

    /// How many there are, finished ones included.
    pub fn len(&self) -> u32 {
        self.held.table.used()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that are done or cancelled.
    pub fn finished(&self) -> u32 {
        self.held.finished.len
    }

    /// What they take of the room that there is.
    pub fn bytes(&self) -> usize {
        self.room.bytes
    }

    /// What of it is in memory.
    pub fn memory(&self) -> usize {
        self.taken().memory
    }

    /// Bytes of a task, which can be had whatever becomes of it meanwhile.
    pub fn hold(&self, blob: &Blob) -> Held {
        self.heap.find(blob)
    }

    /// Where the bytes are that are not in memory.
    pub fn heap(&self) -> &Heap {
        &self.heap
    }

    pub fn heap_mut(&mut self) -> &mut Heap {
        &mut self.heap
    }

    /// Keys whose tasks wait for each other.
    pub fn lanes(&self) -> usize {
        self.held.queues.iter().map(|queue| queue.lanes.len()).sum()
    }

    /// Workers that are known.
    pub fn workers(&self) -> usize {
        self.held.workers.len()
    }

    /// The last fence that was given.
    pub fn last_fence(&self) -> u64 {
        self.held.fence
    }
}
