//! How a task goes from one state to another, and from one list to another.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::batch::Batch;
use super::queue::Queue;
use super::record::TasksRecord;
use super::table::{Edge, List};
use super::{Room, Task, Tasks, Timed, noted};
use crate::heap::Blob;
use crate::task::{Member, TaskId, TaskOutcome, TaskState};

impl Tasks {
    pub(super) fn slot_of(&self, id: TaskId) -> Result<u32, TaskOutcome> {
        match self.by_seq.get(id.seq) {
            Some(slot) if self.held.table.get(slot).is_some_and(|task| task.id == id) => Ok(slot),
            // No more is known of one that was forgotten.
            None if (1..=self.held.last_seq).contains(&id.seq) => Err(TaskOutcome::Gone),
            _ => Err(TaskOutcome::Unknown),
        }
    }

    /// Numbers and fences up to these are given no more.
    pub(super) fn give(&mut self, seq: u64, fence: u64) {
        let before = (self.held.last_seq, self.held.fence);
        let after = (before.0.max(seq), before.1.max(fence));
        if before != after {
            noted::given(&mut self.rolling, after.0, after.1);
        }
        (self.held.last_seq, self.held.fence) = after;
    }

    /// The list that a task of a state is in, if it is in one.
    fn list_of<'a>(
        queues: &'a mut [Queue],
        finished: &'a mut List,
        batches: &'a mut BTreeMap<u64, Batch>,
        task: &Task,
    ) -> Option<&'a mut List> {
        match (task.member, task.state) {
            (Some(member), TaskState::Done | TaskState::Cancelled | TaskState::Dead) => {
                Some(&mut batches.get_mut(&member.batch)?.ended)
            }
            (None, TaskState::Done | TaskState::Cancelled) => Some(finished),
            _ => queues.get_mut(usize::from(task.queue))?.list(task),
        }
    }

    /// Takes a task out of the list and the times that it is in.
    pub(super) fn detach(&mut self, slot: u32) {
        let TasksRecord { table, queues, finished, batches, .. } = &mut self.held;
        let Some(task) = table.get(slot).cloned() else { return };
        if task.timer_ms != 0 {
            self.timers.remove(&(task.timer_ms, Timed::Task(task.id.seq, slot)));
        }
        if let Some(list) = Self::list_of(queues, finished, batches, &task) {
            table.unlink(list, slot);
        }
        if let Some(queue) = queues.get_mut(usize::from(task.queue)) {
            queue.leave(&task);
        }
        if let Some(batch) = task.member.and_then(|member| batches.get_mut(&member.batch)) {
            batch.count(task.state, |count| *count -= 1);
        }
    }

    /// Puts a task that is in no list into that of its state; one that is ready and has a lane into that, which may
    /// be opened then.
    pub(super) fn attach(&mut self, slot: u32, edge: Edge) {
        self.recount(slot);
        let TasksRecord { table, queues, finished, batches, .. } = &mut self.held;
        let Some(task) = table.get_mut(slot) else { return };
        let queue = queues.get_mut(usize::from(task.queue));
        let has_lane = queue.as_ref().is_some_and(|queue| queue.lane_of(task).is_some());
        task.set_aside(task.state == TaskState::Ready && has_lane);
        let task = task.clone();
        let streak = queue.as_ref().map_or(0, |queue| queue.streak);
        noted::task(&mut self.rolling, slot, &task, edge, streak);
        if task.timer_ms != 0 {
            self.timers.insert((task.timer_ms, Timed::Task(task.id.seq, slot)));
        }
        if let Some(queue) = queue {
            queue.join(&task);
        }
        if let Some(batch) = task.member.and_then(|member| batches.get_mut(&member.batch)) {
            batch.count(task.state, |count| *count += 1);
        }
        if let Some(list) = Self::list_of(queues, finished, batches, &task) {
            table.link(list, slot, edge);
        }
        self.held.changes += 1;
    }

    /// Puts a task that is in no list where it belongs.
    pub(super) fn place(&mut self, slot: u32, edge: Edge, now: u64) {
        self.attach(slot, edge);
        let Some(task) = self.held.table.get(slot) else { return };
        let (queue, member, body) = (task.queue, task.member, task.body.clone());
        if let Some(key) = &body.key {
            self.open_lane(queue, key, edge, now);
        }
        if let Some(member) = member {
            self.settle_batch(member.batch, now);
        }
    }

    /// Brings a task into a state, at one end of its list, until a time (0: for good).
    pub(super) fn shift(&mut self, slot: u32, state: TaskState, edge: Edge, timer_ms: u64, now: u64) {
        self.detach(slot);
        if let Some(task) = self.held.table.get_mut(slot) {
            let before = std::mem::replace(&mut task.state, state);
            task.since = now.into();
            if task.timer_ms != timer_ms {
                task.timer_ms = timer_ms;
            }
            let (queue, body) = (task.queue, task.body.clone());
            if let Some(key) = &body.key {
                self.rest_lane(queue, key, before, state, now);
            }
        }
        self.place(slot, edge, now);
    }

    /// A task that is done or cancelled: nothing of it is needed but what it came to. Of a batch, it stays as long as
    /// that, and says what it was.
    pub(super) fn finish(&mut self, slot: u32, state: TaskState, now: u64) {
        self.free_unique(slot);
        let mut timer_ms = 0;
        if let Some(task) = self.held.table.get_mut(slot) {
            if !task.progress.is_empty() {
                self.room = self.room.less(Room::filed(task.progress.len()));
                task.progress = Bytes::new();
            }
            if task.member.is_none() {
                // A time of 0 would be none.
                timer_ms = now.saturating_add(task.body.policy.keep_ms).max(1);
                let payload = std::mem::take(&mut task.payload);
                self.room = self.room.less(Room::filed(payload.len()));
                self.heap.let_go(&payload);
            }
        }
        self.shift(slot, state, Edge::Tail, timer_ms, now);
    }

    pub(super) fn forget(&mut self, slot: u32) {
        self.free_unique(slot);
        self.detach(slot);
        if let Some(task) = self.held.table.remove(slot) {
            self.by_seq.remove(task.id.seq);
            if let Some(Member { batch, place }) = task.member {
                self.members.remove(&(batch, place, task.id.seq));
            }
            self.room = self.room.less(task.charge());
            self.bodies.let_go(&task.body);
            self.heap.let_go(&task.payload);
            self.heap.let_go(&task.outcome);
            noted::forgotten(&mut self.rolling, task.id.seq);
        }
        self.held.changes += 1;
    }

    pub(super) fn free_unique(&mut self, slot: u32) {
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

    /// Sets what a task came to, within the room that there is.
    pub(super) fn set_outcome(&mut self, slot: u32, outcome: &[u8]) {
        if self.held.table.get(slot).is_none() {
            return;
        }
        let kept = self.keep(outcome);
        if let Some(task) = self.held.table.get_mut(slot) {
            let is_nothing = task.outcome.is_empty() && kept.is_empty();
            let former = if is_nothing { kept } else { std::mem::replace(&mut task.outcome, kept) };
            self.room = self.room.less(Room::filed(former.len())).plus(Room::filed(outcome.len()));
            self.heap.let_go(&former);
            noted::outcome(&mut self.rolling, task.id.seq, outcome);
        }
    }

    /// Takes in bytes of a task.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Blob {
        match self.is_filed {
            true => self.heap.push(bytes),
            // A copy: it must not keep a whole log entry's memory alive.
            false => Blob::from(Bytes::copy_from_slice(bytes)),
        }
    }

    /// All bytes of tasks are in files from here on.
    pub(crate) fn become_filed(&mut self) {
        self.is_filed = true;
        for slot in 0..self.held.table.slots() {
            let is_here = |task: &Task| [&task.payload, &task.outcome].iter().any(|blob| blob.is_here());
            if !self.held.table.get(slot).is_some_and(is_here) {
                continue;
            }
            let Some(task) = self.held.table.get_mut(slot) else { continue };
            if let Blob::Here(Some(bytes)) = &task.payload {
                task.payload = self.heap.push(bytes);
            }
            if let Blob::Here(Some(bytes)) = &task.outcome {
                task.outcome = self.heap.push(bytes);
            }
        }
    }
}
