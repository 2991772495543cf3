//! Tasks as a checkpoint and a snapshot carry them.
//!
//! ```text
//! section   len:u32 head[len], len:u32 batches[len], each queue: len:u32 queue[len], each slot, those of a page
//!           after each other: len:u32 slot[len]
//! ```
//!
//! Little-endian; each of them is in the codec's encoding. From [`Level::TASK_FILES`] on payloads and outcomes are
//! [places](crate::heap::Place) mostly, and that is the second format: a tag comes before each. All slots are there,
//! also free ones, with the lists that go through them: which one is taken next is part of the state. A page is shared
//! with the state that it was captured of, so that a capture costs next to nothing.
//!
//! [`Level::TASK_FILES`]: crate::level::Level::TASK_FILES

mod check;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skep_base::codec::{self, CodecError};

use super::batch::Batch;
use super::queue::{Queue, Worker};
use super::room::SLOT_BYTES;
use super::table::wire::{self, TAG_HERE, TAG_PLACE};
use super::table::{List, PAGE_SLOTS, Slot, Table};
use super::{Bodies, Tasks, Timed};
use crate::heap::{Blob, Heap, Place};
use crate::kind::{Invalid, KindId, Record};
use crate::level::Limits;
use crate::part::Part;
use crate::task::{Member, TaskOp};
use check::Check;

/// All that is carried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TasksRecord {
    pub(super) table: Table,
    /// Done and cancelled, in the order of their ends.
    pub(super) finished: List,
    pub(super) queues: Vec<Queue>,
    pub(super) workers: BTreeMap<Arc<str>, Arc<Worker>>,
    /// By their numbers, which no task has.
    pub(super) batches: BTreeMap<u64, Batch>,
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

    /// Where bytes of tasks are that are in files.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let tasks = self.table.pages.iter().flat_map(|page| &**page).filter_map(|slot| slot.task.as_ref());
        tasks.flat_map(|task| [task.payload.place(), task.outcome.place()]).flatten()
    }
}

/// The format from which on bytes are places.
const FILES_FORMAT: u16 = 2;

/// What is behind a tag.
fn untagged(blob: &Blob) -> Result<Blob, Invalid> {
    let Blob::Here(Some(bytes)) = blob else { return Ok(Blob::EMPTY) };
    match bytes.split_first() {
        None => Ok(Blob::EMPTY),
        Some((&TAG_HERE, rest)) => Ok(Blob::from(Bytes::copy_from_slice(rest))),
        Some((tag, rest)) => {
            let place = Place::of_bytes(rest).filter(|_| *tag == TAG_PLACE).map(Blob::Filed);
            place.ok_or_else(|| Invalid("a task's bytes are at no place".into()))
        }
    }
}

/// Slots that there can be.
fn slots_max() -> usize {
    Limits::WIDEST.task_memory_max / SLOT_BYTES + PAGE_SLOTS
}

/// All but the batches, the queues and the slots.
#[derive(Serialize, Deserialize)]
struct Head {
    pages: u32,
    queues: u32,
    free: List,
    finished: List,
    workers: BTreeMap<Arc<str>, Arc<Worker>>,
    recent: VecDeque<(u64, u64, u32)>,
    last_seq: u64,
    fence: u64,
    changes: u64,
}

impl Record for TasksRecord {
    const ID: KindId = KindId(7);
    const NAME: &'static str = "tasks";
    const FORMATS: (u16, u16) = (1, 2);

    fn check(&self) -> Result<(), Invalid> {
        Check::of(self).run()
    }

    fn format(&self) -> u16 {
        if self.places().next().is_some() { FILES_FORMAT } else { Self::FORMATS.0 }
    }

    /// The first is all but the slots; then each has those of a page.
    fn encode_piece(&self, format: u16, number: usize, bytes: &mut Vec<u8>) -> Result<bool, CodecError> {
        if let Some(page) = number.checked_sub(1) {
            let Some(page) = self.table.pages.get(page) else { return Ok(false) };
            page.iter()
                .try_for_each(|slot| push(&wire::Told { slot, tagged: format >= FILES_FORMAT }, bytes))?;
            return Ok(true);
        }
        let head = Head {
            pages: self.table.pages.len() as u32,
            queues: self.queues.len() as u32,
            free: self.table.free,
            finished: self.finished,
            workers: self.workers.clone(),
            recent: self.recent.clone(),
            last_seq: self.last_seq,
            fence: self.fence,
            changes: self.changes,
        };
        push(&head, bytes)?;
        push(&self.batches, bytes)?;
        self.queues.iter().try_for_each(|queue| push(queue, bytes))?;
        Ok(true)
    }

