//! Datagrams of an edge that was taken over: it has the edge key, and says what no member says.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use chitchat::ChitchatId;
use skep_base::id::NodeId;
use skep_members::gossip::wire::{self, Body, Delta, Digest, Digests, Key, Message, Status};
use skep_members::gossip::{Gossip, GossipConfig, NodeState, PeerRecord, Program, RaftRole, View};
use skep_members::in_force::Keys;
use skep_members::key::{Form, KeyRing};
use skep_members::seal::Sealer;
use skep_members::seeds::Seed;

fn in_force(keys: &KeyRing) -> Keys {
    Keys::of_edge(keys.clone().into()).unwrap()
}

/// Far above any bar: what takes longer never happens.
const DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks at what has come of something.
const PAUSE: Duration = Duration::from_millis(1);

fn address(net: u8, host: u8) -> SocketAddr {
    SocketAddr::from(([127, 79, net, host], 7400))
}

fn record(net: u8, host: u8) -> PeerRecord {
    PeerRecord {
        id: NodeId(u64::from(host)),
        program: Program::Node,
        state: NodeState::Ready,
        cluster: None,
        peer: address(net, host),
        http: None,
        admin: None,
        version: "0.2.0".into(),
        protocol: (1, 6),
        expect: 1,
        raft: RaftRole::None,
        leader: None,
        term: 0,
        gateway: None,
        generation: 5,
    }
}

fn id(net: u8, host: u8) -> ChitchatId {
    ChitchatId::new(NodeId(u64::from(host)).to_string(), 5, address(net, host))
}

/// A node that looks at host 1 first.
async fn start(net: u8, host: u8, keys: &KeyRing) -> Gossip {
    start_at(net, host, keys, &[1], vec![]).await
}

/// A node that looks at these hosts first, and was in a cluster with these nodes.
async fn start_at(net: u8, host: u8, keys: &KeyRing, seeds: &[u8], nodes: Vec<NodeId>) -> Gossip {
    let socket = UdpSocket::bind(address(net, host)).unwrap();
    let seeds = seeds.iter().map(|seed| Seed::Address(address(net, *seed))).collect();
    let record = record(net, host);
    Gossip::start(GossipConfig { socket, seeds, nodes, keys: in_force(keys), record }).await.unwrap()
}

async fn until(gossip: &Gossip, so: impl Fn(&View) -> bool) {
    let mut view = gossip.view();
    if tokio::time::timeout(DEADLINE, view.wait_for(|view| so(view))).await.is_err() {
        panic!("{:#?} {:#?}", gossip.view().borrow(), gossip.counters());
    }
}

/// The edge that was taken over.
struct Liar {
    socket: UdpSocket,
    sealer: Sealer,
    victim: Gossip,
}

impl Liar {
    fn new(net: u8, host: u8, keys: &KeyRing, victim: &Gossip) -> Self {
        let edge = KeyRing::parse(&keys.edge_lines().join("\n")).unwrap();
        let socket = UdpSocket::bind(address(net, host)).unwrap();
        Self { socket, sealer: Sealer::new(&edge).unwrap(), victim: victim.clone() }
    }

    async fn says(&mut self, body: Body) {
        self.sends(&wire::write(&Message { digests: Digests::Streamed, body })).await;
    }

    /// Sends a message, and waits until it was heard: the kernel holds only so many.
    async fn sends(&mut self, message: &[u8]) {
        let datagram = self.sealer.seal(Form::Edge, message).unwrap();
        let before = self.victim.counters().received;
        self.socket.send_to(&datagram, self.victim.view().borrow().me.peer).unwrap();
        let heard = async {
            let mut look = tokio::time::interval(PAUSE);
            while self.victim.counters().received == before {
                look.tick().await;
            }
        };
        tokio::time::timeout(DEADLINE, heard).await.expect("what is sent on loopback comes");
    }

