//! The same commands over a plain list of tasks, written from what they promise: slow, and too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::hostile::draw_op;
use super::*;
use crate::kind::Record;
use crate::laws::{self, Draw};

#[derive(Debug, Clone)]
struct Plain {
    id: TaskId,
    queue: &'static str,
    priority: u8,
    state: TaskState,
    /// Its place among those of its state: the lowest is the first.
    place: i64,
    tries: u16,
    lost: u8,
    fence: u64,
    timer: u64,
    unique: Option<String>,
    policy: Policy,
    worker: &'static str,
    ended: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Model {
    tasks: Vec<Plain>,
    /// By worker: the last number, what it kept, what it was given.
    workers: BTreeMap<&'static str, (u64, Vec<Lease>, Vec<Lease>)>,
    /// Workers that were lost with a suspect since their last claim.
    fell: BTreeSet<&'static str>,
    streaks: BTreeMap<&'static str, u32>,
    paused: bool,
    puts: BTreeMap<u64, u64>,
    last_seq: u64,
    fence: u64,
    tail: i64,
    head: i64,
}

const QUEUES: [&str; 2] = ["q", "p"];
const WORKERS: [&str; 3] = ["a", "b", "c"];

impl Model {
    fn to(&mut self, at: usize, state: TaskState, first: bool, timer: u64) {
        let place = match first {
            true => {
                self.head -= 1;
                self.head
            }
            false => {
                self.tail += 1;
                self.tail
            }
        };
        let task = &mut self.tasks[at];
        (task.state, task.place, task.timer) = (state, place, timer);
    }

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
        if let Some(first) = self.puts.get(&nonce) {
            return TaskOutcome::Put { first: *first, count: 1, nonce };
        }
        let queue = QUEUES.into_iter().find(|name| *name == task.queue).unwrap();
        let same = self.tasks.iter().find(|other| {
            other.queue == queue
                && other.unique == task.unique
                && other.unique.is_some()
                && other.state.is_unfinished()
        });
        if let Some(same) = same {
            return TaskOutcome::Met { id: same.id };
        }
        self.last_seq += 1;
        let first = self.last_seq;
        self.puts.insert(nonce, first);
        self.tasks.push(Plain {
            id: TaskId::nth(first, nonce, 0),
            queue,
            priority: task.priority,
            state: TaskState::Ready,
            place: 0,
            tries: 0,
            lost: 0,
            fence: 0,
            timer: 0,
            unique: task.unique.clone(),
            policy: task.policy,
            worker: "",
            ended: None,
        });
        let at = self.tasks.len() - 1;
        match task.when {
            When::After { delay_ms: 0 } => self.to(at, TaskState::Ready, false, 0),
            When::After { delay_ms } => self.to(at, TaskState::Due, false, now + delay_ms),
            When::At { .. } => unreachable!("none is drawn"),
        }
        TaskOutcome::Put { first, count: 1, nonce }
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
                    task.queue == queue && task.priority == priority && task.state == TaskState::Ready
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
            self.to(at, TaskState::Ready, true, 0);
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
                self.to(at, TaskState::Active, false, timer);
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
            End::Done { .. } => self.to(at, TaskState::Done, false, now + self.tasks[at].policy.keep_ms),
            End::Failed { .. } => self.fail(at, now),
            End::Release => self.to(at, TaskState::Ready, true, 0),
            End::Snooze { delay_ms } => self.to(at, TaskState::Due, false, now + delay_ms),
        }
        TaskOutcome::Ended { state: self.tasks[at].state }
    }

    fn fail(&mut self, at: usize, now: u64) {
        self.tasks[at].tries += 1;
        let Plain { tries, policy, .. } = self.tasks[at];
        match tries > policy.retries {
            true => self.to(at, TaskState::Dead, false, 0),
            false => self.to(at, TaskState::Due, false, now + policy.backoff_ms * (1 << (tries - 1))),
        }
    }

    fn expire(&mut self, leases: &[Lease]) -> TaskOutcome {
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
                true => self.to(at, TaskState::Dead, false, 0),
                false => self.to(at, TaskState::Ready, true, 0),
            }
        }
        TaskOutcome::Changed { count }
    }

    fn due(&mut self, max: u32, now: u64) -> TaskOutcome {
        let mut count = 0;
        while count < max {
            let timed = self.tasks.iter().filter(|task| task.timer != 0 && task.timer <= now);
            let Some(id) = timed.min_by_key(|task| (task.timer, task.id.seq)).map(|task| task.id) else {
                break;
            };
            count += 1;
            let at = self.at(id).unwrap();
            match self.tasks[at].state {
                TaskState::Active => {
                    self.tasks[at].ended = Some("otherwise");
                    self.fail(at, now);
                }
                TaskState::Due => self.to(at, TaskState::Ready, false, 0),
                _ => drop(self.tasks.remove(at)),
            }
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
                self.to(at, TaskState::Cancelled, false, now + self.tasks[at].policy.keep_ms);
                TaskOutcome::Ended { state: TaskState::Cancelled }
            }
        }
    }

    fn revive(&mut self, id: TaskId) -> TaskOutcome {
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
        self.to(at, TaskState::Ready, false, 0);
        TaskOutcome::Ended { state: TaskState::Ready }
    }

    fn apply(&mut self, op: &TaskOp, now: u64) -> TaskOutcome {
        match op {
            TaskOp::Put { nonce, tasks } => self.put(*nonce, &tasks[0], now),
            TaskOp::Claim(claim) => self.claim(claim, now),
            TaskOp::End { id, fence, end } => self.end(*id, *fence, end, now),
            TaskOp::Expire { leases } => self.expire(leases),
            TaskOp::Due { max } => self.due(*max, now),
            TaskOp::Cancel { id } => self.cancel(*id, now),
            TaskOp::Revive { id } => self.revive(*id),
            TaskOp::QueueSet { settings, .. } => {
                self.paused = settings.paused;
                TaskOutcome::Changed { count: 1 }
            }
            other => unreachable!("{other:?} is not drawn"),
        }
    }

    /// An operation that mostly speaks of what is there.
    fn draw(&self, draw: &mut Draw) -> TaskOp {
        let mut op = draw_op(draw);
        if draw.within(0..8) == 0 || self.tasks.is_empty() {
            return op;
        }
        let pick = |draw: &mut Draw| &self.tasks[draw.within(0..self.tasks.len() as u64) as usize];
        match &mut op {
            TaskOp::Put { nonce, .. } => *nonce = draw.within(1..1 << 40),
            TaskOp::Claim(claim) => {
                let worker = WORKERS.into_iter().find(|name| *name == claim.worker).unwrap_or("a");
                let (number, kept, given) = self.workers.get(worker).cloned().unwrap_or_default();
                claim.number = number + draw.within(0..3);
                let held = kept.iter().chain(&given).filter(|_| draw.within(0..3) > 0);
                claim.holds = held.map(|lease| lease.fence).collect();
            }
            TaskOp::End { id, fence, .. } => (*id, *fence) = (pick(draw).id, pick(draw).fence),
            TaskOp::Expire { leases } => leases.iter_mut().for_each(|lease| {
                let task = pick(draw);
                *lease = Lease { id: task.id, fence: task.fence };
            }),
            TaskOp::Cancel { id } | TaskOp::Revive { id } => *id = pick(draw).id,
            _ => {}
        }
        if let TaskOp::End { id, fence, .. } = &mut op
            && draw.within(0..4) > 0
        {
            *fence = self.tasks.iter().find(|task| task.id == *id).map_or(0, |task| task.fence);
        }
        op
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
        }
        queues.world.kinds.record().tasks.check().unwrap();
    }
}
