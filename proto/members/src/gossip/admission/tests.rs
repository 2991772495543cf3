use super::super::wire::{Digests, Key};
use super::*;

fn id(node: u64) -> ChitchatId {
    let port = 1 + (node % 60_000) as u16;
    ChitchatId::new(format!("{node:016x}"), 5, ([10, 0, 0, 1], port).into())
}

const ME: u64 = 9_999_999;

fn admission(judges: bool) -> Admission {
    Admission::new(id(ME), "skep", judges)
}

fn digest(node: u64) -> Digest {
    Digest { id: id(node), heartbeat: 7, floor: 0, version: 3 }
}

fn key(name: &str, version: u64) -> Key {
    Key { key: name.into(), value: "ready".into(), version, status: Status::Set }
}

fn delta(node: u64) -> Delta {
    Delta { id: id(node), floor: 0, from: 0, keys: vec![key("t", 4)], version: None }
}

fn said(
    admission: &Admission,
    form: Form,
    digest: Vec<Digest>,
    delta: Vec<Delta>,
) -> (Vec<Digest>, Vec<Delta>) {
    let message = Message { digests: Digests::Streamed, body: Body::SynAck { digest, delta } };
    match admission.admit(form, message, Instant::now()).unwrap().0.body {
        Body::SynAck { digest, delta } => (digest, delta),
        body => panic!("{body:?}"),
    }
}

#[test]
fn what_a_member_says_is_left_as_it_is() {
    for form in [Form::Root, Form::Edge] {
        let (digests, deltas) = (vec![digest(1), digest(ME)], vec![delta(1)]);
        assert_eq!(said(&admission(true), form, digests.clone(), deltas.clone()), (digests, deltas));
    }
}

#[test]
fn what_no_member_says_is_left_out_and_the_rest_stays() {
    let odd = |change: fn(&mut Delta)| {
        let mut odd = delta(2);
        change(&mut odd);
        odd
    };
    let odds = [
        odd(|delta| delta.floor = 1),
        odd(|delta| delta.version = Some(8)),
        odd(|delta| delta.keys[0].version = COUNT_MAX + 1),
        odd(|delta| delta.keys[0].status = Status::Deleted),
        odd(|delta| delta.keys[0].value = "x".repeat(VALUE_LEN_MAX + 1)),
        odd(|delta| delta.keys[0].key = "tt".into()),
        odd(|delta| delta.keys[0].key = String::new()),
        odd(|delta| delta.keys[0].key = "\u{e9}".into()),
        odd(|delta| delta.keys.push(key("t", 9))),
        // Of this process itself, and of one who is not known.
        delta(ME),
        delta(3),
    ];
    for odd in odds {
        let admission = admission(true);
        let (_, deltas) =
            said(&admission, Form::Root, vec![digest(1), digest(2)], vec![odd.clone(), delta(1)]);
        assert_eq!(deltas, [delta(1)], "{odd:?}");
    }
    let nobody = |node_id: &str, address: &str| Digest {
        id: ChitchatId::new(node_id, 5, address.parse().unwrap()),
        ..digest(2)
    };
    for odd in [
        Digest { heartbeat: COUNT_MAX + 1, ..digest(2) },
        Digest { version: u64::MAX, ..digest(2) },
        Digest { floor: 1, ..digest(2) },
        nobody("me", "10.0.0.1:1"),
        nobody("00000000000000AB", "10.0.0.1:1"),
        nobody("00000000000000ab", "10.0.0.1:0"),
        nobody("00000000000000ab", "0.0.0.0:1"),
        nobody("00000000000000ab", "224.0.0.1:1"),
    ] {
        let (digests, _) = said(&admission(true), Form::Root, vec![odd.clone(), digest(1)], vec![]);
        assert_eq!(digests, [digest(1)], "{odd:?}");
    }
}

#[test]
fn who_speaks_for_another_gossip_is_not_heard() {
    let body = Body::Syn { digest: vec![], gossip: "other".into() };
    let message = Message { digests: Digests::Streamed, body };
    assert!(admission(true).admit(Form::Root, message, Instant::now()).is_err());
}

#[test]
fn of_a_node_that_proved_itself_nothing_is_taken_from_an_edge() {
    let admission = admission(true);
    let (known, later) = (digest(1), ChitchatId { generation_id: u64::MAX, ..id(1) });
    admission.tell([id(1), id(2)].iter(), [NodeId(1)].into_iter(), Instant::now());
    let all = || (vec![known.clone(), digest(2)], vec![delta(1), delta(2)]);
    let (digests, deltas) = all();
    let from_edge = said(&admission, Form::Edge, digests, deltas);
    assert_eq!(from_edge, (vec![Digest { heartbeat: 0, ..known.clone() }, digest(2)], vec![delta(2)]));
    let (digests, deltas) = all();
    assert_eq!(said(&admission, Form::Root, digests, deltas), all());
    // Nor of another run of it.
    let run = (Digest { id: later.clone(), ..known.clone() }, Delta { id: later, ..delta(1) });
    assert!(said(&admission, Form::Edge, vec![run.0], vec![run.1]).1.is_empty());
    // An edge cannot tell.
    let edge = self::admission(false);
    edge.tell([id(1)].iter(), [NodeId(1)].into_iter(), Instant::now());
    assert_eq!(
        said(&edge, Form::Edge, vec![known.clone()], vec![delta(1)]),
        (vec![known.clone()], vec![delta(1)])
    );
}

#[test]
fn edges_bring_in_few_and_leave_room_for_the_others() {
    let admission = admission(true);
    let many = |from: u64| (from..from + 1000).map(digest).collect::<Vec<_>>();
    let admitted = |form, from| said(&admission, form, many(from), vec![]).0.len();
    assert_eq!(admitted(Form::Edge, 0), OF_EDGES_MAX);
    assert_eq!(admitted(Form::Edge, 10_000), 0);
    assert_eq!(admitted(Form::Root, 20_000), MEMBERS_MAX - OF_EDGES_MAX);
    assert_eq!(admitted(Form::Root, 30_000), 0);
    assert_eq!(admitted(Form::Edge, 0), OF_EDGES_MAX, "who is in stays");
    // The library has forgotten all but one; the others that it never knew are given up after a while.
    let now = Instant::now();
    admission.tell([id(0)].iter(), std::iter::empty(), now);
    assert_eq!(admitted(Form::Root, 40_000), 0);
    admission.tell([id(0)].iter(), std::iter::empty(), now + 2 * ADMITTED_FOR);
    assert_eq!(admitted(Form::Edge, 50_000), OF_EDGES_MAX - 1);
    assert_eq!(admitted(Form::Root, 60_000), MEMBERS_MAX - OF_EDGES_MAX);
}
