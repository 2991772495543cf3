//! Whether a record could be one of tasks: it may be hostile.

use std::collections::{BTreeMap, BTreeSet};

use super::{TasksRecord, slots_max};
use crate::kind::Invalid;
use crate::kinds::tasks::batch::{BATCH_BYTES, Batch};
use crate::kinds::tasks::lane::Lane;
use crate::kinds::tasks::queue::{Queue, Worker};
use crate::kinds::tasks::room::{MEMORY_BEYOND, Room};
use crate::kinds::tasks::table::{List, NONE, PAGE_SLOTS, Slot};
use crate::kinds::tasks::{FENCE_MAX, Task};
use crate::level::Limits;
use crate::task::{
    DURATION_MS_MAX, HOLDS_MAX, KEY_BYTES_MAX, KIND_BYTES_MAX, PAYLOAD_BYTES_MAX, PRIORITIES,
    PROGRESS_BYTES_MAX, PUT_TASKS_MAX, SEQ_MAX, TaskState, UNIQUE_BYTES_MAX, WORKER_BYTES_MAX, is_queue,
    is_worker,
};

/// So many times the room that there is may be taken: a result may be larger than what it ends, and a node that
/// was within its rights must be able to open what it wrote.
const BYTES_BEYOND: usize = 2;

/// More changes than can have been.
const CHANGES_MAX: u64 = 1 << 62;

/// A look at all that a record says, which may be hostile.
pub(super) struct Check<'a> {
    held: &'a TasksRecord,
    /// The slots that have their place.
    seen: Vec<bool>,
}

impl<'a> Check<'a> {
    pub fn of(held: &'a TasksRecord) -> Self {
        Self { held, seen: vec![false; held.table.slots() as usize] }
    }

