//! The rolling hash has all that an operation does to tasks.

use super::hostile::draw_op;
use super::*;
use crate::heap::Place;
use crate::laws;
use crate::level::Level;
use crate::rolling::StateHash;
use crate::task::SavedTask;

/// The tasks, but for the count of what has changed, and the hash.
fn seen(queues: &Queues) -> (TasksRecord, StateHash) {
    let mut tasks = queues.world.kinds.record().tasks;
    tasks.changes = 0;
    (tasks, queues.world.kinds.rolling_hash().expect("it has begun"))
}

impl Queues {
    fn begun() -> Queues {
        let mut queues = Queues::default();
        queues.world.apply([Op::Level { level: Level::NEWEST }]);
        queues
    }

    fn copied(&self) -> Queues {
        Queues { world: self.world.reopened(), ..*self }
    }
}

#[test]
fn tasks_that_differ_have_hashes_that_differ_and_what_changes_nothing_leaves_it() {
    let mut differed = 0;
    for seed in 0..60 {
        let (mut draw, mut queues) = (laws::draw(seed), Queues::begun());
        for step in 0..150 {
            queues.now += draw.within(0..12);
            let before = seen(&queues);
            let ops = [draw_op(&mut draw), draw_op(&mut draw)];
            let mut other = queues.copied();
            other.apply(ops[1].clone());
            queues.apply(ops[0].clone());
            let (one, other) = (seen(&queues), seen(&other));
            let place = format!("seed {seed}, step {step}: {ops:?}");
            assert_eq!(one.0 == other.0, one.1 == other.1, "{place}");
            assert_eq!(one.0 == before.0, one.1 == before.1, "{place}");
            differed += u32::from(one.0 != other.0);
        }
    }
    assert!(differed > 1_000, "{differed}");
}

/// One task in each state, and a worker with a suspect.
fn prepared() -> (Queues, [Lease; 3], TaskId) {
    let mut queues = Queues::begun();
    queues.put_many(4, &new("q"));
    let dead = queues.take("a");
    queues.end(dead, End::Failed { error: "no".into(), is_final: true });
    let finished = queues.claim(claim("a", 2, 1, &[]))[0];
    queues.end(finished, done("r"));
    let held = queues.claim(claim("a", 3, 2, &[]));
    queues.apply(TaskOp::Expire { leases: vec![held[0]] });
    let suspect = queues.claim(claim("a", 4, 1, &[held[1].fence]))[0];
    queues.put_many(2, &new("q"));
    queues.put(NewTask { when: When::After { delay_ms: 500 }, ..new("q") });
    (queues, [held[1], suspect, dead], finished.id)
}

