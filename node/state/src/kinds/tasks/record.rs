//! Tasks as a checkpoint and a snapshot carry them.
//!
//! ```text
//! section   len:u32 head[len], then each slot, those of a page after each other: len:u32 slot[len]
//! ```
//!
//! Little-endian; head and slots are in the codec's encoding. All slots are there, also free ones, with the lists
//! that go through them: which one is taken next is part of the state. A page is shared with the state that it
//! was captured of, so that a capture costs next to nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skep_base::codec::{self, CodecError};

use super::queue::{Queue, Worker};
use super::table::{List, NONE, PAGE_SLOTS, Slot, Table};
use super::{FENCE_MAX, TASK_OVERHEAD_BYTES, Task, Tasks};
use crate::kind::{Invalid, KindId, Record};
use crate::level::Limits;
use crate::task::{
    HOLDS_MAX, KIND_BYTES_MAX, PAYLOAD_BYTES_MAX, PRIORITIES, PROGRESS_BYTES_MAX, PUT_TASKS_MAX, SEQ_MAX,
    TaskOp, TaskState, UNIQUE_BYTES_MAX, WORKER_BYTES_MAX, is_queue, is_worker,
};

/// So many times the room that there is may be taken: a result may be larger than what it ends, and a node that
/// was within its rights must be able to open what it wrote.
const BYTES_BEYOND: usize = 2;

/// More changes than can have been.
const CHANGES_MAX: u64 = 1 << 62;

/// All that is carried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TasksRecord {
    pub(super) table: Table,
    /// Done and cancelled, in the order of their ends.
    pub(super) finished: List,
    pub(super) queues: Vec<Queue>,
    pub(super) workers: BTreeMap<Arc<str>, Arc<Worker>>,
    /// The latest puts, the oldest first: their nonces, and the tasks that came of them.
    pub(super) recent: VecDeque<(u64, u64, u32)>,
    pub(super) last_seq: u64,
    pub(super) fence: u64,
    /// Counts up with what is changed: a node that is given this goes on from it.
    pub(super) changes: u64,
}

impl TasksRecord {
    /// What is said of a cluster first that is to have these tasks: none of their numbers and fences is given again,
    /// nor a fence that workers of the past may have beside.
    pub fn given(&self) -> [TaskOp; 2] {
        [TaskOp::Given { seq: self.last_seq, fence: self.fence }, TaskOp::RaiseFence]
    }
}

/// Slots that there can be.
fn slots_max() -> usize {
    Limits::WIDEST.task_bytes_max / TASK_OVERHEAD_BYTES + PAGE_SLOTS
}

/// All but the slots.
#[derive(Serialize, Deserialize)]
struct Head {
    pages: u32,
    free: List,
    finished: List,
    queues: Vec<Queue>,
    workers: BTreeMap<Arc<str>, Arc<Worker>>,
    recent: VecDeque<(u64, u64, u32)>,
    last_seq: u64,
    fence: u64,
    changes: u64,
}

impl Record for TasksRecord {
    const ID: KindId = KindId(7);
    const NAME: &'static str = "tasks";
    const FORMATS: (u16, u16) = (1, 1);

    fn check(&self) -> Result<(), Invalid> {
        Check { held: self, seen: vec![false; self.table.slots() as usize] }.run()
    }

    fn encode(&self) -> Result<(u16, Vec<u8>), CodecError> {
        let head = Head {
            pages: self.table.pages.len() as u32,
            free: self.table.free,
            finished: self.finished,
            queues: self.queues.clone(),
            workers: self.workers.clone(),
            recent: self.recent.clone(),
            last_seq: self.last_seq,
            fence: self.fence,
            changes: self.changes,
        };
        let mut bytes = Vec::new();
        push(&head, &mut bytes)?;
        self.table.pages.iter().flat_map(|page| &**page).try_for_each(|slot| push(slot, &mut bytes))?;
        Ok((Self::FORMATS.1, bytes))
    }

