use super::super::wire::{Digests, Key};
use super::*;

fn id(node: u64) -> ChitchatId {
    let port = 1 + (node % 60_000) as u16;
    ChitchatId::new(format!("{node:016x}"), 5, ([10, 0, 0, 1], port).into())
}

const ME: u64 = 9_999_999;

fn admission(judges: bool) -> Admission {
    Admission::new(id(ME), "skep", judges, [])
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

/// Where nobody is of whom anything is said.
const ELSEWHERE: ([u8; 4], u16) = ([10, 9, 9, 9], 9);

const EDGE: ([u8; 4], u16) = ([10, 0, 0, 9], 9);

fn said(
    admission: &Admission,
    form: Form,
    digest: Vec<Digest>,
    delta: Vec<Delta>,
) -> (Vec<Digest>, Vec<Delta>) {
    said_from(ELSEWHERE.into(), admission, form, digest, delta)
}

fn said_from(
    from: SocketAddr,
    admission: &Admission,
    form: Form,
    digest: Vec<Digest>,
    delta: Vec<Delta>,
) -> (Vec<Digest>, Vec<Delta>) {
    let message = Message { digests: Digests::Streamed, body: Body::SynAck { digest, delta } };
    match admission.admit(from, form, message, Instant::now()).unwrap().0.body {
        Body::SynAck { digest, delta } => (digest, delta),
        body => panic!("{body:?}"),
    }
}

#[test]
fn what_a_member_says_is_left_as_it_is() {
    let (digests, deltas) = (vec![digest(1), digest(ME)], vec![delta(1)]);
    assert_eq!(said(&admission(true), Form::Root, digests.clone(), deltas.clone()), (digests, deltas));
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
    assert!(admission(true).admit(ELSEWHERE.into(), Form::Root, message, Instant::now()).is_err());
}

/// Who has proved itself, and is at its address.
fn proved(nodes: &[u64]) -> Proved {
    Proved {
        nodes: nodes.iter().copied().map(NodeId).collect(),
        places: nodes.iter().map(|node| id(*node).gossip_advertise_addr).collect(),
    }
}

#[test]
fn an_edge_speaks_for_itself_alone() {
    let admission = admission(true);
    let other = Digest { id: ChitchatId { gossip_advertise_addr: EDGE.into(), ..id(3) }, ..digest(3) };
    let own = Delta { id: other.id.clone(), ..delta(3) };
    admission.tell([id(1)].iter(), Proved::default(), Instant::now());
    let all =
        || (vec![digest(1), digest(2), digest(ME), other.clone()], vec![delta(1), delta(2), own.clone()]);
    // What it knows of who is known here is for it to say; that they live, and what they say, is not.
    let (digests, deltas) = all();
    let taken = vec![Digest { heartbeat: 0, ..digest(1) }, digest(ME), other.clone()];
    assert_eq!(said_from(EDGE.into(), &admission, Form::Edge, digests, deltas), (taken, vec![own.clone()]));
    // Of what a member says all is taken, also of an edge; and an edge, which cannot tell, takes all.
    for (admission, form) in [(&admission, Form::Root), (&self::admission(false), Form::Edge)] {
        let (digests, deltas) = all();
        assert_eq!(said_from(EDGE.into(), admission, form, digests, deltas), all());
    }
}

/// An edge can send in any name: whether it does where a node has proved itself, where one is known to be a
/// node before it has, or where one has said something itself.
#[test]
fn nothing_is_taken_from_an_edge_in_the_name_of_a_node() {
    let edge_says = |admission: &Admission, node: u64, run: u64| {
        let id = ChitchatId { generation_id: run, ..id(node) };
        let (digest, delta) =
            (Digest { id: id.clone(), ..digest(node) }, Delta { id: id.clone(), ..delta(node) });
        let (digest, delta) =
            said_from(id.gossip_advertise_addr, admission, Form::Edge, vec![digest], vec![delta]);
        digest.iter().any(|digest| digest.heartbeat > 0) || !delta.is_empty()
    };
    let admission = Admission::new(id(ME), "skep", true, [NodeId(5)]);
    assert!(edge_says(&admission, 1, 5), "it may be an edge");
    for run in [4, u64::MAX] {
        assert!(!edge_says(&admission, 5, run), "before it has proved itself, also after a restart");
        assert!(!edge_says(&admission, ME, run));
    }
    admission.tell([id(1), id(2)].iter(), proved(&[2]), Instant::now());
    assert!([5, u64::MAX].iter().all(|run| !edge_says(&admission, 2, *run)));
    assert!(!edge_says(&admission, 5, 5), "what was known stays known");
    // Another one where a node is.
    let squatter = ChitchatId { gossip_advertise_addr: id(2).gossip_advertise_addr, ..id(7) };
    let digest = Digest { id: squatter, ..digest(7) };
    assert_eq!(said_from(id(2).gossip_advertise_addr, &admission, Form::Edge, vec![digest], vec![]).0, []);
    // Who said something as a member, where it is, and has not proved it yet.
    said_from(id(8).gossip_advertise_addr, &admission, Form::Root, vec![self::digest(8)], vec![]);
    assert!(!edge_says(&admission, 8, 5));
    // Of whom a member told, it is not known.
    said(&admission, Form::Root, vec![self::digest(9)], vec![]);
    assert!(edge_says(&admission, 9, 5));
}

/// As many members at one host, each with an address.
fn many(host: u8, from: u64) -> Vec<Digest> {
    let at = |n: u64| Digest {
        id: ChitchatId::new(format!("{n:016x}"), 5, ([10, 0, 0, host], 1 + (n % 60_000) as u16).into()),
        ..digest(n)
    };
    (from..from + 1000).map(at).collect()
}

#[test]
fn edges_bring_in_few_each_from_its_own_address() {
    let admission = admission(true);
    let admitted = |host: u8, from: u64| {
        let each = many(host, from).into_iter();
        let says = |digest: Digest| {
            let at = digest.id.gossip_advertise_addr;
            said_from(at, &admission, Form::Edge, vec![digest], vec![]).0.len()
        };
        each.map(says).sum::<usize>()
    };
    assert_eq!(admitted(2, 0), EDGES_PER_HOST_MAX);
    assert_eq!(admitted(2, 10_000), 0);
    assert_eq!(
        (3..50).map(|host| admitted(host, 1000 * u64::from(host))).sum::<usize>(),
        EDGES_MAX - EDGES_PER_HOST_MAX
    );
    assert_eq!(admitted(2, 0), EDGES_PER_HOST_MAX, "who is in stays");
    // The library has forgotten all; they are given up after a while.
    admission.tell(std::iter::empty(), Proved::default(), Instant::now() + 2 * ADMITTED_FOR);
    assert_eq!(admitted(2, 10_000), EDGES_PER_HOST_MAX);
}

#[test]
fn whatever_others_tell_of_strangers_there_is_room_for_nodes() {
    let admission = Admission::new(id(ME), "skep", true, [NodeId(1)]);
    let relayed = |from| said(&admission, Form::Root, many(2, from), vec![]).0.len();
    assert_eq!((relayed(10_000), relayed(20_000)), (STRANGERS_MAX, 0));
    // A member of the cluster starts anew, again and again; another proved itself.
    let run = |node: u64, run| Digest { id: ChitchatId { generation_id: run, ..id(node) }, ..digest(node) };
    let runs =
        |node: u64| said(&admission, Form::Root, (0..1000).map(|n| run(node, n)).collect(), vec![]).0.len();
    assert_eq!(runs(1), RUNS_MAX);
    admission.tell(std::iter::empty(), proved(&[3]), Instant::now());
    assert_eq!(said(&admission, Form::Root, vec![digest(3)], vec![]).0, [digest(3)]);
    // One that is new says so itself.
    let new = vec![digest(4)];
    assert_eq!(said(&admission, Form::Root, new.clone(), vec![]).0, []);
    assert_eq!(said_from(id(4).gossip_advertise_addr, &admission, Form::Root, new.clone(), vec![]).0, new);
    // There is an end to it.
    let all: usize = (5..4000)
        .map(|node| {
            said_from(id(node).gossip_advertise_addr, &admission, Form::Root, vec![digest(node)], vec![])
                .0
                .len()
        })
        .sum();
    assert_eq!(all, MEMBERS_MAX - STRANGERS_MAX - RUNS_MAX - 2);
}

#[test]
fn a_process_that_cannot_judge_has_room_for_all_alike() {
    let admission = admission(false);
    assert_eq!(said(&admission, Form::Edge, many(2, 0), vec![]).0.len(), MEMBERS_MAX);
}