#[test]
fn each_effect_on_tasks_is_in_the_hash() {
    let (queues, [held, suspect, dead], finished) = prepared();
    let put = |task| TaskOp::Put { nonce: 99, tasks: vec![task] };
    let batch = |keep_ms, queues: &[&str]| {
        let tasks = queues.iter().map(|queue| new(queue)).collect();
        TaskOp::PutBatch { nonce: 99, keep_ms, tasks }
    };
    let follows = |follow| TaskOp::EndWith {
        id: held.id,
        fence: held.fence,
        result: Bytes::from_static(b"r"),
        nonce: 98,
        follow,
    };
    let end = |end| TaskOp::End { id: held.id, fence: held.fence, end };
    let error = |error: &str, is_final| End::Failed { error: error.into(), is_final };
    let progress = |progress| TaskOp::Progress {
        id: held.id,
        fence: held.fence,
        progress: Bytes::from_static(progress),
    };
    let holds = [held.fence, suspect.fence];
    let set = |queue: &str, settings| TaskOp::QueueSet { queue: queue.into(), settings };
    let settings = QueueSettings::default();
    let saved = |outcome, tries| {
        let (id, task) = (TaskId { seq: 70, nonce: 7 }, new("q"));
        let (state, outcome) = (TaskState::Ready, Bytes::from_static(outcome));
        TaskOp::Restore(Box::new(SavedTask {
            id,
            task,
            state,
            tries,
            lost: 0,
            fence: 2,
            put_ms: 1,
            since_ms: 2,
            timer_ms: 0,
            outcome,
            member: None,
        }))
    };
    let nothing = || TaskOp::Due { max: 0 };
    let pairs = [
        ("a put", put(new("q")), nothing()),
        ("a queue", put(new("q")), put(new("p"))),
        ("a kind", put(new("q")), put(NewTask { kind: "l".into(), ..new("q") })),
        ("a payload", put(new("q")), put(NewTask { payload: Bytes::from_static(b"[]"), ..new("q") })),
        ("a priority", put(new("q")), put(NewTask { priority: 6, ..new("q") })),
        ("a delay", put(new("q")), put(NewTask { when: When::After { delay_ms: 9 }, ..new("q") })),
        ("a policy", put(new("q")), put(NewTask { policy: Policy { keep_ms: 9, ..POLICY }, ..new("q") })),
        ("a unique key", put(new("q")), put(NewTask { unique: Some("u".into()), ..new("q") })),
        ("a key", put(new("q")), put(NewTask { key: Some("k".into()), ..new("q") })),
        ("a nonce", put(new("q")), TaskOp::Put { nonce: 98, tasks: vec![new("q")] }),
        ("a batch", batch(1, &["q"]), put(new("q"))),
        ("a batch's time", batch(1, &["q"]), batch(2, &["q"])),
        ("a batch's tasks", batch(1, &["q"]), batch(1, &["q", "q"])),
        ("a claim", TaskOp::Claim(claim("b", 1, 1, &[])), nothing()),
        ("a worker", TaskOp::Claim(claim("b", 1, 1, &[])), TaskOp::Claim(claim("c", 1, 1, &[]))),
        ("a claim's number", TaskOp::Claim(claim("b", 1, 0, &[])), TaskOp::Claim(claim("b", 2, 0, &[]))),
        ("what a claim takes", TaskOp::Claim(claim("b", 1, 1, &[])), TaskOp::Claim(claim("b", 1, 2, &[]))),
        (
            "what a worker holds",
            TaskOp::Claim(claim("a", 5, 0, &holds)),
            TaskOp::Claim(claim("a", 5, 0, &holds[..1])),
        ),
        ("an end", end(done("r")), nothing()),
        ("a result", end(done("r")), end(done("s"))),
        ("what follows", follows(vec![new("q")]), follows(Vec::new())),
        ("an error", end(error("e", false)), end(error("f", false))),
        ("the end of all tries", end(error("e", false)), end(error("e", true))),
        ("a release", end(End::Release), nothing()),
        ("a snooze", end(End::Snooze { delay_ms: 5 }), end(End::Snooze { delay_ms: 6 })),
        ("progress", progress(b"1"), progress(b"2")),
        ("a loss", TaskOp::Expire { leases: vec![held] }, nothing()),
        ("who was lost", TaskOp::Expire { leases: vec![suspect] }, TaskOp::Expire { leases: vec![held] }),
        ("what was due", TaskOp::Due { max: 1 }, nothing()),
        ("what was forgotten", TaskOp::Due { max: 2 }, TaskOp::Due { max: 1 }),
        ("a cancel", TaskOp::Cancel { id: held.id }, nothing()),
        ("a revival", TaskOp::Revive { id: dead.id }, nothing()),
        ("a queue's pause", set("q", QueueSettings { paused: true, ..settings }), set("q", settings)),
        ("a queue's length", set("q", QueueSettings { length_max: 9, ..settings }), set("q", settings)),
        ("a queue's active", set("q", QueueSettings { active_max: 9, ..settings }), set("q", settings)),
        ("a queue's keys", set("q", QueueSettings { per_key: 9, ..settings }), set("q", settings)),
        ("a queue's rest", set("q", QueueSettings { key_pause_ms: 9, ..settings }), set("q", settings)),
        ("a new queue", set("new", settings), set("newer", settings)),
        ("a raise of fences", TaskOp::RaiseFence, nothing()),
        ("what was given", TaskOp::Given { seq: 90, fence: 0 }, TaskOp::Given { seq: 91, fence: 0 }),
        ("fences given", TaskOp::Given { seq: 0, fence: 90 }, TaskOp::Given { seq: 0, fence: 91 }),
        ("a restored task", saved(b"", 0), nothing()),
        ("a restored error", saved(b"a", 0), saved(b"b", 0)),
        ("restored tries", saved(b"", 0), saved(b"", 1)),
    ];
    for (what, well, badly) in pairs {
        // Both what is due and what is kept no more is over by then.
        let (mut one, mut other) = (queues.copied(), queues.copied());
        (one.now, other.now) = (100_000, 100_000);
        one.apply(well);
        other.apply(badly);
        let (one_seen, other_seen) = (seen(&one), seen(&other));
        assert_ne!(one_seen.0, other_seen.0, "{what}");
        assert_ne!(one_seen.1, other_seen.1, "{what}");
        one.put(new("other"));
        other.put(new("other"));
        assert_ne!(seen(&one).1, seen(&other).1, "{what}, and ever after");
    }
    assert!(queues.world.kinds.tasks.find(finished).is_ok());
}

