//! What a store holds in memory for a moment, beside its state: an allocator that counts says it.
#![allow(unsafe_code, reason = "an allocator is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures_util::{StreamExt, stream};
use openraft::EntryPayload;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use skep_raft::types::{Entry, LogId};
use skep_state::command::{Command, Op};
use skep_state::level::Level;
use skep_state::task::{NewTask, Policy, TaskOp, When};
use skep_store::{SnapshotSink, Store, StoreConfig, open};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the arguments that came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(HELD.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as it came.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as it came.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes that are held when it is begun.
struct Begun(usize);

fn begin() -> Begun {
    let held = HELD.load(Relaxed);
    PEAK.store(held, Relaxed);
    Begun(held)
}

impl Begun {
    /// The most that was held since, beside what was held then.
    fn peak(&self) -> usize {
        PEAK.load(Relaxed).saturating_sub(self.0)
    }

    /// The most that was held since, beside what is held now.
    fn beyond_now(&self) -> usize {
        PEAK.load(Relaxed).saturating_sub(HELD.load(Relaxed))
    }
}

/// As many tasks as have 5 MB in a checkpoint.
const TASKS: u64 = 50_000;
/// A small part of that.
const BESIDE_MAX: usize = 2 * 1024 * 1024;

fn entry(index: u64, op: Op) -> Entry {
    let payload = EntryPayload::Normal(Command::new(vec![op]));
    Entry { log_id: LogId::new_term_index(1, index), payload }
}

fn put(index: u64) -> Op {
    let task = NewTask {
        queue: "q".into(),
        kind: "k".into(),
        payload: vec![7; 256].into(),
        priority: 5,
        when: When::After { delay_ms: 0 },
        policy: Policy { retries: 1, backoff_ms: 1_000, timeout_ms: 60_000, keep_ms: 1 },
        unique: None,
        key: None,
    };
    Op::Tasks { time_ms: 1_000, op: TaskOp::Put { nonce: index, tasks: vec![task; 1_000] } }
}

fn store(dir: &Path) -> Store {
    open(StoreConfig { watches_room: false, ..StoreConfig::new(dir) }).unwrap()
}

async fn full(dir: &Path) -> Store {
    let mut store = store(dir);
    let raised = entry(0, Op::Level { level: Level::NEWEST });
    for entry in [raised].into_iter().chain((1..=TASKS / 1_000).map(|index| entry(index, put(index)))) {
        store.state_machine.apply(stream::iter([Ok((entry, None))])).await.unwrap();
    }
    store
}

/// One after another: all are counted together.
#[tokio::test]
async fn what_is_written_sent_received_or_read_of_all_tasks_is_not_in_memory_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = full(dir.path()).await;
    let begun = begin();
    let mut builder = store.state_machine.try_create_snapshot_builder(true).await.unwrap();
    let snapshot = builder.build_snapshot().await.unwrap().snapshot;
    let written = begun.peak();
    let begun = begin();
    let mut chunks = std::pin::pin!(snapshot.into_chunks());
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        bytes += chunk.unwrap().len();
    }
    let sent = begun.peak();
    assert!(bytes > TASKS as usize * (60 + 256), "{bytes} bytes were sent");
    let begun = begin();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = self::store(elsewhere.path());
    let mut sink = SnapshotSink::new(&other.reader);
    let snapshot = store.state_machine.get_current_snapshot().await.unwrap().unwrap().snapshot;
    let mut chunks = std::pin::pin!(snapshot.into_chunks());
    while let Some(chunk) = chunks.next().await {
        sink.write(chunk.unwrap()).await.unwrap();
    }
    let received = sink.finish().await.unwrap();
    let taken = begun.beyond_now();
    drop((builder, store, received, other));
    let begun = begin();
    let store = self::store(dir.path());
    let read = begun.beyond_now();
    assert_eq!(u64::from(store.reader.tasks(|tasks| tasks.len())), TASKS);
    println!(
        "{written} bytes beside for a checkpoint, {sent} to send it, {taken} to take it, {read} for a start"
    );
    assert!(written < BESIDE_MAX, "a checkpoint took {written} bytes beside its state");
    assert!(sent < BESIDE_MAX, "a snapshot took {sent} bytes beside its state where it was sent");
    assert!(taken < BESIDE_MAX, "a snapshot took {taken} bytes beside its state where it was received");
    assert!(read < BESIDE_MAX, "a start took {read} bytes beside its state");
}
