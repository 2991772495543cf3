//! Batches: tasks that were put together, counted as they end.
//!
//! A task of a batch that has ended is in the batch's list, and in no other: it is known, with its payload and what it
//! came to, until the batch goes, its time after its last task has ended, or for want of room. A batch goes as a
//! whole, and none goes that is not over.

use serde::{Deserialize, Serialize};

use super::put::For;
use super::table::List;
use super::{Room, Task, Tasks, Timed, noted};
use crate::level::Limits;
use crate::task::{
    DURATION_MS_MAX, Member, NewTask, PUT_TASKS_MAX, SEQ_MAX, SavedBatch, TaskId, TaskOutcome, TaskState,
};

/// What a batch counts as beside its tasks.
pub(super) const BATCH_BYTES: usize = 256;

/// A batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    pub id: TaskId,
    /// What was put, also what met another task.
    pub posted: u32,
    /// What met another task, and is not waited for.
    pub met: u32,
    pub unfinished: u32,
    pub done: u32,
    pub dead: u32,
    pub cancelled: u32,
    /// For how long it is known once it is over.
    pub keep_ms: u64,
    pub put_ms: u64,
    /// When its last task ended; 0 while one has not.
    pub ended_ms: u64,
    /// Its tasks that have ended.
    pub(super) ended: List,
}

impl Batch {
    pub(super) fn of(saved: &SavedBatch) -> Self {
        let SavedBatch { id, posted, met, keep_ms, put_ms, ended_ms } = saved.clone();
        Self {
            id,
            posted,
            met,
            unfinished: 0,
            done: 0,
            dead: 0,
            cancelled: 0,
            keep_ms,
            put_ms,
            ended_ms,
            ended: List::default(),
        }
    }

    pub(super) fn saved(&self) -> SavedBatch {
        let Batch { id, posted, met, keep_ms, put_ms, ended_ms, .. } = self.clone();
        SavedBatch { id, posted, met, keep_ms, put_ms, ended_ms }
    }

    /// All tasks that it has, or had met.
    pub fn total(&self) -> u32 {
        self.met + self.unfinished + self.done + self.dead + self.cancelled
    }

    /// A task in this state comes to it, or leaves it.
    pub(super) fn count(&mut self, state: TaskState, step: fn(&mut u32)) {
        step(match state {
            TaskState::Ready | TaskState::Due | TaskState::Active => &mut self.unfinished,
            TaskState::Done => &mut self.done,
            TaskState::Dead => &mut self.dead,
            TaskState::Cancelled => &mut self.cancelled,
        });
    }

    /// When it goes, where it is over.
    fn timer(&self) -> (u64, Timed) {
        (self.ended_ms.saturating_add(self.keep_ms), Timed::Batch(self.id.seq))
    }
}

impl Tasks {
    /// All of the tasks as a batch, or none.
    pub(super) fn put_batch(
        &mut self,
        nonce: u64,
        keep_ms: u64,
        tasks: &[NewTask],
        now: u64,
        limits: &Limits,
    ) -> TaskOutcome {
        if let Some((first, count)) = self.puts.get(&nonce) {
            return TaskOutcome::Batch { first: *first, count: *count, nonce };
        }
        let first = self.held.last_seq + 1;
        let bounded = (1..=PUT_TASKS_MAX).contains(&tasks.len())
            && tasks.iter().all(NewTask::is_bounded)
            && keep_ms <= DURATION_MS_MAX
            && first + tasks.len() as u64 <= SEQ_MAX;
        if !bounded {
            return TaskOutcome::Invalid;
        }
        // Before anything goes for it.
        if self.held.batches.len() >= limits.task_batches_max && self.over.is_empty() {
            return TaskOutcome::Full;
        }
        let new = self.new_of(tasks);
        let beside = Room::both(BATCH_BYTES).plus(Room::members(new.len()));
        if let Err(refused) = self.admit(new.iter().copied(), beside, For::Puts, limits) {
            return refused;
        }
        if !self.have_batch_room(limits) {
            return TaskOutcome::Full;
        }
        let id = TaskId::nth(first, nonce, 0);
        let posted = tasks.len() as u32;
        self.add_batch(&SavedBatch { id, posted, met: 0, keep_ms, put_ms: now, ended_ms: 0 });
        self.held.last_seq = first;
        let mut count = 0;
        for (place, task) in (0..).zip(tasks) {
            // It may meet one of this batch.
            if self.meets(task).is_none() {
                count += 1;
                let member = Some(Member { batch: first, place });
                self.put_one(TaskId::nth(first, nonce, count), task, member, now);
            }
        }
        if let Some(batch) = self.held.batches.get_mut(&first) {
            batch.met = posted - count;
            noted::batch(&mut self.rolling, &batch.saved());
        }
        self.settle_batch(first, now);
        self.remember_put(nonce, first, count, limits);
        TaskOutcome::Batch { first, count, nonce }
    }

    /// Whether there may be one more, once the one is forgotten that was over first.
    fn have_batch_room(&mut self, limits: &Limits) -> bool {
        while self.held.batches.len() >= limits.task_batches_max {
            let Some((_, first)) = self.over.first().copied() else { return false };
            self.forget_batch(first);
        }
        true
    }

