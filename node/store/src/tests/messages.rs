//! Applying commands, and reading what they came to.

use std::fs;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use skep_state::command::OpOutcome;
use skep_state::level::Level;

use super::*;
use crate::core::Core;
use crate::health::HealthSender;
use crate::run::{Touched, Wanted};
use crate::segments::Wait;

fn body(seq: u64) -> String {
    format!("the {seq}th message")
}

pub(super) async fn filled(config: StoreConfig, count: u64) -> Store {
    let mut store = open(config).unwrap();
    for seq in 1..=count {
        store.apply(vec![normal(1, seq - 1, vec![put(body(seq))])]).await;
    }
    store
}

#[tokio::test]
async fn each_message_gets_the_next_seq_and_a_repeated_one_keeps_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    let ops = vec![put("a"), put("b"), put("a"), text(1, "t"), put("c"), put("b")];
    store.apply(vec![blank(1, 0), normal(1, 1, ops), normal(1, 2, vec![put("c"), put("d")])]).await;
    let found: Vec<_> = store.messages().into_iter().map(|m| (m.seq, m.body)).collect();
    let expected: Vec<_> = (1..).zip(["a", "b", "c", "d"].map(Bytes::from)).collect();
    assert_eq!(found, expected);
    assert_eq!(store.reader.last_seq(), 4);
    assert_eq!(store.reader.applied_index(), Some(2));
    assert_eq!(store.reader.newest_text().unwrap().text, "t");
}

#[tokio::test]
async fn messages_are_found_and_paged_across_sealed_segments_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(small(dir.path()), 200).await;
    for restarted in [false, true] {
        if restarted {
            store.checkpoint().await;
            drop(store);
            store = open(small(dir.path())).unwrap();
        }
        assert!(store.reader.stats().message_segments > 5);
        for seq in 1..=200 {
            let found = store.reader.get(&Digest::of(body(seq).as_bytes())).unwrap().unwrap();
            assert_eq!((found.seq, found.body), (seq, Bytes::from(body(seq))));
        }
        assert_eq!(store.reader.get(&Digest::of(b"absent")).unwrap(), None);
        for (after, count) in [(0, 200), (0, 1), (17, 50), (199, 10), (200, 10), (u64::MAX, 10), (5, 0)] {
            let page = store.reader.page(after, count as usize, usize::MAX).unwrap();
            let seqs: Vec<u64> = page.iter().map(|message| message.seq).collect();
            let end = after.saturating_add(count).min(200);
            assert_eq!(seqs, (after.saturating_add(1)..=end).collect::<Vec<_>>(), "{after} {count}");
            assert!(page.iter().all(|message| message.body == body(message.seq)));
        }
        for seq in 1..=200 {
            // A repeat of any of them, wherever it lies, changes nothing.
            let index = 200 + seq + if restarted { 1000 } else { 0 };
            store.apply(vec![normal(1, index, vec![put(body(seq))])]).await;
        }
        assert_eq!(store.reader.last_seq(), 200);
    }
}

#[tokio::test]
async fn a_page_is_bounded_by_bytes_but_has_one_message_at_least() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(small(dir.path()), 100).await;
    store.apply(vec![normal(1, 100, vec![put(vec![7; 700_000])])]).await;
    let page = store.reader.page(10, 50, 400).unwrap();
    assert!((2..=6).contains(&page.len()), "{}", page.len());
    let page = store.reader.page(10, 50, 0).unwrap();
    assert_eq!(page.len(), 1);
    let page = store.reader.page(100, 50, 10).unwrap();
    assert_eq!((page.len(), page[0].body.len()), (1, 700_000));
    let page = store.reader.page(98, 50, 1000).unwrap();
    assert_eq!(page.len(), 2);
    assert_eq!(store.messages().len(), 101);
}

#[tokio::test]
async fn large_commands_are_applied_as_small_ones_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    let big = |n: u8| put(vec![n; 900_000]);
    store.apply((0..6).map(|n| normal(1, n, vec![big(n as u8), big(n as u8 / 2), put("x")])).collect()).await;
    assert_eq!(store.reader.last_seq(), 7);
    let found = store.reader.get(&Digest::of(&vec![5; 900_000])).unwrap().unwrap();
    assert_eq!(found.body, vec![5; 900_000]);
}

#[tokio::test]
async fn time_never_falls() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    let at = |body: &'static str, time_ms| match put(body) {
        Op::PutMessage { digest, content_type, body, nonce, .. } => {
            Op::PutMessage { digest, content_type, body, time_ms, nonce }
        }
        op => op,
    };
    store.apply(vec![normal(1, 0, vec![at("a", 5), at("b", 9), at("c", 7)])]).await;
    store.checkpoint().await;
    drop(store);
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![normal(1, 1, vec![at("d", 1), at("e", 10)])]).await;
    let times: Vec<_> = store.messages().iter().map(|message| message.time_ms).collect();
    assert_eq!(times, [5, 9, 9, 9, 10]);
}

#[tokio::test]
async fn a_retried_text_write_takes_effect_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![normal(1, 0, vec![text(1, "a"), text(2, "b"), text(1, "a")])]).await;
    let newest = store.reader.newest_text().unwrap();
    assert_eq!((newest.version, &newest.text[..]), (2, &b"b"[..]));
}

#[tokio::test]
async fn a_command_of_a_newer_format_stops_the_store_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    let mut command = Command::new(vec![put("a")]);
    command.format = Level::NEWEST.0 + 1;
    let entry = Entry { log_id: log_id(1, 0), payload: EntryPayload::Normal(command) };
    let error = store.state_machine.apply(stream::iter([Ok((entry, None))])).await.unwrap_err();
    let expected = format!("command format {}", Level::NEWEST.0 + 1);
    assert!(error.to_string().contains(&expected), "{error}");
    assert!(store.health.borrow().failed.is_some());
}

