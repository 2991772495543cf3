//! Crashes: the folder as it is at some moment, opened again.

use std::fs;
use std::path::PathBuf;

use openraft::StorageHelper;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftStateMachine};

use super::*;

/// What the store holds, for comparison.
type Contents = (Vec<StoredMessage>, Option<skep_state::kinds::text::Newest>);

fn contents(store: &Store) -> Contents {
    (store.messages(), store.reader.newest_text())
}

fn command(index: u64) -> Entry {
    let body = |n: u64| put(format!("message {n}"));
    match index % 10 {
        0 => membership(1, index, &[1, 2, index]),
        // Repeats of earlier ones among them.
        n => normal(
            1,
            index,
            vec![body(index * 2), body(index * 2 + 1), body(index / n), text(index.into(), "t")],
        ),
    }
}

#[tokio::test]
async fn after_a_crash_at_any_point_the_log_replays_to_the_same_contents() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    let mut moments: Vec<(tempfile::TempDir, u64, Contents)> = Vec::new();
    for index in 0..120 {
        store.append(vec![command(index)]).await;
        store.log.save_committed(Some(log_id(1, index))).await.unwrap();
        store.apply(vec![command(index)]).await;
        if index % 25 == 24 {
            store.checkpoint().await;
        }
        if index == 70 {
            store.log.purge(log_id(1, 40)).await.unwrap();
        }
        if index % 9 == 0 {
            // The committed index is on disk with the next batch at the latest.
            store.append(vec![]).await;
            let copy = tempfile::tempdir().unwrap();
            copy_dir(dir.path(), copy.path());
            moments.push((copy, index, contents(&store)));
        }
    }
    for (copy, index, expected) in moments {
        let mut again = open(small(copy.path())).unwrap();
        let applied = again.state_machine.applied_state().await.unwrap().0;
        assert_eq!(applied.map(|id| id.index), (0..=index).rev().find(|i| i % 25 == 24), "moment {index}");
        // What openraft does at its start, and then by the leader's word.
        let mut helper = StorageHelper::new(&mut again.log, &mut again.state_machine).with_id(1);
        helper.get_initial_state().await.unwrap();
        let applied = again.state_machine.applied_state().await.unwrap().0;
        let next = applied.map_or(0, |id| id.index + 1);
        let rest = again.log.get_log_reader().await.try_get_log_entries(next..=index).await.unwrap();
        assert_eq!(rest.len() as u64, index + 1 - next);
        again.apply(rest).await;
        assert_eq!(contents(&again), expected, "moment {index}");
        let (applied, membership) = again.state_machine.applied_state().await.unwrap();
        assert_eq!(applied, Some(log_id(1, index)));
        assert_eq!(*membership.log_id(), Some(log_id(1, index / 10 * 10)));
    }
}

#[tokio::test]
async fn a_checkpoint_is_whole_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(puts(1, 0..30)).await;
    store.checkpoint().await;
    store.apply(puts(1, 30..60)).await;
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    // A crash while the next one was being written leaves a torn file under another name.
    let whole = fs::read(dir.path().join("checkpoint")).unwrap();
    fs::write(copy.path().join("checkpoint.tmp"), &whole[..whole.len() / 2]).unwrap();
    let again = open(small(copy.path())).unwrap();
    assert_eq!(again.reader.applied_index(), Some(29));
    assert_eq!(again.messages().len(), 30);
    drop(again);
    fs::write(copy.path().join("checkpoint"), &whole[..whole.len() - 1]).unwrap();
    let error = open(small(copy.path())).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_message_segment_that_lost_bytes_of_a_checkpoint_stops_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(puts(1, 0..30)).await;
    store.checkpoint().await;
    drop(store);
    let segments: Vec<PathBuf> = files_in(&dir.path().join("messages"));
    for path in segments.iter().filter(|path| path.extension().is_some_and(|ext| ext == "seg")) {
        let good = fs::read(path).unwrap();
        fs::write(path, &good[..good.len() - 1]).unwrap();
        let error = open(small(dir.path())).unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { path: named, .. } if named == path), "{error}");
        fs::write(path, &good).unwrap();
    }
    open(small(dir.path())).unwrap();
}

#[tokio::test]
async fn a_checkpoint_waits_for_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    let flushed = openraft::storage::IOFlushed::noop();
    store.log.append(puts(1, 0..10), flushed).await.unwrap();
    store.apply(puts(1, 0..10)).await;
    store.checkpoint().await;
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let mut again = open(small(copy.path())).unwrap();
    assert_eq!(again.entries().await, puts(1, 0..10));
}
