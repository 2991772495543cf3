//! Nothing is said to be durable before `fdatasync` has said so, and a failed one is final.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use openraft::storage::RaftLogStorage;
use tokio::task::spawn_blocking;

use super::*;
use crate::SyncData;
use skep_raft::types::Vote;

/// How long the writer may take to come to its sync.
const SYNC_DEADLINE: Duration = Duration::from_secs(10);
/// Turns of the runtime in which a completion that was reported would be seen.
const TURNS: usize = 1000;

/// A log whose syncs are told of, and wait for a word each.
struct Held {
    begun: Arc<Mutex<mpsc::Receiver<()>>>,
    go_on: mpsc::Sender<()>,
    config: StoreConfig,
}

fn held(dir: &Path) -> Held {
    let (begin, begun) = mpsc::channel();
    let (go_on, going_on) = mpsc::channel::<()>();
    let going_on = Mutex::new(going_on);
    let sync = move |file: &std::fs::File| {
        // Without a listener the test is over.
        let _ = begin.send(());
        let _ = going_on.lock().unwrap().recv();
        file.sync_data()
    };
    let config = StoreConfig { sync_data: SyncData(Arc::new(sync)), ..StoreConfig::new(dir) };
    Held { begun: Arc::new(Mutex::new(begun)), go_on, config }
}

impl Held {
    /// Waits until a sync has begun, and sees that the work is not reported as done before it ends.
    async fn holds_up<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let work = tokio::spawn(work);
        let begun = self.begun.clone();
        let begun = spawn_blocking(move || begun.lock().unwrap().recv_timeout(SYNC_DEADLINE)).await.unwrap();
        begun.expect("the writer syncs");
        for _ in 0..TURNS {
            assert!(!work.is_finished(), "reported as durable before fdatasync returned");
            tokio::task::yield_now().await;
        }
        self.go_on.send(()).unwrap();
        work.await.unwrap()
    }
}

#[tokio::test]
async fn appends_votes_and_checkpoints_are_not_reported_before_the_sync_has_returned() {
    let dir = tempfile::tempdir().unwrap();
    let held = held(dir.path());
    let mut store = open(held.config.clone()).unwrap();
    // The first batch also ends the segment that a log begins with.
    for _ in 0..2 {
        held.go_on.send(()).unwrap();
    }
    store.append(puts(1, 0..1)).await;
    for _ in 0..2 {
        held.begun.lock().unwrap().recv_timeout(SYNC_DEADLINE).unwrap();
    }
    for index in 1..3 {
        store = held
            .holds_up(async move {
                store.append(puts(1, index..index + 1)).await;
                store
            })
            .await;
    }
    let mut store = held
        .holds_up(async move {
            store.log.save_vote(&Vote::new(2, 7)).await.unwrap();
            store
        })
        .await;
    let flushed = openraft::storage::IOFlushed::noop();
    store.log.append(puts(1, 3..4), flushed).await.unwrap();
    store.apply(puts(1, 0..4)).await;
    // A checkpoint must not be ahead of the log.
    let store = held
        .holds_up(async move {
            store.checkpoint().await;
            store
        })
        .await;
    drop(held);
    drop(store);
}

#[tokio::test]
async fn a_failed_sync_is_never_repeated_and_nothing_is_taken_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = syncs.clone();
    let sync = move |_: &std::fs::File| {
        counted.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::from_raw_os_error(libc::EIO))
    };
    let config = StoreConfig { sync_data: SyncData(Arc::new(sync)), ..StoreConfig::new(dir.path()) };
    let mut store = open(config).unwrap();
    for index in 0..3 {
        let appended = store.log.blocking_append(puts(1, index..index + 1)).await;
        assert!(appended.is_err(), "append {index} was acknowledged");
        assert!(store.log.save_vote(&Vote::new(2 + index, 7)).await.is_err());
    }
    assert_eq!(syncs.load(Ordering::SeqCst), 1);
    assert!(store.health.borrow().failed.as_ref().is_some_and(|why| why.contains("sync")));
}

/// What tells a log that is lost from one that never began: it has a file before anybody can rely on it.
#[test]
fn a_log_has_a_file_as_soon_as_its_store_is_open_and_goes_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        drop(open(StoreConfig::new(dir.path())).unwrap());
        assert!(dir.path().join("log").join("0000000000000001.wal").exists());
    }
}
