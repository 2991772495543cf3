//! Gossip over real loopback sockets. Each test has a network of its own in 127.0.0.0/8, so
//! that tests never hear each other.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use skep_base::id::{ClusterId, NodeId};
use skep_members::gossip::{Gossip, GossipConfig, NodeState, PeerRecord, Program, RaftRole, View};
use skep_members::in_force::Keys;
use skep_members::key::{Form, KeyRing};
use skep_members::seal::{Opener, Sealer};
use skep_members::seeds::Seed;

fn in_force(keys: &KeyRing) -> Keys {
    Keys::of_edge(keys.clone().into()).unwrap()
}

/// Far above any bar: what takes longer never happens.
const DEADLINE: Duration = Duration::from_secs(20);

struct Net {
    name: u8,
    keys: KeyRing,
    seeds: Vec<Seed>,
}

impl Net {
    fn new(name: u8) -> Self {
        let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
        Self { name, keys, seeds: vec![] }
    }

    fn bind(&self, host: u8) -> UdpSocket {
        UdpSocket::bind((std::net::Ipv4Addr::new(127, 77, self.name, host), 7400)).unwrap()
    }

    /// A socket whose datagrams the test reads and writes itself.
    fn raw(&self, host: u8) -> tokio::net::UdpSocket {
        let socket = self.bind(host);
        socket.set_nonblocking(true).unwrap();
        tokio::net::UdpSocket::from_std(socket).unwrap()
    }

    fn address(&self, host: u8) -> SocketAddr {
        SocketAddr::from(([127, 77, self.name, host], 7400))
    }

    fn seeded(mut self, hosts: &[u8]) -> Self {
        self.seeds = hosts.iter().map(|host| Seed::Address(self.address(*host))).collect();
        self
    }

    fn record(&self, host: u8) -> PeerRecord {
        PeerRecord {
            id: NodeId(u64::from(host)),
            program: Program::Node,
            state: NodeState::Joining,
            cluster: None,
            peer: self.address(host),
            http: None,
            admin: None,
            version: "0.1.0".into(),
            protocol: (1, 1),
            expect: 1,
            raft: RaftRole::None,
            leader: None,
            term: 0,
            gateway: None,
            generation: PeerRecord::generation_now(),
        }
    }

    async fn start(&self, host: u8) -> Gossip {
        self.start_with(host, self.record(host), self.keys.clone()).await
    }

    async fn start_with(&self, host: u8, record: PeerRecord, keys: KeyRing) -> Gossip {
        let config = GossipConfig {
            socket: self.bind(host),
            seeds: self.seeds.clone(),
            nodes: vec![],
            keys: in_force(&keys),
            record,
        };
        Gossip::start(config).await.unwrap()
    }

    async fn start_all(&self, hosts: std::ops::RangeInclusive<u8>) -> Vec<Gossip> {
        let mut all = Vec::new();
        for host in hosts {
            all.push(self.start(host).await);
        }
        let others = all.len() - 1;
        for gossip in &all {
            until(gossip, |view| view.live.len() == others).await;
        }
        all
    }
}

/// Waits for a view that is so.
async fn until(gossip: &Gossip, so: impl Fn(&View) -> bool) -> Arc<View> {
    let mut view = gossip.view();
    match tokio::time::timeout(DEADLINE, view.wait_for(|view| so(view))).await {
        Ok(view) => view.unwrap().clone(),
        Err(_) => panic!("{:#?} {:#?}", gossip.view().borrow(), gossip.counters()),
    }
}

async fn until_all(all: &[Gossip], so: impl Fn(&View) -> bool) -> Duration {
    let start = Instant::now();
    for gossip in all {
        until(gossip, &so).await;
    }
    start.elapsed()
}

fn sees(view: &View, host: u8, state: NodeState) -> bool {
    let id = NodeId(u64::from(host));
    view.live.iter().chain([&view.me]).any(|record| record.id == id && record.state == state)
}

fn dead(view: &View, host: u8) -> bool {
    view.dead.iter().any(|record| record.id == NodeId(u64::from(host)))
        && view.live(NodeId(u64::from(host))).is_none()
}

/// What is held to a time: it runs with nothing beside it.
mod measures {
    use super::*;

