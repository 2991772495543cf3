mod batches;
mod bounds;
mod hostile;
mod lanes;
mod listed;
mod mended;
mod model;
mod noted;
mod suspects;

use bytes::Bytes;

use super::*;
use crate::command::Op;
use crate::laws::World;
use crate::level::Limits;
use crate::task::{End, Lease, NewTask, Policy, QueueSettings, SEQ_MAX, TaskClaim, When};

const POLICY: Policy = Policy { retries: 1, backoff_ms: 1_000, timeout_ms: 0, keep_ms: 60_000 };

fn new(queue: &str) -> NewTask {
    NewTask {
        queue: queue.into(),
        kind: "k".into(),
        payload: Bytes::from_static(b"{}"),
        priority: 5,
        when: When::After { delay_ms: 0 },
        policy: POLICY,
        unique: None,
        key: None,
    }
}

fn claim(worker: &str, number: u64, max: u32, holds: &[u64]) -> TaskClaim {
    TaskClaim {
        queues: vec!["q".into()],
        worker: worker.into(),
        number,
        max,
        holds: holds.to_vec(),
        closes: true,
    }
}

/// Tasks, by commands alone.
#[derive(Default)]
struct Queues {
    world: World,
    now: u64,
    nonce: u64,
}

impl Queues {
    fn apply(&mut self, op: TaskOp) -> TaskOutcome {
        let outcomes = self.world.apply([Op::Tasks { time_ms: 1_000 + self.now, op }]);
        match <[OpOutcome; 1]>::try_from(outcomes) {
            Ok([OpOutcome::Tasks(outcome)]) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn put(&mut self, task: NewTask) -> TaskId {
        self.nonce += 1;
        match self.apply(TaskOp::Put { nonce: self.nonce, tasks: vec![task] }) {
            TaskOutcome::Put { first, nonce, .. } => TaskId::nth(first, nonce, 0),
            other => panic!("{other:?}"),
        }
    }

    fn put_many(&mut self, count: usize, task: &NewTask) {
        for _ in 0..count {
            self.put(task.clone());
        }
    }

    fn claim(&mut self, claim: TaskClaim) -> Vec<Lease> {
        match self.apply(TaskOp::Claim(claim)) {
            TaskOutcome::Claimed { leases } => leases,
            other => panic!("{other:?}"),
        }
    }

    /// One task by a worker's first claim.
    fn take(&mut self, worker: &str) -> Lease {
        self.claim(claim(worker, 1, 1, &[]))[0]
    }

    fn end(&mut self, lease: Lease, end: End) -> TaskOutcome {
        self.apply(TaskOp::End { id: lease.id, fence: lease.fence, end })
    }

    fn task(&self, id: TaskId) -> &Task {
        self.world.kinds.tasks.find(id).unwrap()
    }

    fn bytes(&self, blob: &Blob) -> Bytes {
        self.world.kinds.tasks.hold(blob).read().unwrap()
    }

    fn outcome(&self, id: TaskId) -> Bytes {
        self.bytes(&self.task(id).outcome)
    }

    fn error(&self, id: TaskId) -> Bytes {
        Bytes::copy_from_slice(self.task(id).error(&self.outcome(id)))
    }

    fn restart(&mut self) {
        self.world = self.world.reopened();
    }
}

fn done(result: &'static str) -> End {
    End::Done { result: result.into() }
}

fn failed() -> End {
    End::Failed { error: "no".into(), is_final: false }
}

#[test]
fn a_put_that_is_carried_twice_takes_effect_once() {
    let mut queues = Queues::default();
    let put = TaskOp::Put { nonce: 7, tasks: vec![new("q"), new("q")] };
    let first = queues.apply(put.clone());
    assert_eq!(first, TaskOutcome::Put { first: 1, count: 2, nonce: 7 });
    queues.restart();
    assert_eq!(queues.apply(put), first);
    assert_eq!(queues.world.kinds.tasks.len(), 2);
}

#[test]
fn a_task_ends_once_and_the_same_end_again_is_known() {
    let mut queues = Queues::default();
    let id = queues.put(new("q"));
    let lease = queues.take("a");
    assert_eq!(queues.end(lease, done("1")), TaskOutcome::Ended { state: TaskState::Done });
    queues.restart();
    assert_eq!(queues.end(lease, done("2")), TaskOutcome::Again { state: TaskState::Done });
    assert_eq!(queues.end(lease, failed()), TaskOutcome::Finished { state: TaskState::Done });
    assert_eq!(queues.outcome(id), "1");
}

#[test]
fn the_fence_of_a_lost_lease_ends_nothing() {
    let mut queues = Queues::default();
    let id = queues.put(new("q"));
    let old = queues.take("a");
    assert_eq!(queues.apply(TaskOp::Expire { leases: vec![old] }), TaskOutcome::Changed { count: 1 });
    assert_eq!(queues.end(old, done("old")), TaskOutcome::LeaseLost, "before another has it");
    let newer = queues.take("b");
    assert!(newer.fence > old.fence);
    assert_eq!(queues.end(old, done("old")), TaskOutcome::LeaseLost);
    assert_eq!(queues.apply(TaskOp::Expire { leases: vec![old] }), TaskOutcome::Changed { count: 0 });
    assert_eq!(queues.end(newer, done("new")), TaskOutcome::Ended { state: TaskState::Done });
    assert_eq!((&*queues.outcome(id), queues.task(id).lost), (&b"new"[..], 1));
}

#[test]
fn the_same_claim_again_gives_what_of_it_is_still_held() {
    let mut queues = Queues::default();
    queues.put_many(3, &new("q"));
    let given = queues.claim(claim("a", 4, 2, &[]));
    assert_eq!(given.len(), 2);
    queues.restart();
    assert_eq!(queues.claim(claim("a", 4, 2, &[])), given);
    queues.end(given[0], done(""));
    assert_eq!(queues.claim(claim("a", 4, 2, &[])), given[1..]);
    assert_eq!(queues.apply(TaskOp::Claim(claim("a", 3, 2, &[]))), TaskOutcome::Stale);
    queues.end(given[1], done(""));
    assert_eq!(queues.apply(TaskOp::Claim(claim("a", 4, 2, &[]))), TaskOutcome::Over);
}

#[test]
fn what_a_worker_neither_ended_nor_holds_goes_first_again_and_nothing_is_counted() {
    let mut queues = Queues::default();
    queues.put_many(4, &new("q"));
    let given = queues.claim(claim("a", 1, 3, &[]));
    queues.end(given[0], done(""));
    // It never heard of the third.
    assert_eq!(queues.claim(claim("a", 2, 0, &[given[1].fence])), []);
    assert_eq!(queues.task(given[1].id).state, TaskState::Active);
    let (returned, tries) = (queues.task(given[2].id), queues.task(given[2].id).tries);
    assert_eq!((returned.state, returned.lost, tries), (TaskState::Ready, 0, 0));
    assert_eq!(queues.take("b").id, given[2].id);
    // The one that it holds is still known for its own at the claim after that.
    queues.claim(claim("a", 3, 0, &[]));
    assert_eq!(queues.task(given[1].id).state, TaskState::Ready);
}

#[test]
fn a_claim_that_waits_on_is_not_over_and_one_that_closes_is() {
    let mut queues = Queues::default();
    let waits = TaskClaim { closes: false, ..claim("a", 1, 1, &[]) };
    assert_eq!(queues.claim(waits.clone()), []);
    queues.put(new("q"));
    assert_eq!(queues.claim(waits).len(), 1);
    assert_eq!(queues.claim(claim("b", 1, 1, &[])), []);
    queues.put(new("q"));
    let again = queues.apply(TaskOp::Claim(claim("b", 1, 1, &[])));
    assert_eq!(again, TaskOutcome::Over, "it was told that there is nothing");
    assert_eq!(queues.claim(claim("b", 2, 1, &[])).len(), 1);
}

#[test]
fn a_failed_try_is_tried_again_later_until_its_retries_are_used_up() {
    let mut queues = Queues::default();
    let id = queues.put(new("q"));
    let lease = queues.take("a");
    assert_eq!(queues.end(lease, failed()), TaskOutcome::Ended { state: TaskState::Due });
    assert_eq!(queues.apply(TaskOp::Due { max: 9 }), TaskOutcome::Changed { count: 0 });
    queues.restart();
    queues.now += 1_000;
    assert_eq!(queues.apply(TaskOp::Due { max: 9 }), TaskOutcome::Changed { count: 1 });
    let lease = queues.take("b");
    assert_eq!(queues.end(lease, failed()), TaskOutcome::Ended { state: TaskState::Dead });
    assert_eq!((queues.task(id).tries, &*queues.outcome(id)), (2, &b"no"[..]));
    assert_eq!(queues.apply(TaskOp::Revive { id }), TaskOutcome::Ended { state: TaskState::Ready });
    assert_eq!((queues.task(id).state, queues.task(id).tries), (TaskState::Ready, 0));
}

#[test]
fn a_try_that_takes_too_long_is_a_failed_one_whatever_its_worker_says() {
    let mut queues = Queues::default();
    let policy = Policy { timeout_ms: 5_000, ..POLICY };
    let id = queues.put(NewTask { policy, ..new("q") });
    let lease = queues.take("a");
    queues.now += 4_999;
    queues.apply(TaskOp::Due { max: 9 });
    assert_eq!(queues.task(id).state, TaskState::Active);
    queues.now += 1;
    queues.apply(TaskOp::Due { max: 9 });
    assert_eq!((queues.task(id).state, queues.task(id).tries), (TaskState::Due, 1));
    assert_eq!(queues.end(lease, done("")), TaskOutcome::LeaseLost);
}

#[test]
fn three_workers_that_are_lost_with_a_task_are_its_end_and_its_neighbours_are_unharmed() {
    let mut queues = Queues::default();
    let poison = queues.put(new("q"));
    let neighbours: Vec<TaskId> = (0..2).map(|_| queues.put(new("q"))).collect();
    let leases = queues.claim(claim("a", 1, 3, &[]));
    queues.apply(TaskOp::Expire { leases });
    assert!(neighbours.iter().all(|id| queues.task(*id).lost == 1));
    // A worker holds one suspect at most.
    let leases = queues.claim(claim("b", 1, 3, &[]));
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), [poison]);
    let fresh = queues.put(new("q"));
    let with_fresh = queues.claim(claim("b", 2, 3, &[leases[0].fence]));
    assert_eq!(with_fresh.iter().map(|lease| lease.id).collect::<Vec<_>>(), [fresh]);
    queues.apply(TaskOp::Expire { leases: vec![leases[0], with_fresh[0]] });
    assert_eq!((queues.task(poison).lost, queues.task(fresh).lost), (2, 0), "the suspect alone is counted");
    let last = queues.claim(claim("c", 1, 1, &[]))[0];
    assert_eq!(last.id, poison);
    queues.apply(TaskOp::Expire { leases: vec![last] });
    let task = queues.task(poison);
    assert_eq!((task.state, &*queues.error(poison)), (TaskState::Dead, &b"worker-lost"[..]));
    assert_eq!(queues.claim(claim("d", 1, 1, &[])).len(), 1, "its neighbours can be claimed");
}

