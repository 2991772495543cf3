//! Tasks that were put together.

use super::*;

const KEEP_MS: u64 = 60_000;

impl Queues {
    fn put_batch(&mut self, tasks: Vec<NewTask>) -> (TaskId, Vec<TaskId>) {
        self.nonce += 1;
        match self.apply(TaskOp::PutBatch { nonce: self.nonce, keep_ms: KEEP_MS, tasks }) {
            TaskOutcome::Batch { first, count, nonce } => {
                let id = |number| TaskId::nth(first, nonce, number);
                (id(0), (1..=count).map(id).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Unfinished, done, dead, cancelled.
    fn counts_of(&self, batch: TaskId) -> [u32; 4] {
        let batch = self.world.kinds.tasks.batch(batch).unwrap();
        [batch.unfinished, batch.done, batch.dead, batch.cancelled]
    }
}

#[test]
fn what_comes_of_a_batch_is_counted_as_its_tasks_end() {
    let mut queues = Queues::default();
    let (batch, tasks) = queues.put_batch(vec![new("q"); 4]);
    assert_eq!(queues.counts_of(batch), [4, 0, 0, 0]);
    let leases = queues.claim(claim("a", 1, 4, &[]));
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), tasks);
    queues.restart();
    queues.end(leases[0], done("r"));
    queues.end(leases[1], End::Failed { error: "no".into(), is_final: true });
    queues.end(leases[2], failed());
    queues.apply(TaskOp::Cancel { id: tasks[3] });
    assert_eq!(queues.counts_of(batch), [1, 1, 1, 1]);
    // Whatever their own time is.
    queues.now += 10 * KEEP_MS;
    queues.apply(TaskOp::Due { max: 9 });
    let lease = queues.take("b");
    queues.end(lease, done("late"));
    queues.restart();
    assert_eq!(queues.counts_of(batch), [0, 2, 1, 1]);
    let of = queues.world.kinds.tasks.batch(batch).unwrap();
    assert_eq!((of.posted, of.met, of.ended_ms), (4, 0, 1_000 + queues.now));
    let seen: Vec<_> = queues.world.kinds.tasks.members(of).map(|(place, task)| (place, task.id)).collect();
    assert_eq!(seen, (0..).zip(tasks.clone()).collect::<Vec<_>>());
    assert_eq!(queues.bytes(&queues.task(tasks[0]).payload), "{}", "and says what it was");
}

#[test]
fn a_batch_and_its_tasks_are_known_for_its_time_and_go_together() {
    let mut queues = Queues::default();
    let (batch, tasks) = queues.put_batch(vec![new("q"); 2]);
    for worker in ["a", "b"] {
        let lease = queues.take(worker);
        queues.end(lease, done("r"));
    }
    queues.now += KEEP_MS - 1;
    queues.apply(TaskOp::Due { max: 9 });
    assert!(tasks.iter().all(|id| queues.task(*id).state == TaskState::Done));
    queues.now += 1;
    queues.restart();
    queues.apply(TaskOp::Due { max: 9 });
    assert_eq!(queues.world.kinds.tasks.batch(batch), Err(TaskOutcome::Gone));
    assert_eq!((queues.world.kinds.tasks.len(), queues.world.kinds.tasks.bytes()), (0, 0));
    let never = TaskId { seq: batch.seq + 100, ..batch };
    assert_eq!(queues.world.kinds.tasks.batch(never), Err(TaskOutcome::Unknown));
}

#[test]
fn the_tasks_of_batches_that_go_together_go_a_part_at_a_time() {
    let mut queues = Queues::default();
    for _ in 0..3 {
        let (_, tasks) = queues.put_batch(vec![new("q"); 3]);
        tasks.into_iter().for_each(|id| drop(queues.apply(TaskOp::Cancel { id })));
    }
    queues.now += KEEP_MS;
    for (left, count) in [(3, 8), (0, 4), (0, 0)] {
        assert_eq!(queues.apply(TaskOp::Due { max: 5 }), TaskOutcome::Changed { count });
        assert_eq!(queues.world.kinds.tasks.len(), left);
    }
}

#[test]
fn what_met_another_task_is_counted_and_not_waited_for() {
    let mut queues = Queues::default();
    let unique = |key: &str| NewTask { unique: Some(key.into()), ..new("q") };
    queues.put(unique("u"));
    let (batch, tasks) = queues.put_batch(vec![unique("u"), unique("v"), unique("v")]);
    let of = queues.world.kinds.tasks.batch(batch).unwrap();
    assert_eq!((tasks.len(), of.posted, of.met, of.unfinished), (1, 3, 2, 1));
    // All of one met others: it is over from its start.
    let (batch, tasks) = queues.put_batch(vec![unique("u"), unique("v")]);
    let of = queues.world.kinds.tasks.batch(batch).unwrap();
    assert_eq!((tasks.len(), of.met, of.ended_ms), (0, 2, 1_000));
}

#[test]
fn what_will_not_be_put_takes_no_place_in_its_queue() {
    let mut queues = Queues::default();
    let settings = QueueSettings { length_max: 2, ..QueueSettings::default() };
    queues.apply(TaskOp::QueueSet { queue: "q".into(), settings });
    let unique = |key: &str| NewTask { unique: Some(key.into()), ..new("q") };
    let (batch, tasks) = queues.put_batch(vec![unique("u"), unique("u"), unique("v"), unique("u")]);
    let of = queues.world.kinds.tasks.batch(batch).unwrap();
    assert_eq!((tasks.len(), of.posted, of.met), (2, 4, 2));
    let more = TaskOp::PutBatch { nonce: 99, keep_ms: 1, tasks: vec![unique("w"), unique("w")] };
    assert_eq!(queues.apply(more), TaskOutcome::QueueFull { queue: "q".into() });
}

#[test]
fn a_batch_for_which_there_is_no_place_costs_nobody_what_came_of_others() {
    let mut queues = Queues::default();
    let lone = queues.put(new("q"));
    let lease = queues.take("w");
    let result = vec![0; 256 * 1024];
    queues.end(lease, End::Done { result: result.into() });
    while queues.world.kinds.tasks.batches() < Limits::WIDEST.task_batches_max {
        queues.put_batch(vec![new("q")]);
    }
    // All are under way, and so large a one would need the room of what is done.
    let large = NewTask { payload: vec![0; 256 * 1024].into(), ..new("q") };
    let tasks = vec![large; 104];
    assert_eq!(queues.apply(TaskOp::PutBatch { nonce: 1 << 40, keep_ms: 1, tasks }), TaskOutcome::Full);
    assert_eq!(queues.task(lone).state, TaskState::Done);
}

#[test]
fn a_batch_that_is_carried_twice_takes_effect_once_and_all_of_it_or_nothing_does() {
    let mut queues = Queues::default();
    let put = TaskOp::PutBatch { nonce: 7, keep_ms: 1, tasks: vec![new("q"), new("q")] };
    let first = queues.apply(put.clone());
    assert_eq!(first, TaskOutcome::Batch { first: 1, count: 2, nonce: 7 });
    queues.restart();
    assert_eq!(queues.apply(put), first);
    let settings = QueueSettings { length_max: 3, ..QueueSettings::default() };
    queues.apply(TaskOp::QueueSet { queue: "q".into(), settings });
    let refused = queues.apply(TaskOp::PutBatch { nonce: 8, keep_ms: 1, tasks: vec![new("q"); 2] });
    assert_eq!(refused, TaskOutcome::QueueFull { queue: "q".into() });
    assert_eq!((queues.world.kinds.tasks.len(), queues.world.kinds.tasks.batches()), (2, 1));
    for (keep_ms, count) in [(u64::MAX, 1), (1, 0), (1, 1_001)] {
        let put = TaskOp::PutBatch { nonce: 9, keep_ms, tasks: vec![new("p"); count] };
        assert_eq!(queues.apply(put), TaskOutcome::Invalid);
    }
}

#[test]
fn a_dead_task_that_is_tried_again_is_waited_for_again() {
    let mut queues = Queues::default();
    let (batch, tasks) = queues.put_batch(vec![new("q")]);
    let lease = queues.take("a");
    queues.end(lease, End::Failed { error: "no".into(), is_final: true });
    let dead = queues.world.kinds.tasks.queues().next().unwrap().dead;
    assert_eq!((queues.counts_of(batch), dead), ([0, 0, 1, 0], 1));
    queues.restart();
    queues.apply(TaskOp::Revive { id: tasks[0] });
    assert_eq!(queues.counts_of(batch), [1, 0, 0, 0]);
    queues.now += 2 * KEEP_MS;
    assert_eq!(queues.apply(TaskOp::Due { max: 9 }), TaskOutcome::Changed { count: 0 });
    assert_eq!(queues.world.kinds.tasks.batch(batch).map(|batch| batch.ended_ms), Ok(0));
}

#[test]
fn of_what_has_ended_the_oldest_goes_first_and_a_batch_as_a_whole_once_it_is_over() {
    let mut queues = Queues::default();
    let large = |queue: &str| NewTask { payload: vec![0; 200 * 1024].into(), ..new(queue) };
    let end_all = |queues: &mut Queues, worker: &str, count| {
        for number in 1..=count {
            let lease = queues.claim(claim(worker, number, 1, &[]))[0];
            queues.end(lease, End::Done { result: vec![0; 200 * 1024].into() });
        }
        queues.now += 1;
    };
    let (under_way, _) = queues.put_batch(vec![large("q"), large("other")]);
    end_all(&mut queues, "a", 1);
    let single = queues.put(large("q"));
    end_all(&mut queues, "b", 1);
    let (older, _) = queues.put_batch(vec![large("q"); 2]);
    end_all(&mut queues, "c", 2);
    let (newer, _) = queues.put_batch(vec![large("q"); 2]);
    end_all(&mut queues, "d", 2);
    let is_known = |queues: &Queues| {
        let tasks = &queues.world.kinds.tasks;
        [tasks.find(single).is_ok(), tasks.batch(older).is_ok(), tasks.batch(newer).is_ok()]
    };
    let mut seen = vec![is_known(&queues)];
    loop {
        queues.nonce += 1;
        let put = queues.apply(TaskOp::Put { nonce: queues.nonce, tasks: vec![large("p")] });
        seen.push(is_known(&queues));
        if put == TaskOutcome::Full {
            break;
        }
    }
    seen.dedup();
    let steps = [[true, true, true], [false, true, true], [false, false, true], [false, false, false]];
    assert_eq!(seen, steps);
    assert_eq!(queues.counts_of(under_way), [1, 1, 0, 0], "what is under way does not go");
}

#[test]
fn a_result_for_which_there_is_no_room_ends_its_task_and_others_have_room_still() {
    let mut queues = Queues::default();
    let (batch, _) = queues.put_batch(vec![new("q"); 200]);
    let result = || End::Done { result: vec![0; 256 * 1024].into() };
    let refused = (1..=200).find_map(|number| {
        let lease = queues.claim(claim("a", number, 1, &[]))[0];
        match queues.end(lease, result()) {
            TaskOutcome::Ended { state: TaskState::Done } => None,
            TaskOutcome::Ended { state: TaskState::Dead } => Some((number, lease)),
            other => panic!("{other:?}"),
        }
    });
    let (number, refused) = refused.unwrap();
    assert_eq!(queues.error(refused.id), "no-room");
    assert_eq!(queues.end(refused, result()), TaskOutcome::Again { state: TaskState::Dead });
    assert_eq!(queues.counts_of(batch), [200 - number as u32, number as u32 - 1, 1, 0]);
    queues.restart();
    // Puts have some that results do not get, and ends some that puts do not.
    let large = || NewTask { payload: vec![0; 200 * 1024].into(), ..new("other") };
    let mut put = |task: NewTask| {
        queues.nonce += 1;
        queues.apply(TaskOp::Put { nonce: queues.nonce, tasks: vec![task] })
    };
    let puts = (0..).take_while(|_| matches!(put(large()), TaskOutcome::Put { .. })).count();
    assert!(puts > 10, "{puts}");
    let lease = queues.claim(TaskClaim { queues: vec!["other".into()], ..claim("b", 1, 1, &[]) })[0];
    assert_eq!(queues.end(lease, result()), TaskOutcome::Ended { state: TaskState::Done });
}

/// What is restored is sound after each step, and what is left of a restore that ended early goes by itself.
#[test]
fn a_batch_is_restored_with_its_first_task_and_one_without_any_goes() {
    let mut queues = Queues::default();
    let (batch, _) = queues.put_batch(vec![new("q"); 3]);
    let lease = queues.take("a");
    queues.end(lease, done("r"));
    let again: Vec<Op> = queues.world.kinds.again().collect::<Result<_, _>>().unwrap();
    for steps in 0..=again.len() {
        let mut anew = Queues::default();
        for op in &again[..steps] {
            if let Op::Tasks { op, .. } = op {
                anew.apply(op.clone());
            }
        }
        anew.restart();
        match anew.world.kinds.tasks.batch(batch).map(|batch| (batch.unfinished, batch.ended_ms)) {
            Ok((0, ended_ms)) => assert_ne!(ended_ms, 0, "{steps}"),
            Ok((_, ended_ms)) => assert_eq!(ended_ms, 0, "{steps}"),
            Err(_) => continue,
        }
        anew.now += 2 * KEEP_MS;
        anew.apply(TaskOp::Due { max: 9 });
        let is_there = anew.world.kinds.tasks.batch(batch).is_ok();
        let is_to_be_done = anew.world.kinds.tasks.queues().next().is_some_and(|queue| queue.ready > 0);
        assert_eq!(is_there, is_to_be_done, "{steps}");
    }
}

#[test]
fn there_are_so_many_batches_and_the_oldest_that_is_over_goes_for_a_new_one() {
    let mut queues = Queues::default();
    let most = Limits::WIDEST.task_batches_max;
    let all: Vec<TaskId> = (0..most).map(|_| queues.put_batch(vec![new("q")]).0).collect();
    let put = TaskOp::PutBatch { nonce: 1 << 20, keep_ms: 1, tasks: vec![new("q")] };
    assert_eq!(queues.apply(put.clone()), TaskOutcome::Full);
    let lease = queues.take("a");
    queues.end(lease, done("r"));
    assert!(matches!(queues.apply(put), TaskOutcome::Batch { .. }));
    assert_eq!(queues.world.kinds.tasks.batch(all[0]), Err(TaskOutcome::Gone));
    assert_eq!(queues.world.kinds.tasks.batches(), most);
}

fn followed(lease: Lease, nonce: u64, follow: Vec<NewTask>) -> TaskOp {
    TaskOp::EndWith { id: lease.id, fence: lease.fence, result: Bytes::from_static(b"r"), nonce, follow }
}

#[test]
fn what_follows_a_task_is_put_with_its_end_and_stays_at_its_place_in_the_batch() {
    let mut queues = Queues::default();
    let (batch, tasks) = queues.put_batch(vec![new("q"); 2]);
    let lease = queues.take("a");
    let end = followed(lease, 77, vec![new("p"), new("p")]);
    assert_eq!(queues.apply(end.clone()), TaskOutcome::Ended { state: TaskState::Done });
    queues.restart();
    assert_eq!(queues.apply(end), TaskOutcome::Again { state: TaskState::Done }, "and puts nothing");
    assert_eq!(queues.counts_of(batch), [3, 1, 0, 0]);
    let of = queues.world.kinds.tasks.batch(batch).unwrap();
    let places: Vec<_> = queues.world.kinds.tasks.members(of).map(|(place, task)| (place, task.id)).collect();
    let [one, two] = [0, 1].map(|number| TaskId::nth(tasks[1].seq + 1, 77, number));
    assert_eq!(places, [(0, tasks[0]), (0, one), (0, two), (1, tasks[1])]);
    // The last of a batch goes on: it is not over in between.
    let rest = TaskClaim { queues: vec!["q".into(), "p".into()], ..claim("b", 1, 9, &[]) };
    let rest = queues.claim(rest);
    assert_eq!(rest.len(), 3);
    queues.end(rest[0], done("r"));
    queues.end(rest[1], done("r"));
    queues.apply(followed(rest[2], 78, vec![new("q")]));
    assert_eq!(
        (queues.counts_of(batch), queues.world.kinds.tasks.batch(batch).unwrap().ended_ms),
        ([1, 4, 0, 0], 0)
    );
}

#[test]
fn an_end_whose_followers_have_no_room_is_refused_and_nothing_of_it_is_done() {
    let mut queues = Queues::default();
    let id = queues.put(new("q"));
    let lease = queues.take("a");
    let large = || NewTask { payload: vec![0; 250 * 1024].into(), ..new("p") };
    let before = queues.world.kinds.tasks.last_fence();
    let settings = QueueSettings { length_max: 1, ..QueueSettings::default() };
    queues.apply(TaskOp::QueueSet { queue: "q".into(), settings });
    loop {
        queues.nonce += 1;
        let put = queues.apply(TaskOp::Put { nonce: queues.nonce, tasks: vec![large()] });
        if put == TaskOutcome::Full {
            break;
        }
    }
    let count = queues.world.kinds.tasks.len();
    assert_eq!(queues.apply(followed(lease, 7, vec![large(); 32])), TaskOutcome::Full);
    assert_eq!((queues.task(id).state, queues.world.kinds.tasks.len()), (TaskState::Active, count));
    assert_eq!(queues.world.kinds.tasks.last_fence(), before);
    assert_eq!(queues.apply(followed(lease, 7, vec![new("p"); 33])), TaskOutcome::Invalid);
    let lost = Lease { fence: lease.fence + 1, ..lease };
    assert_eq!(queues.apply(followed(lost, 7, vec![new("q")])), TaskOutcome::LeaseLost);
    assert_eq!(queues.world.kinds.tasks.len(), count);
    // A queue that is full takes what follows one of its own, and so do the tasks that puts have no room for.
    let ended = queues.apply(followed(lease, 7, vec![new("q"), large()]));
    assert_eq!(
        (ended, queues.world.kinds.tasks.len()),
        (TaskOutcome::Ended { state: TaskState::Done }, count + 2)
    );
}
