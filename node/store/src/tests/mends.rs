//! A clock that was set back: what is read, after a start and in a snapshot, and which claims end.

use openraft::storage::RaftStateMachine;
use skep_state::clock::Stamp;
use skep_state::kinds::claims::records::{ClaimRecords, SPAN_CLAIMS, Spans};
use skep_state::level::Level;

use super::snapshot::{bytes_of, receive};
use super::*;
use crate::Lookup;

const AHEAD: u64 = 8_640_000_000;
const NOW: u64 = 1_000_000;
const TTL_MS: u64 = 50_000;

/// A message under a key of its own.
fn keyed(name: u64, time_ms: u64) -> Vec<Op> {
    let claim = Op::Claim { key: ClaimKey(name.into()), fingerprint: 1, time_ms, ttl_ms: TTL_MS };
    let body = Bytes::from(format!("message {name}"));
    let (digest, content_type) = (Digest::of(&body), "text/plain".to_owned());
    vec![claim, Op::PutMessage { digest, content_type, body, time_ms, nonce: name }]
}

/// The times that are shown, alike in pages and one by one.
fn times(store: &Store) -> Vec<u64> {
    let page = store.reader.page(0, usize::MAX, usize::MAX).unwrap();
    for message in page.iter().step_by(37) {
        let Lookup::Here(found) = store.reader.look_up(&message.digest).unwrap() else {
            panic!("it is there")
        };
        assert_eq!(found, *message);
    }
    page.iter().map(|message| message.time_ms).collect()
}

fn spans(store: &Store) -> Spans {
    store.reader.core().lock().kinds.claims.records().spans().clone()
}

#[tokio::test]
async fn what_was_there_when_the_clock_was_set_back_is_no_later_after_a_start_and_in_a_snapshot_too() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = |dir: &Path| StoreConfig { message_segment_bytes_max: 32 * 1024, ..small(dir) };
    let mut store = open(config(from.path())).unwrap();
    // More than a span of claims, and a part of the next.
    let before = SPAN_CLAIMS + 300;
    let made: Vec<Entry> = (0..before).map(|name| normal(1, name + 1, keyed(name, AHEAD))).collect();
    store.apply(vec![normal(1, 0, vec![Op::Level { level: Level::NEWEST }])]).await;
    store.apply(made).await;
    let removals = store.reader.applied().borrow().removals;
    store.apply(vec![normal(1, before + 1, vec![Op::MendTime { time_ms: NOW, newest_ms: AHEAD }])]).await;
    assert_eq!(store.reader.applied().borrow().latest, Stamp(NOW));
    assert_ne!(store.reader.applied().borrow().removals, removals, "who follows reads it again");
    let later: Vec<Entry> = (before..before + 50)
        .zip(before + 2..)
        .map(|(name, at)| normal(1, at, keyed(name, NOW + name)))
        .collect();
    store.apply(later).await;
    let expected: Vec<u64> =
        (0..before).map(|_| NOW).chain((before..before + 50).map(|name| NOW + name)).collect();
    assert_eq!(times(&store), expected);

    let snapshot = store.checkpoint().await;
    let (meta, live) = (snapshot.meta.clone(), spans(&store));
    drop(store);
    let reopened = open(config(from.path())).unwrap();
    assert_eq!(times(&reopened), expected, "after a start");
    assert_eq!(spans(&reopened), live, "after a start");
    let bytes = bytes_of(snapshot.snapshot).await;
    let mut store = open(config(to.path())).unwrap();
    let data = receive(&store, &bytes, usize::MAX).await.unwrap();
    let again = data.contents().unwrap().again().collect::<Result<Vec<Op>, _>>().unwrap();
    let time_of = |op: &Op| match op {
        Op::PutMessage { time_ms, .. } => *time_ms,
        other => panic!("{other:?}"),
    };
    assert_eq!(again.iter().map(time_of).collect::<Vec<_>>(), expected, "restored");
    store.state_machine.install_snapshot(&meta, data).await.unwrap();
    assert_eq!((times(&store), spans(&store)), (expected, live), "in a snapshot");

    // The keys of before end a key's time after the clock was set back, and no later.
    let oldest = store.reader.stats().claims;
    let late = |index, time_ms| vec![normal(1, index, keyed(1 << 40, time_ms))];
    store.apply(late(before + 60, NOW + TTL_MS - 1)).await;
    assert_eq!(store.reader.stats().claims, oldest + 1);
    store.apply(late(before + 61, NOW + TTL_MS)).await;
    assert_eq!(store.reader.stats().claims, oldest + 1 - SPAN_CLAIMS);
}
