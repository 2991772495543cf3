//! Shifts, from their begin to their end.

use skep_base::codec;

use super::*;
use crate::command::Command;
use crate::kind::Record as _;
use crate::laws::{self, World};
use crate::level::{Level, Limits};
use crate::section;

fn shift() -> Shift {
    let (from, to) = ("blue".into(), "green".into());
    Shift { from, to, from_weight: 100, to_weight: 0, over_ms: 60_000, abort: "5xx>1%".into() }
}

fn begin(id: u64, after: u64, route: &str) -> Proposed {
    let op = ShiftOp::Begin { id, after, route: route.into(), shift: Box::new(shift()) };
    Proposed::Shifts { time_ms: 1_000, op }
}

fn at(time_ms: u64, op: ShiftOp) -> Proposed {
    Proposed::Shifts { time_ms, op }
}

fn step(id: u64, share: u32) -> Proposed {
    at(2_000, ShiftOp::Step { id, route: "web".into(), share })
}

fn end(id: u64, phase: Phase) -> Proposed {
    at(3_000, ShiftOp::End { id, route: "web".into(), phase, why: "so".into() })
}

fn came_to(world: &mut World, op: Proposed) -> ShiftOutcome {
    match &world.apply([op])[..] {
        [OpOutcome::Shifts(outcome)] => *outcome,
        other => panic!("{other:?}"),
    }
}

fn web(world: &World) -> (Phase, u32) {
    world.kinds.shifts.get("web").map(|held| (held.phase, held.share)).expect("it is known")
}

#[test]
fn a_shift_goes_on_step_by_step_once_whoever_proposes_it_and_however_often() {
    let mut world = World::default();
    assert_eq!(came_to(&mut world, begin(7, 0, "web")), ShiftOutcome::Set);
    assert_eq!(came_to(&mut world, begin(7, 0, "web")), ShiftOutcome::Set, "carried again");
    assert_eq!(came_to(&mut world, begin(8, 7, "web")), ShiftOutcome::Busy);
    assert_eq!(came_to(&mut world, step(7, 100)), ShiftOutcome::Set);
    for stale in [step(7, 100), step(7, 50), step(8, 200), step(7, WHOLE + 1), end(7, Phase::Done)] {
        assert_eq!(came_to(&mut world, stale.clone()), ShiftOutcome::Stale, "{stale:?}");
    }
    let mut world = world.reopened();
    assert_eq!(web(&world), (Phase::Running, 100));
    assert_eq!(came_to(&mut world, step(7, WHOLE)), ShiftOutcome::Set);
    assert_eq!(came_to(&mut world, end(7, Phase::Done)), ShiftOutcome::Set);
    assert_eq!(world.kinds.shifts.ends().done, 1);
    assert_eq!(world.kinds.shifts.open_ones().count(), 0);
}

#[test]
fn what_is_over_stays_so_until_another_begins_of_which_its_end_was_seen() {
    let mut world = World::default();
    came_to(&mut world, begin(7, 0, "web"));
    came_to(&mut world, step(7, 5_000));
    assert_eq!(came_to(&mut world, end(7, Phase::Back)), ShiftOutcome::Set);
    for stale in [step(7, 6_000), end(7, Phase::Superseded), begin(8, 0, "web"), begin(8, 6, "web")] {
        assert_eq!(came_to(&mut world, stale.clone()), ShiftOutcome::Stale, "{stale:?}");
    }
    assert_eq!(web(&world), (Phase::Back, 5_000), "how far it had come is still known");
    assert_eq!(came_to(&mut world, begin(8, 7, "web")), ShiftOutcome::Set);
    assert_eq!(web(&world), (Phase::Running, 0));
    assert_eq!(came_to(&mut world, begin(7, 0, "web")), ShiftOutcome::Busy, "carried again, too late");
}

#[test]
fn one_that_is_held_takes_no_step_until_it_goes_on_and_can_still_go_back() {
    let (mut world, route) = (World::default(), || "web".to_owned());
    came_to(&mut world, begin(7, 0, "web"));
    let hold = at(1_500, ShiftOp::Hold { id: 7, route: route() });
    assert_eq!(came_to(&mut world, hold.clone()), ShiftOutcome::Set);
    assert_eq!(came_to(&mut world, hold.clone()), ShiftOutcome::Stale);
    assert_eq!(came_to(&mut world, step(7, 100)), ShiftOutcome::Stale);
    assert_eq!(came_to(&mut world, at(1_600, ShiftOp::Resume { id: 7, route: route() })), ShiftOutcome::Set);
    assert_eq!(came_to(&mut world, step(7, 100)), ShiftOutcome::Set);
    came_to(&mut world, hold);
    assert_eq!(web(&world), (Phase::Held, 100));
    assert_eq!(came_to(&mut world, end(7, Phase::Back)), ShiftOutcome::Set);
}

