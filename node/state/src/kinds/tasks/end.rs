//! How tasks end, come back, and go on with time.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::put::For;
use super::table::{Edge, NONE};
use super::{Ended, Room, Tasks, Timed, noted};
use crate::level::Limits;
use crate::task::{
    DURATION_MS_MAX, ERROR_BYTES_MAX, EXPIRE_LEASES_MAX, End, FOLLOW_TASKS_MAX, Lease, NewTask,
    PAYLOAD_BYTES_MAX, PROGRESS_BYTES_MAX, SEQ_MAX, TaskId, TaskOutcome, TaskState,
};

/// Longest time before a retry.
const BACKOFF_MS_MAX: u64 = 3600 * 1000;
/// What is said of a task of a batch that was done, where its result had no room.
const NO_ROOM: &str = "no-room";
/// Workers that are lost with a task before it is taken for what ended them.
pub(super) const LOST_MAX: u8 = 3;

impl End {
    fn ended(&self) -> Ended {
        match self {
            End::Done { .. } => Ended::Done,
            End::Failed { .. } => Ended::Failed,
            End::Release => Ended::Released,
            End::Snooze { .. } => Ended::Snoozed,
        }
    }

    fn is_bounded(&self) -> bool {
        match self {
            End::Done { result } => result.len() <= PAYLOAD_BYTES_MAX,
            End::Failed { error, .. } => error.len() <= ERROR_BYTES_MAX,
            End::Release => true,
            End::Snooze { delay_ms } => *delay_ms <= DURATION_MS_MAX,
        }
    }
}

impl Tasks {
    /// Ends the claim of a fence, once.
    pub(super) fn end(
        &mut self,
        id: TaskId,
        fence: u64,
        end: &End,
        now: u64,
        limits: &Limits,
    ) -> TaskOutcome {
        if !end.is_bounded() {
            return TaskOutcome::Invalid;
        }
        let slot = match self.held_by(id, fence) {
            Ok(slot) => slot,
            Err(outcome) => {
                return match self.find(id) {
                    Ok(task) if task.fence == fence && task.ended() == end.ended() => {
                        TaskOutcome::Again { state: task.state }
                    }
                    _ => outcome,
                };
            }
        };
        let member = self.held.table.get(slot).and_then(|task| task.member);
        self.mark(slot, end.ended());
        if let (Some(_), End::Done { result }) = (member, end)
            && !self.make_room(Room::filed(result.len()).plus(For::Results.kept_free(limits)), limits)
        {
            // It stays, and so does the payload, as long as the batch: where all have such results, there must be room
            // for others' tasks, and the batch must come to its end.
            self.fail(slot, NO_ROOM, true, now, limits);
            return TaskOutcome::Ended { state: TaskState::Dead };
        }
        match end {
            End::Done { result } => {
                let payload = self.held.table.get(slot).map_or(0, |task| task.payload.len());
                // What is finished already goes for it; where there is nothing, it has the payload's room, and
                // a little more.
                self.make_room(Room::filed(result.len().saturating_sub(payload)), limits);
                self.set_outcome(slot, result);
                self.count(slot, |counts| counts.done += 1);
                self.finish(slot, TaskState::Done, now);
            }
            End::Failed { error, is_final } => self.fail(slot, error, *is_final, now, limits),
            End::Release => self.shift(slot, TaskState::Ready, Edge::Head, 0, now),
            End::Snooze { delay_ms } => self.wait(slot, *delay_ms, now),
        }
        TaskOutcome::Ended { state: self.held.table.get(slot).map_or(TaskState::Done, |task| task.state) }
    }

    /// Ends a task that is done, and puts those that follow it: all of it is judged before anything is done.
    pub(super) fn end_with(
        &mut self,
        Lease { id, fence }: Lease,
        result: &Bytes,
        (nonce, follow): (u64, &[NewTask]),
        now: u64,
        limits: &Limits,
    ) -> TaskOutcome {
        let end = End::Done { result: result.clone() };
        let first = self.held.last_seq + 1;
        let bounded = end.is_bounded()
            && follow.len() <= FOLLOW_TASKS_MAX
            && follow.iter().all(NewTask::is_bounded)
            && first + follow.len() as u64 <= SEQ_MAX;
        if !bounded {
            return TaskOutcome::Invalid;
        }
        if let Ok(slot) = self.held_by(id, fence) {
            let member = self.held.table.get(slot).and_then(|task| task.member);
            if member.is_some()
                && !self.make_room(Room::filed(result.len()).plus(For::Results.kept_free(limits)), limits)
            {
                return self.end(id, fence, &end, now, limits);
            }
            let new = self.new_of(follow);
            let members = if member.is_some() { new.len() } else { 0 };
            let beside = Room::filed(result.len()).plus(Room::members(members));
            if let Err(refused) = self.admit(new.iter().copied(), beside, For::Ends, limits) {
                return refused;
            }
            let mut number = 0;
            for task in follow {
                // It may meet one that is put with it.
                if self.meets(task).is_none() {
                    self.put_one(TaskId::nth(first, nonce, number), task, member, now);
                    number += 1;
                }
            }
        }
        self.end(id, fence, &end, now, limits)
    }

