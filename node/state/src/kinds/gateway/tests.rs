//! Documents, compared and set.

use skep_base::codec;

mod sealed;

use super::*;
use crate::command::Command;
use crate::kind::Record as _;
use crate::laws::{self, World};
use crate::level::Level;
use crate::section;

fn set(nonce: u64, expect: Option<Revision>, document: &str) -> Proposed {
    let document = Bytes::copy_from_slice(document.as_bytes());
    let op =
        GatewayOp::Set { nonce, expect, lineage: 7 + u128::from(nonce), document, source: "test".into() };
    Proposed::Gateway { time_ms: 1_000 + nonce, op }
}

fn at(number: u64) -> Option<Revision> {
    Some(Revision { lineage: 8, number })
}

fn is_set(number: u64) -> [OpOutcome; 1] {
    [OpOutcome::Gateway(GatewayOutcome::Set { revision: Revision { lineage: 8, number } })]
}

fn is_other(newest: Option<Revision>) -> [OpOutcome; 1] {
    [OpOutcome::Gateway(GatewayOutcome::Other { newest })]
}

#[test]
fn a_document_is_set_where_the_one_that_it_was_made_of_is_the_newest() {
    let mut world = World::default();
    assert_eq!(world.apply([set(9, at(1), "x")]), is_other(None), "there is none");
    assert_eq!(world.apply([set(1, None, "a")]), is_set(1));
    assert_eq!(world.apply([set(2, None, "b")]), is_other(at(1)), "there is one");
    assert_eq!(world.apply([set(3, at(1), "b")]), is_set(2), "the lineage is the first one's");
    assert_eq!(world.apply([set(4, at(1), "c")]), is_other(at(2)), "two of the same: one wins");
    let other = Revision { lineage: 9, number: 2 };
    assert_eq!(world.apply([set(5, Some(other), "c")]), is_other(at(2)), "of another lineage");
    let (revision, told) = world.kinds.gateway.newest().unwrap();
    assert_eq!((Some(revision), &*told.document, &*told.source), (at(2), &b"b"[..], "test"));
}

#[test]
fn a_request_that_is_carried_again_takes_effect_once_even_after_a_checkpoint() {
    let mut world = World::default();
    world.apply([set(1, None, "a")]);
    world.apply([set(2, at(1), "b")]);
    let mut world = world.reopened();
    assert_eq!(world.apply([set(1, None, "a")]), is_set(1));
    assert_eq!(world.apply([set(2, at(1), "b")]), is_set(2));
    (2..1001).for_each(|number| drop(world.apply([set(number + 1, at(number), "c")])));
    assert_eq!(world.apply([set(1, None, "a")]), is_set(1), "a thousand others came meanwhile");
    assert_eq!(world.kinds.gateway.revision(), 1001);
}

#[test]
fn what_a_snapshot_had_is_made_anew_where_there_is_nothing_once_and_without_its_past() {
    let mut old = World::default();
    old.apply([set(1, None, "a")]);
    old.apply([set(2, at(1), "b")]);
    let again: Vec<Proposed> = old.kinds.gateway.again(&Default::default()).map(|op| op.unwrap()).collect();
    let [Proposed::Gateway { op, .. }] = &*again else { panic!("{again:?}") };
    let add = |lineage| Proposed::Gateway { time_ms: 1, op: op.clone().of_lineage(lineage) };
    let mut world = World::default();
    assert_eq!(world.apply([add(8), add(8)]), [is_set(1), is_set(1)].concat(), "carried again");
    assert_eq!(world.apply([add(9)]), is_other(at(1)), "there is one");
    assert_eq!(world.apply([set(3, at(1), "c")]), is_set(2));
    assert_eq!(world.apply([add(8)]), is_set(1), "it was there");
    let documents: Vec<_> = world.kinds.gateway.history().map(|told| told.document.clone()).collect();
    assert_eq!(documents, ["b", "c"]);
}

#[test]
fn of_the_documents_before_so_many_are_kept_and_so_many_bytes() {
    let (mut world, limits) = (World::default(), Limits::WIDEST);
    world.apply([set(1, None, "a")]);
    (1..60).for_each(|number| drop(world.apply([set(number + 1, at(number), "a")])));
    let numbers = |world: &World| world.kinds.gateway.history().map(|told| told.number).collect::<Vec<_>>();
    assert_eq!(numbers(&world), (60 - limits.gateway_history_max as u64..=60).collect::<Vec<_>>());
    let large = "a".repeat(limits.gateway_document_bytes_max);
    (60..65).for_each(|number| drop(world.apply([set(number + 1, at(number), &large)])));
    assert_eq!(numbers(&world), [63, 64, 65]);
    let larger = large + "a";
    let outcome = world.apply([set(70, at(65), &larger)]);
    assert_eq!(outcome, [OpOutcome::Gateway(GatewayOutcome::TooLarge)]);
    assert_eq!(numbers(&world.reopened()), [63, 64, 65], "all of it is in a checkpoint");
}