#[test]
fn one_that_settles_is_neither_stopped_nor_taken_back_until_the_document_says_something() {
    let (mut world, route) = (World::default(), || "web".to_owned());
    came_to(&mut world, begin(7, 0, "web"));
    let settle = at(4_000, ShiftOp::Settle { id: 7, route: route() });
    assert_eq!(came_to(&mut world, settle.clone()), ShiftOutcome::Stale, "not all went over");
    came_to(&mut world, step(7, WHOLE));
    assert_eq!(came_to(&mut world, settle.clone()), ShiftOutcome::Set);
    let mut world = world.reopened();
    for stale in [settle, at(5_000, ShiftOp::Hold { id: 7, route: route() }), end(7, Phase::Back)] {
        assert_eq!(came_to(&mut world, stale.clone()), ShiftOutcome::Stale, "{stale:?}");
    }
    assert_eq!(world.kinds.shifts.open_ones().count(), 1);
    assert_eq!(came_to(&mut world, end(7, Phase::Done)), ShiftOutcome::Set);
}

#[test]
fn what_is_not_within_its_bounds_does_not_begin() {
    let mut world = World::default();
    let is = shift;
    for bad in [
        Shift { from: "green".into(), ..is() },
        Shift { from: String::new(), ..is() },
        Shift { to: "a/b".into(), ..is() },
        Shift { from_weight: 0, ..is() },
        Shift { from_weight: 10_000, to_weight: 1, ..is() },
        Shift { from_weight: u32::MAX, to_weight: 1, ..is() },
        Shift { over_ms: 9_999, ..is() },
        Shift { over_ms: 86_400_001, ..is() },
        Shift { abort: "x".repeat(33), ..is() },
        Shift { abort: "5xx > 1%".into(), ..is() },
    ] {
        let op = ShiftOp::Begin { id: 1, after: 0, route: "web".into(), shift: Box::new(bad.clone()) };
        assert_eq!(came_to(&mut world, at(1, op)), ShiftOutcome::Invalid, "{bad:?}");
    }
    assert_eq!(came_to(&mut world, begin(0, 0, "web")), ShiftOutcome::Invalid);
    assert_eq!(came_to(&mut world, begin(1, 0, &"w".repeat(65))), ShiftOutcome::Invalid);
    assert!(world.kinds.shifts.is_empty());
}

#[test]
fn where_as_many_are_known_as_may_be_the_one_that_is_over_the_longest_is_forgotten() {
    let mut world = World::default();
    let most = Limits::WIDEST.shifts_max as u64;
    for n in 1..=most {
        assert_eq!(came_to(&mut world, begin(n, 0, &format!("r{n}"))), ShiftOutcome::Set);
    }
    assert_eq!(came_to(&mut world, begin(99, 0, "web")), ShiftOutcome::Full, "all are open");
    for n in [9, 5] {
        let op = ShiftOp::End { id: n, route: format!("r{n}"), phase: Phase::Back, why: String::new() };
        assert_eq!(came_to(&mut world, at(9, op)), ShiftOutcome::Set);
    }
    assert_eq!(came_to(&mut world, begin(99, 0, "web")), ShiftOutcome::Set);
    assert!(world.kinds.shifts.get("r9").is_none() && world.kinds.shifts.get("r5").is_some());
    world.kinds.record().check().unwrap();
}

#[test]
fn a_clock_that_was_ahead_is_set_back_with_the_times_of_shifts() {
    let mut world = World::default();
    world.apply([Proposed::Level { level: Level::NEWEST }]);
    let op = ShiftOp::Begin { id: 1, after: 0, route: "web".into(), shift: Box::new(shift()) };
    came_to(&mut world, at(90_000, op));
    world.apply([Proposed::MendTime { time_ms: 300, newest_ms: 0 }]);
    let held = world.kinds.shifts.get("web").unwrap();
    assert_eq!((held.began_ms, held.changed_ms), (300, 300));
}

