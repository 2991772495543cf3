//! How tasks come, and queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::queue::Queue;
use super::table::Edge;
use super::{Body, Ended, FENCE_MAX, TASK_OVERHEAD_BYTES, Task, Tasks, noted, unique_bytes};
use crate::level::Limits;
use crate::task::{
    NewTask, PUT_TASKS_MAX, QueueSettings, SEQ_MAX, SavedTask, TaskId, TaskOutcome, TaskState, When, is_queue,
};

impl Tasks {
    /// All of the tasks, or none.
    pub(super) fn put(&mut self, nonce: u64, tasks: &[NewTask], now: u64, limits: &Limits) -> TaskOutcome {
        if let Some((first, count)) = self.puts.get(&nonce) {
            return TaskOutcome::Put { first: *first, count: *count, nonce };
        }
        let first = self.held.last_seq + 1;
        let fits = first.checked_add(tasks.len() as u64).is_some_and(|end| end <= SEQ_MAX);
        // Of several the answer is their numbers alone, and says of none that it met another.
        let is_plain = tasks.len() == 1 || tasks.iter().all(|task| task.unique.is_none());
        let bounded = (1..=PUT_TASKS_MAX).contains(&tasks.len()) && tasks.iter().all(NewTask::is_bounded);
        if !bounded || !is_plain || !fits {
            return TaskOutcome::Invalid;
        }
        if let [task] = tasks
            && let Some(id) = self.meets(task)
        {
            return TaskOutcome::Met { id };
        }
        let mut wanted = BTreeMap::<&str, u32>::new();
        tasks.iter().for_each(|task| *wanted.entry(&task.queue).or_default() += 1);
        for (name, count) in &wanted {
            let queue =
                self.by_queue.get(*name).and_then(|number| self.held.queues.get(usize::from(*number)));
            if let Some(queue) = queue
                && queue.unfinished().saturating_add(*count) > queue.settings.length_max
            {
                return TaskOutcome::QueueFull { queue: (*name).to_owned() };
            }
        }
        let names: Vec<&str> = wanted.into_keys().collect();
        let bytes = tasks.iter().map(charge).sum();
        if !self.have_queues(&names, limits) || !self.make_room(bytes, limits) {
            return TaskOutcome::Full;
        }
        let queues: Option<Vec<u16>> =
            tasks.iter().map(|task| self.by_queue.get(&*task.queue).copied()).collect();
        let Some(queues) = queues else { return TaskOutcome::Full };
        for ((number, task), queue) in (0..).zip(tasks).zip(queues) {
            self.put_one(TaskId::nth(first, nonce, number), queue, task, now);
        }
        let count = tasks.len() as u32;
        self.remember_put(nonce, first, count, limits);
        TaskOutcome::Put { first, count, nonce }
    }

    fn meets(&self, task: &NewTask) -> Option<TaskId> {
        let key = (*self.by_queue.get(&*task.queue)?, task.unique.clone()?);
        let slot = self.by_seq.get(self.by_unique.get(&key)?)?;
        self.held.table.get(*slot).map(|task| task.id)
    }

    fn put_one(&mut self, id: TaskId, queue: u16, new: &NewTask, now: u64) {
        let at = match new.when {
            When::After { delay_ms: 0 } => 0,
            When::After { delay_ms } => now.saturating_add(delay_ms),
            When::At { time_ms } if time_ms <= now => 0,
            When::At { time_ms } => time_ms,
        };
        let state = if at == 0 { TaskState::Ready } else { TaskState::Due };
        let slot = self.insert(id, queue, new, state, at, now);
        if let Some(of) = self.held.queues.get_mut(usize::from(queue)) {
            of.counts.put += 1;
            noted::counts(&mut self.rolling, queue, of.counts);
        }
        self.held.last_seq = self.held.last_seq.max(id.seq);
        self.attach(slot, Edge::Tail);
    }

    /// A task in a slot, and in no list yet.
    fn insert(
        &mut self,
        id: TaskId,
        queue: u16,
        new: &NewTask,
        state: TaskState,
        timer_ms: u64,
        now: u64,
    ) -> u32 {
        let body = Body {
            kind: new.kind.clone(),
            // A copy: it must not keep a whole log entry's memory alive.
            payload: Bytes::copy_from_slice(&new.payload),
            unique: new.unique.clone(),
            policy: new.policy,
        };
        let task = Task {
            id,
            queue,
            priority: new.priority,
            state,
            ended: Ended::Not,
            tries: 0,
            lost: 0,
            fence: 0,
            put_ms: now,
            since_ms: now,
            timer_ms,
            worker: None,
            body: Arc::new(body),
            outcome: Bytes::new(),
            progress: Bytes::new(),
        };
        self.bytes += task.charge();
        noted::body(&mut self.rolling, &task);
        let slot = self.held.table.insert(task);
        self.by_seq.insert(id.seq, slot);
        if let Some(unique) = &new.unique
            && state.is_unfinished()
        {
            self.by_unique.insert((queue, unique.clone()), id.seq);
        }
        slot
    }

