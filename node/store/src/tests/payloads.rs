//! Bytes of tasks in files: through crashes, moves, checkpoints and snapshots.

use std::fs;

use openraft::storage::RaftLogReader;
use skep_state::kinds::tasks::Task;
use skep_state::level::Level;
use skep_state::task::{End, NewTask, Policy, TaskClaim, TaskId, TaskOp, When};

use super::*;
use crate::mover;

fn raise(index: u64) -> Entry {
    normal(1, index, vec![Op::Level { level: Level::NEWEST }])
}

fn op(index: u64, op: TaskOp) -> Entry {
    normal(1, index, vec![Op::Tasks { time_ms: 1_000 + index, op }])
}

fn payload(number: u64) -> String {
    format!("payload {number} {}", "x".repeat(number as usize % 97))
}

fn new_task(number: u64) -> NewTask {
    NewTask {
        queue: "q".into(),
        kind: "k".into(),
        payload: payload(number).into(),
        priority: 5,
        when: When::After { delay_ms: 0 },
        policy: Policy { retries: 1, backoff_ms: 0, timeout_ms: 0, keep_ms: 10 },
        unique: None,
        key: None,
    }
}

/// The entry of an index, from 1 on, puts a task, takes it, or ends it; some stay.
fn step(index: u64) -> Entry {
    let number = (index - 1) / 3;
    match (index - 1) % 3 {
        0 => op(index, TaskOp::Put { nonce: number + 1, tasks: vec![new_task(number)] }),
        1 => op(
            index,
            TaskOp::Claim(TaskClaim {
                queues: vec!["q".into()],
                worker: "w".into(),
                number: number + 1,
                max: 1,
                holds: Vec::new(),
                closes: true,
            }),
        ),
        _ => {
            let (id, fence) = (TaskId::nth(number + 1, number + 1, 0), number + 1);
            let end = match number % 16 {
                0 => End::Snooze { delay_ms: 1 << 30 },
                1 => End::Failed { error: format!("error {number}"), is_final: true },
                _ => End::Done { result: format!("result {number}").into() },
            };
            op(index, TaskOp::End { id, fence, end })
        }
    }
}

/// What of all tasks is there: their states, payloads and outcomes.
fn contents(store: &Store) -> Vec<(u64, String, Bytes, Bytes)> {
    let tasks: Vec<(Task, _, _)> = store.reader.tasks(|tasks| {
        let list = skep_state::kinds::tasks::Listed {
            queue: "q",
            state: None,
            count_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        let found = tasks.listed(list, 0).found;
        found
            .into_iter()
            .map(|task| {
                let held = (tasks.hold(&task.payload), tasks.hold(&task.outcome));
                (task, held.0, held.1)
            })
            .collect()
    });
    let read = |(task, payload, outcome): (Task, skep_state::heap::Held, skep_state::heap::Held)| {
        (task.id.seq, task.state.as_str().to_owned(), payload.read().unwrap(), outcome.read().unwrap())
    };
    tasks.into_iter().map(read).collect()
}

/// In many runs: each may begin a file.
async fn apply_all(store: &mut Store, indexes: std::ops::Range<u64>) {
    for index in indexes {
        store.apply(vec![step(index)]).await;
    }
}

fn move_all(store: &Store) -> usize {
    let core = store.state_machine.core();
    let steps = (0..100).take_while(|_| mover::step(core, || false).unwrap()).count();
    assert!(steps < 100, "it comes to rest");
    steps
}

fn payload_files(dir: &Path) -> u64 {
    files_in(&dir.join("payloads")).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

#[tokio::test]
async fn bytes_of_tasks_are_there_through_checkpoints_moves_and_starts() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![raise(0)]).await;
    apply_all(&mut store, 1..600).await;
    let expected = contents(&store);
    assert!(expected.iter().any(|(_, _, payload, _)| !payload.is_empty()));
    for (seq, state, payload, _) in &expected {
        let is_kept = state == "due" || state == "dead";
        let whole = self::payload(seq - 1);
        assert_eq!(
            &payload[..],
            if is_kept || state == "active" { whole.as_bytes() } else { b"" },
            "{seq} {state}"
        );
    }
    store.checkpoint().await;
    let unmoved = payload_files(dir.path());
    assert!(move_all(&store) > 0);
    assert_eq!(contents(&store), expected);
    // Also where nothing comes to the log meanwhile.
    store.checkpoint().await;
    let before = payload_files(dir.path());
    assert!(before < unmoved, "{before} of {unmoved}");
    apply_all(&mut store, 600..620).await;
    let expected = contents(&store);
    store.checkpoint().await;
    let stats = store.reader.stats();
    assert!(payload_files(dir.path()) < unmoved / 2, "{} of {unmoved}", payload_files(dir.path()));
    assert!(
        stats.payload_live_bytes > 0 && stats.payload_bytes < 2 * stats.payload_live_bytes + 3 * 2048,
        "{stats:?}"
    );
    drop(store);
    let store = open(small(dir.path())).unwrap();
    assert_eq!(contents(&store), expected);
    assert_eq!(store.reader.stats().payload_live_bytes, stats.payload_live_bytes);
}

