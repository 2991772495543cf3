//! The same commands over a plain list of tasks, written from what they promise: slow, and too simple to be wrong.

mod batches;
mod draw;
mod lanes;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::kind::Record;
use crate::laws;
use batches::PlainBatch;

#[derive(Debug, Clone)]
struct Plain {
    id: TaskId,
    queue: &'static str,
    priority: u8,
    state: TaskState,
    /// Its place among those of its state: the lowest is the first.
    place: i64,
    /// It is ready, and waits for others of its key.
    is_aside: bool,
    key: Option<String>,
    tries: u16,
    lost: u8,
    fence: u64,
    timer: u64,
    unique: Option<String>,
    policy: Policy,
    worker: &'static str,
    ended: Option<&'static str>,
    /// The number of the batch that it is of.
    batch: Option<u64>,
}

#[derive(Debug)]
struct Model {
    tasks: Vec<Plain>,
    /// By worker: the last number, what it kept, what it was given.
    workers: BTreeMap<&'static str, (u64, Vec<Lease>, Vec<Lease>)>,
    /// Workers that were lost with a suspect since their last claim.
    fell: BTreeSet<&'static str>,
    streaks: BTreeMap<&'static str, u32>,
    paused: bool,
    /// Of queue `q`: how many of a key may be active, and how long it has rest.
    per_key: u32,
    key_pause: u64,
    /// Of its keys, until when each has rest.
    rests: BTreeMap<String, u64>,
    batches: BTreeMap<u64, PlainBatch>,
    /// By nonce, the first number and how many there are.
    puts: BTreeMap<u64, (u64, u32)>,
    last_seq: u64,
    fence: u64,
    tail: i64,
    head: i64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            tasks: Vec::new(),
            workers: BTreeMap::new(),
            fell: BTreeSet::new(),
            streaks: BTreeMap::new(),
            paused: false,
            per_key: u32::MAX,
            key_pause: 0,
            rests: BTreeMap::new(),
            batches: BTreeMap::new(),
            puts: BTreeMap::new(),
            last_seq: 0,
            fence: 0,
            tail: 0,
            head: 0,
        }
    }
}

const QUEUES: [&str; 2] = ["q", "p"];
const WORKERS: [&str; 3] = ["a", "b", "c"];

impl Model {
    fn at(&self, id: TaskId) -> Result<usize, TaskOutcome> {
        let at = self.tasks.iter().position(|task| task.id == id);
        at.ok_or(match self.tasks.iter().any(|task| task.id.seq == id.seq) || id.seq > self.last_seq {
            true => TaskOutcome::Unknown,
            false => TaskOutcome::Gone,
        })
    }

    fn is_current(&self, lease: &Lease) -> bool {
        let is = |task: &Plain| task.state == TaskState::Active && task.fence == lease.fence;
        self.at(lease.id).is_ok_and(|at| is(&self.tasks[at]))
    }

    fn put(&mut self, nonce: u64, task: &NewTask, now: u64) -> TaskOutcome {
        if let Some((first, count)) = self.puts.get(&nonce) {
            return TaskOutcome::Put { first: *first, count: *count, nonce };
        }
        if let Some(id) = self.meets(task) {
            return TaskOutcome::Met { id };
        }
        let first = self.last_seq + 1;
        self.puts.insert(nonce, (first, 1));
        self.add(TaskId::nth(first, nonce, 0), task, None, now);
        TaskOutcome::Put { first, count: 1, nonce }
    }

    fn meets(&self, task: &NewTask) -> Option<TaskId> {
        let is_same = |other: &&Plain| {
            other.queue == task.queue
                && other.unique == task.unique
                && other.unique.is_some()
                && other.state.is_unfinished()
        };
        self.tasks.iter().find(is_same).map(|task| task.id)
    }

    fn add(&mut self, id: TaskId, task: &NewTask, batch: Option<u64>, now: u64) {
        self.last_seq = id.seq;
        self.tasks.push(Plain {
            id,
            queue: QUEUES.into_iter().find(|name| *name == task.queue).unwrap(),
            priority: task.priority,
            state: TaskState::Ready,
            place: 0,
            is_aside: false,
            key: task.key.clone(),
            tries: 0,
            lost: 0,
            fence: 0,
            timer: 0,
            unique: task.unique.clone(),
            policy: task.policy,
            worker: "",
            ended: None,
            batch,
        });
        let at = self.tasks.len() - 1;
        match task.when {
            When::After { delay_ms: 0 } => self.to(at, TaskState::Ready, false, 0, now),
            When::After { delay_ms } => self.to(at, TaskState::Due, false, now + delay_ms, now),
            When::At { .. } => unreachable!("none is drawn"),
        }
    }

