//! What members say to each other beside gossip, over real loopback sockets.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use skep_base::id::NodeId;
use skep_members::gossip::aside::{ASIDE_BYTES_MAX, Said};
use skep_members::gossip::{Gossip, GossipConfig, NodeState, PeerRecord, Program, RaftRole};
use skep_members::in_force::Keys;
use skep_members::key::KeyRing;
use tokio::sync::mpsc;

const ANY: &str = "127.0.0.1:0";
/// Far above any bar: what takes longer never happens.
const DEADLINE: Duration = Duration::from_secs(20);

async fn start(id: u64, keys: &KeyRing) -> (Gossip, SocketAddr) {
    let socket = UdpSocket::bind(ANY).unwrap();
    let peer = socket.local_addr().unwrap();
    let record = PeerRecord {
        id: NodeId(id),
        program: Program::Balancer,
        state: NodeState::Ready,
        cluster: None,
        peer,
        http: None,
        admin: None,
        version: "0.1.0".into(),
        protocol: (1, 1),
        expect: 0,
        raft: RaftRole::None,
        leader: None,
        term: 0,
        gateway: None,
        generation: PeerRecord::generation_now(),
    };
    let keys = Keys::of_edge(keys.clone().into()).unwrap();
    let config = GossipConfig { socket, seeds: vec![], nodes: vec![], keys, record };
    (Gossip::start(config).await.unwrap(), peer)
}

async fn next(heard: &mut mpsc::Receiver<Said>) -> Said {
    tokio::time::timeout(DEADLINE, heard.recv()).await.expect("it is heard").unwrap()
}

/// Until it can be bound again.
async fn wait_for_socket(at: SocketAddr) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let free = async {
        while UdpSocket::bind(at).is_err() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, free).await.expect("its address is free");
}

#[tokio::test]
async fn what_is_said_beside_gossip_arrives_whole_and_is_no_gossip() {
    let keys = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let edges = KeyRing::parse(&keys.edge_lines().join("\n")).unwrap();
    let others = KeyRing::parse(&KeyRing::generate_line()).unwrap();
    let ((a, at_a), (b, at_b)) = (start(1, &keys).await, start(2, &edges).await);
    let (stranger, _) = start(3, &others).await;
    let mut heard = b.hear().unwrap();
    assert!(b.hear().is_none(), "one alone hears");
    // Nobody hears there, and nothing comes of it.
    b.say(at_a, b"hello?").await;
    // Who has another key, or none, says nothing, and what is too long is not sent.
    stranger.say(at_b, b"hello").await;
    UdpSocket::bind(ANY).unwrap().send_to(b"\x41\xb0hello", at_b).unwrap();
    let errors = a.counters().send_errors;
    a.say(at_b, &[1; ASIDE_BYTES_MAX + 1]).await;
    assert_eq!(a.counters().send_errors, errors + 1);
    for said in [&b"one"[..], b"", &[7; ASIDE_BYTES_MAX]] {
        a.say(at_b, said).await;
        assert_eq!(next(&mut heard).await, (at_a, said.to_vec()));
    }
    // Its address is free once gossip has stopped, though there is a handle.
    a.stop().await;
    wait_for_socket(at_a).await;
    a.say(at_b, b"late").await;
    let dropped = b.counters().dropped;
    assert_eq!((dropped.undecodable, dropped.unknown_key), (0, 1), "{dropped:?}");
}
