//! Tasks: queues of what workers are to do.
//!
//! A task is put, claimed by a worker, and ended by it; each of these is an operation. Each claim has a fence, a
//! number that is given once; an end takes effect only while its fence is the task's, so a task ends once,
//! however many workers took it. Who lost its lease is the leader's knowledge and comes as an operation; what
//! is to happen at a time (a delay that is over, a try that took too long, a finished task that is kept no
//! more) is one ordered set, of which a leader has the first done by [`TaskOp::Due`].
//!
//! ```text
//!         put ─► ready ◄──────────── due ◄─ put with a delay
//!                  │ ▲ released,      ▲
//!            claim │ │ lost           │ failed, snoozed
//!                  ▼ │                │
//!                 active ─────────────┘
//!                  │   └─► dead (tries used up, or three workers lost) ─► ready, by an operator
//!                  ▼
//!                 done, cancelled ─► forgotten after a while, or for want of room
//! ```
//!
//! Payloads and results lie in the state itself, all together within [`Limits::task_bytes_max`]. What is looked
//! up (ids, unique keys, times) is made of the slots when they are opened.
//!
//! [`Limits::task_bytes_max`]: crate::level::Limits::task_bytes_max

mod again;
mod claim;
mod end;
mod look;
mod noted;
mod put;
mod queue;
mod record;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Stamp;
use crate::command::{Op as Proposed, OpOutcome};
use crate::kind::{At, Invalid, Kind, Stopped};
use crate::level::Limits;
use crate::rolling::Rolling;
use crate::task::{Policy, TaskId, TaskOp, TaskOutcome, TaskState};
pub use look::QueueView;
pub use queue::Counts;
pub use record::TasksRecord;
use table::{Edge, List};

/// What a task counts as beside its bytes.
const TASK_OVERHEAD_BYTES: usize = 256;
/// Tasks that one look at the time has something done to.
pub const DUE_MAX: u32 = 1000;
/// Fences stay below this, but for the claims that follow: JSON's numbers are exact to it.
const FENCE_MAX: u64 = 1 << 53;
/// So much is added to the fence where another past may have given some.
const FENCE_STEP: u64 = 1 << 32;

/// A task in its slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    queue: u16,
    pub priority: u8,
    pub state: TaskState,
    /// How the claim of the current fence ended.
    ended: Ended,
    /// That failed.
    pub tries: u16,
    /// Workers that were lost with it.
    pub lost: u8,
    /// Of the last claim; 0 before the first.
    pub fence: u64,
    pub put_ms: u64,
    /// Since when it is in its state.
    pub since_ms: u64,
    /// When something is to happen to it; 0 where it waits for no time.
    pub timer_ms: u64,
    /// Who claimed it last.
    pub worker: Option<Arc<str>>,
    pub body: Arc<Body>,
    /// The result of one that is done, else the last error.
    pub outcome: Bytes,
    pub progress: Bytes,
}

/// What of a task never changes; but a payload is let go when it cannot be needed any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    pub kind: String,
    pub payload: Bytes,
    pub unique: Option<String>,
    pub policy: Policy,
}

/// How a claim ended: what a repeated end is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Ended {
    Not,
    Done,
    Failed,
    Released,
    Snoozed,
    /// By a time or a leader, not by its worker.
    Otherwise,
}

/// All tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    held: TasksRecord,
    by_seq: BTreeMap<u64, u32>,
    by_unique: BTreeMap<(u16, String), u64>,
    by_queue: BTreeMap<Arc<str>, u16>,
    /// When, then which: its number and its slot.
    timers: BTreeSet<(u64, u64, u32)>,
    puts: BTreeMap<u64, (u64, u32)>,
    bytes: usize,
    /// That of the state, while an operation is applied.
    rolling: Rolling,
}