    /// Until when one that ends now is kept.
    fn kept(&self, at: usize, now: u64) -> u64 {
        let task = &self.tasks[at];
        task.batch.map_or(now + task.policy.keep_ms, |_| 0)
    }

    fn next(&mut self, queue: &'static str, suspects: bool) -> Option<usize> {
        if queue == "q" && self.paused {
            return None;
        }
        let mut firsts = Vec::new();
        for priority in (0..10).rev() {
            let mut of: Vec<usize> = (0..self.tasks.len())
                .filter(|at| {
                    let task = &self.tasks[*at];
                    let is_listed = task.state == TaskState::Ready && !task.is_aside;
                    task.queue == queue && task.priority == priority && is_listed
                })
                .collect();
            of.sort_by_key(|at| (self.tasks[*at].lost == 0, self.tasks[*at].place));
            firsts.extend(of.into_iter().find(|at| suspects || self.tasks[*at].lost == 0));
        }
        let streak = self.streaks.entry(queue).or_default();
        match firsts.as_slice() {
            [] => None,
            [only] => {
                *streak = 0;
                Some(*only)
            }
            [_, lower, ..] if *streak >= 64 => {
                *streak = 0;
                Some(*lower)
            }
            [highest, ..] => {
                *streak += 1;
                Some(*highest)
            }
        }
    }

    fn claim(&mut self, claim: &TaskClaim, now: u64) -> TaskOutcome {
        let worker = WORKERS.into_iter().find(|name| *name == claim.worker).unwrap();
        let (number, kept, given) = self.workers.get(worker).cloned().unwrap_or_default();
        if claim.number < number {
            return TaskOutcome::Stale;
        }
        if claim.number == number {
            let leases: Vec<Lease> = given.into_iter().filter(|lease| self.is_current(lease)).collect();
            return if leases.is_empty() { TaskOutcome::Over } else { TaskOutcome::Claimed { leases } };
        }
        self.fell.remove(worker);
        let all: Vec<Lease> =
            kept.iter().chain(&given).filter(|lease| self.is_current(lease)).copied().collect();
        let (holds, lost): (Vec<Lease>, Vec<Lease>) =
            all.into_iter().partition(|lease| claim.holds.contains(&lease.fence));
        for lease in lost.into_iter().rev() {
            let at = self.at(lease.id).unwrap();
            self.tasks[at].ended = Some("otherwise");
            self.to(at, TaskState::Ready, true, 0, now);
        }
        let mut suspects = !holds.iter().any(|lease| self.tasks[self.at(lease.id).unwrap()].lost > 0);
        let mut taken = Vec::new();
        for queue in QUEUES {
            while taken.len() < claim.max as usize {
                let Some(at) = self.next(queue, suspects) else { break };
                suspects &= self.tasks[at].lost == 0;
                self.fence += 1;
                let timeout = self.tasks[at].policy.timeout_ms;
                let timer = if timeout == 0 { 0 } else { now + timeout };
                self.to(at, TaskState::Active, false, timer, now);
                let task = &mut self.tasks[at];
                (task.fence, task.worker, task.ended) = (self.fence, worker, None);
                taken.push(Lease { id: task.id, fence: self.fence });
            }
        }
        if taken.is_empty() && !claim.closes {
            if self.workers.contains_key(worker) {
                self.workers.insert(worker, (number, holds, Vec::new()));
            }
        } else {
            self.workers.insert(worker, (claim.number, holds, taken.clone()));
        }
        TaskOutcome::Claimed { leases: taken }
    }

