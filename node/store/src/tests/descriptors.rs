//! How many files a store holds open, and that what is read stays readable when its file goes.

use std::time::Duration;

use openraft::storage::RaftStateMachine;

use super::snapshot::{bytes_of, receive};
use super::*;
use crate::segments::Wait;

const HELD: usize = 8;
/// The segment that grows, the log's, and those whose index is being built.
const OTHERS: usize = 2 + 2 * 2;

fn few(dir: &Path) -> StoreConfig {
    StoreConfig { message_segments_held_max: HELD, message_segment_bytes_max: 256, ..small(dir) }
}

fn body(seq: u64) -> String {
    format!("the {seq:04}th message, which takes a segment for itself: {}", "x".repeat(200))
}

/// One message a segment, from one number up to another.
async fn fill(store: &mut Store, from: u64, upto: u64) {
    for seq in from..=upto {
        store.apply(vec![normal(1, seq, vec![put(body(seq))])]).await;
    }
}

/// The files of the folder that this process has open.
fn open_in(dir: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        // A descriptor may be closed by another test meanwhile.
        std::fs::read_link(entry.ok()?.path()).ok()
    });
    links.filter(|target| target.starts_with(dir)).count()
}

fn holds_all(store: &Store, count: u64) {
    assert_eq!(store.messages().len() as u64, count);
    for seq in 1..=count {
        let found = store.reader.get(&Digest::of(body(seq).as_bytes())).unwrap();
        assert_eq!(found.map(|message| message.seq), Some(seq));
    }
}

#[tokio::test]
async fn a_store_holds_the_newest_segments_open_and_reads_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(few(dir.path())).unwrap();
    fill(&mut store, 1, 300).await;
    assert!(store.reader.stats().message_segments >= 300);
    // What is not on disk yet is held, whatever it takes.
    store.checkpoint().await;
    let open_files = open_in(dir.path());
    assert!(open_files <= 2 * HELD + OTHERS, "{open_files} files are open");
    holds_all(&store, 300);
    let snapshot = store.checkpoint().await;
    let meta = snapshot.meta.clone();
    let bytes = bytes_of(snapshot.snapshot).await;
    drop(store);

    let store = open(few(dir.path())).unwrap();
    let open_files = open_in(dir.path());
    assert!(open_files <= 2 * HELD + OTHERS, "{open_files} files are open after a restart");
    holds_all(&store, 300);

    // One that receives it holds no more, and neither does one that is about to restore it.
    let other = tempfile::tempdir().unwrap();
    let mut taker = open(few(other.path())).unwrap();
    let data = receive(&taker, &bytes, 1 << 20).await.unwrap();
    let contents = data.contents().unwrap();
    let open_files = open_in(other.path());
    assert!(open_files <= OTHERS, "{open_files} files of a received snapshot are open");
    drop(contents);
    taker.state_machine.install_snapshot(&meta, data).await.unwrap();
    let open_files = open_in(other.path());
    assert!(open_files <= 2 * HELD + OTHERS, "{open_files} files are open after an install");
    holds_all(&taker, 300);
}

#[tokio::test]
async fn what_is_being_read_stays_readable_when_its_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(few(dir.path())).unwrap();
    fill(&mut store, 1, 60).await;
    let snapshot = store.checkpoint().await;
    let (meta, expected) = (snapshot.meta.clone(), store.messages());
    let view = |store: &Store, from: u64| {
        let state = store.reader.core().lock();
        let messages = &state.kinds.messages;
        messages.records().view_from(from, 60, messages.gaps())
    };
    let before = view(&store, 1);
    store.apply(vec![normal(1, 61, vec![Op::DropMessages { upto: 50 }])]).await;
    store.checkpoint().await;
    assert_eq!(
        before.page(1, 50, usize::MAX, Wait::ForDisk).unwrap().0,
        expected[..50],
        "dropped, and off the disk"
    );
    drop(before);
    let bytes = bytes_of(snapshot.snapshot).await;

    let before = view(&store, 51);
    let data = receive(&store, &bytes, 1 << 20).await.unwrap();
    store.state_machine.install_snapshot(&meta, data).await.unwrap();
    assert_eq!(
        before.page(51, 10, usize::MAX, Wait::ForDisk).unwrap().0,
        expected[50..],
        "replaced by a snapshot"
    );
    drop(before);
    holds_all(&store, 60);
    // Files whose names are gone are closed by a thread of their own.
    let closed = async {
        let mut look = tokio::time::interval(Duration::from_millis(1));
        while open_in(dir.path()) > 2 * HELD + OTHERS {
            look.tick().await;
        }
    };
    let closed = tokio::time::timeout(Duration::from_secs(10), closed).await;
    assert!(closed.is_ok(), "{} files are open", open_in(dir.path()));
}