    /// Says of a node that it counted so far, and said so much, as no node does in its lifetime.
    async fn makes_old(&mut self, id: &ChitchatId) {
        let digest = vec![Digest { id: id.clone(), heartbeat: 1 << 39, floor: 0, version: 0 }];
        self.says(Body::Syn { digest, gossip: "skep".into() }).await;
        let keys = vec![key("t", "draining", 1 << 39)];
        self.says(Body::Ack {
            delta: vec![Delta { id: id.clone(), floor: 0, from: 0, keys, version: None }],
        })
        .await;
    }

    /// Makes a member known, and says something of it.
    async fn says_of(&mut self, id: &ChitchatId, keys: Vec<Key>, version: Option<u64>) {
        let digest = vec![Digest { id: id.clone(), heartbeat: 1, floor: 0, version: 0 }];
        self.says(Body::Syn { digest, gossip: "skep".into() }).await;
        self.says(Body::Ack { delta: vec![Delta { id: id.clone(), floor: 0, from: 0, keys, version }] })
            .await;
    }
}

fn key(name: &str, value: &str, version: u64) -> Key {
    Key { key: name.into(), value: value.into(), version, status: Status::Set }
}

#[tokio::test]
async fn nothing_that_an_edge_says_ends_a_node_or_keeps_it_from_hearing_others() {
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let one = start(1, 1, &keys).await;
    let mut liar = Liar::new(1, 9, &keys, &one);
    // Who is where the edge is: of others it says nothing that is taken.
    let stranger = ChitchatId { gossip_advertise_addr: address(1, 9), ..id(1, 8) };
    // A version below that of a key before it; the library asserts that there is none.
    liar.says_of(&stranger, vec![key("t", "ready", 9)], Some(3)).await;
    // Of the node itself: what it says next would be numbered beyond the last number.
    liar.says_of(&id(1, 1), vec![key("t", "left", u64::MAX)], None).await;
    liar.says_of(&id(1, 1), vec![key("t", "left", 1 << 30)], None).await;
    // What is to be forgotten, up to beyond all.
    liar.says(Body::Ack {
        delta: vec![Delta { id: stranger.clone(), floor: u64::MAX, from: 0, keys: vec![], version: Some(1) }],
    })
    .await;
    // More members than an answer has room for.
    for flood in 0..20u64 {
        let digest = (0..1000)
            .map(|n| {
                let node = NodeId(1000 + flood * 1000 + n).to_string();
                Digest { id: ChitchatId::new(node, n, address(1, 9)), heartbeat: n, floor: 0, version: 0 }
            })
            .collect();
        liar.says(Body::Syn { digest, gossip: "skep".into() }).await;
    }
    // A few kilobytes that unfold to many megabytes.
    let zeroes = zstd::bulk::compress(&vec![0; 65_000], 0).unwrap();
    let mut bomb = 45_139u16.to_le_bytes().to_vec();
    bomb.extend([1, 2]);
    for _ in 0..2000 {
        bomb.push(1);
        bomb.extend((zeroes.len() as u16).to_le_bytes());
        bomb.extend(&zeroes);
    }
    bomb.push(0);
    liar.sends(&bomb).await;

    one.update(|record| record.state = NodeState::Draining);
    let two = start(1, 2, &keys).await;
    until(&one, |view| view.live(NodeId(2)).is_some()).await;
    until(&two, |view| view.live(NodeId(1)).is_some_and(|record| record.state == NodeState::Draining)).await;
    assert!(
        one.counters().left_out > 1000 && one.counters().dropped.undecodable >= 1,
        "{:?}",
        one.counters()
    );
}

#[tokio::test]
async fn of_what_members_say_nothing_is_left_out() {
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let one = start(7, 1, &keys).await;
    let two = start(7, 2, &keys).await;
    let three = start(7, 3, &keys).await;
    for gossip in [&one, &two, &three] {
        until(gossip, |view| view.live.len() == 2).await;
    }
    two.update(|record| record.state = NodeState::Draining);
    until(&three, |view| view.live(NodeId(2)).is_some_and(|record| record.state == NodeState::Draining))
        .await;
    two.stop().await;
    for gossip in [&one, &three] {
        until(gossip, |view| view.live.len() == 1 && view.dead.len() == 1).await;
        let counters = gossip.counters();
        assert_eq!((counters.left_out, counters.dropped.undecodable), (0, 0), "{counters:?}");
    }
}

