//! Who has the edge key can write gossip: what nodes believe of each other all the same.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use skep_base::id::NodeId;
use skep_members::gossip::{Gossip, GossipConfig, NodeState, PeerRecord, Program, RaftRole, View};
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use skep_members::seeds::Seed;

fn in_force(keys: &KeyRing) -> Keys {
    Keys::of_edge(keys.clone().into()).unwrap()
}

/// Far above any bar: what takes longer never happens.
const DEADLINE: Duration = Duration::from_secs(20);

fn address(net: u8, host: u8) -> SocketAddr {
    SocketAddr::from(([127, 78, net, host], 7400))
}

fn record(net: u8, host: u8, id: u64, generation: u64) -> PeerRecord {
    PeerRecord {
        id: NodeId(id),
        program: Program::Node,
        state: NodeState::Ready,
        cluster: None,
        peer: address(net, host),
        http: None,
        admin: None,
        version: "0.2.0".into(),
        protocol: (1, 3),
        expect: 1,
        raft: RaftRole::None,
        leader: None,
        term: 0,
        gateway: None,
        generation,
    }
}

/// A member at a host of the net, which looks at host 1 first.
async fn start(net: u8, host: u8, keys: &KeyRing, record: PeerRecord) -> Gossip {
    let socket = UdpSocket::bind(address(net, host)).unwrap();
    let seeds = vec![Seed::Address(address(net, 1))];
    Gossip::start(GossipConfig { socket, seeds, nodes: vec![], keys: in_force(keys), record }).await.unwrap()
}

async fn until(gossip: &Gossip, so: impl Fn(&View) -> bool) -> Arc<View> {
    let mut view = gossip.view();
    match tokio::time::timeout(DEADLINE, view.wait_for(|view| so(view))).await {
        Ok(view) => view.unwrap().clone(),
        Err(_) => panic!("{:#?} {:#?}", gossip.view().borrow(), gossip.counters()),
    }
}

fn state_of(view: &View, id: u64) -> Option<(u64, NodeState)> {
    view.live(NodeId(id)).map(|record| (record.generation, record.state))
}

#[tokio::test]
async fn an_edge_that_says_of_a_node_that_it_drains_is_not_believed() {
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let edges = KeyRing::parse(&keys.edge_lines().join("\n")).unwrap();
    let one = start(1, 1, &keys, record(1, 1, 1, 5)).await;
    let two = start(1, 2, &keys, record(1, 2, 2, 5)).await;
    until(&one, |view| state_of(view, 2) == Some((5, NodeState::Ready))).await;
    // One says that it is a later run of node 2; others that they are nodes 3, 2 and 1, of other programs.
    let lie = PeerRecord { state: NodeState::Draining, ..record(1, 3, 2, u64::MAX) };
    let liar = start(1, 3, &edges, lie).await;
    let balancer = |host, id| PeerRecord { program: Program::Balancer, ..record(1, host, id, u64::MAX) };
    let others = [start(1, 5, &edges, balancer(5, 2)).await, start(1, 6, &edges, balancer(6, 1)).await];
    let invented = start(1, 7, &edges, record(1, 7, 3, 5)).await;
    // Before proofs are demanded, who never proved itself is believed: so does the version before.
    until(&one, |view| state_of(view, 3) == Some((5, NodeState::Ready))).await;
    assert_eq!(state_of(&one.view().borrow(), 2), Some((5, NodeState::Ready)));
    one.demand_proofs();
    until(&one, |view| state_of(view, 3).is_none()).await;
    assert!(one.counters().bad_records >= 1);
    // What the node says itself is believed, and who comes later and can prove it.
    two.update(|record| record.state = NodeState::Draining);
    until(&one, |view| state_of(view, 2) == Some((5, NodeState::Draining))).await;
    let four = start(1, 4, &keys, record(1, 4, 4, 5)).await;
    four.demand_proofs();
    until(&one, |view| state_of(view, 4) == Some((5, NodeState::Ready))).await;
    until(&four, |view| state_of(view, 1).is_some() && state_of(view, 2).is_some()).await;
    drop((liar, others, invented));
}

/// A clock was ahead for one run, whose number is lost: the others have seen it, and the next has a lower one.
#[tokio::test]
async fn a_node_whose_folder_is_older_than_what_it_proved_is_seen_again() {
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let one = start(9, 1, &keys, record(9, 1, 1, 5)).await;
    let three = start(9, 3, &keys, record(9, 3, 3, 5)).await;
    for (ahead, later) in [(1 << 40, 6), (u64::MAX - 1, 7)] {
        let two = start(9, 2, &keys, record(9, 2, 2, ahead)).await;
        for gossip in [&one, &three] {
            until(gossip, |view| state_of(view, 2) == Some((ahead, NodeState::Ready))).await;
            gossip.demand_proofs();
        }
        two.stop().await;
        let two = start(9, 2, &keys, record(9, 2, 2, later)).await;
        for gossip in [&one, &three] {
            until(gossip, |view| state_of(view, 2) == Some((later, NodeState::Ready))).await;
        }
        two.stop().await;
        until(&one, |view| state_of(view, 2).is_none()).await;
    }
}

/// Each step of the rotation in which an edge goes from the cluster key to the edge key, which nodes have
/// taken or not.
#[tokio::test]
async fn an_edge_that_goes_over_to_the_edge_key_in_a_rotation_is_understood_at_each_step() {
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let edge = KeyRing::parse(&new).unwrap().edge_lines().remove(0);
    let nodes = [old.clone(), format!("{old}\n{new}"), format!("{new}\n{old}"), new.clone()];
    let edges = [old.clone(), format!("{old}\n{edge}"), format!("{edge}\n{old}"), edge];
    let steps = [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3)];
    for (net, (node, edge)) in (2..).zip(steps) {
        let ring = |text: &String| KeyRing::parse(text).unwrap();
        let one = start(net, 1, &ring(&nodes[node]), record(net, 1, 1, 5)).await;
        let two = start(net, 2, &ring(&nodes[node]), record(net, 2, 2, 5)).await;
        let balancer = PeerRecord { program: Program::Balancer, expect: 0, ..record(net, 3, 3, 5) };
        let three = start(net, 3, &ring(&edges[edge]), balancer).await;
        for gossip in [&one, &two, &three] {
            until(gossip, |view| view.live.len() == 2).await;
        }
        one.demand_proofs();
        two.update(|record| record.state = NodeState::Draining);
        for gossip in [&one, &three] {
            until(gossip, |view| state_of(view, 2) == Some((5, NodeState::Draining))).await;
        }
        for gossip in [one, two, three] {
            assert_eq!(gossip.counters().dropped.unknown_key, 0, "{node} {edge}");
        }
    }
}
