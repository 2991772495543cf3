//! How tasks come, and queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::packed::Marks;
use super::queue::Queue;
use super::room::{MEMORY_BEYOND, wanted};
use super::table::Edge;
use super::{Body, Ended, FENCE_MAX, Rest, Room, Task, Tasks, noted};
use crate::level::Limits;
use crate::task::{
    Member, NewTask, PUT_TASKS_MAX, QueueSettings, SEQ_MAX, SavedTask, TaskId, TaskOutcome, TaskState, When,
    is_queue,
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
        if let Err(refused) = self.admit(tasks.iter(), Room::default(), For::Puts, limits) {
            return refused;
        }
        for (number, task) in (0..).zip(tasks) {
            self.put_one(TaskId::nth(first, nonce, number), task, None, now);
        }
        let count = tasks.len() as u32;
        self.remember_put(nonce, first, count, limits);
        TaskOutcome::Put { first, count, nonce }
    }

    /// Sees to it that there is room for all of these, and so many bytes beside; or says what there is none of.
    pub(super) fn admit<'a>(
        &mut self,
        tasks: impl Iterator<Item = &'a NewTask> + Clone,
        beside: Room,
        of: For,
        limits: &Limits,
    ) -> Result<(), TaskOutcome> {
        let mut counts = BTreeMap::<&str, u32>::new();
        tasks.clone().for_each(|task| *counts.entry(&task.queue).or_default() += 1);
        for (name, count) in &counts {
            let queue =
                self.by_queue.get(*name).and_then(|number| self.held.queues.get(usize::from(*number)));
            // An end takes a task out of the queue: one that is full would lock itself.
            if let Some(queue) = queue
                && of == For::Puts
                && queue.unfinished().saturating_add(*count) > queue.settings.length_max
            {
                return Err(TaskOutcome::QueueFull { queue: (*name).to_owned() });
            }
        }
        let names: Vec<&str> = counts.into_keys().collect();
        if !self.have_queues(&names, limits) {
            return Err(TaskOutcome::Full);
        }
        let lane = |task: &'a NewTask| Some((*self.by_queue.get(&*task.queue)?, task.key.as_deref()?));
        let has_lanes = self.have_lanes(tasks.clone().filter_map(lane), of, limits);
        let all = tasks.map(wanted).fold(beside.plus(of.kept_free(limits)), Room::plus);
        match has_lanes && self.make_room(all, limits) {
            true => Ok(()),
            false => Err(TaskOutcome::Full),
        }
    }

    /// Those of the tasks that will be put: what has the unique key of an unfinished one, or of one before it, is not.
    pub(super) fn new_of<'a>(&self, tasks: &'a [NewTask]) -> Vec<&'a NewTask> {
        let (mut keys, mut new) = (BTreeSet::new(), Vec::new());
        for task in tasks.iter().filter(|task| self.meets(task).is_none()) {
            if task.unique.as_ref().is_none_or(|unique| keys.insert((&task.queue, unique))) {
                new.push(task);
            }
        }
        new
    }

    /// The unfinished task that has its unique key.
    pub(super) fn meets(&self, task: &NewTask) -> Option<TaskId> {
        let key = (*self.by_queue.get(&*task.queue)?, task.unique.clone()?);
        let slot = self.by_seq.get(*self.by_unique.get(&key)?)?;
        self.held.table.get(slot).map(|task| task.id)
    }

    /// Puts a task for which there is room.
    pub(super) fn put_one(&mut self, id: TaskId, new: &NewTask, member: Option<Member>, now: u64) {
        let Some(queue) = self.by_queue.get(&*new.queue).copied() else { return };
        let at = match new.when {
            When::After { delay_ms: 0 } => 0,
            When::After { delay_ms } => now.saturating_add(delay_ms),
            When::At { time_ms } if time_ms <= now => 0,
            When::At { time_ms } => time_ms,
        };
        let state = if at == 0 { TaskState::Ready } else { TaskState::Due };
        let slot = self.insert(id, queue, new, state, at, now);
        self.enlist(slot, member);
        if let Some(of) = self.held.queues.get_mut(usize::from(queue)) {
            of.counts.put += 1;
            noted::counts(&mut self.rolling, queue, of.counts);
        }
        self.held.last_seq = self.held.last_seq.max(id.seq);
        self.place(slot, Edge::Tail, now);
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
        let (kind, unique, key) = (new.kind.clone(), new.unique.clone(), new.key.clone());
        let body = Body { kind, unique, key, policy: new.policy };
        let body = self.bodies.hold(Arc::new(body));
        let rest = Rest { timer_ms, ..Rest::none() };
        let task = Task {
            id,
            queue,
            priority: new.priority,
            state,
            marks: Marks::new(Ended::Not, false),
            tries: 0,
            lost: 0,
            counted: 0,
            put: now.into(),
            since: now.into(),
            body,
            payload: self.keep(&new.payload),
            rest: rest.into(),
        };
        self.room = self.room.plus(task.charge());
        noted::body(&mut self.rolling, &task, &new.payload);
        let slot = self.held.table.insert(task);
        self.by_seq.insert(id.seq, slot);
        if let Some(unique) = &new.unique
            && state.is_unfinished()
        {
            self.by_unique.insert((queue, unique.clone()), id.seq);
        }
        slot
    }

    /// Makes a task one of a batch.
    fn enlist(&mut self, slot: u32, member: Option<Member>) {
        if let Some(task) = self.held.table.get_mut(slot)
            && let Some(Member { batch, place }) = member
        {
            task.member = member;
            noted::member(&mut self.rolling, task.id.seq, Member { batch, place });
            self.members.insert((batch, place, task.id.seq));
        }
    }

    pub(super) fn remember_put(&mut self, nonce: u64, first: u64, count: u32, limits: &Limits) {
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

    pub(super) fn set_queue(
        &mut self,
        name: &str,
        settings: QueueSettings,
        now: u64,
        limits: &Limits,
    ) -> TaskOutcome {
        if !is_queue(name) || !settings.is_bounded() {
            return TaskOutcome::Invalid;
        }
        if !self.have_queues(&[name], limits) {
            return TaskOutcome::Full;
        }
        let Some(number) = self.by_queue.get(name).copied() else { return TaskOutcome::Full };
        if let Some(queue) = self.held.queues.get_mut(usize::from(number)) {
            let is_new = queue.settings != settings;
            let of_lanes = |settings: &QueueSettings| (settings.per_key, settings.key_pause_ms);
            if of_lanes(&queue.settings) == of_lanes(&settings) {
                queue.settings = settings;
            } else if !self.set_lanes(number, settings, now, limits) {
                return TaskOutcome::Full;
            }
            if is_new {
                noted::settings(&mut self.rolling, number, settings);
            }
        }
        self.held.changes += 1;
        TaskOutcome::Changed { count: 1 }
    }

    /// A task of a snapshot, as it was.
    pub(super) fn restore(&mut self, saved: &SavedTask, limits: &Limits) -> TaskOutcome {
        let SavedTask { id, task, state, tries, lost, fence, put_ms, since_ms, timer_ms, outcome, member } =
            saved;
        let waits = match state {
            TaskState::Done | TaskState::Cancelled => member.is_none(),
            state => *state == TaskState::Due,
        };
        let fits = task.is_bounded()
            && *state != TaskState::Active
            && waits == (*timer_ms != 0)
            && (1..SEQ_MAX).contains(&id.seq)
            && *fence <= FENCE_MAX
            && outcome.len() <= crate::task::PAYLOAD_BYTES_MAX
            && !self.by_seq.contains(id.seq)
            && !self.held.batches.contains_key(&id.seq)
            && (!state.is_unfinished() || self.meets(task).is_none());
        if !fits {
            return TaskOutcome::Invalid;
        }
        if !self.have_queues(&[&task.queue], limits) {
            return TaskOutcome::Full;
        }
        let Some(queue) = self.by_queue.get(&*task.queue).copied() else { return TaskOutcome::Full };
        // What had room where it comes from has it here: claims may have brought that beyond the bound.
        let room = wanted(task).plus(Room::claimed()).plus(Room::members(1)).plus(Room::filed(outcome.len()));
        let lane = task.key.as_deref().filter(|_| state.is_unfinished()).map(|key| (queue, key));
        if !self.have_lanes(lane.into_iter(), For::Ends, limits)
            || !self.make_room(
                room,
                &Limits { task_memory_max: limits.task_memory_max * MEMORY_BEYOND, ..*limits },
            )
        {
            return TaskOutcome::Full;
        }
        // Workers may have ended what came of a batch, and its time have come meanwhile: what is still to be done is
        // done by itself.
        let member = member.filter(|member| self.held.batches.contains_key(&member.batch));
        if saved.member.is_some() && member.is_none() && !state.is_unfinished() {
            return TaskOutcome::Changed { count: 0 };
        }
        let slot = self.insert(*id, queue, task, *state, *timer_ms, *put_ms);
        self.enlist(slot, member);
        if let Some(task) = self.held.table.get_mut(slot) {
            (task.tries, task.lost, task.since) = (*tries, *lost, (*since_ms).into());
            if *fence > 0 {
                task.fence = *fence;
            }
        }
        self.set_outcome(slot, outcome);
        self.held.last_seq = self.held.last_seq.max(id.seq);
        self.held.fence = self.held.fence.max(*fence);
        // What may be claimed at once could be so then.
        self.place(slot, Edge::Tail, *since_ms);
        TaskOutcome::Changed { count: 1 }
    }
}

/// For what room is asked: what ends tasks has some that puts do not get, so that nobody who puts keeps others from
/// ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Puts,
    /// The result of a task of a batch, which is known as long as that is.
    Results,
    Ends,
}

impl For {
    /// Bytes of the room for tasks that stay free.
    pub(super) fn kept_free(self, limits: &Limits) -> Room {
        let (bytes, memory) = (limits.task_bytes_max, limits.task_memory_max);
        match self {
            For::Puts => Room { bytes: bytes / 8, memory: memory / 8 },
            For::Results => Room { bytes: bytes / 4, memory: 0 },
            For::Ends => Room::default(),
        }
    }

    /// Lanes that there may be.
    pub(super) fn lanes_max(self, limits: &Limits) -> usize {
        match self {
            For::Puts => limits.task_lanes_max - limits.task_lanes_max / 16,
            For::Results | For::Ends => limits.task_lanes_max,
        }
    }
}