    /// The slot of a task that is active under this fence.
    fn held_by(&self, id: TaskId, fence: u64) -> Result<u32, TaskOutcome> {
        let slot = self.slot_of(id)?;
        let task = self.held.table.get(slot).ok_or(TaskOutcome::Unknown)?;
        match task.state {
            TaskState::Active if task.fence == fence => Ok(slot),
            state if state.is_unfinished() => Err(TaskOutcome::LeaseLost),
            state => Err(TaskOutcome::Finished { state }),
        }
    }

    fn mark(&mut self, slot: u32, ended: Ended) {
        if let Some(task) = self.held.table.get_mut(slot) {
            task.set_ended(ended);
        }
    }

    fn count(&mut self, slot: u32, count: impl FnOnce(&mut super::Counts)) {
        if let Some(task) = self.held.table.get(slot)
            && let Some(queue) = self.held.queues.get_mut(usize::from(task.queue))
        {
            count(&mut queue.counts);
            noted::counts(&mut self.rolling, task.queue, queue.counts);
        }
    }

    /// A task that may be claimed again after a while.
    fn wait(&mut self, slot: u32, delay_ms: u64, now: u64) {
        match delay_ms {
            0 => self.shift(slot, TaskState::Ready, Edge::Tail, 0, now),
            delay_ms => self.shift(slot, TaskState::Due, Edge::Tail, now.saturating_add(delay_ms), now),
        }
    }

    /// A try failed: there is another one, or it was the last.
    fn fail(&mut self, slot: u32, error: &str, is_final: bool, now: u64, limits: &Limits) {
        // The error of a task that is still to be done takes no room of others.
        let has_room = self.room.has(Room::filed(error.len()), limits);
        self.set_outcome(slot, if has_room { error.as_bytes() } else { &[] });
        self.count(slot, |counts| counts.failed += 1);
        let Some(task) = self.held.table.get_mut(slot) else { return };
        task.tries = task.tries.saturating_add(1);
        let (tries, policy) = (task.tries, task.body.policy);
        if is_final || tries > policy.retries {
            return self.bury(slot, now, limits);
        }
        let doublings = u32::from(tries - 1).min(32);
        let backoff_ms = policy.backoff_ms.saturating_mul(1 << doublings);
        // One that is longer from the start stays as it is.
        self.wait(slot, backoff_ms.min(BACKOFF_MS_MAX.max(policy.backoff_ms)), now);
    }

    /// A task that is tried no more, until somebody looks at it.
    fn bury(&mut self, slot: u32, now: u64, limits: &Limits) {
        self.free_unique(slot);
        self.count(slot, |counts| counts.dead += 1);
        self.shift(slot, TaskState::Dead, Edge::Tail, 0, now);
        let task = self.held.table.get(slot).filter(|task| task.member.is_none());
        let queue = task.and_then(|task| self.held.queues.get(usize::from(task.queue)));
        let Some(dead) = queue.map(|queue| queue.dead) else { return };
        if dead.len > limits.task_dead_max && dead.head != NONE {
            self.count(dead.head, |counts| counts.dropped += 1);
            self.forget(dead.head);
        }
    }

    /// The workers of these leases are lost: their tasks go first again. A task that more than one worker was
    /// lost with may be what ends them.
    pub(super) fn expire(&mut self, leases: &[Lease], now: u64, limits: &Limits) -> TaskOutcome {
        if leases.len() > EXPIRE_LEASES_MAX {
            return TaskOutcome::Invalid;
        }
        let mut count = 0;
        let current = leases.iter().filter(|lease| self.is_current(lease));
        let workers: BTreeSet<Arc<str>> =
            current.filter_map(|lease| self.find(lease.id).ok()?.worker.clone()).collect();
        // Of a worker that is lost with a suspect, that one alone is counted; also where not all that it had is
        // given up in one operation.
        let fell: BTreeSet<Arc<str>> =
            workers.into_iter().filter(|name| self.falls_with_suspect(name)).collect();
        for lease in leases.iter().rev() {
            let Ok(slot) = self.held_by(lease.id, lease.fence) else { continue };
            count += 1;
            self.mark(slot, Ended::Otherwise);
            let Some(task) = self.held.table.get_mut(slot) else { continue };
            let is_counted = task.lost > 0 || task.worker.as_ref().is_none_or(|name| !fell.contains(name));
            task.lost = task.lost.saturating_add(u8::from(is_counted));
            let lost = task.lost;
            self.count(slot, |counts| counts.lost += 1);
            if lost >= LOST_MAX {
                // That is its error: no other one takes room.
                self.set_outcome(slot, &[]);
                self.bury(slot, now, limits);
            } else {
                self.shift(slot, TaskState::Ready, Edge::Head, 0, now);
            }
        }
        TaskOutcome::Changed { count }
    }