    #[tokio::test]
    async fn a_join_a_change_and_a_death_are_seen_by_all_of_twelve() {
        let net = Net::new(1).seeded(&[1, 2]);
        let started = Instant::now();
        let mut all = net.start_all(1..=12).await;
        let formed = started.elapsed();

        let joined = Instant::now();
        all.push(net.start(13).await);
        until_all(&all, |view| view.live.len() == 12).await;
        let joined = joined.elapsed();

        all[12].update(|record| record.state = NodeState::Draining);
        let changed = until_all(&all, |view| sees(view, 13, NodeState::Draining)).await;

        let last = all.pop().unwrap();
        let killed = Instant::now();
        last.stop().await;
        until_all(&all, |view| dead(view, 13)).await;
        let killed = killed.elapsed();

        println!("formed {formed:?}, joined {joined:?}, changed {changed:?}, dead {killed:?}");
        println!("{:?}", all[0].counters());
        assert!(formed < Duration::from_secs(3), "{formed:?}");
        assert!(joined < Duration::from_millis(1500), "{joined:?}");
        assert!(changed < Duration::from_millis(300), "{changed:?}");
        assert!(killed < Duration::from_millis(3500), "{killed:?}");
    }
}

#[tokio::test]
async fn one_who_leaves_is_seen_as_left_and_not_as_dead() {
    let net = Net::new(2).seeded(&[1]);
    let all = net.start_all(1..=3).await;
    let mut view = all[0].view();
    let watched = tokio::spawn(async move {
        view.wait_for(|view| dead(view, 3) || sees(view, 3, NodeState::Left)).await.unwrap().clone()
    });
    all[2].leave().await;
    assert!(sees(&watched.await.unwrap(), 3, NodeState::Left));
    let view = until(&all[1], |view| dead(view, 3)).await;
    assert_eq!(view.dead[0].state, NodeState::Left);
}

#[tokio::test]
async fn a_node_that_starts_again_is_seen_once_and_as_a_new_generation() {
    let net = Net::new(3).seeded(&[1]);
    let all = net.start_all(1..=3).await;
    let before = all[0].view().borrow().live(NodeId(3)).unwrap().generation;
    all[2].stop().await;
    let record = PeerRecord { generation: before + 1, state: NodeState::Ready, ..net.record(3) };
    let again = net.start_with(3, record, net.keys.clone()).await;
    for gossip in &all[..2] {
        let view = until(gossip, |view| sees(view, 3, NodeState::Ready)).await;
        assert_eq!(view.live(NodeId(3)).unwrap().generation, before + 1);
        assert!(!dead(&view, 3));
    }
    until(&again, |view| view.live.len() == 2 && view.dead.is_empty()).await;
}

#[tokio::test]
async fn a_process_with_another_key_never_joins_and_both_sides_count_it() {
    let net = Net::new(4).seeded(&[1]);
    let one = net.start(1).await;
    let other = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let stranger = net.start_with(2, net.record(2), other).await;
    let friend = net.start(3).await;
    until(&one, |view| view.live.len() == 1).await;
    until(&friend, |view| view.live.len() == 1).await;
    while one.counters().dropped.unknown_key < 5 || stranger.counters().dropped.unknown_key == 0 {
        tokio::task::yield_now().await;
    }
    assert!(stranger.view().borrow().live.is_empty());
    assert!(one.view().borrow().live(NodeId(2)).is_none());
}

#[tokio::test]
async fn members_of_two_clusters_see_and_count_each_other() {
    let net = Net::new(6).seeded(&[1]);
    let all = net.start_all(1..=2).await;
    for (gossip, cluster) in all.iter().zip([ClusterId(1), ClusterId(2)]) {
        gossip.update(|record| record.cluster = Some(cluster));
    }
    until(&all[0], |view| view.live[0].cluster == Some(ClusterId(2))).await;
    until(&all[1], |view| view.live[0].cluster == Some(ClusterId(1))).await;
    assert_eq!(all[0].counters().foreign, 1);
    assert_eq!(all[1].counters().foreign, 1);
}

#[tokio::test]
async fn an_update_changes_what_may_change_and_no_identity() {
    let net = Net::new(7).seeded(&[1]);
    let all = net.start_all(1..=2).await;
    let generation = all[0].view().borrow().me.generation;
    all[0].update(|record| {
        record.id = NodeId(99);
        record.generation = 0;
        record.raft = RaftRole::Leader;
        record.leader = Some(NodeId(1));
        record.term = 7;
    });
    let view = until(&all[1], |view| view.live[0].raft == RaftRole::Leader).await;
    let seen = &view.live[0];
    assert_eq!(
        (seen.id, seen.generation, seen.term, seen.leader),
        (NodeId(1), generation, 7, Some(NodeId(1)))
    );
    assert_eq!(all[0].view().borrow().me, *seen);
}

