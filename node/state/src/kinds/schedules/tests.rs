//! Schedules, set and fired.

use bytes::Bytes;
use skep_base::codec;

use super::*;
use crate::command::Command;
use crate::kind::Record as _;
use crate::laws::{self, World};
use crate::level::Level;
use crate::schedule::Timing;
use crate::section;
use crate::task::{NewTask, Policy, QueueSettings, TaskId, When};

fn schedule(every_ms: u64) -> Schedule {
    let task = NewTask {
        queue: "q".into(),
        kind: "k".into(),
        payload: Bytes::from_static(b"1"),
        priority: 5,
        when: When::After { delay_ms: 0 },
        policy: Policy { retries: 1, backoff_ms: 5, timeout_ms: 5, keep_ms: 5 },
        unique: None,
        key: None,
    };
    Schedule { timing: Timing::Every { ms: every_ms }, is_paused: false, catches_up: true, task }
}

fn cron(expression: &str) -> Schedule {
    let timing = Timing::Cron { expression: expression.into(), zone: "UTC".into() };
    Schedule { timing, ..schedule(1_000) }
}

fn put(nonce: u64, name: &str, schedule: Schedule, time_ms: u64) -> Proposed {
    let op = ScheduleOp::Set { nonce, name: name.into(), schedule: Box::new(schedule) };
    Proposed::Schedules { time_ms, op }
}

fn remove(nonce: u64, name: &str) -> Proposed {
    Proposed::Schedules { time_ms: 0, op: ScheduleOp::Remove { nonce, name: name.into() } }
}

/// A fire of the schedule as it is, at its time.
fn fire(world: &World, name: &str, at_ms: u64, nonce: u64) -> Fire {
    let held = world.kinds.schedules.get(name);
    let (revision, after_ms) = held.map_or((0, 0), |held| (held.revision, held.after_ms));
    Fire { name: name.into(), revision, after_ms, at_ms, passed: 0, runs: true, nonce }
}

fn propose(fire: Fire) -> Proposed {
    Proposed::Schedules { time_ms: fire.at_ms, op: ScheduleOp::Fire(fire) }
}

fn came_to(world: &mut World, op: Proposed) -> ScheduleOutcome {
    match &world.apply([op])[..] {
        [OpOutcome::Schedules(outcome)] => *outcome,
        other => panic!("{other:?}"),
    }
}

fn fires(fired: u64, met: u64, missed: u64, refused: u64) -> Fires {
    Fires { fired, met, missed, refused }
}

/// With schedule `a`, set at 1,000.
fn with_one() -> World {
    let mut world = World::default();
    assert_eq!(
        came_to(&mut world, put(1, "a", schedule(1_000), 1_000)),
        ScheduleOutcome::Set { created: true }
    );
    world
}

fn ready(world: &World) -> u32 {
    world.kinds.tasks.queues().map(|queue| queue.ready).sum()
}

#[test]
fn a_fire_puts_its_task_once_whoever_proposes_it_and_however_often() {
    let mut world = with_one();
    let first = fire(&world, "a", 2_000, 7);
    let outcome = came_to(&mut world, propose(first.clone()));
    assert_eq!(outcome, ScheduleOutcome::Fired { id: TaskId::nth(1, 7, 0) });
    let mut world = world.reopened();
    let seen_since = fire(&world, "a", 1_999, 8);
    // Also by who did not see that it fired, and takes the time for one that was missed.
    let later = Fire { at_ms: 3_000, passed: 1, ..first.clone() };
    for again in [first.clone(), Fire { nonce: 8, ..first }, seen_since, later] {
        assert_eq!(came_to(&mut world, propose(again)), ScheduleOutcome::Stale);
    }
    assert_eq!(ready(&world), 1);
    let next = fire(&world, "a", 3_000, 9);
    assert!(matches!(came_to(&mut world, propose(next)), ScheduleOutcome::Fired { .. }));
    let held = world.kinds.schedules.get("a").unwrap();
    assert_eq!((held.last_ms, held.after_ms, held.fires), (3_000, 3_000, fires(2, 0, 0, 0)));
    assert_eq!(held.last_task, Some(TaskId::nth(2, 9, 0)));
}

