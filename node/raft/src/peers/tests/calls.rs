use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderId;
use skep_base::id::RequestId;
use skep_state::command::{Command, Op};

use super::world::*;
use crate::peers::{CallError, NotSent, Patience, StreamEvent, Unanswered};
use crate::types::{Entry, LogId, Vote};
use crate::wire::{AppendRequest, GROUP, Request, Response, VoteRequest};

#[tokio::test]
async fn calls_pass_both_ways_over_one_connection() {
    let (a, b) = pair().await;
    for _ in 0..10 {
        assert_eq!(proposed(a.peers.call(b.id, proposal(3), soon()).await.unwrap()), 3);
        assert_eq!(proposed(b.peers.call(a.id, proposal(5), soon()).await.unwrap()), 5);
    }
    assert_eq!((a.open(), b.open()), (1, 1));
    assert_eq!(a.peers.counters().connections_dialed.get(), 1);
    assert_eq!(b.peers.counters().connections_dialed.get(), 0);
    assert_eq!(b.peers.counters().connections_accepted.get(), 1);
}

#[tokio::test]
async fn where_both_dial_at_once_one_connection_remains_and_nothing_is_lost() {
    dial_at_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_both_dial_at_once_on_many_threads_one_connection_remains() {
    dial_at_once().await;
}

async fn dial_at_once() {
    for _ in 0..20 {
        let (a, b) = pair().await;
        let calls = (0..20).map(|i| {
            let (from, to) = if i % 2 == 0 { (&a, &b) } else { (&b, &a) };
            from.peers.call(to.id, proposal(1), soon())
        });
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(proposed(answer.unwrap()), 1);
        }
        until("one connection", || (a.open(), b.open()) == (1, 1)).await;
        assert_eq!(proposed(a.peers.call(b.id, proposal(2), soon()).await.unwrap()), 2);
        assert_eq!(proposed(b.peers.call(a.id, proposal(2), soon()).await.unwrap()), 2);
        // The second dial may have come to its end only now.
        until("one connection again", || (a.open(), b.open()) == (1, 1)).await;
        assert_eq!(a.peers.counters().calls_in_flight.get(), 0);
        a.peers.stop().await;
        b.peers.stop().await;
    }
}

#[tokio::test]
async fn many_calls_are_in_flight_at_once_on_one_connection() {
    const CALLS: usize = 500;
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build { echo: Echo::shut(), ..Build::new(2) }.start(&book).await;
    let mut inside = b.echo.inside.subscribe();
    let calls = (1..=CALLS).map(|i| a.peers.call(b.id, proposal(i), soon()));
    let open_gate = async {
        // Only when all are inside does the first get out.
        inside.wait_for(|inside| *inside == CALLS).await.unwrap();
        assert_eq!(a.peers.counters().calls_in_flight.get(), CALLS as u64);
        b.echo.gate.add_permits(CALLS);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), open_gate);
    for (i, answer) in answers.into_iter().enumerate() {
        assert_eq!(proposed(answer.unwrap()), i as u64 + 1);
    }
    assert_eq!((a.open(), b.open()), (1, 1));
}

fn big_append(index: u64) -> AppendRequest {
    let text = bytes::Bytes::from(vec![7; 1024 * 1024]);
    let command = Command::new(vec![Op::WriteText { request: RequestId(1), text, time_ms: 1 }]);
    let leader = Vote::new_committed(1, 1);
    let id = LogId::new(leader.leader_id().to_committed(), index);
    AppendRequest {
        vote: leader,
        prev_log_id: None,
        entries: vec![Entry::new(id, EntryPayload::Normal(command))],
        leader_commit: None,
    }
}