    /// Whether a worker that is lost has a suspect, or had one when the first of its leases was over; notes it.
    fn falls_with_suspect(&mut self, name: &str) -> bool {
        let Some(worker) = self.held.workers.get(name) else { return false };
        let falls =
            worker.fell || worker.kept.iter().chain(&worker.given).any(|lease| self.is_suspect(lease));
        if falls
            && !worker.fell
            && let Some(worker) = self.held.workers.get_mut(name)
        {
            Arc::make_mut(worker).fell = true;
            noted::worker(&mut self.rolling, name, worker);
        }
        falls
    }

    /// Does what has become due, the earliest first.
    pub(super) fn advance(&mut self, max: u32, now: u64, limits: &Limits) -> TaskOutcome {
        let mut count = 0;
        while count < max.min(super::DUE_MAX)
            && let Some((time_ms, _)) = self.timers.first()
            && *time_ms <= now
            && let Some((_, timed)) = self.timers.pop_first()
        {
            count += 1;
            let slot = match timed {
                Timed::Lane(queue, key) => {
                    self.wake_lane(queue, &key, now);
                    continue;
                }
                Timed::Batch(seq) => {
                    // Each of its tasks is one, so that those of many batches do not all go at once.
                    count = count.saturating_add(self.forget_batch(seq));
                    continue;
                }
                Timed::Task(_, slot) => slot,
            };
            match self.held.table.get(slot).map(|task| task.state) {
                Some(TaskState::Active) => {
                    self.mark(slot, Ended::Otherwise);
                    self.fail(slot, "timeout", false, now, limits);
                }
                Some(TaskState::Done | TaskState::Cancelled) => self.forget(slot),
                Some(_) => self.shift(slot, TaskState::Ready, Edge::Tail, 0, now),
                None => {}
            }
        }
        TaskOutcome::Changed { count }
    }

    /// Takes a task out, whoever has it.
    pub(super) fn cancel(&mut self, id: TaskId, now: u64) -> TaskOutcome {
        let slot = match self.slot_of(id) {
            Ok(slot) => slot,
            Err(outcome) => return outcome,
        };
        match self.held.table.get(slot).map(|task| task.state) {
            Some(TaskState::Cancelled) => return TaskOutcome::Again { state: TaskState::Cancelled },
            Some(TaskState::Done) | None => return TaskOutcome::Finished { state: TaskState::Done },
            Some(_) => {}
        }
        self.mark(slot, Ended::Otherwise);
        self.count(slot, |counts| counts.cancelled += 1);
        self.finish(slot, TaskState::Cancelled, now);
        TaskOutcome::Ended { state: TaskState::Cancelled }
    }

    /// Has a dead task tried again from the start.
    pub(super) fn revive(&mut self, id: TaskId, now: u64, limits: &Limits) -> TaskOutcome {
        let slot = match self.slot_of(id) {
            Ok(slot) => slot,
            Err(outcome) => return outcome,
        };
        let Some(task) = self.held.table.get(slot) else { return TaskOutcome::Unknown };
        if task.state != TaskState::Dead {
            return TaskOutcome::Finished { state: task.state };
        }
        let lane = task.body.key.as_deref().map(|key| (task.queue, key));
        if !self.have_lanes(lane.into_iter(), For::Ends, limits) {
            return TaskOutcome::Full;
        }
        let key = task.body.unique.clone().map(|unique| (task.queue, unique));
        if key.as_ref().is_some_and(|key| self.by_unique.contains_key(key)) {
            return TaskOutcome::Taken;
        }
        if let Some(task) = self.held.table.get_mut(slot) {
            (task.tries, task.lost) = (0, 0);
        }
        if let Some(key) = key {
            self.by_unique.insert(key, id.seq);
        }
        self.shift(slot, TaskState::Ready, Edge::Tail, 0, now);
        TaskOutcome::Ended { state: TaskState::Ready }
    }

    /// Keeps a worker's word on how far it is, where there is room for it.
    pub(super) fn progress(
        &mut self,
        id: TaskId,
        fence: u64,
        progress: &Bytes,
        limits: &Limits,
    ) -> TaskOutcome {
        if progress.len() > PROGRESS_BYTES_MAX {
            return TaskOutcome::Invalid;
        }
        let slot = match self.held_by(id, fence) {
            Ok(slot) => slot,
            Err(outcome) => return outcome,
        };
        if self.taken().has(Room::progress(progress.len()), limits)
            && let Some(task) = self.held.table.get_mut(slot)
        {
            let former = Room::filed(task.progress.len());
            self.room = self.room.less(former).plus(Room::filed(progress.len()));
            task.progress = Bytes::copy_from_slice(progress);
            noted::progress(&mut self.rolling, task);
            self.recount(slot);
            self.held.changes += 1;
        }
        TaskOutcome::Ended { state: TaskState::Active }
    }
}
