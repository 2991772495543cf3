//! Snapshots: sent, received, installed, and refused.

use std::fs;

use futures_util::StreamExt;
use openraft::storage::RaftStateMachine;

use skep_state::records::Records as _;

use super::*;
use crate::{SnapshotData, SnapshotSink, inspect};

pub(super) async fn bytes_of(data: SnapshotData) -> Vec<u8> {
    let expected = data.file_bytes();
    let chunks: Vec<_> = data.into_chunks().collect().await;
    let mut bytes = Vec::new();
    chunks.into_iter().for_each(|chunk| {
        let chunk = chunk.unwrap();
        assert!(chunk.len() <= 256 * 1024);
        bytes.extend_from_slice(&chunk);
    });
    assert_eq!(bytes.len() as u64, expected);
    bytes
}

pub(super) async fn receive(store: &Store, bytes: &[u8], step: usize) -> std::io::Result<SnapshotData> {
    let mut sink = SnapshotSink::new(&store.reader);
    for chunk in bytes.chunks(step) {
        sink.write(Bytes::copy_from_slice(chunk)).await?;
    }
    sink.finish().await
}

/// What was received goes a moment after whoever had it.
async fn until_empty(dir: &Path) {
    let emptied = async {
        let mut look = tokio::time::interval(std::time::Duration::from_millis(1));
        while !files_in(dir).is_empty() {
            look.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), emptied).await.unwrap();
}

async fn source(dir: &Path) -> Store {
    let mut store = open(small(dir)).unwrap();
    store.apply(puts(1, 0..100)).await;
    store.apply(vec![membership(1, 100, &[1, 2, 3]), normal(2, 101, vec![text(9, "newest")])]).await;
    store
}

#[tokio::test]
async fn a_snapshot_received_in_pieces_of_any_size_replaces_the_old_store() {
    let from = tempfile::tempdir().unwrap();
    let mut source = source(from.path()).await;
    let snapshot = source.checkpoint().await;
    let meta = snapshot.meta.clone();
    // The source goes on meanwhile; the snapshot does not.
    source.apply(puts(3, 102..150)).await;
    let bytes = bytes_of(snapshot.snapshot).await;
    for step in [1, 7, 1000, usize::MAX] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(small(dir.path())).unwrap();
        store.apply(puts(9, 0..40)).await;
        store.checkpoint().await;
        let data = receive(&store, &bytes, step).await.unwrap();
        let received = data.contents().unwrap();
        let received = received.messages.records();
        assert_eq!(received.page(0, 1000, usize::MAX).unwrap(), source.messages()[..100]);
        assert_eq!(received.page(98, 1, usize::MAX).unwrap(), source.messages()[98..99]);
        assert!(received.page(100, 1, usize::MAX).unwrap().is_empty());
        store.state_machine.install_snapshot(&meta, data).await.unwrap();
        for reopened in [false, true] {
            if reopened {
                drop(store);
                store = open(small(dir.path())).unwrap();
            }
            assert_eq!(store.messages(), source.messages()[..100]);
            assert_eq!(store.reader.newest_text(), source.reader.newest_text());
            let (applied, membership) = store.state_machine.applied_state().await.unwrap();
            assert_eq!((applied, &membership), (meta.last_log_id, &meta.last_membership));
            assert_eq!(store.reader.applied_index(), Some(101));
            let current = store.state_machine.get_current_snapshot().await.unwrap().unwrap();
            assert_eq!(current.meta, meta);
        }
        store.apply(puts(3, 102..150)).await;
        assert_eq!(store.messages(), source.messages());
        until_empty(&dir.path().join("incoming")).await;
        let strangers = files_in(&dir.path().join("messages"));
        assert!(strangers.iter().all(|p| p.file_name().unwrap().to_str().unwrap().starts_with("00000001-")));
    }
}

#[tokio::test]
async fn a_stores_own_snapshot_can_be_installed_in_another() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = source(from.path()).await;
    let snapshot = source.checkpoint().await;
    let mut store = open(small(to.path())).unwrap();
    store.state_machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    assert_eq!(store.messages(), source.messages());
}

