//! Who has the edge key alone, and strangers in numbers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use skep_base::id::{ClusterId, NodeId};
use skep_members::key::KeyRing;
use skep_members::tls::{PeerTls, edge_tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::world::*;
use crate::formation::bootstrap::BootstrapAsk;
use crate::peers::framing::put_whole;
use crate::peers::{DialError, GREETING_MAX, GREETING_PER_SOURCE_MAX, hello};
use crate::types::Vote;
use crate::wire::{
    self, AppendRequest, ConnectionKind, Frame, GROUP, Hello, Operation, RecordName, Refusal, RejectReason,
    Request, Response, TransferLeaderRequest, VoteRequest,
};

/// The ids that edges say here: one that no node has.
const EDGE: NodeId = NodeId(77);

fn edge_key() -> PeerTls {
    let lines = KeyRing::parse(KEY).unwrap().edge_lines();
    edge_tls(&KeyRing::parse(&lines.join("\n")).unwrap()).unwrap()
}

fn hello(kind: ConnectionKind, from: NodeId, cluster: Option<ClusterId>, to: &Node) -> Hello {
    Hello::new(kind, from, 1, cluster, Some(to.id))
}

/// An edge's connection for calls.
async fn edge(from: NodeId, to: &Node) -> hello::Io {
    let hello = hello(ConnectionKind::Calls, from, None, to);
    hello::dial(to.address, &edge_key(), &hello).await.unwrap().0
}

async fn ask(io: &mut hello::Io, request: Request) -> Response {
    let frame = Frame::Request { id: 9, group: GROUP, timeout_ms: 5000, request };
    hello::send(io, &frame).await.unwrap();
    match wire::decode_frame(&hello::receive(io).await.unwrap()).unwrap() {
        Frame::Response { id: 9, response } => response,
        other => panic!("{other:?}"),
    }
}

fn append() -> AppendRequest {
    AppendRequest { vote: Vote::new(9, 9), prev_log_id: None, entries: vec![], leader_commit: None }
}

/// One of each that changes something, votes, or is a word of Raft.
fn privileged() -> Vec<Request> {
    let vote = || VoteRequest::new(Vote::new(9, 9), None);
    vec![
        Request::Append(append()),
        Request::Vote(vote()),
        Request::PreVote(vote()),
        Request::TransferLeader(TransferLeaderRequest::new(Vote::new(9, 9), 9, None)),
        proposal(1),
        Request::Restore { ops: vec![] },
        Request::ReadIndex { vote: Some(Vote::new(9, 9)) },
        Request::Bootstrap(BootstrapAsk::Query { cluster: CLUSTER }),
        Request::Operate(Operation::TransferLeader { to: None }),
        Request::HoldsVote(Vote::new(9, 9)),
        Request::Reach { address: "127.0.0.1:1".parse().unwrap() },
        Request::MayStop,
        Request::HasRoom,
        Request::Resumes { session: 9, held: None, went_back: false },
        Request::Hashes,
        Request::Beat {
            worker: "w".into(),
            stream: 1,
            fences: vec![1],
            slots: 1,
            version: String::new(),
            quiet: None,
        },
        Request::Records(vec![RecordName::Message { seq: 1 }]),
        Request::Workers { after: String::new(), limit: 1 },
        Request::Quiet { worker: "w".into(), quiet: true },
        Request::Gone { worker: "w".into(), stream: 1, ago_ms: 0, fences: vec![1] },
        Request::Operate(Operation::MendTime { agreed_ms: Some(1) }),
    ]
}

#[tokio::test]
async fn who_has_the_edge_key_is_refused_whatever_changes_or_decides_something() {
    let a = Build::new(1).start(&Arc::default()).await;
    let mut io = edge(EDGE, &a).await;
    for request in privileged() {
        let asked = format!("{request:?}");
        let answer = ask(&mut io, request).await;
        assert!(matches!(answer, Response::Refused(Refusal::NotForEdges)), "{asked}: {answer:?}");
    }
    assert_eq!(*a.echo.inside.borrow(), 0);
    // What tells something it is told, on the same connection.
    let answer = ask(&mut io, Request::ReadIndex { vote: None }).await;
    assert!(matches!(answer, Response::ReadIndex(Ok(7))), "{answer:?}");
    hello::send(&mut io, &Frame::Ping).await.unwrap();
    let pong = wire::decode_frame(&hello::receive(&mut io).await.unwrap()).unwrap();
    assert!(matches!(pong, Frame::Pong), "{pong:?}");
}

#[tokio::test]
async fn a_word_of_raft_ends_an_edges_connection() {
    let a = Build::new(1).start(&Arc::default()).await;
    let words = [
        Frame::StreamOpen { stream: 1, group: GROUP },
        Frame::Append { stream: 1, request: append() },
        Frame::SnapshotChunk(Bytes::from_static(b"x")),
        Frame::Cluster(ClusterId(0xbad)),
        Frame::Response { id: 1, response: Response::MayStop(true) },
    ];
    for (i, word) in words.into_iter().enumerate() {
        let mut io = edge(EDGE, &a).await;
        hello::send(&mut io, &word).await.unwrap();
        assert!(hello::receive(&mut io).await.is_err(), "{word:?}");
        assert_eq!(a.peers.counters().decode_errors.get(), i as u64 + 1);
    }
    let mut io = edge(EDGE, &a).await;
    let mut junk = Vec::new();
    put_whole(b"\xff\xff\xff", &mut junk);
    io.write_all(&junk).await.unwrap();
    assert!(hello::receive(&mut io).await.is_err());
    assert_eq!(a.echo.appends.load(SeqCst), 0);
}

#[tokio::test]
async fn an_edge_sends_no_snapshot_and_brings_no_cluster() {
    let a = Build { cluster: None, adopt: true, ..Build::new(1) }.start(&Arc::default()).await;
    let snapshot = hello(ConnectionKind::Snapshot, EDGE, Some(CLUSTER), &a);
    match hello::dial(a.address, &edge_key(), &snapshot).await {
        Err(DialError::Rejected { reason: RejectReason::NotAPeer, .. }) => {}
        other => panic!("{:?}", other.map(|(_, accepted)| accepted)),
    }
    let calls = hello(ConnectionKind::Calls, EDGE, Some(CLUSTER), &a);
    let (mut io, _) = hello::dial(a.address, &edge_key(), &calls).await.unwrap();
    let answer = ask(&mut io, Request::ReadIndex { vote: None }).await;
    assert!(matches!(answer, Response::Refused(Refusal::NotInCluster)), "{answer:?}");
    assert_eq!(*a.cluster.borrow(), None);
}

#[tokio::test]
async fn an_edge_that_says_a_nodes_id_gets_nothing_that_is_for_that_node() {
    let (a, b) = pair().await;
    let mut thief = edge(b.id, &a).await;
    ask(&mut thief, Request::ReadIndex { vote: None }).await;
    assert_eq!(proposed(a.peers.call(b.id, proposal(3), soon()).await.unwrap()), 3);
    assert_eq!(b.open(), 1, "the call went to the node");
}

/// With the server's own answer: an edge cannot pass for a node either.
#[tokio::test]
async fn a_node_dials_no_edge() {
    let book: Arc<Book> = Arc::default();
    let a = Build::new(1).start(&book).await;
    let listener = listener().await;
    book.0.lock().unwrap().insert(NodeId(5), listener.local_addr().unwrap());
    let posing = tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(edge_key().server);
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.is_err()
    });
    assert!(a.peers.call(NodeId(5), proposal(1), soon()).await.is_err());
    assert!(posing.await.unwrap());
    assert_eq!(a.peers.counters().tls_failures.get(), 1);
}

