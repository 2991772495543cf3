//! What is no kind's: the level, and the clock that is set back.

use super::*;
use crate::clock::mends::MENDS_MAX;
use crate::laws::World;

#[test]
fn each_kind_has_a_number_and_a_name_of_its_own() {
    for (i, (id, name)) in LISTED.iter().enumerate() {
        assert!(LISTED[..i].iter().all(|(other, called)| other != id && called != name), "{name}");
    }
}

#[test]
fn a_kind_of_which_there_is_nothing_has_no_section() {
    let mut world = World::default();
    let kinds = |world: &World| {
        let bytes = world.kinds.record().encode().unwrap();
        section::kinds(&bytes)
    };
    assert_eq!(kinds(&world), []);
    let text = bytes::Bytes::from_static(b"a");
    world.apply([Op::WriteText { request: skep_base::id::RequestId(1), text, time_ms: 1 }]);
    assert_eq!(kinds(&world), [CommonRecord::ID, TextRecord::ID]);
}

#[test]
fn the_level_only_rises_and_never_above_what_is_known() {
    let mut world = World::default();
    let mut raise = |level| world.apply([Op::Level { level: Level(level) }]);
    assert_eq!(raise(3), [OpOutcome::Level { level: Level(3) }]);
    assert_eq!(raise(1), [OpOutcome::Level { level: Level(3) }]);
    assert_eq!(world.reopened().kinds.level(), Level(3));
}

fn put(name: u64, time_ms: u64) -> Op {
    let body = bytes::Bytes::from(name.to_le_bytes().to_vec());
    let (digest, content_type) = (crate::message::Digest::of(&body), "a/b".to_owned());
    Op::PutMessage { digest, content_type, body, time_ms, nonce: 0 }
}

/// Sets back whatever clock.
fn mend(time_ms: u64) -> Op {
    Op::MendTime { time_ms, newest_ms: 0 }
}

/// The times of the messages, as they count.
fn times(world: &World) -> Vec<u64> {
    let time = |op| match op {
        Ok(Op::PutMessage { time_ms, .. }) => Some(time_ms),
        _ => None,
    };
    world.kinds.again().filter_map(time).collect()
}

#[test]
fn a_clock_that_was_ahead_is_set_back_with_all_that_has_its_time() {
    let mut world = World::default();
    let write = |request, time_ms| {
        let (request, text) = (skep_base::id::RequestId(request), bytes::Bytes::from_static(b"a"));
        Op::WriteText { request, text, time_ms }
    };
    world.apply([
        Op::Level { level: Level::NEWEST },
        put(1, 100),
        put(2, 90_000),
        put(3, 200),
        write(1, 200),
    ]);
    assert_eq!(times(&world), [100, 90_000, 90_000], "it stands still");
    let mended = OpOutcome::TimeMended { from_ms: 90_000, to_ms: 300 };
    assert_eq!(world.apply([mend(300)]), [mended]);
    assert_eq!(world.apply([mend(290)]), [OpOutcome::TimeKept], "clocks that are right differ by as much");
    let mut world = world.reopened();
    assert_eq!(world.kinds.text.newest().unwrap().time, Stamp(300));
    world.apply([put(4, 250), put(5, 320)]);
    assert_eq!(times(&world), [100, 300, 300, 300, 320]);
    assert_eq!(world.kinds.clock().latest(), Stamp(320));
}

#[test]
fn a_clock_is_set_back_only_where_it_still_is_as_it_was_seen_and_by_more_than_clocks_differ() {
    let mut world = World::default();
    world.apply([Op::Level { level: Level::NEWEST }, put(1, 90_000)]);
    let mut mend = |time_ms, newest_ms| world.apply([Op::MendTime { time_ms, newest_ms }]).swap_remove(0);
    assert_eq!(mend(300, 90_001), OpOutcome::TimeKept, "what was seen is no more");
    assert_eq!(mend(85_000, 90_000), OpOutcome::TimeKept, "it is near enough");
    assert_eq!(mend(84_999, 90_000), OpOutcome::TimeMended { from_ms: 90_000, to_ms: 84_999 });
    assert_eq!(mend(300, 90_000), OpOutcome::TimeKept, "tried again, when time has gone on");
}