    fn decode(format: u16, mut bytes: &[u8]) -> Result<Self, Invalid> {
        let len = bytes.len();
        Self::read(format, &mut Part::new(&mut bytes, len))
    }

    fn read(format: u16, part: &mut Part<'_>) -> Result<Self, Invalid> {
        let Head { pages, queues, free, finished, workers, recent, last_seq, fence, changes } = take(part)?;
        if pages as usize > slots_max() / PAGE_SLOTS {
            return Err(Invalid(format!("{pages} pages of tasks")));
        }
        if queues as usize > Limits::WIDEST.task_queues_max {
            return Err(Invalid(format!("{queues} queues of tasks")));
        }
        let batches = take(part)?;
        let queues = (0..queues).map(|_| take(part)).collect::<Result<_, _>>()?;
        let mut table = Table { pages: Vec::new(), free };
        let mut bodies = Bodies::default();
        let mut names: BTreeSet<Arc<str>> = workers.keys().cloned().collect();
        for _ in 0..pages {
            // Each slot takes bytes of those that came.
            let mut page: Vec<Slot> = Vec::with_capacity(PAGE_SLOTS);
            for _ in 0..PAGE_SLOTS {
                let mut slot: Slot = take(part)?;
                if let Some(task) = &mut slot.task {
                    if format >= FILES_FORMAT {
                        task.payload = untagged(&task.payload)?;
                        if !task.outcome.is_empty() {
                            task.outcome = untagged(&task.outcome)?;
                        }
                    }
                    // Tasks that are alike share it, and those of one worker its name.
                    task.body = bodies.hold(task.body.clone());
                    if let Some(name) = task.worker.clone() {
                        match names.get(&name) {
                            Some(known) => task.worker = Some(known.clone()),
                            None => drop(names.insert(name)),
                        }
                    }
                }
                page.push(slot);
            }
            table.pages.push(Arc::new(page));
        }
        part.end()?;
        Ok(Self { table, finished, queues, workers, batches, recent, last_seq, fence, changes })
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

fn take<T: serde::de::DeserializeOwned>(part: &mut Part<'_>) -> Result<T, Invalid> {
    Ok(codec::decode(part.next_counted()?)?)
}

impl Tasks {
    /// The state of a record that was checked: what is looked up is made of what it holds.
    pub(super) fn of(held: TasksRecord, heap: Heap) -> Self {
        let mut tasks = Tasks { heap, ..Tasks::default() };
        for (number, queue) in (0..).zip(&held.queues) {
            tasks.by_queue.insert(queue.name.clone(), number);
            for (key, lane) in queue.lanes.iter().filter(|(_, lane)| lane.rests_until_ms > 0) {
                tasks.timers.insert((lane.rests_until_ms, Timed::Lane(number, key.clone())));
            }
        }
        for slot in 0..held.table.slots() {
            let Some(task) = held.table.get(slot) else { continue };
            let seq = task.id.seq;
            tasks.by_seq.insert(seq, slot);
            tasks.room = tasks.room.plus(task.charge());
            tasks.bodies.hold(task.body.clone());
            tasks.heap.hold(&task.payload);
            tasks.heap.hold(&task.outcome);
            if let Some(Member { batch, place }) = task.member {
                tasks.members.insert((batch, place, seq));
            }
            if task.timer_ms != 0 {
                tasks.timers.insert((task.timer_ms, Timed::Task(seq, slot)));
            }
            if let Some(unique) = &task.body.unique
                && task.state.is_unfinished()
            {
                tasks.by_unique.insert((task.queue, unique.clone()), seq);
            }
        }
        tasks.heap.settle_all();
        tasks.puts = held.recent.iter().map(|(nonce, first, count)| (*nonce, (*first, *count))).collect();
        tasks.held = held;
        tasks.index_batches();
        tasks
    }
}