async fn connect(from: Ipv4Addr, to: &Node) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((IpAddr::V4(from), 0).into()).unwrap();
    socket.connect(to.address).await.unwrap()
}

#[tokio::test]
async fn a_stranger_who_knocks_without_end_leaves_the_door_to_the_others() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build::new(2).start(&book).await;
    let stranger = Ipv4Addr::new(127, 9, 9, 9);
    let mut silent = Vec::new();
    for _ in 0..2 * GREETING_MAX {
        silent.push(connect(stranger, &a).await);
    }
    let turned_away = (2 * GREETING_MAX - GREETING_PER_SOURCE_MAX) as u64;
    until("what is beyond its share is refused", || {
        a.peers.counters().rejected(RejectReason::Busy) == turned_away
    })
    .await;
    // Closed at once, where the others may say their hello.
    let mut byte = [0];
    let last = silent.last_mut().unwrap();
    let end = tokio::time::timeout(Duration::from_secs(4), last.read(&mut byte)).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
    assert_eq!(proposed(b.peers.call(a.id, proposal(3), soon()).await.unwrap()), 3);
    drop(silent);
    until("the share comes back", || a.peers.counters().hello_failures.get() >= 1).await;
}

#[tokio::test]
async fn edges_that_are_slow_to_part_leave_the_door_to_the_nodes() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build::new(2).start(&book).await;
    let mut parting = Vec::new();
    for _ in 0..GREETING_MAX {
        // It has its answer, and closes nothing. One that is told nothing is gone at once.
        let probe = hello(ConnectionKind::Probe, EDGE, None, &a);
        parting.extend(hello::dial(a.address, &edge_key(), &probe).await.ok());
    }
    assert!(!parting.is_empty());
    assert_eq!(proposed(b.peers.call(a.id, proposal(3), soon()).await.unwrap()), 3);
    assert_eq!(a.peers.counters().rejected(RejectReason::Busy), 0);
    drop(parting);
}

#[tokio::test]
async fn what_a_peer_speaks_is_known_by_its_hello_and_an_edge_says_it_for_nobody() {
    let (a, b) = pair().await;
    assert_eq!(a.peers.protocol_of(b.id), None);
    let mut thief = edge(b.id, &a).await;
    ask(&mut thief, Request::ReadIndex { vote: None }).await;
    assert_eq!(a.peers.protocol_of(b.id), None);
    a.peers.call(b.id, proposal(3), soon()).await.unwrap();
    assert_eq!([a.peers.protocol_of(b.id), b.peers.protocol_of(a.id)], [Some(wire::PROTOCOL.1); 2]);
    // It may come back as another version.
    b.peers.stop().await;
    until("the connection is gone", || a.peers.protocol_of(b.id).is_none()).await;
}
