//! Documents whose secrets are sealed, and the data keys that they name.

use super::*;
use crate::gateway::{NAMED_MAX, WRAPPED_AT_ONCE_MAX, WRAPPED_BYTES_MAX};

fn key(id: u128) -> DataKey {
    DataKey { id, version: 0, is_spent: false, wrapped: format!("wrapped {id}").into() }
}

fn op(op: GatewayOp) -> Proposed {
    Proposed::Gateway { time_ms: 1_000, op }
}

fn set_sealed(nonce: u64, expect: Option<Revision>, document: &str, key: DataKey) -> Proposed {
    let document = Bytes::copy_from_slice(document.as_bytes());
    let lineage = 7 + u128::from(nonce);
    let keys = vec![key];
    op(GatewayOp::SetSealed { nonce, expect, lineage, document, source: "test".into(), keys })
}

fn seal(number: u64, from: &[u128], document: &str, key: DataKey) -> Proposed {
    let document = Bytes::copy_from_slice(document.as_bytes());
    op(GatewayOp::Seal { lineage: 8, number, from: from.into(), document, keys: vec![key] })
}

fn is_sealed(is_done: bool) -> [OpOutcome; 1] {
    [OpOutcome::Gateway(GatewayOutcome::Sealed { is_done })]
}

fn keys(world: &World) -> Vec<DataKey> {
    world.kinds.gateway.keys().cloned().collect()
}

fn ids(world: &World) -> Vec<u128> {
    world.kinds.gateway.keys().map(|key| key.id).collect()
}

#[test]
fn a_data_key_is_there_for_as_long_as_a_document_that_is_kept_names_it() {
    let (mut world, history) = (World::default(), Limits::WIDEST.gateway_history_max as u64);
    world.apply([set_sealed(1, None, "a", key(1))]);
    for number in 1..=2 * history {
        // Each document has a key of its own: all that the history can name.
        world.apply([set_sealed(number + 1, at(number), "a", key(u128::from(number) + 1))]);
        let gateway = &world.kinds.gateway;
        assert!(gateway.history().all(|told| gateway.keys_of(told).count() == 1), "at {number}");
    }
    assert_eq!(ids(&world).len() as u64, history + 1);
    let mut world = world.reopened();
    assert_eq!(ids(&world).len() as u64, history + 1, "all of them are in a checkpoint");
    // Documents without secrets push them out.
    for number in 2 * history + 1..=3 * history {
        world.apply([set(number + 1, at(number), "b")]);
    }
    assert_eq!(ids(&world), [u128::from(2 * history + 1)], "the last that the history names");
    world.apply([set(9_000, at(3 * history + 1), "b")]);
    assert!(ids(&world).is_empty());
    assert_eq!(world.kinds.record().gateway.format(), 1, "the version before reads it again");
}

#[test]
fn a_sealed_document_is_compared_and_set_as_any_and_its_key_stays_as_it_is_there() {
    let mut world = World::default();
    assert_eq!(world.apply([set_sealed(1, None, "a", key(1))]), is_set(1));
    assert_eq!(world.apply([set_sealed(2, None, "b", key(2))]), is_other(at(1)));
    let wrapped = DataKey { wrapped: "anew".into(), is_spent: true, ..key(1) };
    assert_eq!(world.apply([op(GatewayOp::Wrap { keys: vec![wrapped.clone()] })]), is_sealed(true));
    assert_eq!(world.apply([set_sealed(3, at(1), "b", key(1))]), is_set(2));
    assert_eq!(world.apply([set_sealed(3, at(1), "b", key(1))]), is_set(2), "carried again");
    assert_eq!(keys(&world), [DataKey { version: 1, ..wrapped }]);
    let large = DataKey { wrapped: vec![0; WRAPPED_BYTES_MAX + 1].into(), ..key(4) };
    let outcome = world.apply([set_sealed(4, at(2), "c", large)]);
    assert_eq!(outcome, [OpOutcome::Gateway(GatewayOutcome::TooLarge)]);
}