    pub fn run(mut self) -> Result<(), Invalid> {
        let TasksRecord { table, finished, queues, workers, batches, recent, last_seq, fence, changes } =
            self.held;
        let limits = Limits::WIDEST;
        if table.slots() as usize > slots_max() || table.pages.iter().any(|page| page.len() != PAGE_SLOTS) {
            return Err(Invalid(format!("{} slots of tasks", table.slots())));
        }
        if queues.len() > limits.task_queues_max
            || workers.len() > limits.task_workers_max
            || batches.len() > limits.task_batches_max
            || recent.len() > limits.task_puts_max
            || *last_seq > SEQ_MAX
            || *fence > 2 * FENCE_MAX
            || *changes > CHANGES_MAX
        {
            return Err(Invalid(format!("{} queues, {} workers of tasks", queues.len(), workers.len())));
        }
        let names: BTreeSet<&str> = queues.iter().map(|queue| &*queue.name).collect();
        let counts = queues.iter().all(|queue| queue.counts.are_possible());
        let settings = queues.iter().all(|queue| queue.settings.is_bounded());
        if names.len() != queues.len() || !names.iter().all(|name| is_queue(name)) || !counts || !settings {
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
        let is_finished = |task: &Task| {
            matches!(task.state, TaskState::Done | TaskState::Cancelled) && task.member.is_none()
        };
        self.walk(finished, |slot| slot.task.as_ref().is_some_and(is_finished))?;
        for (seq, batch) in batches {
            let is_its = |task: &Task| {
                !task.state.is_unfinished() && task.member.is_some_and(|member| member.batch == *seq)
            };
            self.walk(&batch.ended, |slot| slot.task.as_ref().is_some_and(is_its))?;
        }
        for (number, queue) in (0..).zip(queues) {
            let is_of = |slot: &Slot, state| {
                slot.task.as_ref().is_some_and(|task| task.queue == number && task.state == state)
            };
            for (lists, is_suspect) in [(&queue.ready, false), (&queue.suspects, true)] {
                for (priority, list) in (0..PRIORITIES as u8).zip(lists) {
                    let is_its = |task: &Task| {
                        !task.is_aside() && task.priority == priority && task.is_suspect() == is_suspect
                    };
                    let fits = |slot: &Slot| slot.task.as_ref().is_some_and(is_its);
                    self.walk(list, |slot| is_of(slot, TaskState::Ready) && fits(slot))?;
                }
            }
            for (key, lane) in &queue.lanes {
                for (rank, list) in &lane.waiting {
                    let is_its = |task: &Task| {
                        task.is_aside() && task.rank() == *rank && task.body.key.as_deref() == Some(&**key)
                    };
                    let fits = |slot: &Slot| slot.task.as_ref().is_some_and(is_its);
                    self.walk(list, |slot| is_of(slot, TaskState::Ready) && fits(slot))?;
                }
            }
            self.walk(&queue.active, |slot| is_of(slot, TaskState::Active))?;
            let is_single = |slot: &Slot| slot.task.as_ref().is_some_and(|task| task.member.is_none());
            self.walk(&queue.dead, |slot| is_of(slot, TaskState::Dead) && is_single(slot))?;
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
        let mut unlisted = vec![(0, 0, 0, 0); held.queues.len()];
        let mut lanes = vec![BTreeMap::<&str, Lane>::new(); held.queues.len()];
        let mut members = BTreeMap::<u64, [u32; 4]>::new();
        let mut room = Room::both(BATCH_BYTES * held.batches.len());
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
            let of_queue = usize::from(task.queue);
            let (Some((due, kept, aside, dead_kept)), Some(lanes)) =
                (unlisted.get_mut(of_queue).filter(|_| fits), lanes.get_mut(of_queue))
            else {
                return Err(invalid(number));
            };
            if let Some(key) = held.queues.get(of_queue).and_then(|queue| queue.lane_of(task))
                && task.state.is_unfinished()
            {
                lanes.entry(key).or_default().count(task, |count| *count += 1);
            }
            *due += u32::from(is_due);
            *aside += u32::from(task.is_aside());
            if let Some(member) = task.member {
                let at = match task.state {
                    TaskState::Ready | TaskState::Due | TaskState::Active => 0,
                    TaskState::Done => 1,
                    TaskState::Dead => 2,
                    TaskState::Cancelled => 3,
                };
                members.entry(member.batch).or_default()[at] += 1;
                *dead_kept += u32::from(task.state == TaskState::Dead);
            }
            *kept += u32::from(matches!(task.state, TaskState::Done | TaskState::Cancelled));
            room = room.plus(task.charge());
        }
        let counted = held.queues.iter().map(|queue| (queue.due, queue.kept, queue.aside, queue.dead_kept));
        let mut batches = held.batches.iter();
        let is_batch = |(seq, batch): (&u64, &Batch)| {
            let counted = members.remove(seq).unwrap_or_default();
            !seqs.contains(seq) && batch.id.seq == *seq && is_possible_batch(batch, held, counted)
        };
        if !batches.all(is_batch) || !members.is_empty() {
            return Err(Invalid("no such batches of tasks can be".into()));
        }
        let mut all = held.queues.iter().zip(lanes);
        if !all.all(|(queue, counted)| are_lanes(queue, counted)) {
            return Err(Invalid("no such lanes of tasks can be".into()));
        }
        let lanes: usize = held.queues.iter().map(|queue| queue.lanes.len()).sum();
        if lanes > Limits::WIDEST.task_lanes_max {
            return Err(Invalid(format!("{lanes} lanes of tasks")));
        }
        let Room { bytes, memory } = room;
        let is_beyond = bytes > Limits::WIDEST.task_bytes_max * BYTES_BEYOND
            || memory > Limits::WIDEST.task_memory_max * MEMORY_BEYOND;
        if !counted.eq(unlisted) || is_beyond {
            return Err(Invalid(format!("tasks of {bytes} bytes, which are not those that are counted")));
        }
        Ok(())
    }
}

fn is_possible_batch(batch: &Batch, held: &TasksRecord, counted: [u32; 4]) -> bool {
    (1..=held.last_seq).contains(&batch.id.seq)
        && [batch.unfinished, batch.done, batch.dead, batch.cancelled] == counted
        && batch.posted as usize <= PUT_TASKS_MAX
        && batch.met <= batch.posted
        && batch.keep_ms <= DURATION_MS_MAX
        && (batch.ended_ms > 0) == (batch.unfinished == 0)
}

/// Whether the lanes of a queue are those of its tasks, and none is closed for nothing.
fn are_lanes(queue: &Queue, mut counted: BTreeMap<&str, Lane>) -> bool {
    let is_one = |key: &str, lane: &Lane, tasks: Lane| {
        (1..=KEY_BYTES_MAX).contains(&key.len())
            && (lane.tasks, lane.active, lane.listed) == (tasks.tasks, tasks.active, tasks.listed)
            && lane.waiting.values().all(|list| list.len > 0)
            && !lane.is_over()
            && (lane.waiting.is_empty() || !lane.has_room(&queue.settings))
    };
    let mut lanes = queue.lanes.iter();
    let has_own = queue.settings.has_lanes() || queue.lanes.is_empty();
    has_own
        && lanes.all(|(key, lane)| is_one(key, lane, counted.remove(&**key).unwrap_or_default()))
        && counted.is_empty()
}

fn is_possible(task: &Task, held: &TasksRecord) -> bool {
    let body = &task.body;
    let waits = match task.state {
        TaskState::Due => Some(true),
        // As long as its batch, or for a time of its own.
        TaskState::Done | TaskState::Cancelled => Some(task.member.is_none()),
        TaskState::Ready | TaskState::Dead => Some(false),
        // As long as it may take, if that is bounded.
        TaskState::Active => None,
    };
    (1..=held.last_seq).contains(&task.id.seq)
        && task.fence <= held.fence
        && usize::from(task.priority) < PRIORITIES
        && waits.is_none_or(|waits| waits == (task.timer_ms != 0))
        && body.kind.len() <= KIND_BYTES_MAX
        && task.payload.len() <= PAYLOAD_BYTES_MAX
        && body.unique.as_ref().is_none_or(|key| key.len() <= UNIQUE_BYTES_MAX)
        && body.key.as_ref().is_none_or(|key| (1..=KEY_BYTES_MAX).contains(&key.len()))
        && (!task.is_aside() || task.state == TaskState::Ready)
        && body.policy.is_bounded()
        && task.worker.as_ref().is_none_or(|name| name.len() <= WORKER_BYTES_MAX)
        && task.outcome.len() <= PAYLOAD_BYTES_MAX
        && task.progress.len() <= PROGRESS_BYTES_MAX
}