#[test]
fn a_unique_key_lets_one_unfinished_task_be_there() {
    let mut queues = Queues::default();
    let unique = || NewTask { unique: Some("u".into()), ..new("q") };
    let id = queues.put(unique());
    queues.restart();
    assert_eq!(queues.apply(TaskOp::Put { nonce: 99, tasks: vec![unique()] }), TaskOutcome::Met { id });
    let lease = queues.take("a");
    queues.end(lease, End::Failed { error: String::new(), is_final: true });
    let second = queues.put(unique());
    assert_ne!(second, id);
    assert_eq!(queues.apply(TaskOp::Revive { id }), TaskOutcome::Taken);
    queues.apply(TaskOp::Cancel { id: second });
    assert_eq!(queues.apply(TaskOp::Revive { id }), TaskOutcome::Ended { state: TaskState::Ready });
}

#[test]
fn the_more_urgent_goes_first_but_not_for_ever() {
    let mut queues = Queues::default();
    let low = queues.put(NewTask { priority: 0, ..new("q") });
    queues.put_many(70, &NewTask { priority: 9, ..new("q") });
    let order: Vec<TaskId> = (1..=70)
        .flat_map(|number| queues.claim(claim("a", number, 1, &[])).first().map(|it| it.id))
        .collect();
    // What is claimed and not held goes back to the head, so each claim is of the same urgent one again.
    assert_eq!(order.iter().position(|id| *id == low), Some(64));
}