#[tokio::test]
async fn those_who_wait_for_an_index_are_told_when_it_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    let mut applied = store.reader.applied();
    let waiting =
        tokio::spawn(async move { applied.wait_for(|a| a.index >= Some(3)).await.map(|a| *a).unwrap() });
    store.apply(puts(1, 0..5)).await;
    let applied = waiting.await.unwrap();
    assert_eq!((applied.index, applied.seq), (Some(4), 5));
}

#[tokio::test]
async fn a_damaged_message_is_an_error_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(small(dir.path()), 100).await;
    store.checkpoint().await;
    drop(store);
    let segments = files_in(&dir.path().join("messages"));
    let sealed = segments.iter().find(|path| path.extension().is_some_and(|ext| ext == "seg")).unwrap();
    let mut bytes = fs::read(sealed).unwrap();
    bytes[24 + 70] ^= 1;
    fs::write(sealed, &bytes).unwrap();
    let store = open(small(dir.path())).unwrap();
    let error = store.reader.get(&Digest::of(body(1).as_bytes())).unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { path, .. } if path == sealed), "{error}");
    assert!(store.reader.page(0, 10, 10_000).is_err());
    assert_eq!(store.reader.page(1, 1, 10_000).unwrap().len(), 1);
}

#[tokio::test]
async fn a_missing_index_is_built_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(small(dir.path()), 100).await;
    store.checkpoint().await;
    drop(store);
    for path in files_in(&dir.path().join("messages")) {
        if path.extension().is_some_and(|ext| ext == "idx") {
            fs::remove_file(path).unwrap();
        }
    }
    let store = open(small(dir.path())).unwrap();
    for seq in 1..=100 {
        assert!(store.reader.get(&Digest::of(body(seq).as_bytes())).unwrap().is_some());
    }
}

/// Whether each of the operations says that it made its message.
fn made(core: &Core, index: u64, ops: Vec<Op>) -> Vec<bool> {
    core.begin(Touched { messages: true, ..Touched::default() }).unwrap();
    let mut wanted = Wanted::default();
    ops.iter().for_each(|op| wanted.note(op));
    let known = core.look_for(&wanted, Wait::ForDisk).unwrap();
    let outcomes = core.apply([normal(1, index, ops)].iter(), 0, known).unwrap();
    let created = |outcome: &OpOutcome| matches!(outcome, OpOutcome::Message { created: true, .. });
    outcomes.iter().flat_map(|outcome| outcome.outcomes.iter().map(created)).collect()
}

fn core(dir: &std::path::Path) -> Core {
    Core::open(&small(dir), Arc::new(HealthSender::new()), Arc::default()).unwrap()
}

#[test]
fn a_request_that_is_carried_twice_hears_twice_that_it_made_the_message() {
    let dir = tempfile::tempdir().unwrap();
    let core = core(dir.path());
    let ops = vec![put_by(7, "a"), put_by(8, "b"), put_by(9, "a")];
    assert_eq!(made(&core, 0, ops), [true, true, false]);
    // Some segments later as well.
    for n in 0..20 {
        assert_eq!(made(&core, 1 + n, vec![put_by(100 + n, vec![n as u8; 2000])]), [true]);
    }
    assert!(core.lock().kinds.messages.records().segments() > 2);
    let ops = vec![put_by(7, "a"), put_by(9, "a"), put_by(8, "b")];
    assert_eq!(made(&core, 21, ops), [true, false, true]);
    assert_eq!(core.lock().kinds.messages.records().published_seq(), 22, "nothing was stored twice");
}

#[test]
fn who_made_a_message_is_forgotten_by_a_restart_but_never_mistaken() {
    let dir = tempfile::tempdir().unwrap();
    let before = core(dir.path());
    made(&before, 0, vec![put_by(7, "a")]);
    before.write_checkpoint(before.capture()).unwrap();
    drop(before);
    let ops = vec![put_by(7, "a"), put_by(8, "b"), put_by(7, "b"), put_by(8, "b")];
    assert_eq!(made(&core(dir.path()), 1, ops), [false, true, false, true]);
}

#[test]
fn what_a_run_needs_of_the_disk_is_read_before_the_lock_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let core = core(dir.path());
    for n in 0..20 {
        made(&core, n, vec![put(vec![n as u8; 1000])]);
    }
    let removed = Digest::of(&vec![3; 1000]);
    let ops = vec![
        put_by(9, vec![2; 1000]),
        put("another"),
        Op::RemoveMessage { digest: removed },
        Op::DropMessages { upto: 7 },
        Op::DropMessages { upto: 9 },
        put(vec![3; 1000]),
        put_by(9, vec![15; 1000]),
    ];
    let mut wanted = Wanted::default();
    ops.iter().for_each(|op| wanted.note(op));
    core.begin(Touched { messages: true, ..Touched::default() }).unwrap();
    let known = core.look_for(&wanted, Wait::ForDisk).unwrap();
    // From now on nothing can be read.
    for path in files_in(&dir.path().join("messages")) {
        if path.extension().is_some_and(|ext| ext == "seg") {
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
        }
    }
    let outcomes = core.apply([normal(1, 20, ops)].iter(), 0, known).unwrap();
    let message = |seq, created| OpOutcome::Message { seq, created };
    assert_eq!(
        outcomes[0].outcomes,
        [
            message(3, false),
            message(21, true),
            OpOutcome::Removed { seq: Some(4) },
            OpOutcome::Dropped { upto: 7 },
            OpOutcome::Dropped { upto: 9 },
            message(22, true),
            message(16, false),
        ]
    );
}
