//! What there may be of queues, tasks and workers, and what becomes of it at its bounds.

use super::*;
use crate::kind::Record;
use crate::level::Level;
use crate::task::HOLDS_MAX;

#[test]
fn where_there_are_as_many_queues_as_can_be_a_task_is_put_into_none_that_goes_for_another() {
    for order in [["q0", "new"], ["new", "q0"]] {
        let mut queues = Queues::default();
        for number in 0..Limits::WIDEST.task_queues_max {
            let queue = format!("q{number}");
            queues.apply(TaskOp::QueueSet { queue, settings: QueueSettings::default() });
        }
        let put = queues.apply(TaskOp::Put { nonce: 1, tasks: order.map(new).to_vec() });
        assert_eq!(put, TaskOutcome::Put { first: 1, count: 2, nonce: 1 });
        for (number, queue) in (0..).zip(order) {
            let id = TaskId::nth(1, 1, number);
            assert_eq!(queues.world.kinds.tasks.queue_of(queues.task(id)), queue, "of {order:?}");
        }
        queues.nonce = 1;
        assert_eq!(queues.put(new("q1")).seq, 3);
    }
}

#[test]
fn what_is_lost_at_the_bound_takes_no_room_and_what_ends_there_can_be_opened() {
    let mut queues = Queues::default();
    let large = NewTask { payload: vec![0; 256 * 1024].into(), ..new("large") };
    while let TaskOutcome::Put { .. } =
        queues.apply(TaskOp::Put { nonce: queues.nonce, tasks: vec![large.clone()] })
    {
        queues.nonce += 1;
    }
    queues.nonce += 1;
    while let TaskOutcome::Put { .. } =
        queues.apply(TaskOp::Put { nonce: queues.nonce, tasks: vec![new("q")] })
    {
        queues.nonce += 1;
    }
    let room = Limits::of(Level::TASKS).task_bytes_max;
    for number in 0..3 * 400 {
        let lease = queues.take(&format!("w{number}"));
        queues.apply(TaskOp::Expire { leases: vec![lease] });
    }
    assert!(queues.world.kinds.tasks.queues().any(|queue| queue.dead == 400));
    assert!(queues.world.kinds.tasks.bytes() <= room, "{}", queues.world.kinds.tasks.bytes());
    let lease = queues.take("last");
    let end = End::Done { result: vec![0; 256 * 1024].into() };
    assert_eq!(queues.end(lease, end), TaskOutcome::Ended { state: TaskState::Done });
    queues.world.kinds.record().tasks.check().unwrap();
}

#[test]
fn tasks_are_made_again_beside_what_clients_put_meanwhile() {
    let mut former = Queues::default();
    // By priority, so that the highest number is not the last to be made.
    let ids = [1, 9].map(|priority| former.put(NewTask { priority, ..new("q") }));
    let fence = former.take("a").fence;
    let again: Vec<Op> = former.world.kinds.again().collect::<Result<_, _>>().unwrap();
    let mut queues = Queues::default();
    for op in again {
        let Op::Tasks { op, .. } = op else { continue };
        assert!(matches!(queues.apply(op.clone()), TaskOutcome::Changed { .. }), "{op:?}");
        queues.put(new("meanwhile"));
    }
    let lease = queues.claim(TaskClaim { queues: vec!["meanwhile".into()], ..claim("b", 1, 1, &[]) })[0];
    assert!(lease.fence > fence);
    assert!(ids.iter().all(|id| queues.task(*id).state == TaskState::Ready));
}

#[test]
fn a_node_that_is_given_tasks_goes_on_from_their_revision() {
    let mut queues = Queues::default();
    queues.put_many(3, &new("q"));
    let before = queues.world.kinds.revisions().tasks;
    queues.restart();
    assert_eq!(queues.world.kinds.revisions().tasks, before);
    queues.take("a");
    assert!(queues.world.kinds.revisions().tasks > before);
}

#[test]
fn where_as_many_workers_are_known_as_can_be_none_goes_for_one_that_waits_on() {
    let mut queues = Queues::default();
    let known = Limits::WIDEST.task_workers_max;
    for number in 0..known {
        queues.claim(claim(&format!("w{number}"), 1, 1, &[]));
    }
    assert_eq!(queues.claim(TaskClaim { closes: false, ..claim("new", 1, 1, &[]) }), []);
    assert_eq!(queues.world.kinds.tasks.number_of("w0"), 1);
    queues.put(new("q"));
    assert_eq!(queues.claim(TaskClaim { closes: false, ..claim("new", 1, 1, &[]) }).len(), 1);
    assert_eq!((queues.world.kinds.tasks.number_of("w0"), queues.world.kinds.tasks.workers()), (0, known));
}

#[test]
fn what_is_carried_of_workers_can_be_written_where_there_are_as_many_as_can_be() {
    let lease =
        |number: u64| Lease { id: TaskId { seq: SEQ_MAX, nonce: u64::MAX }, fence: FENCE_MAX - number };
    let worker = queue::Worker {
        number: u64::MAX,
        seen_ms: u64::MAX,
        kept: (0..HOLDS_MAX as u64).map(lease).collect(),
        given: Vec::new(),
        fell: true,
    };
    let worker = Arc::new(worker);
    let limits = Limits::WIDEST;
    let name = |number: usize| Arc::from(format!("{number:0>128}"));
    let record = TasksRecord {
        workers: (0..limits.task_workers_max).map(|number| (name(number), worker.clone())).collect(),
        queues: (0..limits.task_queues_max)
            .map(|number| queue::Queue::new(&format!("{number:0>64}")))
            .collect(),
        recent: (0..limits.task_puts_max as u64).map(|number| (u64::MAX - number, SEQ_MAX, 1_000)).collect(),
        last_seq: SEQ_MAX,
        fence: FENCE_MAX,
        ..TasksRecord::default()
    };
    record.check().unwrap();
    let (format, bytes) = record.encode().unwrap();
    assert_eq!(TasksRecord::decode(format, &bytes).unwrap(), record);
}

#[test]
fn a_section_of_more_slots_than_can_be_is_refused_before_they_are_made() {
    let (format, mut bytes) = TasksRecord::default().encode().unwrap();
    // The number of pages is the first of the head.
    assert_eq!(bytes[4], 0);
    bytes.splice(4..5, [252, 0xff, 0xff, 0xff, 0x7f]);
    let len = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    let refused = TasksRecord::decode(format, &bytes).unwrap_err().to_string();
    assert!(refused.contains("pages"), "{refused}");
}

#[test]
fn a_unique_key_is_counted_where_it_is_looked_up_too_until_its_task_is_known_no_more() {
    let mut queues = Queues::default();
    queues.put(NewTask { unique: Some("u".repeat(256)), ..new("q") });
    assert_eq!(queues.world.kinds.tasks.bytes(), 256 + "k".len() + "{}".len() + 2 * 256);
    let lease = queues.take("a");
    queues.restart();
    queues.end(lease, done("r"));
    queues.now += POLICY.keep_ms;
    queues.apply(TaskOp::Due { max: 1 });
    assert_eq!(queues.world.kinds.tasks.bytes(), 0);
}
