//! The operations that make all tasks anew in an empty cluster: with their ids, and those that workers had as
//! ready ones. Workers are not among them, nor what queues have counted.

use super::queue::Queue;
use super::{Task, Tasks};
use crate::task::{NewTask, PRIORITIES, SavedTask, TaskOp, TaskState, When};

impl Tasks {
    pub(super) fn made_again(&self) -> impl Iterator<Item = TaskOp> {
        let (tasks, held) = (self, &self.held);
        let queues = held
            .queues
            .iter()
            .map(|queue| TaskOp::QueueSet { queue: queue.name.to_string(), settings: queue.settings });
        let listed = held.queues.iter().flat_map(move |queue| {
            let waiting = (0..PRIORITIES).rev().flat_map(move |priority| tasks.waiting(queue, priority));
            waiting.chain(held.table.tasks(&queue.dead))
        });
        let timed = self.timers.iter().filter_map(move |(_, _, slot)| held.table.get(*slot));
        let due = timed.filter(|task| task.state == TaskState::Due);
        let finished = held.table.tasks(&held.finished);
        let all = listed.chain(due).chain(finished);
        let saved = all.map(move |task| TaskOp::Restore(Box::new(tasks.saved(task))));
        // First: a task that a client puts meanwhile has a number that is none of theirs.
        let given = (held.last_seq > 0).then_some(TaskOp::Given { seq: held.last_seq, fence: held.fence });
        given.into_iter().chain(queues).chain(saved)
    }

    /// What of a queue is to be claimed, or was: that was before the rest.
    fn waiting<'a>(&'a self, queue: &'a Queue, priority: usize) -> impl Iterator<Item = &'a Task> {
        let table = &self.held.table;
        let lists = [(true, &queue.suspects), (false, &queue.ready)];
        lists.into_iter().flat_map(move |(is_suspect, lists)| {
            let active = table.tasks(&queue.active);
            let active = active
                .filter(move |it| usize::from(it.priority) == priority && it.is_suspect() == is_suspect);
            active.chain(lists.get(priority).into_iter().flat_map(|list| table.tasks(list)))
        })
    }

    fn saved(&self, task: &Task) -> SavedTask {
        let is_active = task.state == TaskState::Active;
        SavedTask {
            id: task.id,
            task: NewTask {
                queue: self.queue_of(task).to_owned(),
                kind: task.body.kind.clone(),
                payload: task.body.payload.clone(),
                priority: task.priority,
                when: When::After { delay_ms: 0 },
                policy: task.body.policy,
                unique: task.body.unique.clone(),
            },
            state: if is_active { TaskState::Ready } else { task.state },
            tries: task.tries,
            lost: task.lost,
            fence: task.fence,
            put_ms: task.put_ms,
            since_ms: task.since_ms,
            timer_ms: if is_active { 0 } else { task.timer_ms },
            outcome: task.outcome.clone(),
        }
    }
}
