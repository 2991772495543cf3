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
//! Where a queue says so, the ready tasks of one key wait for each other in a lane ([`lanes`]): of what is claimed, nobody
//! looks past what may not be.
//!
//! Tasks that were put as a [`batch`] are counted there as they end, and are known as long as it is.
//!
//! Payloads and results lie in the state itself, and from [`Level::TASK_FILES`] on in a [`Heap`], of which the state has
//! the places; all together within [`Limits::task_bytes_max`], and what is in memory within
//! [`Limits::task_memory_max`]. What is looked up (ids, unique keys, times) is made of the slots when they are opened.
//!
//! [`Limits::task_bytes_max`]: crate::level::Limits::task_bytes_max
//! [`Limits::task_memory_max`]: crate::level::Limits::task_memory_max

mod again;
mod batch;
mod bodies;
mod claim;
mod end;
mod lane;
mod lanes;
mod listed;
mod look;
mod mend;
mod moved;
mod noted;
mod packed;
mod put;
mod queue;
mod record;
mod rest;
mod room;
mod seqs;
mod shift;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Stamp;
use crate::clock::mends::Mends;
use crate::command::{Op as Proposed, OpOutcome};
use crate::heap::{Blob, Heap};
use crate::kind::{At, Invalid, Kind, Stopped};
use crate::level::Level;
use crate::rolling::Rolling;
use crate::task::{Lease, TaskId, TaskOp, TaskOutcome, TaskState};
pub use batch::Batch;
use bodies::Bodies;
pub use bodies::Body;
pub use listed::{HeldView, Listed, Part, WorkerView};
pub use look::QueueView;
pub use moved::Which;
use packed::{Marks, Ms};
pub use queue::Counts;
pub use record::TasksRecord;
use rest::Rare;
pub use rest::Rest;
use room::Room;
use seqs::Seqs;

/// Tasks that one look at the time has something done to.
pub const DUE_MAX: u32 = 1000;
/// Fences stay below this, but for the claims that follow: JSON's numbers are exact to it.
const FENCE_MAX: u64 = 1 << 53;
/// So much is added to the fence where another past may have given some.
const FENCE_STEP: u64 = 1 << 32;

/// A task in its slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub id: TaskId,
    queue: u16,
    pub priority: u8,
    pub state: TaskState,
    marks: Marks,
    /// That failed.
    pub tries: u16,
    /// Workers that were lost with it.
    pub lost: u8,
    /// What it is counted with of the room in memory.
    counted: u32,
    put: Ms,
    since: Ms,
    pub body: Arc<Body>,
    /// It is let go when it cannot be needed any more.
    pub payload: Blob,
    /// The task has what is there.
    rest: Rare,
}

impl Task {
    pub fn put_ms(&self) -> u64 {
        self.put.get()
    }

    /// Since when it is in its state.
    pub fn since_ms(&self) -> u64 {
        self.since.get()
    }

    /// It is ready, and waits for others of its key.
    fn is_aside(&self) -> bool {
        self.marks.is_aside()
    }

    fn set_aside(&mut self, is_aside: bool) {
        self.marks = Marks::new(self.ended(), is_aside);
    }

    /// How the claim of the current fence ended.
    fn ended(&self) -> Ended {
        self.marks.ended()
    }

    fn set_ended(&mut self, ended: Ended) {
        self.marks = Marks::new(ended, self.is_aside());
    }
}

impl Deref for Task {
    type Target = Rest;

    fn deref(&self) -> &Rest {
        &self.rest
    }
}

impl DerefMut for Task {
    fn deref_mut(&mut self) -> &mut Rest {
        &mut self.rest
    }
}