#[test]
fn a_queue_is_full_or_paused_where_an_operator_says_so() {
    let mut queues = Queues::default();
    let settings = QueueSettings { length_max: 2, ..QueueSettings::default() };
    queues.apply(TaskOp::QueueSet { queue: "q".into(), settings });
    queues.put(new("q"));
    let two = TaskOp::Put { nonce: 50, tasks: vec![new("p"), new("q"), new("q")] };
    assert_eq!(queues.apply(two), TaskOutcome::QueueFull { queue: "q".into() });
    assert_eq!(queues.world.kinds.tasks.len(), 1, "all or none");
    queues
        .apply(TaskOp::QueueSet { queue: "q".into(), settings: QueueSettings { paused: true, ..settings } });
    assert_eq!(queues.claim(claim("a", 1, 1, &[])), []);
    queues
        .apply(TaskOp::QueueSet { queue: "q".into(), settings: QueueSettings { active_max: 1, ..settings } });
    queues.put(new("q"));
    assert_eq!(queues.claim(claim("a", 2, 9, &[])).len(), 1);
}

#[test]
fn what_is_finished_goes_for_what_comes_and_beyond_that_nothing_comes() {
    let mut queues = Queues::default();
    let large = || NewTask { payload: vec![0; 256 * 1024].into(), ..new("q") };
    let finished = queues.put(large());
    let lease = queues.take("a");
    queues.end(lease, End::Done { result: vec![0; 256 * 1024].into() });
    let mut count = 0;
    while let TaskOutcome::Put { .. } =
        queues.apply(TaskOp::Put { nonce: 1_000 + count, tasks: vec![large()] })
    {
        count += 1;
    }
    assert_eq!(count, 111, "of seven eighths of 32 MiB, each with 257 bytes more");
    assert!(matches!(queues.world.kinds.tasks.find(finished), Err(TaskOutcome::Gone)));
    assert!(queues.world.kinds.tasks.bytes() <= Limits::WIDEST.task_bytes_max);
    let lease = queues.claim(claim("a", 2, 1, &[]))[0];
    let end = End::Done { result: vec![0; 256 * 1024].into() };
    assert_eq!(
        queues.end(lease, end),
        TaskOutcome::Ended { state: TaskState::Done },
        "an end is never refused"
    );
    queues.restart();
}