/// At any moment the folder as it is, opened again, comes to the same by the log.
#[tokio::test]
async fn after_a_crash_at_any_point_of_a_move_the_log_replays_to_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    let mut moments = Vec::new();
    let mut all = vec![raise(0)];
    all.extend((1..900).map(step));
    for (index, entry) in (0u64..).zip(&all) {
        store.apply(vec![entry.clone()]).await;
        match index % 59 {
            13 => drop(store.checkpoint().await),
            29 | 45 => drop(mover::step(store.state_machine.core(), || false).unwrap()),
            _ => {}
        }
        if index % 59 == 13 || index % 59 == 29 || index % 43 == 7 {
            let copy = tempfile::tempdir().unwrap();
            copy_dir(dir.path(), copy.path());
            moments.push((copy, index as usize, contents(&store)));
        }
    }
    assert!(store.reader.stats().payload_files < 20, "{:?}", store.reader.stats());
    for (copy, index, expected) in moments {
        let mut again = open(small(copy.path())).unwrap();
        let next = again.reader.applied_index().map_or(0, |index| index as usize + 1);
        again.apply(all[next..=index].to_vec()).await;
        assert_eq!(contents(&again), expected, "moment {index}");
        move_all(&again);
        assert_eq!(contents(&again), expected, "moment {index}, moved");
        again.checkpoint().await;
        drop(again);
        assert_eq!(contents(&open(small(copy.path())).unwrap()), expected, "moment {index}, started again");
    }
}

/// What was captured before a move names the files from before it: they stay until a later one is the checkpoint.
#[tokio::test]
async fn a_state_that_was_captured_before_a_move_has_its_files_though_an_older_one_is_written_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![raise(0)]).await;
    apply_all(&mut store, 1..300).await;
    let mut older = store.state_machine.try_create_snapshot_builder(true).await.unwrap();
    apply_all(&mut store, 300..600).await;
    let expected = contents(&store);
    let mut newer = store.state_machine.try_create_snapshot_builder(true).await.unwrap();
    assert!(move_all(&store) > 0);
    older.build_snapshot().await.unwrap();
    let written = newer.build_snapshot().await.unwrap();
    assert_eq!(contents(&store), expected);
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    assert_eq!(contents(&open(small(copy.path())).unwrap()), expected);
    // Its files can be sent whatever goes meanwhile.
    store.checkpoint().await;
    let to = tempfile::tempdir().unwrap();
    let mut other = open(small(to.path())).unwrap();
    other.state_machine.install_snapshot(&written.meta, written.snapshot).await.unwrap();
    assert_eq!(contents(&other), expected);
}