#[test]
fn nothing_fires_that_is_paused_or_was_changed_or_removed_since_or_whose_time_has_not_come() {
    let mut world = with_one();
    let seen = fire(&world, "a", 2_000, 7);
    let early = Proposed::Schedules { time_ms: 1_999, op: ScheduleOp::Fire(seen.clone()) };
    assert_eq!(came_to(&mut world, early), ScheduleOutcome::Stale);
    came_to(&mut world, put(2, "a", schedule(1_000), 1_500));
    assert_eq!(came_to(&mut world, propose(seen)), ScheduleOutcome::Stale, "it was changed");
    came_to(&mut world, put(3, "a", Schedule { is_paused: true, ..schedule(1_000) }, 1_500));
    let paused = fire(&world, "a", 2_000, 7);
    assert_eq!(came_to(&mut world, propose(paused)), ScheduleOutcome::Stale);
    let none = Fire { name: "b".into(), ..fire(&world, "a", 2_000, 7) };
    assert_eq!(came_to(&mut world, propose(none)), ScheduleOutcome::Stale);
    // Removed and made anew, it is another one.
    came_to(&mut world, put(4, "a", schedule(1_000), 1_500));
    let seen = fire(&world, "a", 4_000, 7);
    came_to(&mut world, remove(5, "a"));
    came_to(&mut world, put(6, "a", schedule(1_000), 1_500));
    assert_eq!(came_to(&mut world, propose(seen)), ScheduleOutcome::Stale);
    assert_eq!(ready(&world), 0);
}

#[test]
fn a_fire_for_whose_task_there_is_no_room_is_owed_until_there_is() {
    let mut world = with_one();
    let settings = QueueSettings { length_max: 0, ..QueueSettings::default() };
    let op = TaskOp::QueueSet { queue: "q".into(), settings };
    world.apply([Proposed::Tasks { time_ms: 1_000, op }]);
    for at_ms in [2_000, 2_000, 3_000] {
        let owed = Fire { passed: u32::from(at_ms > 2_000), ..fire(&world, "a", at_ms, at_ms) };
        assert_eq!(came_to(&mut world, propose(owed)), ScheduleOutcome::Refused);
    }
    let held = world.kinds.schedules.get("a").unwrap();
    assert_eq!((held.after_ms, held.last_ms, held.fires), (1_000, 0, fires(0, 0, 0, 3)));
    let op = TaskOp::QueueSet { queue: "q".into(), settings: QueueSettings::default() };
    world.apply([Proposed::Tasks { time_ms: 3_000, op }]);
    let made_up_for = Fire { passed: 1, ..fire(&world, "a", 3_000, 9) };
    assert!(matches!(came_to(&mut world, propose(made_up_for)), ScheduleOutcome::Fired { .. }));
    assert_eq!((ready(&world), world.kinds.schedules.fires()), (1, fires(1, 0, 1, 3)), "once for both");
}

#[test]
fn a_fire_that_is_missed_for_good_puts_nothing() {
    let mut world = with_one();
    let missed = Fire { passed: 4, runs: false, ..fire(&world, "a", 6_000, 9) };
    assert_eq!(came_to(&mut world, propose(missed)), ScheduleOutcome::Missed);
    let held = world.kinds.schedules.get("a").unwrap();
    assert_eq!((held.after_ms, held.last_ms, held.fires), (6_000, 0, fires(0, 0, 5, 0)));
    assert_eq!(ready(&world), 0);
}

#[test]
fn a_fire_meets_the_unfinished_task_of_its_unique_key() {
    let mut world = World::default();
    let mut one = schedule(1_000);
    one.task.unique = Some("u".into());
    came_to(&mut world, put(1, "a", one, 1_000));
    let first = fire(&world, "a", 2_000, 7);
    came_to(&mut world, propose(first));
    let second = fire(&world, "a", 3_000, 8);
    let id = TaskId::nth(1, 7, 0);
    assert_eq!(came_to(&mut world, propose(second)), ScheduleOutcome::Met { id });
    let held = world.kinds.schedules.get("a").unwrap();
    assert_eq!((held.last_ms, held.last_task, held.fires), (3_000, Some(id), fires(1, 1, 0, 0)));
}