#[test]
fn a_worker_that_goes_and_a_task_that_is_dropped_are_in_the_hash() {
    let mut queues = Queues::begun();
    for number in 0..Limits::WIDEST.task_workers_max {
        queues.claim(claim(&format!("w{number}"), 1, 0, &[]));
    }
    let mut other = queues.copied();
    other.apply(TaskOp::Claim(claim("w1", 1, 0, &[])));
    assert_eq!(seen(&other), seen(&queues), "the same again");
    other.apply(TaskOp::Claim(claim("new", 1, 0, &[])));
    assert_ne!(seen(&other).1, seen(&queues).1);
    assert_eq!(other.world.kinds.tasks.workers(), Limits::WIDEST.task_workers_max);
}

/// Has all bytes of tasks elsewhere, as a node's mover does.
fn move_all(queues: &mut Queues) -> usize {
    let tasks = &mut queues.world.kinds.tasks;
    let places: Vec<_> = tasks.places_of(0..tasks.slots()).collect();
    let file = tasks.heap_mut().next_number();
    tasks.heap_mut().add(file, 1 << 20);
    for (number, (slot, which, from)) in (0..).zip(&places) {
        let to = Place { file, offset: 1_000 + 100 * number, ..*from };
        tasks.move_bytes(*slot, *which, *from, to);
    }
    places.len()
}

#[test]
fn nodes_that_have_the_bytes_in_other_places_come_to_the_same() {
    let mut moved = 0;
    for seed in 0..20 {
        let (mut draw, mut one) = (laws::draw(seed), Queues::begun());
        let mut other = one.copied();
        for step in 0..150 {
            let later = draw.within(0..12);
            let op = draw_op(&mut draw);
            one.now += later;
            other.now += later;
            assert_eq!(one.apply(op.clone()), other.apply(op.clone()), "seed {seed}, step {step}: {op:?}");
            if draw.within(0..8) == 0 {
                moved += move_all(&mut other);
            }
            let seen = |queues: &Queues| {
                let kinds = &queues.world.kinds;
                (kinds.rolling_hash(), kinds.revisions().tasks, kinds.tasks.bytes(), kinds.tasks.memory())
            };
            assert_eq!(seen(&one), seen(&other), "seed {seed}, step {step}: {op:?}");
        }
        let places = |queues: &Queues| queues.world.kinds.record().tasks.places().collect::<Vec<_>>();
        assert_ne!(places(&one), places(&other), "seed {seed}");
    }
    assert!(moved > 1_000, "{moved}");
}
