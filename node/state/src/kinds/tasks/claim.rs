//! How workers get tasks, so that none leaks: what a claim gave and its worker neither ended nor says to hold
//! at its next one goes back.

use std::sync::Arc;

use super::queue::Worker;
use super::table::Edge;
use super::{Ended, Room, Tasks, noted};
use crate::level::Limits;
use crate::task::{
    CLAIM_QUEUES_MAX, CLAIM_TASKS_MAX, HOLDS_MAX, Lease, TaskClaim, TaskOutcome, TaskState, is_queue,
    is_worker,
};

/// So long a worker is known that claims no more and has nothing: one that waits claims every minute.
const WORKER_KEPT_MS: u64 = 3600 * 1000;
/// Bytes of payloads after which a claim takes no further task.
const CLAIM_BYTES_MAX: usize = 1024 * 1024;

impl Tasks {
    /// The first tasks that are ready; the same again for the same number.
    pub(super) fn claim(&mut self, claim: &TaskClaim, now: u64, limits: &Limits) -> TaskOutcome {
        let TaskClaim { queues, worker: name, number, holds, closes, .. } = claim;
        let bounded = is_worker(name)
            && queues.len() <= CLAIM_QUEUES_MAX
            && queues.iter().all(|queue| is_queue(queue))
            && holds.len() <= HOLDS_MAX;
        if !bounded {
            return TaskOutcome::Invalid;
        }
        let known = self.held.workers.get(&**name).cloned();
        if known.is_none() && self.held.workers.len() >= limits.task_workers_max {
            // Of one that waits on nothing is kept, and no other one goes for it.
            if !closes && !self.has_for(name, holds, queues) {
                return TaskOutcome::Claimed { leases: Vec::new() };
            }
            if !self.have_worker_room() {
                return TaskOutcome::Full;
            }
        }
        let known = known.unwrap_or_default();
        // Its tasks share the name.
        let own = self.held.workers.get_key_value(&**name).map(|(own, _)| own.clone());
        let name = own.unwrap_or_else(|| Arc::from(&**name));
        if *number < known.number {
            return TaskOutcome::Stale;
        }
        if *number == known.number {
            let given = known.given.iter().copied();
            let leases: Vec<Lease> = given.filter(|lease| self.is_current(lease)).collect();
            return match leases.is_empty() {
                true => TaskOutcome::Over,
                false => TaskOutcome::Claimed { leases },
            };
        }
        let former: Vec<Lease> = known.kept.iter().chain(&known.given).copied().collect();
        let (kept, unheld): (Vec<Lease>, Vec<Lease>) = former
            .into_iter()
            .filter(|lease| self.is_current(lease))
            .partition(|lease| holds.contains(&lease.fence));
        // In the order in which they were taken: the last goes to the head first.
        for lease in unheld.iter().rev() {
            self.give_back(lease, now);
        }
        let given = self.take(claim, &name, (&kept, now), limits);
        if given.is_empty() && !closes {
            // The worker waits on. What it was given before is told apart no more: it holds it.
            if !known.given.is_empty() || known.kept.len() != kept.len() || known.fell {
                self.set_worker(
                    name,
                    Worker { number: known.number, seen_ms: now, kept, ..Worker::default() },
                );
            }
            return TaskOutcome::Claimed { leases: given };
        }
        let worker = Worker { number: *number, seen_ms: now, kept, given: given.clone(), fell: false };
        self.set_worker(name, worker);
        TaskOutcome::Claimed { leases: given }
    }

    fn take(
        &mut self,
        claim: &TaskClaim,
        name: &Arc<str>,
        (kept, now): (&[Lease], u64),
        limits: &Limits,
    ) -> Vec<Lease> {
        // Two of them with one worker, and it could not be told which of them it was lost with.
        let mut may_have_suspect = !kept.iter().any(|lease| self.is_suspect(lease));
        let max = (claim.max as usize).min(CLAIM_TASKS_MAX).min(HOLDS_MAX.saturating_sub(kept.len()));
        let (mut given, mut bytes) = (Vec::new(), 0);
        for queue in &claim.queues {
            let Some(number) = self.by_queue.get(&**queue).map(|number| usize::from(*number)) else {
                continue;
            };
            while given.len() < max && bytes < CLAIM_BYTES_MAX {
                let Some(queue) = self.held.queues.get_mut(number) else { break };
                let Some(slot) = queue.next(may_have_suspect) else { break };
                self.held.fence += 1;
                let fence = self.held.fence;
                let Some(task) = self.held.table.get_mut(slot) else { break };
                task.set_ended(Ended::Not);
                (task.fence, task.worker) = (fence, Some(name.clone()));
                may_have_suspect &= !task.is_suspect();
                bytes += task.payload.len();
                given.push(Lease { id: task.id, fence });
                let timer_ms = match task.body.policy.timeout_ms {
                    0 => 0,
                    timeout_ms => now.saturating_add(timeout_ms),
                };
                self.shift(slot, TaskState::Active, Edge::Tail, timer_ms, now);
                if self.is_filed {
                    // It takes more from here on: what is finished goes for it, and nobody is kept from claiming.
                    self.make_room(Room::memory(1), limits);
                }
            }
        }
        given
    }

    /// A task that its worker does not have goes first again, and nothing is counted.
    fn give_back(&mut self, lease: &Lease, now: u64) {
        let Ok(slot) = self.slot_of(lease.id) else { return };
        if let Some(task) = self.held.table.get_mut(slot) {
            task.set_ended(Ended::Otherwise);
        }
        self.shift(slot, TaskState::Ready, Edge::Head, 0, now);
    }

    fn set_worker(&mut self, name: Arc<str>, worker: Worker) {
        if !self.held.workers.contains_key(&name) {
            self.forget_workers_before(worker.seen_ms.saturating_sub(WORKER_KEPT_MS));
        }
        noted::worker(&mut self.rolling, &name, &worker);
        self.held.workers.insert(name, Arc::new(worker));
        self.held.changes += 1;
    }

    /// Those that hold nothing.
    fn idle_workers(&self) -> impl Iterator<Item = (&Arc<str>, &Worker)> {
        let all = self.held.workers.iter().map(|(name, worker)| (name, &**worker));
        all.filter(|(_, worker)| !worker.kept.iter().chain(&worker.given).any(|lease| self.is_current(lease)))
    }

    /// Forgets the worker that has not been heard for longest and holds nothing, if there is one.
    fn have_worker_room(&mut self) -> bool {
        let oldest = self.idle_workers().min_by_key(|(_, worker)| worker.seen_ms);
        let Some(name) = oldest.map(|(name, _)| name.clone()) else { return false };
        self.forget_worker(&name);
        true
    }

    /// Forgets those that have not been heard since and hold nothing.
    fn forget_workers_before(&mut self, time_ms: u64) {
        let gone = self.idle_workers().filter(|(_, worker)| worker.seen_ms < time_ms);
        let gone: Vec<Arc<str>> = gone.map(|(name, _)| name.clone()).collect();
        gone.iter().for_each(|name| self.forget_worker(name));
    }

    fn forget_worker(&mut self, name: &str) {
        self.held.workers.remove(name);
        noted::no_worker(&mut self.rolling, name);
    }
}
