//! Keys that are read again under connections that stand.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skep_base::id::NodeId;
use skep_members::key::KeyRing;
use skep_members::settings::cluster_key_in;
use skep_members::tls::edge_tls;

use super::world::*;
use crate::peers::{CallError, DialError, NotSent, StreamEvent, Times, hello};
use crate::wire::{ConnectionKind, GROUP, Hello, Request, Response};

/// A node's file of keys.
struct Place(tempfile::TempDir);

impl Place {
    fn new(lines: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.path(), lines).unwrap();
        place
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("cluster.key")
    }

    fn build(&self, id: u64) -> Build {
        Build { keys: cluster_key_in(&self.path(), "FILE").unwrap(), ..Build::new(id) }
    }

    /// From now on the node has these.
    async fn give(&self, node: &Node, lines: &str) {
        std::fs::write(self.path(), lines).unwrap();
        node.keys.read_again().await;
        assert_eq!(node.keys.now().ring, ring(lines));
    }
}

/// With all the time of a test for what is open when a key is taken away.
fn patient() -> Times {
    Times { key_gone_drain: Duration::from_secs(60), ..Times::default() }
}

fn read_index() -> Request {
    Request::ReadIndex { vote: None }
}

#[tokio::test]
async fn a_rotation_replaces_connections_and_loses_no_call() {
    let book = Arc::default();
    let places = [Place::new(KEY), Place::new(KEY)];
    let a = Build { times: patient(), ..places[0].build(1) }.start(&book).await;
    let b = Build { echo: Echo::shut(), times: patient(), ..places[1].build(2) }.start(&book).await;
    a.peers.call(b.id, read_index(), soon()).await.unwrap();
    let first = a.peers.connection_to(b.id).unwrap();
    for lines in [format!("{KEY}\n{OTHER_KEY}"), format!("{OTHER_KEY}\n{KEY}")] {
        for (place, node) in places.iter().zip([&a, &b]) {
            place.give(node, &lines).await;
            a.peers.call(b.id, read_index(), soon()).await.unwrap();
        }
        assert!(Arc::ptr_eq(&first, &a.peers.connection_to(b.id).unwrap()), "it stands");
    }
    // What is open then has time to end.
    let mut inside = b.echo.inside.subscribe();
    let peers = a.peers.clone();
    let held = tokio::spawn(async move { peers.call(NodeId(2), proposal(1), soon()).await });
    inside.wait_for(|inside| *inside == 1).await.unwrap();
    places[0].give(&a, OTHER_KEY).await;
    until("nothing new starts on it", || !first.is_usable()).await;
    a.peers.call(b.id, read_index(), soon()).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &a.peers.connection_to(b.id).unwrap()), "another one took its place");
    b.echo.gate.add_permits(1);
    proposed(held.await.unwrap().unwrap());
    until("the first has ended", || first.closed.is_cancelled()).await;
    places[1].give(&b, OTHER_KEY).await;
    let second = a.peers.connection_to(b.id).unwrap();
    let answer = a.peers.call(b.id, read_index(), soon()).await.unwrap();
    assert!(matches!(answer, Response::ReadIndex(Ok(7))));
    assert!(second.is_usable(), "it was made with the key that is left");
}

/// The smaller id, whose connections are kept where both dial at once, dialed the one that the other uses no more.
#[tokio::test]
async fn what_a_peer_dials_takes_the_place_of_what_it_uses_no_more() {
    let book = Arc::default();
    let places = [Place::new(KEY), Place::new(KEY)];
    // So that the first connection counts as one that has stood for long.
    let times = Times { collision_max: Duration::ZERO, ..patient() };
    let a = Build { echo: Echo::shut(), times, ..places[0].build(1) }.start(&book).await;
    let b = Build { times, ..places[1].build(2) }.start(&book).await;
    a.peers.call(b.id, read_index(), soon()).await.unwrap();
    let first = a.peers.connection_to(b.id).unwrap();
    for lines in [format!("{KEY}\n{OTHER_KEY}"), format!("{OTHER_KEY}\n{KEY}")] {
        for (place, node) in places.iter().zip([&a, &b]) {
            place.give(node, &lines).await;
        }
    }
    // With a call open the other cannot say that it is done with the connection.
    let mut inside = a.echo.inside.subscribe();
    let peers = b.peers.clone();
    let held = tokio::spawn(async move { peers.call(NodeId(1), proposal(1), soon()).await });
    inside.wait_for(|inside| *inside == 1).await.unwrap();
    places[1].give(&b, OTHER_KEY).await;
    let current = || a.peers.connection_to(b.id);
    until("it is told by another connection, though nobody asks for one", || {
        current().is_some_and(|connection| !Arc::ptr_eq(&first, &connection))
    })
    .await;
    let second = current().unwrap();
    assert!(second.is_usable() && !first.is_usable() && !first.closed.is_cancelled());
    for (from, to) in [(&a, &b), (&b, &a)].repeat(3) {
        from.peers.call(to.id, read_index(), soon()).await.unwrap();
        assert!(Arc::ptr_eq(&second, &current().unwrap()), "it is made once");
    }
    let dialed = |node: &Node| node.peers.counters().connections_dialed.get();
    assert_eq!((dialed(&a), dialed(&b)), (1, 1));
    a.echo.gate.add_permits(1);
    proposed(held.await.unwrap().unwrap());
    until("the first has ended", || first.closed.is_cancelled()).await;
    assert!(second.is_usable());
}

#[tokio::test]
async fn who_has_the_old_key_alone_is_cut_off_within_seconds() {
    let book = Arc::default();
    let place = Place::new(KEY);
    let times = Times { key_gone_drain: Duration::from_millis(500), ..Times::default() };
    let a = Build { times, ..place.build(1) }.start(&book).await;
    let b = Build { keys: ring(KEY).into(), ..Build::new(2) }.start(&book).await;
    b.peers.call(a.id, read_index(), soon()).await.unwrap();
    let mut stream = b.peers.open_appends(a.id, GROUP, soon()).await.unwrap();
    let of_edge = KeyRing::parse(&ring(KEY).edge_lines().join("\n")).unwrap();
    let hello = Hello::new(ConnectionKind::Calls, NodeId(77), 1, None, Some(a.id));
    let (mut edge, _) = hello::dial(a.address, &edge_tls(&of_edge).unwrap(), &hello).await.unwrap();
    place.give(&a, &format!("{KEY}\n{OTHER_KEY}")).await;
    place.give(&a, &format!("{OTHER_KEY}\n{KEY}")).await;
    b.peers.call(a.id, read_index(), soon()).await.unwrap();
    place.give(&a, OTHER_KEY).await;
    hello::receive(&mut edge).await.expect_err("an edge's connection ends as well");
    // It keeps its stream open for as long as it can.
    assert!(matches!(stream.event().await, StreamEvent::Lost(_)));
    until("no connection is left", || (a.open(), b.open()) == (0, 0)).await;
    for (from, to) in [(&a, &b), (&b, &a)] {
        let error = from.peers.call(to.id, read_index(), soon()).await.unwrap_err();
        let tls = matches!(&error, CallError::NotSent(NotSent::Unreachable(DialError::Tls { .. })));
        assert!(tls, "{error}");
    }
}