#[test]
fn what_lies_open_is_sealed_in_its_place_and_stays_of_its_revision() {
    let mut world = World::default();
    world.apply([set(1, None, "open 1")]);
    world.apply([set(2, at(1), "open 2")]);
    assert_eq!(world.apply([seal(1, &[], "sealed 1", key(1))]), is_sealed(true));
    assert_eq!(world.apply([seal(2, &[], "sealed 2", key(1))]), is_sealed(true));
    let newest = world.kinds.gateway.newest().map(|(revision, _)| revision);
    assert_eq!((newest, ids(&world)), (at(2), vec![1]));
    let documents = |world: &World| -> Vec<(u64, Bytes)> {
        world.kinds.gateway.history().map(|told| (told.number, told.document.clone())).collect()
    };
    let sealed: Vec<(u64, Bytes)> = vec![(1, "sealed 1".into()), (2, "sealed 2".into())];
    assert_eq!(documents(&world), sealed);
    // Carried again, of what is gone, of another key than was looked at, of another lineage.
    let mut other = seal(2, &[1], "x", key(2));
    if let Proposed::Gateway { op, .. } = &mut other {
        *op = op.clone().of_lineage(9);
    }
    for bad in [seal(1, &[], "x", key(1)), seal(7, &[], "x", key(1)), seal(2, &[5], "x", key(2)), other] {
        assert_eq!(world.apply([bad]), is_sealed(false));
    }
    assert_eq!((documents(&world), ids(&world)), (sealed, vec![1]));
    // Under another key: the one that nobody names any more goes.
    assert_eq!(world.apply([seal(1, &[1], "anew 1", key(2))]), is_sealed(true));
    assert_eq!(ids(&world), [1, 2]);
    assert_eq!(world.apply([seal(2, &[1], "anew 2", key(2))]), is_sealed(true));
    assert_eq!(ids(&world.reopened()), [2]);
}

#[test]
fn keys_are_wrapped_anew_where_they_are_as_they_were_looked_at() {
    let mut world = World::default();
    world.apply([set_sealed(1, None, "a", key(1))]);
    let anew = |version, wrapped: &'static str| DataKey { version, wrapped: wrapped.into(), ..key(1) };
    let wrap = |keys| op(GatewayOp::Wrap { keys });
    assert_eq!(world.apply([wrap(vec![anew(0, "by one"), key(5)])]), is_sealed(true), "one is not there");
    assert_eq!(world.apply([wrap(vec![anew(0, "by another")])]), is_sealed(false), "one was quicker");
    let spent = DataKey { is_spent: true, ..anew(1, "by another") };
    assert_eq!(world.apply([wrap(vec![spent])]), is_sealed(true));
    assert_eq!(world.apply([wrap(vec![anew(2, "by a third")])]), is_sealed(true));
    let held = keys(&world);
    let [left] = &*held else { panic!("{held:?}") };
    assert!(left.is_spent, "what was spent once is not whole again");
    assert_eq!((left.version, &*left.wrapped), (3, &b"by a third"[..]));
    let many = vec![key(1); WRAPPED_AT_ONCE_MAX + 1];
    assert_eq!(world.apply([wrap(many)]), [OpOutcome::Gateway(GatewayOutcome::TooLarge)]);
}

#[test]
fn a_document_names_few_keys_and_each_once() {
    let mut world = World::default();
    let set = |nonce, expect, keys: Vec<DataKey>| {
        let (document, source) = ("a".into(), "test".into());
        op(GatewayOp::SetSealed { nonce, expect, lineage: 8, document, source, keys })
    };
    let too_large = [OpOutcome::Gateway(GatewayOutcome::TooLarge)];
    assert_eq!(world.apply([set(1, None, vec![key(1), key(1)])]), too_large);
    assert_eq!(world.apply([set(2, None, (1..=NAMED_MAX as u128 + 1).map(key).collect())]), too_large);
    assert_eq!(world.apply([set(3, None, (1..=NAMED_MAX as u128).map(key).collect())]), is_set(1));
    assert_eq!(ids(&world.reopened()), [1, 2, 3, 4]);
    // It lets one go, and the history names it still.
    assert_eq!(world.apply([set(4, at(1), vec![key(4), key(2)])]), is_set(2));
    assert_eq!(ids(&world.reopened()), [1, 2, 3, 4]);
    let nothing =
        op(GatewayOp::Seal { lineage: 8, number: 2, from: vec![4, 2], document: "b".into(), keys: vec![] });
    assert_eq!(world.apply([nothing]), too_large, "what is sealed is sealed under something");
}

