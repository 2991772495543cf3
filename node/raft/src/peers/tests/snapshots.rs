use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use skep_base::id::ClusterId;

use super::world::*;
use crate::peers::{DialError, SendSnapshotError, SnapshotChunks};
use crate::types::Vote;
use crate::wire::{GROUP, RejectReason, Request, SnapshotBegin, SnapshotMeta, VoteRequest};

const STALL_MAX: Duration = Duration::from_secs(5);

fn begin() -> SnapshotBegin {
    SnapshotBegin { group: GROUP, vote: Vote::new(1, 1), meta: SnapshotMeta::default() }
}

fn chunks(count: usize) -> SnapshotChunks {
    let chunk = || Ok(Bytes::from(vec![5; 256 * 1024]));
    futures_util::stream::repeat_with(chunk).take(count).boxed()
}

#[tokio::test]
async fn a_snapshot_has_a_connection_of_its_own_and_calls_go_on_beside_it() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build { echo: Echo::shut(), ..Build::new(2) }.start(&book).await;
    let vote = || Request::Vote(VoteRequest::new(Vote::new(1, 1), None));
    a.peers.call(b.id, vote(), soon()).await.unwrap();
    let sending = a.peers.send_snapshot(b.id, begin(), chunks(200), STALL_MAX);
    let beside = async {
        until("the transfer", || b.echo.snapshot_bytes.load(SeqCst) > 0).await;
        assert_eq!((a.open(), b.open()), (2, 2));
        a.peers.call(b.id, vote(), soon()).await.unwrap();
        until("its last byte", || b.echo.snapshot_bytes.load(SeqCst) == 200 * 256 * 1024).await;
        b.echo.gate.add_permits(1);
    };
    let (sent, ()) = tokio::join!(sending, beside);
    assert_eq!(sent.unwrap().vote, begin().vote);
    assert_eq!(a.peers.counters().snapshots_sent.get(), 1);
    until("the end", || (a.open(), b.open()) == (1, 1)).await;
    assert_eq!(b.peers.counters().snapshots_received.get(), 1);
}

#[tokio::test]
async fn a_receiver_that_takes_its_time_after_the_last_byte_is_no_stall() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build { echo: Echo::shut(), ..Build::new(2) }.start(&book).await;
    let stall_max = Duration::from_secs(4);
    let mut sending = std::pin::pin!(a.peers.send_snapshot(b.id, begin(), chunks(1), stall_max));
    // It goes on for longer than the sender would wait for a dead one.
    let early = tokio::time::timeout(stall_max + Duration::from_secs(1), &mut sending).await;
    assert!(early.is_err(), "it ended without the receiver: {early:?}");
    b.echo.gate.add_permits(1);
    sending.await.unwrap();
}

#[tokio::test]
async fn the_receivers_reason_reaches_the_sender_in_the_middle_of_a_transfer() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let echo = Echo { snapshot_bytes_max: 1 << 20, ..Echo::open() };
    let b = Build { echo, ..Build::new(2) }.start(&book).await;
    let sent = a.peers.send_snapshot(b.id, begin(), chunks(10_000), STALL_MAX).await;
    assert!(matches!(&sent, Err(SendSnapshotError::Failed(why)) if why == "the disk is full"), "{sent:?}");
    assert_eq!(b.peers.counters().snapshots_received.get(), 0);
}

#[tokio::test]
async fn a_transfer_that_is_cancelled_ends_at_both_sides() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build::new(2).start(&book).await;
    {
        let sending = a.peers.send_snapshot(b.id, begin(), chunks(usize::MAX), STALL_MAX);
        let started = until("the transfer", || b.echo.snapshot_bytes.load(SeqCst) > 1 << 20);
        tokio::select! {
            sent = sending => panic!("{sent:?}"),
            () = started => {}
        }
    }
    until("the receiver's end", || b.echo.receptions_ended.load(SeqCst) == 1).await;
    until("the connections", || (a.open(), b.open()) == (0, 0)).await;
    assert_eq!(b.peers.counters().snapshots_received.get(), 0);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_the_senders_own_fault() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build::new(2).start(&book).await;
    let broken = futures_util::stream::iter([Err(std::io::Error::other("a bad sector"))]);
    let chunks = chunks(3).chain(broken).boxed();
    let sent = a.peers.send_snapshot(b.id, begin(), chunks, STALL_MAX).await;
    assert!(matches!(sent, Err(SendSnapshotError::Source(_))), "{sent:?}");
    until("the receiver's end", || b.echo.receptions_ended.load(SeqCst) == 1).await;
    assert_eq!(b.peers.counters().snapshots_received.get(), 0);
}

#[tokio::test]
async fn a_snapshot_for_another_cluster_is_refused() {
    let book = Arc::default();
    let a = Build::new(1).start(&book).await;
    let b = Build { cluster: Some(ClusterId(0xc2)), ..Build::new(2) }.start(&book).await;
    let sent = a.peers.send_snapshot(b.id, begin(), chunks(3), STALL_MAX).await;
    let refused = matches!(
        sent,
        Err(SendSnapshotError::Unreachable(DialError::Rejected { reason: RejectReason::WrongCluster, .. }))
    );
    assert!(refused, "{sent:?}");
    let c = Build { cluster: None, ..Build::new(3) }.start(&book).await;
    let sent = a.peers.send_snapshot(c.id, begin(), chunks(3), STALL_MAX).await;
    assert!(matches!(sent, Err(SendSnapshotError::Failed(_))), "{sent:?}");
    assert_eq!(c.echo.snapshot_bytes.load(SeqCst), 0);
}