impl Kind for Tasks {
    type Op<'a> = (&'a TaskOp, Stamp);
    type Outcome = OpOutcome;
    type Record = TasksRecord;
    type Ground = ();

    fn apply(&mut self, (op, told): (&TaskOp, Stamp), at: &mut At<'_>) -> Result<OpOutcome, Stopped> {
        let now = at.clock.time(told);
        at.clock.note(now);
        let (now, limits) = (now.0, at.limits);
        self.rolling = std::mem::take(at.rolling);
        let outcome = match op {
            TaskOp::Put { nonce, tasks } => self.put(*nonce, tasks, now, limits),
            TaskOp::Claim(claim) => self.claim(claim, now, limits),
            TaskOp::End { id, fence, end } => self.end(*id, *fence, end, now, limits),
            TaskOp::Expire { leases } => self.expire(leases, now, limits),
            TaskOp::Due { max } => self.advance(*max, now, limits),
            TaskOp::Cancel { id } => self.cancel(*id, now),
            TaskOp::Revive { id } => self.revive(*id, now),
            TaskOp::Progress { id, fence, progress } => self.progress(*id, *fence, progress, limits),
            TaskOp::QueueSet { queue, settings } => self.set_queue(queue, *settings, limits),
            TaskOp::Restore(saved) => self.restore(saved, limits),
            TaskOp::Given { seq, fence } => {
                self.give((*seq).min(crate::task::SEQ_MAX), (*fence).min(FENCE_MAX));
                TaskOutcome::Changed { count: 0 }
            }
            TaskOp::RaiseFence => {
                self.give(0, (self.held.fence + FENCE_STEP).min(FENCE_MAX));
                TaskOutcome::Changed { count: 0 }
            }
        };
        *at.rolling = std::mem::take(&mut self.rolling);
        Ok(OpOutcome::Tasks(outcome))
    }

    fn due(&self, now: Stamp) -> Option<Proposed> {
        let (first, ..) = self.timers.first()?;
        let op = TaskOp::Due { max: DUE_MAX };
        (*first <= now.0).then_some(Proposed::Tasks { time_ms: now.0, op })
    }

    fn again(&self) -> impl Iterator<Item = Result<Proposed, Stopped>> {
        self.made_again().map(|op| Ok(Proposed::Tasks { time_ms: 0, op }))
    }

    fn revision(&self) -> u64 {
        self.held.changes
    }

    fn record(&self) -> TasksRecord {
        self.held.clone()
    }

    fn open(held: TasksRecord, (): ()) -> Result<Self, Invalid> {
        Ok(Tasks::of(held))
    }
}

/// How a task goes from one state to another.
impl Tasks {
    fn slot_of(&self, id: TaskId) -> Result<u32, TaskOutcome> {
        match self.by_seq.get(&id.seq) {
            Some(slot) if self.held.table.get(*slot).is_some_and(|task| task.id == id) => Ok(*slot),
            // No more is known of one that was forgotten.
            None if (1..=self.held.last_seq).contains(&id.seq) => Err(TaskOutcome::Gone),
            _ => Err(TaskOutcome::Unknown),
        }
    }

    /// Numbers and fences up to these are given no more.
    fn give(&mut self, seq: u64, fence: u64) {
        let before = (self.held.last_seq, self.held.fence);
        let after = (before.0.max(seq), before.1.max(fence));
        if before != after {
            noted::given(&mut self.rolling, after.0, after.1);
        }
        (self.held.last_seq, self.held.fence) = after;
    }

