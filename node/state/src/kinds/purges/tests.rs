//! Purges: their numbers, and what is kept of them.

use skep_base::codec;

use super::*;
use crate::command::Command;
use crate::kind::Record as _;
use crate::laws::{self, World};
use crate::message::Digest;
use crate::section;

fn said(nonce: u64, what: &str) -> Proposed {
    Proposed::Purges { op: PurgeOp::Add { nonce, what: Bytes::copy_from_slice(what.as_bytes()) } }
}

fn is_added(number: u64) -> [OpOutcome; 1] {
    [OpOutcome::Purges(PurgeOutcome::Added { number })]
}

fn put(name: u8) -> Proposed {
    let body = Bytes::from(vec![name]);
    let (digest, content_type) = (Digest::of(&body), "a/b".to_owned());
    Proposed::PutMessage { digest, content_type, body, time_ms: 1, nonce: 0 }
}

fn remove(name: u8) -> Proposed {
    Proposed::RemoveMessage { digest: Digest::of(&[name]) }
}

fn world() -> World {
    let mut world = World::default();
    world.apply([Proposed::Level { level: Level::NEWEST }]);
    world
}

fn since(world: &World, number: u64) -> Option<Vec<(u64, Purge)>> {
    Some(world.kinds.purges.since(number)?.collect())
}

fn messages(world: &World) -> Vec<(u64, Purge)> {
    world.kinds.purges.messages_since(0).collect()
}

fn text(what: &str) -> Purge {
    Purge::Said(Bytes::copy_from_slice(what.as_bytes()))
}

#[test]
fn numbers_rise_and_a_request_that_is_carried_again_has_its_own() {
    let mut world = world();
    assert_eq!(since(&world, 0), Some(vec![]));
    assert_eq!(world.apply([said(7, "a")]), is_added(1));
    assert_eq!(world.apply([said(8, "a")]), is_added(2), "the same again is another");
    let mut world = world.reopened();
    assert_eq!(world.apply([said(7, "a")]), is_added(1), "carried again, also after a checkpoint");
    assert_eq!(world.apply([said(9, "b")]), is_added(3));
    assert_eq!(since(&world, 1), Some(vec![(2, text("a")), (3, text("b"))]));
    assert_eq!(since(&world, 3), Some(vec![]));
    assert_eq!(since(&world, 9), Some(vec![]), "who is ahead has them all");
    for bad in ["".to_owned(), "x".repeat(PURGE_BYTES_MAX + 1)] {
        assert_eq!(world.apply([said(10, &bad)]), [OpOutcome::Purges(PurgeOutcome::TooLarge)]);
    }
    assert_eq!(world.apply([said(10, &"x".repeat(PURGE_BYTES_MAX))]), is_added(4));
}

#[test]
fn the_last_are_kept_and_who_knows_none_of_them_is_told_so() {
    let mut world = world();
    (1..=KEPT_MAX as u64 + 5).for_each(|at| drop(world.apply([said(at, "a")])));
    assert_eq!(since(&world, 4), None);
    assert_eq!(since(&world, 5).unwrap().len(), KEPT_MAX);
    let long = "x".repeat(PURGE_BYTES_MAX);
    (0..200).for_each(|at| drop(world.apply([said(9_000 + at, &long)])));
    let last = world.kinds.purges.last();
    let fit = KEPT_BYTES_MAX / (PURGE_BYTES_MAX + 16);
    assert_eq!(since(&world, last - fit as u64).unwrap().len(), fit, "so many bytes of them");
    assert_eq!(since(&world, last - fit as u64 - 1), None);
    assert_eq!(since(&world.reopened(), last - fit as u64).unwrap().len(), fit);
}

#[test]
fn messages_that_are_taken_out_are_purged_and_what_says_it_as_well_goes() {
    let mut world = world();
    world.apply((0..6).map(put));
    world.apply([remove(1), remove(4), remove(4), remove(99)]);
    assert_eq!(messages(&world), [(1, Purge::Message { seq: 2 }), (2, Purge::Message { seq: 5 })]);
    world.apply([Proposed::DropMessages { upto: 3 }, Proposed::DropMessages { upto: 3 }]);
    let expected = [(3, Purge::Messages { upto: 3 }), (2, Purge::Message { seq: 5 })];
    assert_eq!(messages(&world), expected, "once, and the floor stands for what is below it");
    assert_eq!(messages(&world.reopened()), expected);
    assert_eq!(world.kinds.purges.messages_since(2).count(), 1);
    // However many come, no operator's purge goes for them.
    assert_eq!(world.apply([said(7, "a")]), is_added(4));
    (0..KEPT_MAX as u64 + 9).for_each(|at| {
        let body = Bytes::from(at.to_string());
        let (digest, content_type) = (Digest::of(&body), "a/b".to_owned());
        world.apply([
            Proposed::PutMessage { digest, content_type, body, time_ms: 1, nonce: 0 },
            Proposed::RemoveMessage { digest },
        ]);
    });
    assert_eq!(since(&world, 0), Some(vec![(4, text("a"))]));
    assert_eq!(messages(&world).len(), KEPT_MAX + 11);
    world.apply([Proposed::DropMessages { upto: 9999 }]);
    assert_eq!(messages(&world).len(), 1);
}

