use std::sync::Arc;

use skep_base::id::{ClusterId, NodeId};

use super::world::*;
use crate::formation::bootstrap::{BootstrapAnswer, BootstrapAsk};
use crate::peers::{CallError, DialError, NotSent};
use crate::types::Vote;
use crate::wire::{Refusal, RejectReason, Request, Response, VoteRequest};

fn vote() -> Request {
    Request::Vote(VoteRequest::new(Vote::new(1, 1), None))
}

fn ask() -> Request {
    Request::Bootstrap(BootstrapAsk::Query { cluster: CLUSTER })
}

async fn rejected(from: &Node, to: NodeId) -> RejectReason {
    match from.peers.call(to, vote(), soon()).await {
        Err(CallError::NotSent(NotSent::Unreachable(DialError::Rejected { reason, .. }))) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_and_told_why() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build { cluster: Some(ClusterId(0xc2)), ..Build::new(2) }.start(&book).await;
    assert_eq!(rejected(&a, b.id).await, RejectReason::WrongCluster);
    assert_eq!(a.peers.counters().rejected(RejectReason::WrongCluster), 1);
    assert_eq!(b.peers.counters().rejected(RejectReason::WrongCluster), 1);
    assert_eq!((a.open(), b.open()), (0, 0));
}

#[tokio::test]
async fn an_address_that_passed_to_another_node_is_noticed() {
    let book: Arc<Book> = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build::new(2).start(&book).await;
    book.0.lock().unwrap().insert(NodeId(3), b.address);
    assert_eq!(rejected(&a, NodeId(3)).await, RejectReason::WrongTarget);
    assert_eq!(b.peers.counters().rejected(RejectReason::WrongTarget), 1);
}

#[tokio::test]
async fn a_node_that_reaches_itself_is_refused() {
    let book: Arc<Book> = Arc::default();
    let a = Build::new(1).start(&book).await;
    book.0.lock().unwrap().insert(NodeId(3), a.address);
    assert_eq!(rejected(&a, NodeId(3)).await, RejectReason::NotAPeer);
}

#[tokio::test]
async fn another_cluster_key_comes_to_nothing_at_either_side() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build { keys: ring(OTHER_KEY).into(), ..Build::new(2) }.start(&book).await;
    let error = a.peers.call(b.id, vote(), soon()).await.unwrap_err();
    let tls = matches!(&error, CallError::NotSent(NotSent::Unreachable(DialError::Tls { .. })));
    assert!(tls, "{error}");
    // It is dialled again after a pause.
    assert!(a.peers.counters().tls_failures.get() >= 1);
    until("the acceptor's count", || b.peers.counters().tls_failures.get() >= 1).await;
    assert_eq!((a.open(), b.open()), (0, 0));
}

#[tokio::test]
async fn a_node_without_a_cluster_answers_bootstrap_and_nothing_else() {
    let book = Arc::default();
    for (clusters, (one, other)) in
        [((None, None), (1, 2)), ((Some(CLUSTER), None), (3, 4)), ((None, Some(CLUSTER)), (5, 6))]
    {
        let a = Build { cluster: clusters.0, ..Build::new(one) }.start(&book).await;
        let b = Build { cluster: clusters.1, ..Build::new(other) }.start(&book).await;
        let answer = a.peers.call(b.id, ask(), soon()).await.unwrap();
        assert!(matches!(answer, Response::Bootstrap(BootstrapAnswer::Yes)));
        for request in [vote(), proposal(1), Request::ReadIndex { vote: None }] {
            let error = a.peers.call(b.id, request, soon()).await.unwrap_err();
            assert!(matches!(error, CallError::Refused(Refusal::NotInCluster)), "{error}");
        }
        assert_eq!((a.open(), b.open()), (1, 1));
    }
}

#[tokio::test]
async fn a_new_cluster_is_adopted_on_the_connection_that_is_there_before_its_first_vote() {
    let book = Arc::default();
    let a = Build { cluster: None, ..Build::new(1) }.start(&book).await;
    let b = Build { cluster: None, adopt: true, ..Build::new(2) }.start(&book).await;
    a.peers.call(b.id, ask(), soon()).await.unwrap();
    a.cluster.send_replace(Some(CLUSTER));
    until("the news", || b.cluster.borrow().is_some()).await;
    let answer = a.peers.call(b.id, vote(), soon()).await.unwrap();
    assert!(matches!(answer, Response::Vote(_)));
    until("the way back", || {
        let connection = a.peers.connection_to(b.id);
        connection.is_some_and(|connection| connection.peer_cluster() == Some(CLUSTER))
    })
    .await;
    b.peers.call(a.id, vote(), soon()).await.unwrap();
    assert_eq!((a.open(), b.open()), (1, 1));
    assert_eq!(a.peers.counters().connections_dialed.get(), 1);
}

#[tokio::test]
async fn a_cluster_is_adopted_with_the_hello() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build { cluster: None, adopt: true, ..Build::new(2) }.start(&book).await;
    let answer = a.peers.call(b.id, vote(), soon()).await.unwrap();
    assert!(matches!(answer, Response::Vote(_)));
    let c = Build { cluster: None, adopt: true, ..Build::new(3) }.start(&book).await;
    assert!(matches!(c.peers.call(a.id, ask(), soon()).await, Ok(Response::Bootstrap(_))));
    assert_eq!(*c.cluster.borrow(), Some(CLUSTER));
}

#[tokio::test]
async fn two_that_found_themselves_in_different_clusters_part() {
    let book = Arc::default();
    let a = Build { cluster: None, ..Build::new(1) }.start(&book).await;
    let b = Build { cluster: None, ..Build::new(2) }.start(&book).await;
    a.peers.call(b.id, ask(), soon()).await.unwrap();
    a.cluster.send_replace(Some(CLUSTER));
    b.cluster.send_replace(Some(ClusterId(0xc2)));
    until("the end of the connection", || (a.open(), b.open()) == (0, 0)).await;
    assert_eq!(rejected(&a, b.id).await, RejectReason::WrongCluster);
}
