//! A document of the gateway that a snapshot brings, and that is larger than one value of the codec with its past.

use futures_util::StreamExt;
use skep_state::gateway::{GatewayOp, Revision};
use skep_state::level::{Level, Limits};

use super::snapshot::receive;
use super::*;

fn set(index: u64, document: Bytes) -> Entry {
    let expect = (index > 1).then_some(Revision { lineage: 7, number: index - 1 });
    let op = GatewayOp::Set { nonce: index, expect, lineage: 7, document, source: "test".into() };
    normal(1, index, vec![Op::Gateway { time_ms: 1, op }])
}

#[tokio::test]
async fn whoever_waits_for_a_document_is_told_of_one_that_a_snapshot_brings() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = open(small(from.path())).unwrap();
    source.apply(vec![normal(1, 0, vec![Op::Level { level: Level::GATEWAY }])]).await;
    let large = |letter: u8| Bytes::from(vec![letter; Limits::WIDEST.gateway_document_bytes_max]);
    source.apply((1..=4).map(|index| set(index, large(b'a' + index as u8))).collect()).await;
    let snapshot = source.checkpoint().await;
    let meta = snapshot.meta.clone();
    // The header is one piece, however long it is: the peers cut it.
    let chunks: Vec<_> = snapshot.snapshot.into_chunks().map(|chunk| chunk.unwrap()).collect().await;
    let bytes = chunks.concat();

    let mut store = open(small(to.path())).unwrap();
    let mut newest = store.reader.newest_gateway();
    assert_eq!(*newest.borrow_and_update(), None);
    let received = receive(&store, &bytes, 200_000).await.unwrap();
    store.state_machine.install_snapshot(&meta, received).await.unwrap();
    assert!(newest.has_changed().unwrap());
    let revision = Some(Revision { lineage: 7, number: 4 });
    assert_eq!(*newest.borrow_and_update(), revision);
    store.apply(puts(1, 5..6)).await;
    assert!(!newest.has_changed().unwrap(), "nobody is woken by anything else");
    drop(store);
    let store = open(small(to.path())).unwrap();
    assert_eq!(*store.reader.newest_gateway().borrow(), revision, "also once it is started again");
    let kept =
        |reader: &crate::Reader| reader.gateway(|gateway| gateway.history().cloned().collect::<Vec<_>>());
    assert_eq!(kept(&store.reader), kept(&source.reader));
}