#[tokio::test]
async fn an_empty_store_has_a_snapshot_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    let bytes = bytes_of(store.checkpoint().await.snapshot).await;
    receive(&store, &bytes, 10).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_with_any_byte_changed_cut_or_added_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(dir.path()).await;
    let good = bytes_of(source.checkpoint().await.snapshot).await;
    let file = dir.path().join("x.snapshot");
    for at in (0..good.len()).step_by(good.len() / 150) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(receive(&source, &bad, 4096).await.is_err(), "byte {at}");
        fs::write(&file, &bad).unwrap();
        assert!(inspect(&file).is_err(), "byte {at}");
        assert!(receive(&source, &good[..at], 4096).await.is_err(), "cut at {at}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(receive(&source, &longer, 4096).await.is_err());
    fs::write(&file, &good).unwrap();
    let info = inspect(&file).unwrap();
    assert_eq!((info.messages, info.file_bytes), (100, good.len() as u64));
    assert_eq!(info.header.last_log_id, Some(log_id(2, 101)));
    until_empty(&dir.path().join("incoming")).await;
}

#[tokio::test]
async fn a_header_that_announces_more_than_it_may_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(dir.path()).await;
    let mut bytes = bytes_of(source.checkpoint().await.snapshot).await;
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut sink = SnapshotSink::new(&source.reader);
    assert!(sink.write(Bytes::copy_from_slice(&bytes[..20])).await.is_err());
    assert!(sink.write(Bytes::new()).await.is_err());
}

#[tokio::test]
async fn a_snapshot_that_is_not_what_its_meta_says_is_not_installed() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(dir.path()).await;
    let snapshot = source.checkpoint().await;
    let mut meta = snapshot.meta.clone();
    meta.last_log_id = Some(log_id(2, 500));
    assert!(source.state_machine.install_snapshot(&meta, snapshot.snapshot).await.is_err());
    assert_eq!(source.reader.applied_index(), Some(101));
}

#[tokio::test]
async fn a_crash_between_the_steps_of_an_install_leaves_the_old_store_or_the_new() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = source(from.path()).await;
    let snapshot = source.checkpoint().await;
    let mut store = open(small(to.path())).unwrap();
    store.apply(puts(9, 0..40)).await;
    store.checkpoint().await;
    let old = store.messages();
    let before = tempfile::tempdir().unwrap();
    copy_dir(to.path(), before.path());
    store.state_machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    let new = store.messages();
    drop(store);
    // Before the checkpoint: any part of the new files beside the old ones.
    let arrived = files_in(&to.path().join("messages"));
    for count in 0..=arrived.len() {
        let crashed = tempfile::tempdir().unwrap();
        copy_dir(before.path(), crashed.path());
        for path in &arrived[..count] {
            fs::copy(path, crashed.path().join("messages").join(path.file_name().unwrap())).unwrap();
        }
        let store = open(small(crashed.path())).unwrap();
        assert_eq!(store.messages(), old, "{count} files");
        assert_eq!(store.reader.applied_index(), Some(39));
    }
    // After it: any part of the old files beside the new ones.
    let left = files_in(&before.path().join("messages"));
    for count in 0..=left.len() {
        let crashed = tempfile::tempdir().unwrap();
        copy_dir(to.path(), crashed.path());
        for path in &left[..count] {
            fs::copy(path, crashed.path().join("messages").join(path.file_name().unwrap())).unwrap();
        }
        let store = open(small(crashed.path())).unwrap();
        assert_eq!(store.messages(), new, "{count} files");
        assert_eq!(store.reader.applied_index(), Some(101));
    }
}

#[tokio::test]
async fn a_checkpoint_begun_before_an_install_does_not_undo_it() {
    use openraft::storage::RaftSnapshotBuilder;
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = source(from.path()).await;
    let snapshot = source.checkpoint().await;
    let mut store = open(small(to.path())).unwrap();
    store.apply(puts(9, 0..40)).await;
    let mut builder = store.state_machine.try_create_snapshot_builder(true).await.unwrap();
    store.state_machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    assert_eq!(builder.build_snapshot().await.unwrap().meta, snapshot.meta);
    drop(store);
    assert_eq!(open(small(to.path())).unwrap().messages(), source.messages());
}