    fn add_batch(&mut self, saved: &SavedBatch) {
        let (seq, batch) = (saved.id.seq, Batch::of(saved));
        if batch.ended_ms > 0 {
            self.timers.insert(batch.timer());
            self.over.insert((batch.ended_ms, seq));
        }
        self.held.batches.insert(seq, batch);
        self.room = self.room.plus(Room::both(BATCH_BYTES));
        self.held.changes += 1;
    }

    /// A batch of a snapshot; its tasks follow. Until one of them comes that is unfinished, it counts as over: where
    /// none does any more, it goes by itself.
    pub(super) fn restore_batch(&mut self, saved: &SavedBatch, now: u64, limits: &Limits) -> TaskOutcome {
        let SavedBatch { id, posted, met, keep_ms, .. } = saved;
        let fits = (1..SEQ_MAX).contains(&id.seq)
            && *posted as usize <= PUT_TASKS_MAX
            && met <= posted
            && *keep_ms <= DURATION_MS_MAX
            && !self.by_seq.contains(id.seq)
            && !self.held.batches.contains_key(&id.seq);
        if !fits {
            return TaskOutcome::Invalid;
        }
        if !self.make_room(Room::both(BATCH_BYTES), limits) || !self.have_batch_room(limits) {
            return TaskOutcome::Full;
        }
        let ended_ms = if saved.ended_ms > 0 { saved.ended_ms } else { now.max(1) };
        self.add_batch(&SavedBatch { ended_ms, ..saved.clone() });
        if let Some(batch) = self.held.batches.get(&id.seq) {
            noted::batch(&mut self.rolling, &batch.saved());
        }
        self.held.last_seq = self.held.last_seq.max(id.seq);
        TaskOutcome::Changed { count: 1 }
    }

    /// A task of a batch has come to where it is: the batch may be over by that, or be so no more.
    pub(super) fn settle_batch(&mut self, seq: u64, now: u64) {
        let Some(batch) = self.held.batches.get_mut(&seq) else { return };
        match (batch.unfinished == 0, batch.ended_ms > 0) {
            (true, false) => {
                // A time of 0 would be none.
                batch.ended_ms = now.max(1);
                self.timers.insert(batch.timer());
                self.over.insert((batch.ended_ms, seq));
            }
            (false, true) => {
                self.timers.remove(&batch.timer());
                self.over.remove(&(batch.ended_ms, seq));
                batch.ended_ms = 0;
            }
            _ => return,
        }
        noted::batch(&mut self.rolling, &batch.saved());
    }

    /// Forgets a batch that is over, with its tasks; answers how many these were.
    pub(super) fn forget_batch(&mut self, seq: u64) -> u32 {
        let Some(batch) = self.held.batches.get(&seq) else { return 0 };
        self.timers.remove(&batch.timer());
        self.over.remove(&(batch.ended_ms, seq));
        let of = self.members.range((seq, 0, 0)..=(seq, u32::MAX, u64::MAX));
        let slots: Vec<u32> = of.filter_map(|(.., task)| self.by_seq.get(*task)).collect();
        let count = slots.len() as u32;
        slots.into_iter().for_each(|slot| self.forget(slot));
        self.held.batches.remove(&seq);
        self.room = self.room.less(Room::both(BATCH_BYTES));
        noted::no_batch(&mut self.rolling, seq);
        self.held.changes += 1;
        count
    }

    /// Forgets what has ended first: a task by itself, or a batch. Answers whether there was one.
    pub(super) fn forget_oldest(&mut self) -> bool {
        let head = self.held.finished.head;
        let single = self.held.table.get(head).map(Task::since_ms);
        match (single, self.over.first().copied()) {
            (None, None) => return false,
            (Some(since_ms), Some((ended_ms, batch))) if ended_ms < since_ms => {
                self.forget_batch(batch);
            }
            (None, Some((_, batch))) => {
                self.forget_batch(batch);
            }
            (Some(_), _) => self.forget(head),
        }
        true
    }

    /// What is looked up of batches.
    pub(super) fn index_batches(&mut self) {
        for (seq, batch) in &self.held.batches {
            if batch.ended_ms > 0 {
                self.timers.insert(batch.timer());
                self.over.insert((batch.ended_ms, *seq));
            }
        }
        self.room = self.room.plus(Room::both(BATCH_BYTES * self.held.batches.len()));
    }

    /// The batch of an id; what stands in its way where there is none.
    pub fn batch(&self, id: TaskId) -> Result<&Batch, TaskOutcome> {
        match self.held.batches.get(&id.seq) {
            Some(batch) if batch.id == id => Ok(batch),
            None if (1..=self.held.last_seq).contains(&id.seq) => Err(TaskOutcome::Gone),
            _ => Err(TaskOutcome::Unknown),
        }
    }

    /// The tasks of a batch, by their places and their numbers.
    pub fn members(&self, batch: &Batch) -> impl Iterator<Item = (u32, &Task)> {
        let seq = batch.id.seq;
        let of = self.members.range((seq, 0, 0)..=(seq, u32::MAX, u64::MAX));
        of.filter_map(|(_, place, task)| Some((*place, self.held.table.get(self.by_seq.get(*task)?)?)))
    }

    /// Batches that are known.
    pub fn batches(&self) -> usize {
        self.held.batches.len()
    }

    /// Those of them that are not over: none of these goes for another one.
    pub fn open_batches(&self) -> usize {
        self.held.batches.len() - self.over.len()
    }
}
