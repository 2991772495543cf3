use std::sync::Arc;
use std::time::Duration;

use skep_base::id::NodeId;
use skep_members::key::KeyRing;
use skep_members::tls::peer_tls;
use tokio::time::Instant;

use super::world::*;
use crate::peers::hello;
use crate::peers::{CallError, NotSent, StreamEvent, Unanswered};
use crate::wire::{GROUP, HelloAnswer, RejectReason, Request, Response};

#[tokio::test]
async fn the_death_of_a_peer_leaves_open_calls_unknown_and_later_ones_unsent_until_it_is_back() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build { echo: Echo::shut(), ..Build::new(2) }.start(&book).await;
    let mut inside = b.echo.inside.subscribe();
    let call = a.peers.call(b.id, proposal(1), soon());
    let mut stream = a.peers.open_appends(b.id, GROUP, soon()).await.unwrap();
    let die = async {
        inside.wait_for(|inside| *inside == 1).await.unwrap();
        b.peers.connection_to(a.id).unwrap().close("a sudden death");
        b.peers.stop().await;
    };
    let (answer, ()) = tokio::join!(call, die);
    let error = answer.unwrap_err();
    assert!(matches!(error, CallError::Unknown(Unanswered::Lost(_))), "{error}");
    assert!(matches!(stream.event().await, StreamEvent::Lost(_)));
    assert_eq!(a.open(), 0);

    let error = a.peers.call(b.id, proposal(1), soon()).await.unwrap_err();
    assert!(matches!(error, CallError::NotSent(NotSent::Unreachable(_))), "{error}");

    let again = Build::new(2).start(&book).await;
    // The dead one's backoff ends when the new one comes by itself.
    assert!(matches!(
        again.peers.call(a.id, Request::ReadIndex { vote: None }, soon()).await,
        Ok(Response::ReadIndex(Ok(7)))
    ));
    assert_eq!(proposed(a.peers.call(again.id, proposal(4), soon()).await.unwrap()), 4);
    assert_eq!(a.peers.counters().reconnects.get(), 1);
    assert_eq!(a.open(), 1);
}

#[tokio::test]
async fn a_peer_that_was_started_anew_replaces_its_old_connection_at_once() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let old = Build { echo: Echo::shut(), ..Build::new(2) }.start(&book).await;
    let mut inside = old.echo.inside.subscribe();
    let call = a.peers.call(old.id, proposal(1), soon());
    let restart = async {
        inside.wait_for(|inside| *inside == 1).await.unwrap();
        let new = Build::new(2).start(&book).await;
        new.peers.call(a.id, Request::ReadIndex { vote: None }, soon()).await.unwrap();
        new
    };
    let (answer, new) = tokio::join!(call, restart);
    assert!(matches!(answer, Err(CallError::Unknown(Unanswered::Lost(_)))));
    assert_eq!(proposed(a.peers.call(new.id, proposal(2), soon()).await.unwrap()), 2);
}

#[tokio::test]
async fn failed_dials_are_held_back_and_an_address_that_is_not_known_is_said() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let nobody = NodeId(9);
    let deadline = Instant::now() + Duration::from_millis(300);
    while Instant::now() < deadline {
        let error = a.peers.call(nobody, proposal(1), soon()).await.unwrap_err();
        let said = matches!(error, CallError::NotSent(NotSent::Unreachable(hello::DialError::NoAddress)));
        assert!(said, "{error}");
        tokio::task::yield_now().await;
    }
    // 10 + 20 + 40 + 80 + 160 ms: about five, and not thousands.
    assert!(a.peers.counters().dial_failures.get() <= 8);
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed_while_it_owes_an_answer() {
    let book: Arc<Book> = Arc::default();
    let a = Build::new(1).start(&book).await;
    let silent = listener().await;
    book.0.lock().unwrap().insert(NodeId(2), silent.local_addr().unwrap());
    let peer = async {
        let tls = peer_tls(&KeyRing::parse(KEY).unwrap()).unwrap();
        let (stream, _) = silent.accept().await.unwrap();
        let (mut io, _hello, _role) = hello::accept(stream, &tls).await.unwrap();
        let answer = HelloAnswer::Accept { protocol: 1, node: NodeId(2), session: 1, cluster: Some(CLUSTER) };
        hello::send(&mut io, &answer).await.unwrap();
        io
    };
    let (answer, _io) = tokio::join!(a.peers.call(NodeId(2), proposal(1), soon()), peer);
    let error = answer.unwrap_err();
    assert!(matches!(error, CallError::Unknown(Unanswered::Lost(_))), "{error}");
    assert_eq!(a.peers.counters().stalls.get(), 1);
}

#[tokio::test]
async fn a_peer_is_looked_for_at_an_address_and_its_connection_is_left_alone() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build::new(2).start(&book).await;
    let c = Build::new(3).start(&book).await;
    a.peers.call(b.id, proposal(1), soon()).await.unwrap();
    let before = b.peers.connection_to(a.id).unwrap();

    a.peers.reach(b.id, b.address).await.unwrap();
    let after = b.peers.connection_to(a.id).unwrap();
    assert!(Arc::ptr_eq(&before, &after) && after.is_usable());

    let other = a.peers.reach(b.id, c.address).await.unwrap_err();
    let wrong = matches!(&other, hello::DialError::Rejected { reason: RejectReason::WrongTarget, .. });
    assert!(wrong, "{other}");
    b.peers.stop().await;
    let nobody = a.peers.reach(b.id, b.address).await.unwrap_err();
    assert!(matches!(nobody, hello::DialError::Tcp { .. }), "{nobody}");
}
