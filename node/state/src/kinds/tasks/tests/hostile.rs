//! The laws of kinds, and sections that nobody wrote.

use super::*;
use crate::kind::Record;
use crate::kinds::{CommonRecord, KindsRecord};
use crate::laws::{self, Draw};
use crate::level::Level;
use crate::section;

pub(super) fn draw_op(draw: &mut Draw) -> TaskOp {
    let id = |draw: &mut Draw| TaskId::nth(draw.within(1..16), draw.within(1..16), 0);
    let fence = draw.within(1..80);
    match draw.within(0..14) {
        0..=3 => {
            // So few that ids can be guessed.
            let nonce = draw.within(1..16);
            let unique = (draw.within(0..3) == 0).then(|| format!("u{}", draw.within(0..3)));
            let when = match draw.within(0..3) {
                0 => When::After { delay_ms: draw.within(0..50) },
                _ => When::After { delay_ms: 0 },
            };
            let policy =
                Policy { retries: 1, backoff_ms: 20, timeout_ms: draw.within(0..2) * 40, keep_ms: 60 };
            let (queue, priority) = (["q", "p"][draw.within(0..2) as usize], draw.within(0..10) as u8);
            TaskOp::Put { nonce, tasks: vec![NewTask { unique, when, policy, priority, ..new(queue) }] }
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
            let settings = QueueSettings { paused: draw.within(0..4) == 0, ..QueueSettings::default() };
            TaskOp::QueueSet { queue: "q".into(), settings }
        }
    }
}

#[test]
fn the_laws_hold_of_tasks() {
    laws::hold(|draw| Op::Tasks { time_ms: draw.time(), op: draw_op(draw) });
}

/// A state in which each list has something.
fn mixed() -> World {
    let mut queues = Queues::default();
    for number in 0..200 {
        let delay_ms = if number % 5 == 0 { 1_000 } else { 0 };
        let unique = (number % 7 == 0).then(|| number.to_string());
        let when = When::After { delay_ms };
        queues.put(NewTask { when, unique, priority: (number % 10) as u8, ..new("q") });
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
    queues.world
}

#[test]
fn a_hostile_section_is_refused_or_says_tasks_that_can_be_worked_with() {
    let world = mixed();
    let good = world.kinds.record();
    good.tasks.check().unwrap();
    let (format, bytes) = good.tasks.encode().unwrap();
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
        section::read(&bytes).unwrap().iter().map(|section| section.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&World::default()), []);
    assert!(kinds(&mixed()).contains(&TasksRecord::ID));
}
