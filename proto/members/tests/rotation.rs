//! Keys that are read again under gossip that goes on.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, GossipConfig, NodeState, PeerRecord, Program, RaftRole, View};
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_members::seeds::Seed;
use skep_members::settings::{Given, cluster_key_in};

/// Far above any bar: what takes longer never happens.
const DEADLINE: Duration = Duration::from_secs(20);

/// Each test has a network of its own.
fn address(net: u8, host: u8) -> SocketAddr {
    SocketAddr::from(([127, 80, net, host], 7400))
}

async fn start(net: u8, host: u8, keys: Keys) -> Gossip {
    let record = PeerRecord {
        id: NodeId(u64::from(host)),
        program: Program::Node,
        state: NodeState::Joining,
        cluster: None,
        peer: address(net, host),
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
    };
    let seeds = [1, 2].map(|host| Seed::Address(address(net, host))).to_vec();
    let socket = UdpSocket::bind(address(net, host)).unwrap();
    let gossip = Gossip::start(GossipConfig { socket, seeds, nodes: vec![], keys, record }).await.unwrap();
    gossip.demand_proofs();
    gossip
}

fn of(line: &str) -> Keys {
    Keys::of_node(Given::from(KeyRing::parse(line).unwrap())).unwrap()
}

/// Waits for a view that is so.
async fn until(gossip: &Gossip, so: impl Fn(&View) -> bool) {
    let mut view = gossip.view();
    if tokio::time::timeout(DEADLINE, view.wait_for(|view| so(view))).await.is_err() {
        panic!("{:#?} {:#?}", gossip.view().borrow(), gossip.counters());
    }
}

#[tokio::test]
async fn processes_in_the_middle_of_a_key_rotation_see_each_other() {
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let one = start(2, 1, of(&format!("{old}\n{new}"))).await;
    let two = start(2, 2, of(&format!("{new}\n{old}"))).await;
    until(&one, |view| view.live.len() == 1).await;
    until(&two, |view| view.live.len() == 1).await;
}

/// And who joins at the end believes what they say.
#[tokio::test]
async fn members_that_read_their_keys_again_stay_together_and_leave_who_has_the_old_one_alone() {
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let folder = tempfile::tempdir().unwrap();
    let (mut all, mut places) = (Vec::new(), Vec::new());
    for host in 1..=3 {
        let path = folder.path().join(host.to_string());
        std::fs::write(&path, &old).unwrap();
        let keys = Keys::of_node(cluster_key_in(&path, "FILE").unwrap()).unwrap();
        all.push(start(1, host, keys.clone()).await);
        places.push((path, keys));
    }
    for gossip in &all {
        until(gossip, |view| view.live.len() == 2).await;
    }
    let watching = all.iter().map(|gossip| {
        let mut view = gossip.view();
        tokio::spawn(async move {
            while view.changed().await.is_ok() {
                let there = view.borrow_and_update().live.len();
                assert!(there >= 2, "one of them was gone for a moment");
            }
        })
    });
    let watching: Vec<_> = watching.collect();
    let mut looks = tokio::time::interval(Duration::from_millis(1));
    for (step, text) in (1..).zip([format!("{old}\n{new}"), format!("{new}\n{old}"), new.clone()]) {
        for (path, keys) in &places {
            std::fs::write(path, &text).unwrap();
            keys.read_again().await;
        }
        if step == 1 {
            // What each says by the keys of this step is heard by each. Afterwards nobody says anything new.
            all.iter().for_each(|gossip| gossip.update(|record| record.term = step));
            for gossip in &all {
                until(gossip, |view| view.live.iter().filter(|record| record.term == step).count() == 2)
                    .await;
            }
        }
        // Several rounds with everybody.
        for gossip in &all {
            let enough = gossip.counters().received + 30;
            while gossip.counters().received < enough {
                looks.tick().await;
            }
        }
    }
    for gossip in &all {
        let counters = gossip.counters();
        assert_eq!((counters.dropped.unknown_key, counters.bad_records), (0, 0));
    }
    let late = start(1, 4, of(&new)).await;
    until(&late, |view| view.live.len() == 3).await;
    let stranger = start(1, 5, of(&old)).await;
    while stranger.counters().dropped.unknown_key == 0 {
        looks.tick().await;
    }
    assert!(stranger.view().borrow().live.is_empty());
    assert!(all.iter().all(|gossip| gossip.view().borrow().live(NodeId(5)).is_none()));
    assert!(watching.iter().all(|watching| !watching.is_finished()), "one of them was gone for a moment");
}
