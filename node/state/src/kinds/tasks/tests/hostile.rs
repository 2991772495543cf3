//! The laws of kinds, and sections that nobody wrote.

use super::*;
use crate::kind::Record;
use crate::kinds::{CommonRecord, KindsRecord};
use crate::laws::{self, Draw};
use crate::level::Level;
use crate::section;

pub(super) fn draw_op(draw: &mut Draw) -> TaskOp {
    // So few that they can be guessed.
    let id = |draw: &mut Draw| TaskId::nth(draw.within(1..16), draw.within(1..16), 0);
    let fence = draw.within(1..80);
    match draw.within(0..16) {
        0..=3 => TaskOp::Put { nonce: draw.within(1..16), tasks: vec![draw_task(draw)] },
        15 => TaskOp::EndWith {
            id: id(draw),
            fence,
            result: Bytes::from_static(b"r"),
            nonce: draw.within(1..16),
            follow: (0..draw.within(0..3)).map(|_| draw_task(draw)).collect(),
        },
        14 => {
            let tasks = (0..draw.within(1..4)).map(|_| draw_task(draw)).collect();
            TaskOp::PutBatch { nonce: draw.within(1..16), keep_ms: draw.within(0..100), tasks }
        }
        4..=6 => {
            let worker = ["a", "b", "c"][draw.within(0..3) as usize];
            let holds: Vec<u64> = (0..draw.within(0..4)).map(|_| draw.within(1..80)).collect();
            let queues = vec!["q".into(), "p".into()];
            let closes = draw.within(0..2) == 0;
            TaskOp::Claim(TaskClaim { queues, closes, ..claim(worker, draw.within(0..40), 3, &holds) })
        }
        7..=8 => TaskOp::End {
            id: id(draw),
            fence,
            end: match draw.within(0..4) {
                0 => done("r"),
                1 => failed(),
                2 => End::Release,
                _ => End::Snooze { delay_ms: 10 },
            },
        },
        9 => TaskOp::Expire {
            leases: (0..5).map(|_| Lease { id: id(draw), fence: draw.within(1..80) }).collect(),
        },
        10 => TaskOp::Due { max: draw.within(0..5) as u32 },
        11 => TaskOp::Cancel { id: id(draw) },
        12 => TaskOp::Revive { id: id(draw) },
        _ => {
            let settings = QueueSettings {
                paused: draw.within(0..4) == 0,
                per_key: [u32::MAX, 1, 1, 2][draw.within(0..4) as usize],
                key_pause_ms: draw.within(0..2) * 15,
                ..QueueSettings::default()
            };
            TaskOp::QueueSet { queue: "q".into(), settings }
        }
    }
}

/// Of so few kinds that they meet.
fn draw_task(draw: &mut Draw) -> NewTask {
    let unique = (draw.within(0..3) == 0).then(|| format!("u{}", draw.within(0..3)));
    let when = match draw.within(0..3) {
        0 => When::After { delay_ms: draw.within(0..50) },
        _ => When::After { delay_ms: 0 },
    };
    let policy = Policy { retries: 1, backoff_ms: 20, timeout_ms: draw.within(0..2) * 40, keep_ms: 60 };
    let (queue, priority) = (["q", "p"][draw.within(0..2) as usize], draw.within(0..10) as u8);
    let key = (draw.within(0..2) == 0).then(|| format!("k{}", draw.within(0..2)));
    NewTask { unique, when, policy, priority, key, ..new(queue) }
}

#[test]
fn the_laws_hold_of_tasks() {
    laws::hold(|draw| Op::Tasks { time_ms: draw.time(), op: draw_op(draw) });
}