#[test]
fn what_is_owed_stays_so_where_the_task_alone_is_another_and_is_let_go_where_the_times_are() {
    let mut world = with_one();
    let after = |world: &World| {
        let held = world.kinds.schedules.get("a").unwrap();
        (held.anchor_ms, held.after_ms)
    };
    let mut other = schedule(1_000);
    other.task.payload = Bytes::from_static(b"2");
    assert_eq!(
        came_to(&mut world, put(2, "a", other.clone(), 5_000)),
        ScheduleOutcome::Set { created: false }
    );
    assert_eq!(after(&world), (1_000, 1_000));
    came_to(&mut world, put(3, "a", Schedule { is_paused: true, ..other.clone() }, 6_000));
    assert_eq!(after(&world), (1_000, 1_000));
    came_to(&mut world, put(4, "a", other, 7_000));
    assert_eq!(after(&world), (1_000, 7_000), "nothing was to fire meanwhile");
    came_to(&mut world, put(5, "a", cron("* * * * *"), 8_000));
    assert_eq!(after(&world), (8_000, 8_000));
}

#[test]
fn a_request_that_is_carried_again_takes_effect_once() {
    let mut world = with_one();
    assert_eq!(came_to(&mut world, remove(2, "a")), ScheduleOutcome::Removed);
    let mut world = world.reopened();
    let carried = came_to(&mut world, put(1, "a", schedule(1_000), 1_000));
    assert_eq!(carried, ScheduleOutcome::Set { created: true });
    assert!(world.kinds.schedules.is_empty(), "it was removed since");
    assert_eq!(came_to(&mut world, remove(2, "a")), ScheduleOutcome::Removed);
    assert_eq!(came_to(&mut world, remove(3, "a")), ScheduleOutcome::Unknown);
}

#[test]
fn no_schedule_is_taken_that_is_beyond_its_bounds_or_for_which_there_is_no_room() {
    let mut world = World::default();
    let mut at_a_time = schedule(1_000);
    at_a_time.task.when = When::At { time_ms: 5 };
    let mut large = schedule(1_000);
    large.task.payload = vec![b'1'; 65_536 - 2].into();
    let mut larger = large.clone();
    larger.task.payload = vec![b'1'; 65_536 - 1].into();
    let (none, long) = (cron(""), cron(&"*".repeat(257)));
    for refused in [schedule(999), schedule(u64::MAX), at_a_time, larger, none, long] {
        assert_eq!(came_to(&mut world, put(1, "a", refused, 1)), ScheduleOutcome::Invalid);
    }
    for name in ["", "a/b", &"a".repeat(65)] {
        assert_eq!(came_to(&mut world, put(1, name, schedule(1_000), 1)), ScheduleOutcome::Invalid);
    }
    let set = |created| ScheduleOutcome::Set { created };
    for nonce in 1..=128 {
        assert_eq!(came_to(&mut world, put(nonce, &format!("{nonce}"), large.clone(), 1)), set(true));
    }
    assert_eq!(came_to(&mut world, put(200, "a", schedule(1_000), 1)), ScheduleOutcome::Full, "8 MiB");
    assert_eq!(came_to(&mut world, put(201, "1", schedule(1_000), 1)), set(false), "in its own place");
    let mut world = world.reopened();
    for name in 2..=128 {
        let removed = came_to(&mut world, remove(name + 300, &format!("{name}")));
        assert_eq!(removed, ScheduleOutcome::Removed);
    }
    for nonce in 1_001..=2_023 {
        assert_eq!(came_to(&mut world, put(nonce, &format!("{nonce}"), schedule(1_000), 1)), set(true));
    }
    assert_eq!(came_to(&mut world, put(3_000, "a", schedule(1_000), 1)), ScheduleOutcome::Full, "1,024");
    assert_eq!(world.kinds.schedules.bytes(), 1_024 * 3);
}