    fn end(&mut self, id: TaskId, fence: u64, end: &End, now: u64) -> TaskOutcome {
        let word = match end {
            End::Done { .. } => "done",
            End::Failed { .. } => "failed",
            End::Release => "released",
            End::Snooze { .. } => "snoozed",
        };
        let at = match self.at(id) {
            Ok(at) => at,
            Err(outcome) => return outcome,
        };
        let Plain { state, fence: own, ended, .. } = self.tasks[at];
        if !(state == TaskState::Active && own == fence) {
            return match state {
                state if own == fence && ended == Some(word) => TaskOutcome::Again { state },
                state if state.is_unfinished() => TaskOutcome::LeaseLost,
                state => TaskOutcome::Finished { state },
            };
        }
        self.tasks[at].ended = Some(word);
        match end {
            End::Done { .. } => self.to(at, TaskState::Done, false, self.kept(at, now), now),
            End::Failed { .. } => self.fail(at, now),
            End::Release => self.to(at, TaskState::Ready, true, 0, now),
            End::Snooze { delay_ms } => self.to(at, TaskState::Due, false, now + delay_ms, now),
        }
        TaskOutcome::Ended { state: self.tasks[at].state }
    }

    fn fail(&mut self, at: usize, now: u64) {
        self.tasks[at].tries += 1;
        let Plain { tries, policy, .. } = self.tasks[at];
        match tries > policy.retries {
            true => self.to(at, TaskState::Dead, false, 0, now),
            false => self.to(at, TaskState::Due, false, now + policy.backoff_ms * (1 << (tries - 1)), now),
        }
    }

    fn expire(&mut self, leases: &[Lease], now: u64) -> TaskOutcome {
        let current: Vec<Lease> = leases.iter().filter(|lease| self.is_current(lease)).copied().collect();
        for lease in &current {
            let worker = self.tasks[self.at(lease.id).unwrap()].worker;
            let (_, kept, given) = &self.workers[worker];
            let mut had = kept.iter().chain(given).filter(|lease| self.is_current(lease));
            if had.any(|lease| self.tasks[self.at(lease.id).unwrap()].lost > 0) {
                self.fell.insert(worker);
            }
        }
        let mut count = 0;
        for lease in leases.iter().rev() {
            if !self.is_current(lease) {
                continue;
            }
            count += 1;
            let at = self.at(lease.id).unwrap();
            let task = &mut self.tasks[at];
            task.ended = Some("otherwise");
            task.lost += u8::from(task.lost > 0 || !self.fell.contains(task.worker));
            match task.lost >= 3 {
                true => self.to(at, TaskState::Dead, false, 0, now),
                false => self.to(at, TaskState::Ready, true, 0, now),
            }
        }
        TaskOutcome::Changed { count }
    }

    fn due(&mut self, max: u32, now: u64) -> TaskOutcome {
        let mut count = 0;
        while count < max {
            let timed = self.tasks.iter().filter(|task| task.timer != 0 && task.timer <= now);
            let task = timed.map(|task| (task.timer, task.id.seq, task.id)).min();
            let rested = self.rests.iter().map(|(key, until)| (*until, key.clone())).min();
            let over = self.batches.iter().filter_map(|(seq, batch)| Some((batch.goes()?, *seq))).min();
            let first = task.map_or(now + 1, |(timer, ..)| timer);
            // At one time keys go before tasks, and batches behind them.
            if let Some((until, key)) = rested.filter(|(until, _)| *until <= now && *until <= first)
                && over.is_none_or(|(goes, _)| until <= goes)
            {
                self.rests.remove(&key);
                self.open(&key, false);
            } else if let Some((_, seq)) = over.filter(|(goes, _)| *goes <= now && *goes < first) {
                self.batches.remove(&seq);
                let before = self.tasks.len();
                self.tasks.retain(|task| task.batch != Some(seq));
                count += (before - self.tasks.len()) as u32;
            } else if let Some((.., id)) = task {
                let at = self.at(id).unwrap();
                match self.tasks[at].state {
                    TaskState::Active => {
                        self.tasks[at].ended = Some("otherwise");
                        self.fail(at, now);
                    }
                    TaskState::Due => self.to(at, TaskState::Ready, false, 0, now),
                    _ => drop(self.tasks.remove(at)),
                }
            } else {
                break;
            }
            count += 1;
        }
        TaskOutcome::Changed { count }
    }