    fn remember_put(&mut self, nonce: u64, first: u64, count: u32, limits: &Limits) {
        noted::put(&mut self.rolling, nonce, first, count);
        self.held.recent.push_back((nonce, first, count));
        self.puts.insert(nonce, (first, count));
        while self.held.recent.len() > limits.task_puts_max {
            if let Some((oldest, ..)) = self.held.recent.pop_front() {
                self.puts.remove(&oldest);
            }
        }
    }

    /// Makes those of the queues that are not there; where there are too many, in the places of idle ones that are
    /// not among them.
    fn have_queues(&mut self, names: &[&str], limits: &Limits) -> bool {
        let new: Vec<&str> =
            names.iter().copied().filter(|name| !self.by_queue.contains_key(*name)).collect();
        if new.is_empty() {
            return true;
        }
        let numbered = self.held.queues.iter().enumerate();
        let may_go = |queue: &Queue| queue.is_idle() && !names.contains(&&*queue.name);
        let idle: Vec<usize> =
            numbered.filter(|(_, queue)| may_go(queue)).map(|(number, _)| number).take(new.len()).collect();
        let free = limits.task_queues_max.saturating_sub(self.held.queues.len());
        if new.len() > free + idle.len() {
            return false;
        }
        let mut idle = idle.into_iter();
        for name in new {
            let queue = Queue::new(name);
            let number = match self.held.queues.len() < limits.task_queues_max {
                true => {
                    self.held.queues.push(queue);
                    self.held.queues.len() - 1
                }
                false => {
                    let Some(number) = idle.next() else { return false };
                    let former = std::mem::replace(&mut self.held.queues[number], queue);
                    self.by_queue.remove(&former.name);
                    number
                }
            };
            noted::queue(&mut self.rolling, number as u16, name);
            self.by_queue.insert(self.held.queues[number].name.clone(), number as u16);
        }
        self.held.changes += 1;
        true
    }

    pub(super) fn set_queue(&mut self, name: &str, settings: QueueSettings, limits: &Limits) -> TaskOutcome {
        if !is_queue(name) {
            return TaskOutcome::Invalid;
        }
        if !self.have_queues(&[name], limits) {
            return TaskOutcome::Full;
        }
        if let Some(number) = self.by_queue.get(name).copied()
            && let Some(queue) = self.held.queues.get_mut(usize::from(number))
        {
            if queue.settings != settings {
                noted::settings(&mut self.rolling, number, settings);
            }
            queue.settings = settings;
        }
        self.held.changes += 1;
        TaskOutcome::Changed { count: 1 }
    }

    /// A task of a snapshot, as it was.
    pub(super) fn restore(&mut self, saved: &SavedTask, limits: &Limits) -> TaskOutcome {
        let SavedTask { id, task, state, tries, lost, fence, put_ms, since_ms, timer_ms, outcome } = saved;
        let waits = matches!(state, TaskState::Due | TaskState::Done | TaskState::Cancelled);
        let fits = task.is_bounded()
            && *state != TaskState::Active
            && waits == (*timer_ms != 0)
            && (1..SEQ_MAX).contains(&id.seq)
            && *fence <= FENCE_MAX
            && outcome.len() <= crate::task::PAYLOAD_BYTES_MAX
            && !self.by_seq.contains_key(&id.seq)
            && (!state.is_unfinished() || self.meets(task).is_none());
        if !fits {
            return TaskOutcome::Invalid;
        }
        let has_room =
            self.have_queues(&[&task.queue], limits) && self.make_room(charge(task) + outcome.len(), limits);
        let Some(queue) = self.by_queue.get(&*task.queue).copied().filter(|_| has_room) else {
            return TaskOutcome::Full;
        };
        let slot = self.insert(*id, queue, task, *state, *timer_ms, *put_ms);
        if let Some(task) = self.held.table.get_mut(slot) {
            (task.tries, task.lost, task.fence, task.since_ms) = (*tries, *lost, *fence, *since_ms);
        }
        self.set_outcome(slot, outcome);
        self.held.last_seq = self.held.last_seq.max(id.seq);
        self.held.fence = self.held.fence.max(*fence);
        self.attach(slot, Edge::Tail);
        TaskOutcome::Changed { count: 1 }
    }
}

/// What a task takes of the room that there is, as it comes.
fn charge(task: &NewTask) -> usize {
    TASK_OVERHEAD_BYTES + task.kind.len() + task.payload.len() + unique_bytes(task.unique.as_ref())
}
