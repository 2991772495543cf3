//! Batches of the plain list: what has come of them is counted anew each time.

use super::*;

#[derive(Debug)]
pub(super) struct PlainBatch {
    id: TaskId,
    posted: u32,
    met: u32,
    keep: u64,
    ended: Option<u64>,
}

impl PlainBatch {
    /// When it goes, where it is over.
    pub fn goes(&self) -> Option<u64> {
        Some(self.ended? + self.keep)
    }
}

impl Model {
    pub(super) fn put_batch(&mut self, nonce: u64, keep: u64, tasks: &[NewTask], now: u64) -> TaskOutcome {
        if let Some((first, count)) = self.puts.get(&nonce) {
            return TaskOutcome::Batch { first: *first, count: *count, nonce };
        }
        let (first, posted) = (self.last_seq + 1, tasks.len() as u32);
        let id = TaskId::nth(first, nonce, 0);
        self.batches.insert(first, PlainBatch { id, posted, met: 0, keep, ended: None });
        self.last_seq = first;
        let mut count = 0;
        for task in tasks {
            if self.meets(task).is_none() {
                count += 1;
                self.add(TaskId::nth(first, nonce, count), task, Some(first), now);
            }
        }
        self.batches.get_mut(&first).unwrap().met = posted - count;
        self.settle(first, now);
        self.puts.insert(nonce, (first, count));
        TaskOutcome::Batch { first, count, nonce }
    }

    /// What follows a task that is held is put where it is.
    pub(super) fn follow(&mut self, lease: Lease, nonce: u64, follow: &[NewTask], now: u64) {
        if !self.is_current(&lease) {
            return;
        }
        let batch = self.tasks[self.at(lease.id).unwrap()].batch;
        let (first, mut number) = (self.last_seq + 1, 0);
        for task in follow {
            if self.meets(task).is_none() {
                self.add(TaskId::nth(first, nonce, number), task, batch, now);
                number += 1;
            }
        }
    }

    pub(super) fn settle(&mut self, batch: u64, now: u64) {
        let mut of = self.tasks.iter().filter(|task| task.batch == Some(batch));
        let is_over = !of.any(|task| task.state.is_unfinished());
        let batch = self.batches.get_mut(&batch).unwrap();
        batch.ended = is_over.then(|| batch.ended.unwrap_or(now));
    }

    pub(super) fn agrees_on_batches(&self, tasks: &Tasks) {
        assert_eq!(tasks.batches(), self.batches.len());
        for (seq, plain) in &self.batches {
            let batch = tasks.batch(plain.id).unwrap();
            let count = |is: fn(TaskState) -> bool| {
                self.tasks.iter().filter(|task| task.batch == Some(*seq) && is(task.state)).count() as u32
            };
            assert_eq!((batch.posted, batch.met), (plain.posted, plain.met));
            assert_eq!(batch.ended_ms, plain.ended.unwrap_or(0));
            assert_eq!(
                [batch.unfinished, batch.done, batch.dead, batch.cancelled],
                [
                    count(TaskState::is_unfinished),
                    count(|state| state == TaskState::Done),
                    count(|state| state == TaskState::Dead),
                    count(|state| state == TaskState::Cancelled),
                ]
            );
            assert_eq!(tasks.members(batch).count() as u32, batch.total() - batch.met);
        }
    }
}