#[test]
fn a_section_of_shifts_that_cannot_be_is_refused() {
    let mut world = World::default();
    came_to(&mut world, begin(7, 0, "web"));
    let good = world.kinds.shifts.record();
    good.check().unwrap();
    let with = |change: &dyn Fn(&mut HeldShift)| {
        let mut record = good.clone();
        change(record.all.get_mut("web").unwrap());
        record.check()
    };
    assert!(with(&|held| held.share = WHOLE + 1).is_err());
    assert!(with(&|held| held.revision = 2).is_err());
    assert!(with(&|held| held.phase = Phase::Done).is_err(), "not all of it went over");
    assert!(with(&|held| held.began_ms = held.changed_ms + 1).is_err());
    assert!(with(&|held| held.why = "y".repeat(257)).is_err());
    assert!(with(&|held| held.shift.to = "blue".into()).is_err());
    let bytes = world.kinds.record().encode().unwrap();
    assert_eq!(section::kinds(&bytes).last(), Some(&ShiftsRecord::ID));
}

#[test]
fn the_laws_hold_of_shifts() {
    laws::hold(|draw| {
        let (id, time_ms) = (draw.within(1..6), draw.time());
        let route = ["web", "api", "app"][draw.within(0..3) as usize].to_owned();
        let phase = [Phase::Running, Phase::Held, Phase::Done, Phase::Back, Phase::Superseded]
            [draw.within(0..5) as usize];
        let op = match draw.within(0..12) {
            0 => return draw.mend(),
            1..4 => ShiftOp::Begin { id, after: draw.within(0..6), route, shift: Box::new(shift()) },
            4..7 => ShiftOp::Step { id, route, share: draw.within(0..11) as u32 * 1_000 },
            7 => ShiftOp::Hold { id, route },
            8 => ShiftOp::Resume { id, route },
            9..11 => ShiftOp::End { id, route, phase, why: "why".into() },
            _ => {
                let (began_ms, changed_ms) = (1_000, 1_000 + draw.within(0..3));
                let share = draw.within(0..10_001) as u32;
                let why = String::new();
                let revision = draw.within(0..300);
                let held =
                    HeldShift { id, revision, shift: shift(), phase, share, began_ms, changed_ms, why };
                ShiftOp::Restore(Box::new(SavedShift { route, held }))
            }
        };
        at(time_ms, op)
    });
}

/// Pinned, as in `tests/golden.rs`: what shifts come to, the section that they leave, and the hash of what they did.
#[test]
fn shifts_come_to_what_they_came_to_at_the_tenth_level() {
    let mut world = World::default();
    world.apply([Proposed::Level { level: Level(10) }]);
    let mut outcomes = Vec::new();
    for n in 0..60u64 {
        let (name, time_ms) = (["web", "api", "app"][n as usize % 3], 1_000 + n * 50);
        let (id, open) = world.kinds.shifts.get(name).map_or((0, false), |it| (it.id, it.phase.is_open()));
        let route = name.to_owned();
        let op = match n % 10 {
            _ if !open => ShiftOp::Begin { id: n + 1, after: id, route, shift: Box::new(shift()) },
            3 => ShiftOp::Hold { id, route },
            5 | 6 => ShiftOp::Resume { id, route },
            8 => {
                let phase = [Phase::Back, Phase::Superseded, Phase::Done][n as usize % 3];
                ShiftOp::End { id, route, phase, why: "5xx: 4 of 20".into() }
            }
            _ if n == 59 => {
                let held = world.kinds.shifts.get(name).unwrap().clone();
                ShiftOp::Restore(Box::new(SavedShift { route: "d".into(), held }))
            }
            _ => ShiftOp::Step { id, route, share: (n * 200).min(10_000) as u32 },
        };
        let came_to = world.kinds.apply(n, &Command::new(vec![at(time_ms, op)])).unwrap().outcomes;
        let [OpOutcome::Shifts(outcome)] = came_to[..] else { panic!("{came_to:?}") };
        outcomes.push(outcome);
    }
    let digest = |bytes: Vec<u8>| crate::message::Digest::of(&bytes).to_string();
    let state = world.kinds.record().shifts.encode().unwrap();
    let hash = format!("{:032x}", world.kinds.rolling_hash().unwrap().0);
    assert_eq!(
        (&*digest(codec::encode(&outcomes).unwrap()), &*digest(codec::encode(&state).unwrap()), &*hash),
        (SHIFTS_OUTCOMES_10, SHIFTS_10, SHIFTS_HASH_10)
    );
}

const SHIFTS_OUTCOMES_10: &str = "0e2f4e44e6babfaf95d251c60937882ed4c4bb00ffdf5378dec070960f47a739";
const SHIFTS_10: &str = "0c03a216b05f0daa85acdc8abea6dfa2beda6f9b400d56d646c2bc0f6f73f075";
const SHIFTS_HASH_10: &str = "cea03adcebb2d0ba6576e8baf03e2fa0";
