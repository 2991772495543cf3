//! Tasks and workers in lists, a part at a time: the lock of all is held for as long as a part takes.

use std::ops::Bound;
use std::sync::Arc;

use super::{Task, Tasks};
use crate::task::{Lease, TaskState};

/// Tasks that are gone through for one part, whether they belong to the list or not.
const LOOKED_AT_MAX: usize = 4096;

/// Which tasks are listed, and how many of them at once.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    pub queue: &'a str,
    /// Those of any where there is none.
    pub state: Option<TaskState>,
    pub count_max: usize,
    /// Of payloads and of what they came to; one task is there however much it has.
    pub bytes_max: usize,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Part<T, P> {
    pub found: Vec<T>,
    /// After which place the list goes on; none where it is at its end.
    pub after: Option<P>,
}

/// A worker as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    pub name: Arc<str>,
    /// When it last claimed.
    pub claimed_ms: u64,
    pub holds: Vec<HeldView>,
}

/// A task in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldView {
    pub lease: Lease,
    pub queue: Arc<str>,
    pub kind: String,
    pub since_ms: u64,
}

impl Tasks {
    /// Those after a number, in the order in which they were put. Bytes are shared.
    pub fn listed(&self, list: Listed<'_>, after: u64) -> Part<Task, u64> {
        let (mut found, mut bytes, mut last) = (Vec::new(), 0, after);
        let Some(queue) = self.by_queue.get(list.queue).copied() else { return Part { found, after: None } };
        let rest = self.by_seq.after(after);
        for (looked_at, (seq, slot)) in rest.enumerate() {
            if looked_at >= LOOKED_AT_MAX || found.len() >= list.count_max || bytes >= list.bytes_max {
                return Part { found, after: Some(last) };
            }
            last = seq;
            let Some(task) = self.held.table.get(slot) else { continue };
            if task.queue == queue && list.state.is_none_or(|state| task.state == state) {
                bytes += task.payload.len() + task.outcome.len() + task.progress.len();
                found.push(task.clone());
            }
        }
        Part { found, after: None }
    }

    /// The highest number that a task has.
    pub fn last_seq(&self) -> u64 {
        self.held.last_seq
    }

    /// The workers after a name, by their names; fewer than so many where they hold much.
    pub fn workers_after(&self, after: &str, count_max: usize) -> Part<WorkerView, Arc<str>> {
        let (mut found, mut holds) = (Vec::<WorkerView>::new(), 0);
        for (name, worker) in self.held.workers.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)) {
            if found.len() >= count_max || holds >= LOOKED_AT_MAX {
                let after = found.last().map(|worker| worker.name.clone());
                return Part { found, after };
            }
            let leases = worker.kept.iter().chain(&worker.given);
            let view = WorkerView {
                name: name.clone(),
                claimed_ms: worker.seen_ms,
                holds: leases.filter_map(|lease| self.held_by_worker(lease)).collect(),
            };
            holds += view.holds.len();
            found.push(view);
        }
        Part { found, after: None }
    }

    fn held_by_worker(&self, lease: &Lease) -> Option<HeldView> {
        let task = self.find(lease.id).ok().filter(|_| self.is_current(lease))?;
        let queue = self.held.queues.get(usize::from(task.queue))?.name.clone();
        Some(HeldView { lease: *lease, queue, kind: task.body.kind.clone(), since_ms: task.since_ms() })
    }
}