    fn decode(_format: u16, mut bytes: &[u8]) -> Result<Self, Invalid> {
        let Head { pages, free, finished, queues, workers, recent, last_seq, fence, changes } =
            take(&mut bytes)?;
        if pages as usize > slots_max() / PAGE_SLOTS {
            return Err(Invalid(format!("{pages} pages of tasks")));
        }
        let mut table = Table { pages: Vec::new(), free };
        for _ in 0..pages {
            // Each slot takes bytes of those that came.
            let mut page: Vec<Slot> = Vec::new();
            for _ in 0..PAGE_SLOTS {
                page.push(take(&mut bytes)?);
            }
            table.pages.push(Arc::new(page));
        }
        match bytes.is_empty() {
            true => Ok(Self { table, finished, queues, workers, recent, last_seq, fence, changes }),
            false => Err(Invalid(format!("{} bytes follow the tasks", bytes.len()))),
        }
    }
}

fn push(value: &impl Serialize, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    let at = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    codec::encode_into(value, bytes)?;
    let len = (bytes.len() - at - 4) as u32;
    bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

fn take<T: serde::de::DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, Invalid> {
    let ends = || Invalid("the tasks end before they are whole".into());
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(ends)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(ends)?;
    *bytes = rest;
    Ok(codec::decode(value)?)
}

impl Tasks {
    /// The state of a record that was checked: what is looked up is made of what it holds.
    pub(super) fn of(held: TasksRecord) -> Self {
        let mut tasks = Tasks::default();
        for (number, queue) in (0..).zip(&held.queues) {
            tasks.by_queue.insert(queue.name.clone(), number);
        }
        for slot in 0..held.table.slots() {
            let Some(task) = held.table.get(slot) else { continue };
            let seq = task.id.seq;
            tasks.by_seq.insert(seq, slot);
            tasks.bytes += task.charge();
            if task.timer_ms != 0 {
                tasks.timers.insert((task.timer_ms, seq, slot));
            }
            if let Some(unique) = &task.body.unique
                && task.state.is_unfinished()
            {
                tasks.by_unique.insert((task.queue, unique.clone()), seq);
            }
        }
        tasks.puts = held.recent.iter().map(|(nonce, first, count)| (*nonce, (*first, *count))).collect();
        tasks.held = held;
        tasks
    }
}

/// A look at all that a record says, which may be hostile.
struct Check<'a> {
    held: &'a TasksRecord,
    /// The slots that have their place.
    seen: Vec<bool>,
}