#[test]
fn another_past_has_another_lineage_and_none_of_its_numbers() {
    let mut world = World::default();
    let renew = || Proposed::Gateway { time_ms: 0, op: GatewayOp::Renew { lineage: 99 } };
    assert_eq!(world.apply([renew()]), [OpOutcome::Gateway(GatewayOutcome::NoDocument)]);
    world.apply([set(1, None, "a")]);
    let revision = Revision { lineage: 99, number: 2 };
    assert_eq!(world.apply([renew()]), [OpOutcome::Gateway(GatewayOutcome::Set { revision })]);
    assert_eq!(world.apply([set(2, at(1), "b")]), is_other(Some(revision)));
    assert_eq!(world.kinds.gateway.newest().map(|(newest, told)| (newest, told.document.clone())), {
        Some((revision, Bytes::from("a")))
    });
}

#[test]
fn a_section_that_no_state_has_is_refused() {
    let told =
        |number| Told { number, time: Stamp(1), source: "s".into(), document: "{}".into(), keys: vec![] };
    let good = GatewayRecord {
        lineage: 7,
        told: [told(1), told(3)].into(),
        recent: [(5, 3)].into(),
        ..GatewayRecord::default()
    };
    let read = |record: &GatewayRecord| section::only::<GatewayRecord>(&section::written(&[record]).unwrap());
    assert_eq!(read(&good), Ok(good.clone()));
    let bad = [
        GatewayRecord { told: [told(3), told(3)].into(), ..good.clone() },
        GatewayRecord { told: [told(0)].into(), ..good.clone() },
        GatewayRecord { told: [].into(), ..good.clone() },
        GatewayRecord { told: (1..40).map(told).collect(), ..good.clone() },
        GatewayRecord { recent: [(5, 4)].into(), ..good.clone() },
        GatewayRecord { recent: (0..1025).map(|nonce| (nonce, 3)).collect(), ..good.clone() },
        GatewayRecord { told: [Told { source: "s".repeat(300), ..told(3) }].into(), ..good.clone() },
    ];
    for record in bad {
        assert!(read(&record).is_err(), "{record:?}");
    }
    let (format, bytes) = good.encode().unwrap();
    for end in 0..bytes.len() {
        assert!(GatewayRecord::decode(format, &bytes[..end]).is_err(), "cut at {end}");
    }
    assert!(GatewayRecord::decode(format, &[&bytes[..], b"x"].concat()).is_err());
}

#[test]
fn the_laws_hold_of_documents() {
    laws::hold(|draw| match draw.within(0..20) {
        0 => draw.mend(),
        1 => Proposed::Gateway { time_ms: 0, op: GatewayOp::Renew { lineage: draw.within(1..9).into() } },
        2..10 => {
            let (lineage, source) = (draw.within(1..9).into(), "again".to_owned());
            let document = ["", "{}", "{\"a\":1}"][draw.within(0..3) as usize].into();
            Proposed::Gateway { time_ms: draw.time(), op: GatewayOp::Add { lineage, document, source } }
        }
        nonce => {
            let expect = draw.within(0..12);
            let expect = (expect > 0).then_some(Revision { lineage: 8, number: expect });
            let Proposed::Gateway { op, .. } = set(nonce, expect, "{}") else { unreachable!() };
            Proposed::Gateway { time_ms: draw.time(), op }
        }
    });
}

/// Pinned, as in `tests/golden.rs`: what documents come to, the section that they leave, and the hash of what they did.
#[test]
fn documents_of_the_gateway_come_to_what_they_came_to_at_the_seventh_level() {
    let kinds = &mut World::default().kinds;
    kinds.apply(0, &Command::new(vec![Proposed::Level { level: Level(7) }])).unwrap();
    let mut outcomes = Vec::new();
    for at in 0..50u64 {
        let (document, lineage) = (Bytes::from(format!("{{\"a\":{at}}}")), u128::from(at + 7));
        let (source, expect) = (format!("s{}", at % 3), kinds.gateway.newest().map(|(newest, _)| newest));
        let op = match at % 7 {
            3 => GatewayOp::Add { lineage, document, source },
            5 if at % 2 == 0 => GatewayOp::Renew { lineage },
            // One in five is carried twice.
            _ => GatewayOp::Set { nonce: at - at % 5 / 4, expect, lineage, document, source },
        };
        let op = Proposed::Gateway { time_ms: 1_000 + at * 7 % 90, op };
        outcomes.push(kinds.apply(at, &Command::new(vec![op])).unwrap());
    }
    let digest = |bytes: Vec<u8>| crate::message::Digest::of(&bytes).to_string();
    let state = kinds.record().gateway.encode().unwrap();
    let hash = format!("{:032x}", kinds.rolling_hash().unwrap().0);
    assert_eq!(
        (&*digest(codec::encode(&outcomes).unwrap()), &*digest(codec::encode(&state).unwrap()), &*hash),
        (GATEWAY_OUTCOMES_7, GATEWAY_7, GATEWAY_HASH_7)
    );
}

const GATEWAY_OUTCOMES_7: &str = "b89cf9d2819fb13500039bbec91299844aa7fb526025a99d7fc6c588d630eb23";
const GATEWAY_7: &str = "2cce6eb78608867a3da13e7a72b6e3aa05c3bf5ba0ce09821f31f5d3554b23bb";
const GATEWAY_HASH_7: &str = "3c241bb54dcc8ffcc1a864c60fa48710";