/// A state in which each list has something.
fn mixed(level: Level) -> World {
    let mut queues = Queues::default();
    queues.world.apply([Op::Level { level }]);
    let settings = QueueSettings { per_key: 2, ..QueueSettings::default() };
    queues.apply(TaskOp::QueueSet { queue: "q".into(), settings });
    for number in 0..200 {
        let delay_ms = if number % 5 == 0 { 1_000 } else { 0 };
        let unique = (number % 7 == 0).then(|| number.to_string());
        let when = When::After { delay_ms };
        let key = (number % 3 == 0).then(|| format!("k{}", number % 4));
        queues.put(NewTask { when, unique, key, priority: (number % 10) as u8, ..new("q") });
    }
    for number in 1..40 {
        let kept = queues.claim(claim("a", number, 3, &[]));
        if let Some(lease) = kept.first() {
            let end = if number.is_multiple_of(3) {
                End::Failed { error: "e".into(), is_final: true }
            } else {
                done("r")
            };
            queues.end(*lease, end);
        }
    }
    let id = queues.world.kinds.tasks.leases().next().unwrap().id;
    queues.apply(TaskOp::Cancel { id });
    queues.claim(claim("b", 1, 9, &[]));
    for (nonce, keep_ms) in [(1_000, 10), (1_001, 20)] {
        let tasks = vec![new("p"), new("p"), NewTask { unique: Some("7".into()), ..new("q") }];
        queues.apply(TaskOp::PutBatch { nonce, keep_ms, tasks });
    }
    let of_batches = queues.claim(TaskClaim { queues: vec!["p".into()], ..claim("d", 1, 3, &[]) });
    for (number, lease) in (0..).zip(of_batches) {
        let dead = End::Failed { error: "e".into(), is_final: true };
        queues.end(lease, if number == 1 { dead } else { done("r") });
    }
    // A key that has rest.
    queues.put(NewTask { key: Some("k".into()), ..new("crawl") });
    let lease = queues.claim(TaskClaim { queues: vec!["crawl".into()], ..claim("c", 1, 1, &[]) })[0];
    queues.end(lease, done("r"));
    queues.world
}

#[test]
fn a_hostile_section_is_refused_or_says_tasks_that_can_be_worked_with() {
    refused_or_worked_with(&mixed(Level::FIRST), 1);
}

#[test]
fn a_hostile_section_of_places_is_refused_or_says_tasks_that_can_be_worked_with() {
    refused_or_worked_with(&mixed(Level::TASK_FILES), 2);
}

fn refused_or_worked_with(world: &World, its_format: u16) {
    let good = world.kinds.record();
    good.tasks.check().unwrap();
    let (format, bytes) = good.tasks.encode().unwrap();
    assert_eq!(format, its_format);
    let mut draw = laws::draw(7);
    let mut refused = 0;
    for _ in 0..3_000 {
        let mut bad = bytes.clone();
        for _ in 0..draw.within(1..4) {
            let at = draw.within(0..bad.len() as u64) as usize;
            bad[at] = match draw.within(0..3) {
                0 => draw.within(0..256) as u8,
                1 => bad[at] ^ 1 << draw.within(0..8),
                _ => bad[at].wrapping_add(1),
            };
        }
        let said = TasksRecord::decode(format, &bad).and_then(|record| record.check().map(|()| record));
        let Ok(record) = said else {
            refused += 1;
            continue;
        };
        // Whatever it says, nothing that follows panics.
        let common = CommonRecord { level: Level::NEWEST, ..CommonRecord::default() };
        let mut world = World::of(KindsRecord { common, tasks: record, ..KindsRecord::default() });
        for number in 0..20 {
            let _ = world.apply([Op::Tasks { time_ms: 1 << 40, op: draw_op(&mut draw) }]);
            let claim = TaskClaim { queues: vec!["q".into()], ..claim("z", 1 + number, 9, &[]) };
            let _ = world.apply([Op::Tasks { time_ms: 1 << 40, op: TaskOp::Claim(claim) }]);
            let _ = world.apply([Op::Tasks { time_ms: 1 << 60, op: TaskOp::Due { max: 100 } }]);
        }
        world.kinds.record().tasks.check().unwrap();
    }
    assert!(refused > 1_000, "{refused}");
    for end in 0..bytes.len() {
        assert!(TasksRecord::decode(format, &bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn tasks_have_a_section_of_their_own_only_where_there_are_any() {
    let kinds = |world: &World| {
        let bytes = world.kinds.record().encode().unwrap();
        section::kinds(&bytes)
    };
    assert_eq!(kinds(&World::default()), []);
    assert!(kinds(&mixed(Level::FIRST)).contains(&TasksRecord::ID));
}