#[tokio::test]
async fn a_snapshot_brings_bytes_of_tasks_in_the_place_of_those_that_were_there() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = open(small(from.path())).unwrap();
    source.apply(vec![raise(0)]).await;
    apply_all(&mut source, 1..500).await;
    move_all(&source);
    let expected = contents(&source);
    let snapshot = source.checkpoint().await;
    let mut store = open(small(to.path())).unwrap();
    store.apply(vec![raise(0)]).await;
    apply_all(&mut store, 1..100).await;
    store.checkpoint().await;
    apply_all(&mut store, 100..140).await;
    let mut sink = crate::SnapshotSink::new(&store.reader);
    let mut chunks = std::pin::pin!(snapshot.snapshot.into_chunks());
    while let Some(chunk) = futures_util::StreamExt::next(&mut chunks).await {
        sink.write(chunk.unwrap()).await.unwrap();
    }
    let received = sink.finish().await.unwrap();
    let restored: Vec<_> = received.contents().unwrap().again().collect::<Result<_, _>>().unwrap();
    let has = |text: &str| restored.iter().any(|op| format!("{op:?}").contains(text));
    assert!(has(&payload(16)) && has("error 17"), "what is restored has them");
    // Somebody reads what is replaced.
    let held: Vec<_> = store.reader.tasks(|tasks| {
        tasks
            .places_of(0..tasks.slots())
            .map(|(_, _, place)| tasks.hold(&skep_state::heap::Blob::Filed(place)))
            .collect()
    });
    // One that is being made while it is installed, of which no list has heard.
    let made = to.path().join("payloads/00000001-0000009999.pay");
    fs::write(&made, "bytes that are moved").unwrap();
    store.state_machine.install_snapshot(&snapshot.meta, received).await.unwrap();
    assert!(made.exists());
    let of_before = |path: &std::path::PathBuf| path.to_string_lossy().contains("/00000000-");
    assert!(!files_in(&to.path().join("payloads")).iter().any(of_before));
    assert!(held.iter().all(|held| !held.read().unwrap().is_empty()));
    assert_eq!(contents(&store), expected);
    let rest: Vec<Entry> = (500..560).map(step).collect();
    source.apply(rest.clone()).await;
    store.apply(rest).await;
    move_all(&store);
    assert_eq!(contents(&store), contents(&source));
    store.checkpoint().await;
    drop(store);
    assert_eq!(contents(&open(small(to.path())).unwrap()), contents(&source));
}

#[tokio::test]
async fn bytes_that_were_in_the_checkpoint_go_into_files_by_the_level() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![normal(1, 0, vec![Op::Level { level: Level::TASKS }])]).await;
    apply_all(&mut store, 1..100).await;
    let expected = contents(&store);
    store.checkpoint().await;
    drop(store);
    let mut store = open(small(dir.path())).unwrap();
    assert_eq!((contents(&store), store.reader.stats().payload_bytes), (expected.clone(), 0));
    store.apply(vec![raise(100)]).await;
    assert!(store.reader.stats().payload_live_bytes > 0);
    assert_eq!(contents(&store), expected);
    store.checkpoint().await;
    drop(store);
    assert_eq!(contents(&open(small(dir.path())).unwrap()), expected);
}

/// Never other bytes: what was lost is said to be.
#[tokio::test]
async fn bytes_that_a_disk_has_lost_are_refused_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![raise(0), op(1, TaskOp::Put { nonce: 1, tasks: vec![new_task(1), new_task(2)] })]).await;
    store.checkpoint().await;
    drop(store);
    let path = files_in(&dir.path().join("payloads")).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[32 + 3] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let store = open(small(dir.path())).unwrap();
    let held = store.reader.tasks(|tasks| {
        let places: Vec<_> = tasks.places_of(0..tasks.slots()).collect();
        places
            .into_iter()
            .map(|(_, _, place)| tasks.hold(&skep_state::heap::Blob::Filed(place)))
            .collect::<Vec<_>>()
    });
    assert!(held[0].read().is_err());
    assert_eq!(held[1].read().unwrap(), payload(2));
    assert_eq!(store.metrics.payloads_lost.load(std::sync::atomic::Ordering::Relaxed), 1);
    drop(store);
    let verified = crate::verify(dir.path()).unwrap();
    assert!(
        matches!(&verified.rotten[..], [StoreError::Corrupt { path: named, .. }] if *named == path),
        "{verified:?}"
    );
    // A file that is shorter than the checkpoint says is no file of it.
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(open(small(dir.path())), Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn what_the_log_has_is_applied_over_files_that_had_it_already() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.append(vec![raise(0)]).await;
    store.append((1..120).map(step).collect()).await;
    store.apply(vec![raise(0)]).await;
    apply_all(&mut store, 1..60).await;
    store.checkpoint().await;
    apply_all(&mut store, 60..120).await;
    let expected = contents(&store);
    drop(store);
    for _ in 0..3 {
        // Nothing is checkpointed: each start begins where the one before did.
        let mut again = open(small(dir.path())).unwrap();
        let rest = again.log.get_log_reader().await.try_get_log_entries(60..120).await.unwrap();
        again.apply(rest).await;
        assert_eq!(contents(&again), expected);
    }
}