/// Passes datagrams on between two members that know each other only through it, and keeps them.
#[tokio::test]
async fn hostile_datagrams_are_counted_by_reason_and_change_nothing() {
    let net = Net::new(8).seeded(&[1, 9]);
    let one = net.start(1).await;
    let wire = net.raw(9);
    // The second seed is the attacker: what comes there is real.
    let mut buffer = vec![0; 70_000];
    let (length, from) = wire.recv_from(&mut buffer).await.unwrap();
    let real = &buffer[..length];
    assert_eq!(from, net.address(1));
    wire.send_to(real, from).await.unwrap(); // reflected
    wire.send_to(&real[..20], from).await.unwrap(); // too short
    let mut flipped = real.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let two = net.start(2).await;
    until(&two, |view| view.live.len() == 1).await;
    wire.send_to(&flipped, two.view().borrow().me.peer).await.unwrap(); // forged
    wire.send_to(real, two.view().borrow().me.peer).await.unwrap(); // late, or new: opens at most once
    wire.send_to(real, two.view().borrow().me.peer).await.unwrap(); // replayed
    flipped[0] = 99;
    wire.send_to(&flipped, two.view().borrow().me.peer).await.unwrap(); // another version
    // Opens, but is no gossip.
    let junk = Sealer::new(&net.keys).unwrap().seal(Form::Root, b"junk, well sealed").unwrap();
    wire.send_to(&junk, from).await.unwrap();
    loop {
        let (a, b) = (one.counters().dropped, two.counters().dropped);
        let all = [a.reflected, a.too_short, a.undecodable, b.forged, b.replayed, b.version];
        if all.iter().all(|count| *count >= 1) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let view = until(&one, |view| view.live.len() == 1).await;
    assert!(view.trusted);
}

#[tokio::test]
async fn members_find_each_other_over_ipv6() {
    let keys = KeyRing::insecure_loopback();
    let net = Net::new(9);
    let sockets = [(); 2].map(|()| UdpSocket::bind("[::1]:0").unwrap());
    let seeds = vec![Seed::Address(sockets[0].local_addr().unwrap())];
    let mut all = Vec::new();
    for (host, socket) in (1..).zip(sockets) {
        let record = PeerRecord { peer: socket.local_addr().unwrap(), ..net.record(host) };
        let config =
            GossipConfig { socket, seeds: seeds.clone(), nodes: vec![], keys: in_force(&keys), record };
        all.push(Gossip::start(config).await.unwrap());
    }
    until_all(&all, |view| view.live.len() == 1).await;
}

#[tokio::test]
async fn a_dual_stack_member_and_an_ipv4_member_find_each_other() {
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let net = Net::new(10);
    let dual = UdpSocket::bind("[::]:0").unwrap();
    let address = SocketAddr::from(([127, 77, 10, 1], dual.local_addr().unwrap().port()));
    let record = PeerRecord { peer: address, ..net.record(1) };
    let config = GossipConfig { socket: dual, seeds: vec![], nodes: vec![], keys: in_force(&keys), record };
    let one = Gossip::start(config).await.unwrap();
    let config = GossipConfig {
        socket: net.bind(2),
        seeds: vec![Seed::Address(address)],
        nodes: vec![],
        keys: in_force(&keys),
        record: net.record(2),
    };
    let two = Gossip::start(config).await.unwrap();
    until_all(&[one, two], |view| view.live.len() == 1).await;
}

#[tokio::test]
async fn a_seed_that_starts_late_is_found() {
    let net = Net::new(11).seeded(&[1]);
    let two = net.start(2).await;
    until(&two, |view| view.settled_for(Instant::now()) >= Duration::ZERO).await;
    let one = Net { seeds: vec![], ..Net::new(11) };
    let one = one.start_with(1, net.record(1), net.keys.clone()).await;
    until_all(&[one, two], |view| view.live.len() == 1).await;
}

#[tokio::test]
async fn an_address_that_none_can_reach_is_refused() {
    let net = Net::new(12);
    let record = PeerRecord { peer: "0.0.0.0:7400".parse().unwrap(), ..net.record(1) };
    let config =
        GossipConfig { socket: net.bind(1), seeds: vec![], nodes: vec![], keys: in_force(&net.keys), record };
    assert!(Gossip::start(config).await.is_err());
}

/// Two runtimes: blocking the one is a stall of one process alone.
#[allow(clippy::disallowed_methods, reason = "the pause is the stall under test")]
#[test]
fn a_process_that_stalled_withholds_deaths_until_it_has_heard_again() {
    let net = Arc::new(Net::new(13).seeded(&[1]));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let there = net.clone();
    let others = std::thread::spawn(move || {
        runtime().block_on(async {
            let _all = there.start_all(1..=3).await;
            let _ = stopped.await;
        });
    });
    runtime().block_on(async {
        let late = net.start(4).await;
        until(&late, |view| view.live.len() == 3).await;
        let mut view = late.view();
        let watched = tokio::spawn(async move {
            let mut fewest = usize::MAX;
            let _ = view.wait_for(|view| !view.trusted).await.map(drop);
            let _ = view
                .wait_for(|view| {
                    fewest = fewest.min(view.live.len());
                    view.trusted
                })
                .await
                .map(drop);
            fewest
        });
        tokio::task::yield_now().await;
        std::thread::sleep(Duration::from_secs(4)); // the stall itself
        assert_eq!(watched.await.unwrap(), 3);
        assert!(late.counters().stalls >= 1);
        let view = until(&late, |view| view.trusted).await;
        assert_eq!(view.live.len(), 3);
    });
    let _ = stop.send(());
    others.join().unwrap();
}

#[tokio::test]
async fn gossip_ends_with_its_last_handle_and_frees_its_address() {
    let net = Net::new(14);
    let gossip = net.start(1).await;
    let mut view = gossip.view();
    drop(gossip);
    while view.changed().await.is_ok() {}
    while UdpSocket::bind(net.address(1)).is_err() {
        tokio::task::yield_now().await;
    }
}

fn edge_of(keys: &KeyRing) -> KeyRing {
    KeyRing::parse(&keys.edge_lines().join("\n")).unwrap()
}

#[tokio::test]
async fn an_edge_and_members_see_each_other_and_none_takes_another_for_a_stranger() {
    let net = Net::new(15).seeded(&[1]);
    let mut all = net.start_all(1..=2).await;
    let balancer = PeerRecord { program: Program::Balancer, expect: 0, ..net.record(3) };
    all.push(net.start_with(3, balancer, edge_of(&net.keys)).await);
    until_all(&all, |view| view.live.len() == 2).await;
    // A member that comes later speaks to the edge before it has heard from it.
    all.push(net.start(4).await);
    until_all(&all, |view| view.live.len() == 3).await;
    all[1].update(|record| record.state = NodeState::Draining);
    until(&all[2], |view| sees(view, 2, NodeState::Draining)).await;
    all[2].update(|record| record.state = NodeState::Draining);
    until_all(&all[..2], |view| sees(view, 3, NodeState::Draining)).await;
    for gossip in &all {
        let dropped = gossip.counters().dropped;
        assert_eq!((dropped.unknown_key, dropped.forged, dropped.undecodable), (0, 0, 0));
    }
}

#[tokio::test]
async fn edges_in_the_middle_of_a_key_rotation_are_understood() {
    let net = Net::new(16).seeded(&[1]);
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let ring = |first: &str, second: &str| KeyRing::parse(&format!("{first}\n{second}")).unwrap();
    let one = net.start_with(1, net.record(1), ring(&new, &old)).await;
    let two = net.start_with(2, net.record(2), edge_of(&ring(&old, &new))).await;
    until_all(&[one, two], |view| view.live.len() == 1).await;
}

/// The version before opens nothing else, and an edge nothing but the other.
#[tokio::test]
async fn who_was_not_heard_is_spoken_to_as_the_version_before_and_an_edge_as_an_edge() {
    let net = Net::new(17).seeded(&[9]);
    let silent = net.raw(9);
    let one = net.start(1).await;
    let (mut opener, mut buffer) = (Opener::new(&net.keys).unwrap(), vec![0; 70_000]);
    let mut sealer = Sealer::new(&net.keys).unwrap();
    for (said, wanted) in [(None, Form::Root), (Some(Form::Edge), Form::Edge), (Some(Form::Root), Form::Root)]
    {
        if let Some(form) = said {
            let word = sealer.seal(form, b"").unwrap();
            silent.send_to(&word, net.address(1)).await.unwrap();
        }
        let come = async {
            loop {
                let (length, _) = silent.recv_from(&mut buffer).await.unwrap();
                let (form, _) = opener.open_telling_form(&buffer[..length]).unwrap();
                // What was on its way before the word was heard.
                if form == wanted {
                    return;
                }
                assert_ne!(said, None);
            }
        };
        tokio::time::timeout(DEADLINE, come).await.expect("the seed is tried again and again");
    }
    one.stop().await;
}