#[test]
fn what_is_finished_is_known_for_as_long_as_it_is_kept() {
    let mut queues = Queues::default();
    let id = queues.put(new("q"));
    let lease = queues.take("a");
    queues.end(lease, done(""));
    queues.now += 59_999;
    queues.apply(TaskOp::Due { max: 9 });
    assert_eq!(queues.task(id).state, TaskState::Done);
    queues.now += 1;
    assert!(queues.world.kinds.tasks.due(Stamp(1_000 + queues.now)).is_some());
    queues.apply(TaskOp::Due { max: 9 });
    assert!(matches!(queues.world.kinds.tasks.find(id), Err(TaskOutcome::Gone)));
    let never = TaskId { seq: id.seq + 1, ..id };
    assert!(matches!(queues.world.kinds.tasks.find(never), Err(TaskOutcome::Unknown)));
    assert!(queues.world.kinds.tasks.due(Stamp(u64::MAX)).is_none());
}

#[test]
fn a_command_beyond_its_bounds_changes_nothing() {
    let mut queues = Queues::default();
    let put = |task: NewTask| TaskOp::Put { nonce: 1, tasks: vec![task] };
    let id = TaskId { seq: 1, nonce: 1 };
    for op in [
        TaskOp::Put { nonce: 1, tasks: Vec::new() },
        TaskOp::Put { nonce: 1, tasks: vec![new("q"); 1_001] },
        put(new("")),
        put(new("a/b")),
        put(NewTask { priority: 10, ..new("q") }),
        put(NewTask { payload: vec![0; 256 * 1024 + 1].into(), ..new("q") }),
        put(NewTask { unique: Some(String::new()), ..new("q") }),
        put(NewTask { policy: Policy { keep_ms: u64::MAX, ..POLICY }, ..new("q") }),
        TaskOp::Claim(claim("a b", 1, 1, &[])),
        TaskOp::Claim(claim("a", 1, 1, &[1; 129])),
        TaskOp::End { id, fence: 1, end: End::Snooze { delay_ms: u64::MAX } },
        TaskOp::QueueSet { queue: "ä".into(), settings: QueueSettings::default() },
    ] {
        assert_eq!(queues.apply(op.clone()), TaskOutcome::Invalid, "{op:?}");
    }
    assert_eq!(queues.world.kinds.record().tasks, TasksRecord::default());
}

#[test]
fn a_fence_is_given_once_also_where_another_past_gave_some() {
    let mut queues = Queues::default();
    queues.put(new("q"));
    let before = queues.take("a").fence;
    queues.apply(TaskOp::RaiseFence);
    queues.claim(claim("a", 2, 0, &[]));
    assert!(queues.take("b").fence >= before + (1 << 32));
    assert!(queues.world.kinds.tasks.last_fence() < SEQ_MAX);
}