#[test]
fn below_the_level_nothing_is_purged() {
    let mut world = World::default();
    world.apply([Proposed::Level { level: Level::SEALED }]);
    world.apply([put(1), put(2), remove(1), Proposed::DropMessages { upto: 2 }]);
    assert_eq!(world.kinds.record().purges, PurgesRecord::default());
    assert_eq!(Command::new(vec![said(1, "a")]).format, Level::PURGES.0);
}

#[test]
fn a_cluster_that_is_made_anew_has_none() {
    let mut world = world();
    world.apply([said(1, "a")]);
    assert_eq!(world.kinds.purges.again(&Mends::default()).count(), 0);
}

#[test]
fn a_section_that_no_state_has_is_refused() {
    let said = |what: &str| Bytes::copy_from_slice(what.as_bytes());
    let good = PurgesRecord {
        last: 9,
        gone: 3,
        kept: [(4, said("a"))].into(),
        floor: (6, 3),
        removed: [(7, 4), (8, 9)].into(),
        recent: [(5, 4)].into(),
    };
    let read = |record: &PurgesRecord| section::only::<PurgesRecord>(&section::written(&[record]).unwrap());
    assert_eq!(read(&good), Ok(good.clone()));
    let bad = [
        PurgesRecord { kept: [(3, said("a"))].into(), ..good.clone() },
        PurgesRecord { kept: [(5, said("a")), (5, said("a"))].into(), ..good.clone() },
        PurgesRecord { kept: [(10, said("a"))].into(), ..good.clone() },
        PurgesRecord { kept: [(5, said(""))].into(), ..good.clone() },
        PurgesRecord { kept: [(5, said(&"x".repeat(PURGE_BYTES_MAX + 1)))].into(), ..good.clone() },
        PurgesRecord { gone: 10, kept: [].into(), ..good.clone() },
        PurgesRecord { recent: [(5, 10)].into(), ..good.clone() },
        PurgesRecord { recent: [(5, 0)].into(), ..good.clone() },
        PurgesRecord { recent: (0..1025).map(|nonce| (nonce, 3)).collect(), ..good.clone() },
        PurgesRecord { last: u64::MAX, ..good.clone() },
        PurgesRecord { floor: (10, 3), ..good.clone() },
        PurgesRecord { removed: [(7, 3)].into(), ..good.clone() },
        PurgesRecord { removed: [(7, 4), (7, 5)].into(), ..good.clone() },
        PurgesRecord { removed: [(10, 4)].into(), ..good.clone() },
        PurgesRecord {
            last: 2_000,
            kept: (4..4 + KEPT_MAX as u64 + 1).map(|number| (number, said("a"))).collect(),
            ..good.clone()
        },
    ];
    for record in bad {
        assert!(read(&record).is_err(), "{record:?}");
    }
}

#[test]
fn the_laws_hold_of_purges() {
    laws::hold(|draw| match draw.within(0..10) {
        0 => draw.mend(),
        1 => Proposed::DropMessages { upto: draw.within(0..30) },
        2 => remove(draw.within(0..20) as u8),
        3..6 => put(draw.within(0..20) as u8),
        _ => said(draw.within(0..40), ["", "a", "bb"][draw.within(0..3) as usize]),
    });
}

/// Pinned, as in `tests/golden.rs`: what purges come to, the section that they leave, and the hash of what they did.
#[test]
fn purges_come_to_what_they_came_to_at_the_tenth_level() {
    let kinds = &mut World::default().kinds;
    kinds.apply(0, &Command::new(vec![Proposed::Level { level: Level(10) }])).unwrap();
    let mut outcomes = Vec::new();
    for at in 0..1_200u64 {
        let op = match at % 9 {
            0..4 => put((at % 200) as u8),
            4 => remove((at * 7 % 200) as u8),
            5 if at % 4 == 0 => Proposed::DropMessages { upto: at / 20 },
            // One in five is carried twice.
            _ => said(at - at % 5 / 4, &format!("{{\"url\":\"http://a/{at}\"}}")),
        };
        outcomes.push(kinds.apply(at, &Command::new(vec![op])).unwrap());
    }
    let digest = |bytes: Vec<u8>| Digest::of(&bytes).to_string();
    let state = kinds.record().purges.encode().unwrap();
    let hash = format!("{:032x}", kinds.rolling_hash().unwrap().0);
    assert_eq!(
        (&*digest(codec::encode(&outcomes).unwrap()), &*digest(codec::encode(&state).unwrap()), &*hash),
        (PURGE_OUTCOMES_10, PURGES_10, PURGES_HASH_10)
    );
}

const PURGE_OUTCOMES_10: &str = "eb39eebd8c2da1ae0ec6f080830820e7359c8375379038500eeeba2666ad0587";
const PURGES_10: &str = "e7af4ad3e3ed1a4ff9f2e0b4b8c92aac73a55e580ce140cf439dbc4c1121b50b";
const PURGES_HASH_10: &str = "d675bcbf4b4f2090899d473b63072813";