    fn cancel(&mut self, id: TaskId, now: u64) -> TaskOutcome {
        let at = match self.at(id) {
            Ok(at) => at,
            Err(outcome) => return outcome,
        };
        match self.tasks[at].state {
            state @ TaskState::Cancelled => TaskOutcome::Again { state },
            state @ TaskState::Done => TaskOutcome::Finished { state },
            _ => {
                self.tasks[at].ended = Some("otherwise");
                self.to(at, TaskState::Cancelled, false, self.kept(at, now), now);
                TaskOutcome::Ended { state: TaskState::Cancelled }
            }
        }
    }

    fn revive(&mut self, id: TaskId, now: u64) -> TaskOutcome {
        let at = match self.at(id) {
            Ok(at) => at,
            Err(outcome) => return outcome,
        };
        let task = &self.tasks[at];
        if task.state != TaskState::Dead {
            return TaskOutcome::Finished { state: task.state };
        }
        let has_key = |other: &Plain| {
            other.queue == task.queue && other.unique == task.unique && other.state.is_unfinished()
        };
        if task.unique.is_some() && self.tasks.iter().any(has_key) {
            return TaskOutcome::Taken;
        }
        (self.tasks[at].tries, self.tasks[at].lost) = (0, 0);
        self.to(at, TaskState::Ready, false, 0, now);
        TaskOutcome::Ended { state: TaskState::Ready }
    }

    fn apply(&mut self, op: &TaskOp, now: u64) -> TaskOutcome {
        match op {
            TaskOp::Put { nonce, tasks } => self.put(*nonce, &tasks[0], now),
            TaskOp::EndWith { id, fence, result, nonce, follow } => {
                let end = End::Done { result: result.clone() };
                self.follow(Lease { id: *id, fence: *fence }, *nonce, follow, now);
                self.end(*id, *fence, &end, now)
            }
            TaskOp::PutBatch { nonce, keep_ms, tasks } => self.put_batch(*nonce, *keep_ms, tasks, now),
            TaskOp::Claim(claim) => self.claim(claim, now),
            TaskOp::End { id, fence, end } => self.end(*id, *fence, end, now),
            TaskOp::Expire { leases } => self.expire(leases, now),
            TaskOp::Due { max } => self.due(*max, now),
            TaskOp::Cancel { id } => self.cancel(*id, now),
            TaskOp::Revive { id } => self.revive(*id, now),
            TaskOp::QueueSet { settings, .. } => {
                self.set(settings, now);
                TaskOutcome::Changed { count: 1 }
            }
            other => unreachable!("{other:?} is not drawn"),
        }
    }
}

#[test]
fn tasks_come_to_what_a_plain_list_of_them_comes_to() {
    for seed in 0..150 {
        let (mut draw, mut model, mut queues) = (laws::draw(seed), Model::default(), Queues::default());
        for step in 0..400 {
            queues.now += draw.within(0..12);
            let op = model.draw(&mut draw);
            let expected = model.apply(&op, 1_000 + queues.now);
            assert_eq!(queues.apply(op.clone()), expected, "seed {seed}, step {step}: {op:?}");
            if draw.within(0..50) == 0 {
                queues.restart();
            }
        }
        let tasks = &queues.world.kinds.tasks;
        assert_eq!(tasks.len() as usize, model.tasks.len());
        for plain in &model.tasks {
            let task = tasks.find(plain.id).unwrap();
            let (real, expected) = (
                (task.state, task.tries, task.lost, task.fence, task.timer_ms, tasks.queue_of(task)),
                (plain.state, plain.tries, plain.lost, plain.fence, plain.timer, plain.queue),
            );
            assert_eq!(real, expected, "seed {seed}");
        }
        for view in tasks.queues() {
            let count = |state| {
                let of = |task: &&Plain| *task.queue == *view.name && task.state == state;
                model.tasks.iter().filter(of).count() as u32
            };
            let expected = [TaskState::Ready, TaskState::Due, TaskState::Active, TaskState::Dead].map(count);
            assert_eq!([view.ready, view.due, view.active, view.dead], expected, "seed {seed}");
            let aside = model.tasks.iter().filter(|task| *task.queue == *view.name && task.is_aside).count();
            assert_eq!(view.aside as usize, aside, "seed {seed}");
        }
        model.agrees_on_batches(tasks);
        queues.world.kinds.record().tasks.check().unwrap();
    }
}
