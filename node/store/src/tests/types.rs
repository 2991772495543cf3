//! What sealed segments have of each content type.

use std::path::{Path, PathBuf};

use super::messages::filled;
use super::*;
use crate::reader::{Block, Reader};

/// The last message of the sealed segments, where all that they have of each type is known; and how many they have.
fn known(reader: &Reader, read: bool) -> Option<(u64, u64)> {
    let (mut at, mut messages) = (0, 0);
    while let Block { last: Some(last), types } = reader.block_after(at, read).unwrap() {
        messages += types?.count(|_| true).unwrap();
        at = last;
    }
    Some((at, messages))
}

fn summaries(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("messages")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "sum")).collect()
}

#[tokio::test]
async fn the_types_of_sealed_segments_are_known_without_reading_them_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(small(dir.path()), 200).await;
    let (upto, messages) = known(&store.reader, false).unwrap();
    assert!(upto > 100 && messages == upto, "{messages} of {upto}");
    store.checkpoint().await;
    drop(store);
    let store = open(small(dir.path())).unwrap();
    assert_eq!(known(&store.reader, false), Some((upto, messages)));
}

#[tokio::test]
async fn a_summary_that_is_missing_or_damaged_is_made_again_by_reading_the_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(small(dir.path()), 200).await;
    let all = known(&store.reader, false);
    store.checkpoint().await;
    drop(store);
    drop(open(small(dir.path())).unwrap());
    for (nth, path) in summaries(dir.path()).iter().enumerate() {
        match nth % 2 {
            0 => std::fs::remove_file(path).unwrap(),
            _ => std::fs::write(path, "no summary").unwrap(),
        }
    }
    let store = open(small(dir.path())).unwrap();
    assert_eq!(known(&store.reader, false), None, "nothing is read for it");
    assert_eq!(known(&store.reader, true), all);
    assert_eq!(known(&store.reader, false), all);
    drop(store);
    let store = open(small(dir.path())).unwrap();
    assert_eq!(known(&store.reader, false), all, "and kept");
}

#[tokio::test]
async fn a_segment_of_which_a_message_was_taken_out_is_read_for_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(small(dir.path()), 200).await;
    let first = store.messages().swap_remove(0);
    store.apply(vec![normal(1, 200, vec![Op::RemoveMessage { digest: first.digest }])]).await;
    let Block { last: Some(last), types: None } = store.reader.block_after(0, true).unwrap() else {
        panic!("what it had is not what it has");
    };
    assert!(store.reader.block_after(last, false).unwrap().types.is_some(), "the next one is whole");
    let Block { last: Some(before), types: None } = store.reader.block_after(1, true).unwrap() else {
        panic!("the rest of a segment is no block of which anything is known");
    };
    assert_eq!(before, last);
}