impl Check<'_> {
    fn run(mut self) -> Result<(), Invalid> {
        let TasksRecord { table, finished, queues, workers, recent, last_seq, fence, changes } = self.held;
        let limits = Limits::WIDEST;
        if table.slots() as usize > slots_max() || table.pages.iter().any(|page| page.len() != PAGE_SLOTS) {
            return Err(Invalid(format!("{} slots of tasks", table.slots())));
        }
        if queues.len() > limits.task_queues_max
            || workers.len() > limits.task_workers_max
            || recent.len() > limits.task_puts_max
            || *last_seq > SEQ_MAX
            || *fence > 2 * FENCE_MAX
            || *changes > CHANGES_MAX
        {
            return Err(Invalid(format!("{} queues, {} workers of tasks", queues.len(), workers.len())));
        }
        let names: BTreeSet<&str> = queues.iter().map(|queue| &*queue.name).collect();
        let counts = queues.iter().all(|queue| queue.counts.are_possible());
        if names.len() != queues.len() || !names.iter().all(|name| is_queue(name)) || !counts {
            return Err(Invalid("no such queues can be".into()));
        }
        let fits = |worker: &Worker| worker.kept.len() + worker.given.len() <= 2 * HOLDS_MAX;
        if !workers.iter().all(|(name, worker)| is_worker(name) && fits(worker)) {
            return Err(Invalid("no such workers can be".into()));
        }
        let nonces: BTreeSet<u64> = recent.iter().map(|(nonce, ..)| *nonce).collect();
        let possible =
            |(_, first, count): &(u64, u64, u32)| *first <= SEQ_MAX && *count as usize <= PUT_TASKS_MAX;
        if nonces.len() != recent.len() || !recent.iter().all(possible) {
            return Err(Invalid("no such puts of tasks can be remembered".into()));
        }
        self.walk(&table.free, |slot| slot.task.is_none())?;
        let is_finished = |task: &Task| matches!(task.state, TaskState::Done | TaskState::Cancelled);
        self.walk(finished, |slot| slot.task.as_ref().is_some_and(is_finished))?;
        for (number, queue) in (0..).zip(queues) {
            let is_of = |slot: &Slot, state| {
                slot.task.as_ref().is_some_and(|task| task.queue == number && task.state == state)
            };
            for (lists, is_suspect) in [(&queue.ready, false), (&queue.suspects, true)] {
                for (priority, list) in (0..PRIORITIES as u8).zip(lists) {
                    let is_its = |task: &Task| task.priority == priority && task.is_suspect() == is_suspect;
                    let fits = |slot: &Slot| slot.task.as_ref().is_some_and(is_its);
                    self.walk(list, |slot| is_of(slot, TaskState::Ready) && fits(slot))?;
                }
            }
            self.walk(&queue.active, |slot| is_of(slot, TaskState::Active))?;
            self.walk(&queue.dead, |slot| is_of(slot, TaskState::Dead))?;
        }
        self.slots()
    }

    /// A list goes through slots that are in no other, and comes to its end.
    fn walk(&mut self, list: &List, fits: impl Fn(&Slot) -> bool) -> Result<(), Invalid> {
        let invalid = || Invalid("a list of tasks goes through slots that are not its own".into());
        let (mut at, mut before) = (list.head, NONE);
        for _ in 0..list.len {
            let slot = self.held.table.slot(at).ok_or_else(invalid)?;
            let seen = self.seen.get_mut(at as usize).ok_or_else(invalid)?;
            if std::mem::replace(seen, true) || slot.prev != before || !fits(slot) {
                return Err(invalid());
            }
            (before, at) = (at, slot.next);
        }
        match at == NONE && before == list.tail {
            true => Ok(()),
            false => Err(invalid()),
        }
    }

    /// What is in no list waits for its time; and each task could be one.
    fn slots(mut self) -> Result<(), Invalid> {
        let held = self.held;
        let invalid = |slot: u32| Invalid(format!("no task can be as that in slot {slot}"));
        let (mut seqs, mut uniques) = (BTreeSet::new(), BTreeSet::new());
        let mut unlisted = vec![(0, 0); held.queues.len()];
        let mut bytes = 0;
        for number in 0..held.table.slots() {
            let slot = held.table.slot(number).ok_or_else(|| invalid(number))?;
            let seen = self.seen.get_mut(number as usize).ok_or_else(|| invalid(number))?;
            let Some(task) = &slot.task else {
                match *seen {
                    true => continue,
                    false => return Err(invalid(number)),
                }
            };
            let is_due = task.state == TaskState::Due;
            // One that is due is in no list, and in that alone.
            let is_placed = *seen != is_due && (!is_due || (slot.prev, slot.next) == (NONE, NONE));
            let unique = task.body.unique.as_ref().filter(|_| task.state.is_unfinished());
            let fits = is_placed
                && is_possible(task, held)
                && seqs.insert(task.id.seq)
                && unique.is_none_or(|key| uniques.insert((task.queue, key)));
            let Some((due, kept)) = unlisted.get_mut(usize::from(task.queue)).filter(|_| fits) else {
                return Err(invalid(number));
            };
            *due += u32::from(is_due);
            *kept += u32::from(matches!(task.state, TaskState::Done | TaskState::Cancelled));
            bytes += task.charge();
        }
        let counted = held.queues.iter().map(|queue| (queue.due, queue.kept));
        if !counted.eq(unlisted) || bytes > Limits::WIDEST.task_bytes_max * BYTES_BEYOND {
            return Err(Invalid(format!("tasks of {bytes} bytes, which are not those that are counted")));
        }
        Ok(())
    }
}

fn is_possible(task: &Task, held: &TasksRecord) -> bool {
    let body = &task.body;
    let waits = match task.state {
        TaskState::Due | TaskState::Done | TaskState::Cancelled => Some(true),
        TaskState::Ready | TaskState::Dead => Some(false),
        // As long as it may take, if that is bounded.
        TaskState::Active => None,
    };
    (1..=held.last_seq).contains(&task.id.seq)
        && task.fence <= held.fence
        && usize::from(task.priority) < PRIORITIES
        && waits.is_none_or(|waits| waits == (task.timer_ms != 0))
        && body.kind.len() <= KIND_BYTES_MAX
        && body.payload.len() <= PAYLOAD_BYTES_MAX
        && body.unique.as_ref().is_none_or(|key| key.len() <= UNIQUE_BYTES_MAX)
        && body.policy.is_bounded()
        && task.worker.as_ref().is_none_or(|name| name.len() <= WORKER_BYTES_MAX)
        && task.outcome.len() <= PAYLOAD_BYTES_MAX
        && task.progress.len() <= PROGRESS_BYTES_MAX
}