    /// The list that a task of a state is in, if it is in one.
    fn list_of<'a>(
        queues: &'a mut [queue::Queue],
        finished: &'a mut List,
        task: &Task,
    ) -> Option<&'a mut List> {
        match task.state {
            TaskState::Done | TaskState::Cancelled => Some(finished),
            _ => queues.get_mut(usize::from(task.queue))?.list(task),
        }
    }

    /// Takes a task out of the list and the times that it is in.
    fn detach(&mut self, slot: u32) {
        let TasksRecord { table, queues, finished, .. } = &mut self.held;
        let Some(task) = table.get(slot) else { return };
        if task.timer_ms != 0 {
            self.timers.remove(&(task.timer_ms, task.id.seq, slot));
        }
        let (state, queue) = (task.state, usize::from(task.queue));
        if let Some(list) = Self::list_of(queues, finished, task) {
            let mut own = *list;
            table.unlink(&mut own, slot);
            *list = own;
        }
        if let Some(count) = queues.get_mut(queue).and_then(|queue| queue.unlisted(state)) {
            *count -= 1;
        }
    }

    /// Puts a task that is in no list into that of its state.
    fn attach(&mut self, slot: u32, edge: Edge) {
        let TasksRecord { table, queues, finished, .. } = &mut self.held;
        let Some(task) = table.get(slot) else { return };
        if task.timer_ms != 0 {
            self.timers.insert((task.timer_ms, task.id.seq, slot));
        }
        let (state, queue) = (task.state, usize::from(task.queue));
        let streak = queues.get(queue).map_or(0, |queue| queue.streak);
        noted::task(&mut self.rolling, slot, task, edge, streak);
        if let Some(list) = Self::list_of(queues, finished, task) {
            let mut own = *list;
            table.link(&mut own, slot, edge);
            *list = own;
        }
        if let Some(count) = queues.get_mut(queue).and_then(|queue| queue.unlisted(state)) {
            *count += 1;
        }
        self.held.changes += 1;
    }

    /// Brings a task into a state, at one end of its list, until a time (0: for good).
    fn shift(&mut self, slot: u32, state: TaskState, edge: Edge, timer_ms: u64, now: u64) {
        self.detach(slot);
        if let Some(task) = self.held.table.get_mut(slot) {
            (task.state, task.timer_ms, task.since_ms) = (state, timer_ms, now);
        }
        self.attach(slot, edge);
    }

    /// A task that is done or cancelled: nothing of it is needed but what it came to.
    fn finish(&mut self, slot: u32, state: TaskState, now: u64) {
        self.free_unique(slot);
        let mut keep_ms = 0;
        if let Some(task) = self.held.table.get_mut(slot) {
            keep_ms = task.body.policy.keep_ms;
            self.bytes -= task.body.payload.len() + task.progress.len();
            task.progress = Bytes::new();
            task.body = Arc::new(Body { payload: Bytes::new(), ..Body::clone(&task.body) });
        }
        // A time of 0 would be none.
        self.shift(slot, state, Edge::Tail, now.saturating_add(keep_ms).max(1), now);
    }

    fn forget(&mut self, slot: u32) {
        self.free_unique(slot);
        self.detach(slot);
        if let Some(task) = self.held.table.remove(slot) {
            self.by_seq.remove(&task.id.seq);
            self.bytes -= task.charge();
            noted::forgotten(&mut self.rolling, task.id.seq);
        }
        self.held.changes += 1;
    }

    fn free_unique(&mut self, slot: u32) {
        if let Some(task) = self.held.table.get(slot)
            && let Some(unique) = &task.body.unique
        {
            let key = (task.queue, unique.clone());
            // Another may have it by now.
            if self.by_unique.get(&key) == Some(&task.id.seq) {
                self.by_unique.remove(&key);
            }
        }
    }

    /// Whether there is room for so many bytes, once the oldest of what is finished is forgotten that stands in
    /// the way.
    fn make_room(&mut self, bytes: usize, limits: &Limits) -> bool {
        while self.bytes.saturating_add(bytes) > limits.task_bytes_max {
            match self.held.finished.head {
                table::NONE => return false,
                oldest => self.forget(oldest),
            }
        }
        true
    }

    /// Sets what a task came to, within the room that there is.
    fn set_outcome(&mut self, slot: u32, outcome: &[u8]) {
        if let Some(task) = self.held.table.get_mut(slot) {
            self.bytes -= task.outcome.len();
            // A copy: it must not keep a whole log entry's memory alive.
            task.outcome = Bytes::copy_from_slice(outcome);
            self.bytes += task.outcome.len();
            noted::outcome(&mut self.rolling, task);
        }
    }
}

impl Task {
    /// Why it is not done, as far as that is known: what its last try said, or that it took its workers with it.
    pub fn error(&self) -> &[u8] {
        match self.lost >= end::LOST_MAX {
            true => b"worker-lost",
            false => &self.outcome,
        }
    }

    /// Whether a worker was lost with it.
    fn is_suspect(&self) -> bool {
        self.lost > 0
    }

    /// What it takes of the room that there is.
    fn charge(&self) -> usize {
        let body = &self.body;
        TASK_OVERHEAD_BYTES
            + body.kind.len()
            + body.payload.len()
            + unique_bytes(body.unique.as_ref())
            + self.outcome.len()
            + self.progress.len()
    }
}

/// A unique key is held where it is looked up as well.
fn unique_bytes(unique: Option<&String>) -> usize {
    2 * unique.map_or(0, String::len)
}

#[cfg(test)]
mod tests;