#[test]
fn a_claim_moves_the_clock_on_so_that_its_time_can_be_set_back() {
    let claim =
        |key, time_ms| Op::Claim { key: crate::command::ClaimKey(key), fingerprint: 1, time_ms, ttl_ms: 50 };
    for (level, latest) in [(Level::ROLLING_HASH, 100), (Level::TIME_MENDS, 90_000)] {
        let mut world = World::default();
        world.apply([Op::Level { level }, put(1, 100), claim(1, 90_000), put(1, 90_000)]);
        assert_eq!(world.kinds.clock().latest(), Stamp(latest), "at {level:?}");
    }
}

#[test]
fn below_its_level_no_clock_is_set_back() {
    let mut world = World::default();
    let level = Level(Level::TIME_MENDS.0 - 1);
    world.apply([Op::Level { level }, put(1, 90_000)]);
    assert_eq!(world.apply([mend(300)]), [OpOutcome::TimeKept]);
    let record = world.kinds.record().common;
    assert_eq!((record.clock, record.mends.is_empty()), (Clock::at(Stamp(90_000)), true));
}

#[test]
fn however_often_the_clock_is_set_back_no_time_falls_as_messages_go_on() {
    for seed in 0..30 {
        let (mut world, mut draw) = (World::default(), crate::laws::Draw::of(seed));
        world.apply([Op::Level { level: Level::NEWEST }]);
        for name in 0..300 {
            let ahead = if draw.within(0..20) == 0 { 50_000 } else { 0 };
            world.apply([put(name, 10 * name + draw.within(0..30) + ahead)]);
            if draw.within(0..30) == 0 {
                world.apply([mend(10 * name)]);
            }
        }
        assert!(times(&world).is_sorted(), "seed {seed}: {:?}", times(&world));
        let mends = world.kinds.mends();
        assert!(!mends.is_empty());
        assert!(mends.is_sound());
    }
}

#[test]
fn a_clock_is_set_back_only_so_often_while_messages_of_then_are_there() {
    let mut world = World::default();
    world.apply([Op::Level { level: Level::NEWEST }]);
    let mut mended = |at: u64| {
        let outcomes = world.apply([put(at, 1_000_000 + at), mend(at)]);
        (outcomes[1].clone(), world.kinds.mends().len())
    };
    for at in 1..=MENDS_MAX as u64 {
        assert!(matches!(mended(at).0, OpOutcome::TimeMended { .. }), "{at}");
    }
    assert_eq!(mended(20), (OpOutcome::TooManyMends, MENDS_MAX));
    world.apply([Op::DropMessages { upto: 1 }]);
    let mended = world.apply([mend(20)]);
    assert!(matches!(mended[..], [OpOutcome::TimeMended { .. }]), "{mended:?}");
}

#[test]
fn a_clock_that_was_set_back_is_in_the_common_section_alone_of_its_level() {
    let mut world = World::default();
    world.apply([Op::Level { level: Level::NEWEST }, put(1, 90_000)]);
    let format = |world: &World| world.kinds.record().common.encode().unwrap().0;
    assert_eq!(format(&world), 2, "what the version before can read is written so that it can");
    world.apply([mend(300)]);
    assert_eq!(format(&world), 3);
    let common = world.kinds.record().common;
    common.check().unwrap();
    assert!(CommonRecord { level: Level::ROLLING_HASH, ..common }.check().is_err());
}

#[test]
fn a_command_of_a_newer_program_stops_the_node() {
    let mut command = Command::new(vec![]);
    command.format = Level::NEWEST.0 + 1;
    let stopped = World::default().kinds.apply(7, &command).unwrap_err();
    assert!(matches!(stopped, Stopped::Format { index: 7, .. }), "{stopped}");
}