#[test]
fn what_fired_before_a_snapshot_fires_no_second_time_once_it_is_made_anew() {
    let mut old = with_one();
    let first = fire(&old, "a", 2_000, 7);
    came_to(&mut old, propose(first.clone()));
    let again: Vec<Proposed> = old.kinds.schedules.again(&Mends::default()).map(|op| op.unwrap()).collect();
    let mut world = World::default();
    for op in again.iter().chain(&again) {
        assert_eq!(came_to(&mut world, op.clone()), ScheduleOutcome::Set { created: true }, "carried again");
    }
    assert_eq!(came_to(&mut world, propose(first.clone())), ScheduleOutcome::Stale);
    assert!(matches!(
        came_to(&mut world, propose(Fire { after_ms: 2_000, at_ms: 3_000, ..first })),
        ScheduleOutcome::Fired { .. }
    ));
    assert_eq!(world.kinds.schedules.fires(), fires(2, 0, 0, 0));
    let Proposed::Schedules { op: ScheduleOp::Restore(saved), .. } = &again[0] else { panic!("{again:?}") };
    let restore = |held| Proposed::Schedules {
        time_ms: 9_000,
        op: ScheduleOp::Restore(Box::new(SavedSchedule { name: "b".into(), held })),
    };
    for bad in [
        HeldSchedule { last_ms: 2_001, ..saved.held.clone() },
        HeldSchedule { revision: 1 << 48, ..saved.held.clone() },
    ] {
        assert_eq!(came_to(&mut world, restore(bad)), ScheduleOutcome::Invalid);
    }
    let mut other = with_one();
    came_to(&mut other, put(2, "a", schedule(5_000), 1_000));
    assert_eq!(came_to(&mut other, again[0].clone()), ScheduleOutcome::Full, "another has the name");
}

#[test]
fn where_the_clock_was_ahead_no_schedule_waits_for_that_time() {
    let mut world = with_one();
    world.apply([Proposed::Level { level: Level::NEWEST }]);
    let ahead = fire(&world, "a", 900_000, 7);
    came_to(&mut world, propose(ahead));
    let before = world.kinds.revisions().schedules;
    world.apply([Proposed::MendTime { time_ms: 3_000, newest_ms: 0 }]);
    assert!(world.kinds.revisions().schedules > before, "who waits looks anew");
    let next = fire(&world, "a", 4_000, 8);
    assert!(matches!(came_to(&mut world, propose(next)), ScheduleOutcome::Fired { .. }));
}

#[test]
fn a_section_that_no_state_has_is_refused() {
    let mut world = with_one();
    let first = fire(&world, "a", 2_000, 7);
    came_to(&mut world, propose(first));
    let good = world.kinds.record().schedules;
    let read =
        |record: &SchedulesRecord| section::only::<SchedulesRecord>(&section::written(&[record]).unwrap());
    assert_eq!(read(&good), Ok(good.clone()));
    let held = good.all["a"].clone();
    let with = |name: &str, held: HeldSchedule| SchedulesRecord {
        all: [(name.to_owned(), held)].into(),
        ..good.clone()
    };
    let bad = [
        with("a/b", held.clone()),
        with("a", HeldSchedule { revision: 99, ..held.clone() }),
        with("a", HeldSchedule { last_ms: 9_999, ..held.clone() }),
        with("a", HeldSchedule { schedule: schedule(1), ..held.clone() }),
        SchedulesRecord { all: (0..1_025).map(|n| (n.to_string(), held.clone())).collect(), ..good.clone() },
        SchedulesRecord { recent: (0..1_025).map(|nonce| (nonce, true)).collect(), ..good.clone() },
        SchedulesRecord { changes: 1 << 62, ..good.clone() },
    ];
    for record in bad {
        assert!(read(&record).is_err(), "{record:?}");
    }
    let (format, bytes) = good.encode().unwrap();
    for end in 0..bytes.len() {
        assert!(SchedulesRecord::decode(format, &bytes[..end]).is_err(), "cut at {end}");
    }
}

fn held_at_1000(schedule: Schedule) -> HeldSchedule {
    HeldSchedule {
        revision: 500,
        schedule,
        anchor_ms: 1_000,
        after_ms: 1_000,
        last_ms: 0,
        last_task: None,
        fires: Fires::default(),
    }
}

