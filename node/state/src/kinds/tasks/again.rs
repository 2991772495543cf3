//! The operations that make all tasks anew in an empty cluster: with their ids, and those that workers had as
//! ready ones. Workers are not among them, nor what queues have counted.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::queue::Queue;
use super::{Batch, Task, Tasks, Timed};
use crate::kind::Stopped;
use crate::task::{NewTask, SavedTask, TaskOp, TaskState, When};

impl Tasks {
    pub(super) fn made_again(&self) -> impl Iterator<Item = Result<TaskOp, Stopped>> {
        let (tasks, held) = (self, &self.held);
        let queues = held
            .queues
            .iter()
            .map(|queue| TaskOp::QueueSet { queue: queue.name.to_string(), settings: queue.settings });
        let listed = held
            .queues
            .iter()
            .flat_map(move |queue| tasks.waiting(queue).into_iter().chain(held.table.tasks(&queue.dead)));
        let timed = self.timers.iter().filter_map(move |(_, timed)| match timed {
            Timed::Task(_, slot) => held.table.get(*slot),
            Timed::Lane(..) | Timed::Batch(_) => None,
        });
        let due = timed.filter(|task| task.state == TaskState::Due);
        // Of a batch what is to be done comes before what has ended: it is not over meanwhile.
        let ended = held.batches.values().map(|batch| &batch.ended);
        let finished = [&held.finished].into_iter().chain(ended).flat_map(move |list| held.table.tasks(list));
        let all = listed.chain(due).chain(finished);
        // A batch comes directly before the first of its tasks: between them it is one without any.
        let batch = |batch: &Batch| TaskOp::RestoreBatch(Box::new(batch.saved()));
        let without = held.batches.values().filter(|batch| batch.total() == batch.met).map(batch);
        let mut told = BTreeSet::new();
        let saved = all.flat_map(move |task| {
            let of = task.member.map(|member| member.batch).filter(|of| told.insert(*of));
            let of = of.and_then(|of| held.batches.get(&of)).map(batch);
            let restored = tasks.saved(task).map(|saved| TaskOp::Restore(Box::new(saved)));
            of.into_iter().map(Ok).chain([restored])
        });
        // First: a task that a client puts meanwhile has a number that is none of theirs.
        let given = (held.last_seq > 0).then_some(TaskOp::Given { seq: held.last_seq, fence: held.fence });
        given.into_iter().chain(queues).chain(without).map(Ok).chain(saved)
    }

    /// What of a queue is to be claimed, or was: that was before the rest. Keys come one after the other.
    fn waiting<'a>(&'a self, queue: &'a Queue) -> Vec<&'a Task> {
        let table = &self.held.table;
        let listed = queue.ready.iter().chain(&queue.suspects);
        let aside = queue.lanes.values().flat_map(|lane| lane.waiting.values());
        let lists = [&queue.active].into_iter().chain(listed).chain(aside);
        let mut all: Vec<&Task> = lists.flat_map(|list| table.tasks(list)).collect();
        all.sort_by_key(|task| (queue.lane_of(task), Reverse(task.rank())));
        all
    }

    fn saved(&self, task: &Task) -> Result<SavedTask, Stopped> {
        let is_active = task.state == TaskState::Active;
        Ok(SavedTask {
            id: task.id,
            task: NewTask {
                queue: self.queue_of(task).to_owned(),
                kind: task.body.kind.clone(),
                payload: self.heap.read(&task.payload)?,
                priority: task.priority,
                when: When::After { delay_ms: 0 },
                policy: task.body.policy,
                unique: task.body.unique.clone(),
                key: task.body.key.clone(),
            },
            state: if is_active { TaskState::Ready } else { task.state },
            tries: task.tries,
            lost: task.lost,
            fence: task.fence,
            put_ms: task.put_ms(),
            since_ms: task.since_ms(),
            timer_ms: if is_active { 0 } else { task.timer_ms },
            outcome: self.heap.read(&task.outcome)?,
            member: task.member,
        })
    }
}