/// What waits for its time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timed {
    /// A key of the queue of this number, which has rest.
    Lane(u16, Arc<str>),
    /// A task's number and slot.
    Task(u64, u32),
    /// A batch's number.
    Batch(u64),
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
    by_seq: Seqs,
    by_unique: BTreeMap<(u16, String), u64>,
    by_queue: BTreeMap<Arc<str>, u16>,
    /// When, then what.
    timers: BTreeSet<(u64, Timed)>,
    puts: BTreeMap<u64, (u64, u32)>,
    /// Batches, the places in them, and the tasks there.
    members: BTreeSet<(u64, u32, u64)>,
    /// When a batch was over, and which.
    over: BTreeSet<(u64, u64)>,
    /// What all take of the room that there is by themselves.
    room: Room,
    /// Where the bytes are that are not here.
    heap: Heap,
    /// Whether what comes goes there.
    is_filed: bool,
    bodies: Bodies,
    /// That of the state, while an operation is applied.
    rolling: Rolling,
}

impl Kind for Tasks {
    type Op<'a> = (&'a TaskOp, Stamp);
    type Outcome = OpOutcome;
    type Record = TasksRecord;
    type Ground = Heap;

    fn apply(&mut self, (op, told): (&TaskOp, Stamp), at: &mut At<'_>) -> Result<OpOutcome, Stopped> {
        let now = at.clock.time(told);
        at.clock.note(now);
        let (now, limits) = (now.0, at.limits);
        self.is_filed = at.level >= Level::TASK_FILES;
        self.rolling = std::mem::take(at.rolling);
        let outcome = match op {
            TaskOp::Put { nonce, tasks } => self.put(*nonce, tasks, now, limits),
            TaskOp::Claim(claim) => self.claim(claim, now, limits),
            TaskOp::End { id, fence, end } => self.end(*id, *fence, end, now, limits),
            TaskOp::Expire { leases } => self.expire(leases, now, limits),
            TaskOp::Due { max } => self.advance(*max, now, limits),
            TaskOp::Cancel { id } => self.cancel(*id, now),
            TaskOp::Revive { id } => self.revive(*id, now, limits),
            TaskOp::Progress { id, fence, progress } => self.progress(*id, *fence, progress, limits),
            TaskOp::QueueSet { queue, settings } => self.set_queue(queue, *settings, now, limits),
            TaskOp::PutBatch { nonce, keep_ms, tasks } => {
                self.put_batch(*nonce, *keep_ms, tasks, now, limits)
            }
            TaskOp::EndWith { id, fence, result, nonce, follow } => {
                let lease = Lease { id: *id, fence: *fence };
                self.end_with(lease, result, (*nonce, follow), now, limits)
            }
            TaskOp::RestoreBatch(saved) => self.restore_batch(saved, now, limits),
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
        let (first, _) = self.timers.first()?;
        let op = TaskOp::Due { max: DUE_MAX };
        (*first <= now.0).then_some(Proposed::Tasks { time_ms: now.0, op })
    }

    fn again(&self, _mends: &Mends) -> impl Iterator<Item = Result<Proposed, Stopped>> {
        self.made_again().map(|op| Ok(Proposed::Tasks { time_ms: 0, op: op? }))
    }

    fn revision(&self) -> u64 {
        self.held.changes
    }

    fn record(&self) -> TasksRecord {
        self.held.clone()
    }

    fn open(held: TasksRecord, heap: Heap) -> Result<Self, Invalid> {
        Ok(Tasks::of(held, heap))
    }
}

impl Task {
    /// Why it is not done, as far as that is known: what its last try said, which is its outcome, or that it took its
    /// workers with it.
    pub fn error<'a>(&self, outcome: &'a [u8]) -> &'a [u8] {
        match self.lost >= end::LOST_MAX {
            true => b"worker-lost",
            false => outcome,
        }
    }

    /// Whether a worker was lost with it.
    fn is_suspect(&self) -> bool {
        self.lost > 0
    }

    /// What of its key goes before what: the more urgent, and of those one that a worker was lost with.
    fn rank(&self) -> u8 {
        // What is opened may say any priority.
        self.priority.saturating_mul(2).saturating_add(self.is_suspect().into())
    }
}

#[cfg(test)]
mod tests;