#[test]
fn documents_that_are_longer_once_they_are_sealed_push_out_the_oldest_and_their_keys() {
    let (mut world, limits) = (World::default(), Limits::WIDEST);
    let large = "a".repeat(limits.gateway_document_bytes_max - 100);
    for (number, document) in [(1, &*large), (2, &large), (3, "short"), (4, "newest")] {
        let expect = (number > 1).then(|| Revision { lineage: 8, number: number - 1 });
        world.apply([set_sealed(number, expect, document, key(number.into()))]);
    }
    let numbers = |world: &World| world.kinds.gateway.history().map(|told| told.number).collect::<Vec<_>>();
    assert_eq!((numbers(&world), ids(&world)), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
    assert_eq!(world.apply([seal(3, &[3], &"longer".repeat(40), key(9))]), is_sealed(true));
    assert_eq!((numbers(&world.reopened()), ids(&world)), (vec![2, 3, 4], vec![2, 4, 9]));
}

#[test]
fn what_a_snapshot_had_is_made_anew_with_the_key_of_the_newest_document_alone() {
    let mut old = World::default();
    old.apply([set_sealed(1, None, "a", key(1))]);
    old.apply([set_sealed(2, at(1), "b", key(2))]);
    let again: Vec<Proposed> = old.kinds.gateway.again(&Default::default()).map(|op| op.unwrap()).collect();
    let mut world = World::default();
    assert_eq!(world.apply(again.clone()), is_set(1));
    assert_eq!(world.apply(again), is_set(1), "carried again");
    assert_eq!(keys(&world), [key(2)]);
    world.apply([Proposed::Gateway { time_ms: 0, op: GatewayOp::Renew { lineage: 99 } }]);
    assert_eq!(keys(&world), [key(2)], "another lineage of the same document");
}

#[test]
fn a_section_whose_keys_are_not_those_that_documents_name_is_refused() {
    let told = |number, keys: &[u128]| Told {
        number,
        time: Stamp(1),
        source: "s".into(),
        document: "{}".into(),
        keys: keys.into(),
    };
    let good = GatewayRecord {
        lineage: 7,
        told: [told(1, &[1]), told(2, &[]), told(3, &[2, 1])].into(),
        recent: [(5, 3)].into(),
        keys: vec![key(1), key(2)],
    };
    let read = |record: &GatewayRecord| section::only::<GatewayRecord>(&section::written(&[record]).unwrap());
    assert_eq!(read(&good), Ok(good.clone()));
    let large = DataKey { wrapped: vec![0; WRAPPED_BYTES_MAX + 1].into(), ..key(2) };
    for keys in
        [vec![key(1)], vec![key(1), key(2), key(3)], vec![key(1), key(2), key(2)], vec![key(1), large]]
    {
        let record = GatewayRecord { keys, ..good.clone() };
        assert!(read(&record).is_err(), "{record:?}");
    }
    let (format, bytes) = good.encode().unwrap();
    assert_eq!(format, 2);
    for end in 0..bytes.len() {
        assert!(GatewayRecord::decode(format, &bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn the_laws_hold_of_sealed_documents() {
    laws::hold(|draw| {
        let (number, id) = (draw.within(1..20), u128::from(draw.within(1..6)));
        let expect = (number > 1).then(|| Revision { lineage: 8, number: number - 1 });
        let drawn = DataKey { version: draw.within(0..3), is_spent: draw.within(0..4) == 0, ..key(id) };
        match draw.within(0..12) {
            0 => draw.mend(),
            1 => op(GatewayOp::Renew { lineage: draw.within(7..9).into() }),
            2 => op(GatewayOp::Wrap { keys: vec![drawn] }),
            3 => {
                let (document, source) = ("{}".into(), "again".to_owned());
                op(GatewayOp::AddSealed { lineage: 8, document, source, keys: vec![drawn] })
            }
            4..6 => seal(number, if id > 2 { &[1] } else { &[] }, "sealed", drawn),
            6..8 => set(number, expect, "open"),
            _ => set_sealed(number, expect, "sealed", drawn),
        }
    });
}

/// Pinned, as in `tests/golden.rs`: whatever comes of these must come of them for ever.
#[test]
fn sealed_documents_come_to_what_they_came_to_at_the_ninth_level() {
    let kinds = &mut World::default().kinds;
    kinds.apply(0, &Command::new(vec![Proposed::Level { level: Level(9) }])).unwrap();
    let (mut outcomes, mut ops) = (Vec::new(), Vec::new());
    for at in 0..60u64 {
        let newest = kinds.gateway.newest().map(|(newest, _)| newest);
        let drawn = DataKey { version: at % 3, is_spent: at % 11 == 0, ..key(u128::from(at % 7) << 64 | 5) };
        let number = newest.map_or(0, |newest| newest.number);
        let proposed = match at % 6 {
            1 => op(GatewayOp::Wrap { keys: vec![drawn, key(5)] }),
            3 => set(at, newest, &format!("open {at}")),
            4 => op(GatewayOp::Seal {
                lineage: newest.map_or(0, |newest| newest.lineage),
                number: number.saturating_sub(at % 4 / 2),
                from: vec![],
                document: format!("sealed {at}").into(),
                keys: vec![drawn],
            }),
            _ => set_sealed(at, newest, &format!("sealed {at}"), drawn),
        };
        ops.push(proposed.clone());
        outcomes.push(kinds.apply(at, &Command::new(vec![proposed])).unwrap());
    }
    let digest = |bytes: Vec<u8>| crate::message::Digest::of(&bytes).to_string();
    let state = kinds.record().gateway.encode().unwrap();
    let hash = format!("{:032x}", kinds.rolling_hash().unwrap().0);
    assert_eq!(
        [
            digest(codec::encode(&Command::new(ops)).unwrap()),
            digest(codec::encode(&outcomes).unwrap()),
            digest(codec::encode(&state).unwrap()),
            hash
        ],
        [OPS_9, OUTCOMES_9, SEALED_9, HASH_9]
    );
}

const OPS_9: &str = "876df71f0728ee3b80b79633b1f31735086085a2e1216dcb92210054b6bd6886";
const OUTCOMES_9: &str = "c593ee52cc4e868512a6419d0a69b5d3ffa8dfd4160063499362b38680b978d8";
const SEALED_9: &str = "c2ae9cfa07464abf5d2c1658f30f333caf1b131535e6226f911975f7fa6cce81";
const HASH_9: &str = "ccbc65d0147bbbf939f9d3525cb84170";

/// Bytes, one by one: who decodes the log of this level finds these.
#[test]
fn the_encoding_of_sealed_operations_is_pinned() {
    let hex = |op: &GatewayOp| -> String {
        codec::encode(op).unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let (document, source) = (Bytes::from_static(b"{}"), "s".to_owned());
    let key = || DataKey { id: 3, version: 4, is_spent: true, wrapped: Bytes::from_static(b"w") };
    let expect = Some(Revision { lineage: 5, number: 6 });
    let set = GatewayOp::SetSealed {
        nonce: 1,
        expect,
        lineage: 2,
        document: document.clone(),
        source: source.clone(),
        keys: vec![key()],
    };
    let add = GatewayOp::AddSealed { lineage: 2, document: document.clone(), source, keys: vec![key()] };
    let seal = GatewayOp::Seal { lineage: 2, number: 7, from: vec![9], document, keys: vec![key()] };
    for (op, expected) in [
        (set, "030101050602027b7d0173010304010177".to_owned()),
        (add, "0402027b7d0173010304010177".to_owned()),
        (seal, "0502070109027b7d010304010177".to_owned()),
        (GatewayOp::Wrap { keys: vec![key()] }, "06010304010177".to_owned()),
    ] {
        assert_eq!(hex(&op), expected);
        assert_eq!(op.level(), Level::SEALED);
    }
}