#[tokio::test]
async fn a_heartbeat_passes_megabytes_of_appends_that_wait() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build { echo: Echo::shut(), ..Build::new(2) }.start(&book).await;
    let mut stream = a.peers.open_appends(b.id, GROUP, soon()).await.unwrap();
    let mut sent = 0;
    while stream.has_room() {
        stream.send(big_append(sent));
        sent += 1;
    }
    assert!(sent >= 8 && a.peers.counters().queued_bytes.get() > 7 << 20);
    let vote = Request::Vote(VoteRequest::new(Vote::new(1, 1), None));
    assert!(matches!(a.peers.call(b.id, vote, soon()).await.unwrap(), Response::Vote(_)));
    // It came back before half of what was queued before it had gone.
    assert!(a.peers.counters().queued_bytes.get() > 4 << 20);
    b.echo.gate.add_permits(sent as usize);
    for _ in 0..sent {
        assert!(matches!(stream.event().await, StreamEvent::Appended(Ok(None))));
    }
    assert!(stream.is_answered() && stream.has_room());
    assert_eq!(b.echo.appends.load(SeqCst) as u64, sent);
    stream.finish();
    assert!(matches!(stream.event().await, StreamEvent::End(None)));
    assert_eq!(a.peers.counters().append_bytes_in_flight.get(), 0);
}

#[tokio::test]
async fn a_call_without_an_answer_in_time_has_an_unknown_outcome() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build { echo: Echo::shut(), ..Build::new(2) }.start(&book).await;
    // What is to be sent in time has its connection before.
    a.peers.call(b.id, Request::ReadIndex { vote: None }, soon()).await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
    let error = a.peers.call(b.id, proposal(1), deadline).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown(Unanswered::Deadline)), "{error}");
    assert_eq!(a.peers.counters().calls_in_flight.get(), 0);
}

#[tokio::test]
async fn calls_beyond_the_bound_wait_and_then_are_certainly_not_sent() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build { echo: Echo::shut(), ..Build::new(2) }.start(&book).await;
    let mut inside = b.echo.inside.subscribe();
    let bound = crate::peers::connection::CALLS_MAX;
    let calls: Vec<_> = (0..bound)
        .map(|_| {
            let (peers, to) = (a.peers.clone(), b.id);
            tokio::spawn(async move { peers.call(to, proposal(1), soon()).await })
        })
        .collect();
    inside.wait_for(|inside| *inside == bound).await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_millis(50);
    let error = a.peers.call(b.id, proposal(1), deadline).await.unwrap_err();
    assert!(matches!(error, CallError::NotSent(NotSent::Deadline)), "{error}");
    // Consensus has its own bound.
    let vote = Request::Vote(VoteRequest::new(Vote::new(1, 1), None));
    a.peers.call(b.id, vote, soon()).await.unwrap();
    b.echo.gate.add_permits(bound);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_patient_call_waits_for_a_peer_that_comes_later() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let late = skep_base::id::NodeId(2);
    let error = a.peers.call(late, Request::ReadIndex { vote: None }, soon()).await.unwrap_err();
    assert!(matches!(error, CallError::NotSent(_)), "{error}");
    let patient =
        a.peers.call_with(late, GROUP, Request::ReadIndex { vote: None }, soon(), Patience::Deadline);
    let start = async {
        tokio::task::yield_now().await;
        Build::new(2).start(&book).await
    };
    let (answer, _late) = tokio::join!(patient, start);
    assert!(matches!(answer.unwrap(), Response::ReadIndex(Ok(7))));
}

#[tokio::test]
async fn a_network_that_stops_ends_its_connections_and_takes_no_calls() {
    let (a, b) = pair().await;
    a.peers.call(b.id, Request::ReadIndex { vote: None }, soon()).await.unwrap();
    a.peers.stop().await;
    assert_eq!(a.open(), 0);
    let error = a.peers.call(b.id, Request::ReadIndex { vote: None }, soon()).await.unwrap_err();
    assert!(matches!(error, CallError::NotSent(NotSent::Stopping)), "{error}");
    until("the other end", || b.open() == 0).await;
}