#[test]
fn the_laws_hold_of_schedules() {
    laws::hold(|draw| {
        let (name, nonce) = (["a", "b", "c"][draw.within(0..3) as usize], draw.within(0..1_000));
        match draw.within(0..10) {
            0 => draw.mend(),
            1 => Proposed::Tasks { time_ms: draw.time(), op: TaskOp::Due { max: 5 } },
            2 => remove(nonce, name),
            3..5 => {
                let mut one = schedule(1_000 + draw.within(0..2));
                one.is_paused = draw.within(0..4) == 0;
                one.task.unique = (draw.within(0..2) == 0).then(|| "u".into());
                put(nonce, name, one, draw.time())
            }
            // Of a revision that is known, so that some of what is proposed holds.
            5 => {
                let mut one = schedule(1_000);
                one.task.unique = (draw.within(0..2) == 0).then(|| "u".into());
                let saved = SavedSchedule { name: name.into(), held: held_at_1000(one) };
                Proposed::Schedules { time_ms: draw.time(), op: ScheduleOp::Restore(Box::new(saved)) }
            }
            _ => {
                let after_ms = [1_000, 1_000, 1_050, 1_100][draw.within(0..4) as usize];
                let (at_ms, revision) = (after_ms + 50, if draw.within(0..8) == 0 { 7 } else { 500 });
                let (passed, runs) = (draw.within(0..3) as u32, draw.within(0..4) > 0);
                let fire = Fire { name: name.into(), revision, after_ms, at_ms, passed, runs, nonce };
                Proposed::Schedules { time_ms: draw.time(), op: ScheduleOp::Fire(fire) }
            }
        }
    });
}

/// Pinned, as in `tests/golden.rs`: what schedules come to, the section that they leave, and the hash of what they did.
#[test]
fn schedules_come_to_what_they_came_to_at_the_eighth_level() {
    let mut world = World::default();
    world.apply([Proposed::Level { level: Level(8) }]);
    let mut outcomes = Vec::new();
    for at in 0..80u64 {
        let (name, time_ms) = (["a", "b", "c"][at as usize % 3], 1_000 + at * 50);
        let op = match at % 10 {
            0 | 1 => put(at, name, cron("*/5 1-3 * * mon"), time_ms),
            2 => put(at - 1, name, schedule(1_000 + at), time_ms),
            3 => put(at, name, Schedule { is_paused: at % 4 == 3, ..schedule(2_000) }, time_ms),
            4 if at % 3 == 0 => remove(at, name),
            5 if at > 40 => {
                let held = world.kinds.schedules.all().next().unwrap();
                let saved = SavedSchedule { name: "d".into(), held: held.1.clone() };
                Proposed::Schedules { time_ms, op: ScheduleOp::Restore(Box::new(saved)) }
            }
            _ => {
                let runs = at % 8 > 0;
                let fire = Fire { passed: at as u32 % 3, runs, ..fire(&world, name, time_ms, at) };
                Proposed::Schedules { time_ms, op: ScheduleOp::Fire(fire) }
            }
        };
        outcomes.push(world.kinds.apply(at, &Command::new(vec![op])).unwrap());
    }
    let digest = |bytes: Vec<u8>| crate::message::Digest::of(&bytes).to_string();
    let state = world.kinds.record().schedules.encode().unwrap();
    let hash = format!("{:032x}", world.kinds.rolling_hash().unwrap().0);
    assert_eq!(
        (&*digest(codec::encode(&outcomes).unwrap()), &*digest(codec::encode(&state).unwrap()), &*hash),
        (SCHEDULES_OUTCOMES_8, SCHEDULES_8, SCHEDULES_HASH_8)
    );
}

const SCHEDULES_OUTCOMES_8: &str = "8bbadc6f9998591a8fb8c0b91cd32c79839647eb096148db94293844f1a093d1";
const SCHEDULES_8: &str = "478758b3d4bb21a251331625925916879f0bd813e0bf1fb4780e3d4e0a2a256b";
const SCHEDULES_HASH_8: &str = "5b5c017b8d6f3f54dd6388c6195442a2";