#[tokio::test]
async fn an_edge_takes_no_news_of_a_node_from_the_others_and_lets_none_seem_dead() {
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let one = start(3, 1, &keys).await;
    let two = start(3, 2, &keys).await;
    until(&one, |view| view.live(NodeId(2)).is_some()).await;
    Liar::new(3, 9, &keys, &one).makes_old(&id(3, 2)).await;
    two.update(|record| record.term = 7);
    until(&one, |view| view.live(NodeId(2)).is_some_and(|record| record.term == 7)).await;
    stays_alive(&one).await;
}

/// Node 2 would be dead by then, if its own heartbeats were taken for old.
async fn stays_alive(gossip: &Gossip) {
    let silence = tokio::time::timeout(Duration::from_secs(4), async {
        let mut view = gossip.view();
        let _ = view.wait_for(|view| view.live(NodeId(2)).is_none()).await.map(drop);
    });
    assert!(silence.await.is_err(), "{:?}", gossip.view().borrow());
}

/// A node that has just started knows of nobody's proof: what it believed, all others would have from it.
#[tokio::test]
async fn what_an_edge_says_first_to_a_node_that_has_just_started_the_others_do_not_have_from_it() {
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    // Whether it knows that two is a node, and whether the edge sends in the name of two.
    for (net, nodes, as_two) in [(4, vec![], false), (5, vec![NodeId(2)], true)] {
        let restarted = start_at(net, 1, &keys, &[], nodes).await;
        Liar::new(net, if as_two { 2 } else { 9 }, &keys, &restarted).makes_old(&id(net, 2)).await;
        let two = start_at(net, 2, &keys, &[3], vec![]).await;
        let three = start_at(net, 3, &keys, &[2], vec![]).await;
        until(&three, |view| view.live(NodeId(2)).is_some()).await;
        // By way of this one they hear of each other.
        let four = start_at(net, 4, &keys, &[1, 2], vec![]).await;
        for gossip in [&restarted, &three, &four] {
            until(gossip, |view| view.live.len() == 3).await;
        }
        two.update(|record| record.term = 7);
        for gossip in [&restarted, &three, &four] {
            until(gossip, |view| view.live(NodeId(2)).is_some_and(|record| record.term == 7)).await;
        }
        stays_alive(&three).await;
        stays_alive(&restarted).await;
    }
}

/// As many as it can, at each of five nodes, each of which tells the others.
#[tokio::test]
async fn a_node_that_is_new_is_seen_however_many_edges_were_invented() {
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let mut nodes = Vec::new();
    for host in 1..=5 {
        nodes.push(start(6, host, &keys).await);
    }
    for (node, place) in nodes.iter().zip((100..).step_by(10)) {
        for host in place..place + 5u8 {
            let invented = (0..100u64).map(|n| {
                let node = NodeId(1000 * u64::from(host) + n).to_string();
                Digest { id: ChitchatId::new(node, n, address(6, host)), heartbeat: n, floor: 0, version: 0 }
            });
            let says = Body::Syn { digest: invented.collect(), gossip: "skep".into() };
            Liar::new(6, host, &keys, node).says(says).await;
        }
    }
    // Who is new knows of all, and looks at one.
    let six = start(6, 6, &keys).await;
    let full = async {
        let mut look = tokio::time::interval(PAUSE);
        while six.counters().left_out == 0 {
            look.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, full).await.expect("they are more than there is room for");
    let seven = start_at(6, 7, &keys, &[6], vec![]).await;
    for gossip in nodes.iter().chain([&six]) {
        until(gossip, |view| view.live(NodeId(7)).is_some()).await;
    }
    until(&seven, |view| (1..7).all(|node| view.live(NodeId(node)).is_some())).await;
}
