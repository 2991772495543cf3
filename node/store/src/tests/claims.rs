//! Claims as records: in checkpoints, after a crash, in snapshots, and of the version before.

use std::time::Duration;

use openraft::storage::RaftStateMachine;
use skep_state::clock::Stamp;
use skep_state::command::OpOutcome;
use skep_state::level::{Level, Limits};

use super::snapshot::{bytes_of, receive};
use super::*;
use crate::inspect;
use crate::run::Wanted;
use crate::segments::Wait;

/// Messages under claims, from one key up to another, one an entry.
fn claims(term: u64, first_index: u64, keys: std::ops::Range<u64>) -> Vec<Entry> {
    let entries = keys.zip(first_index..);
    entries.map(|(key, index)| normal(term, index, claimed(key, key, index))).collect()
}

fn claimed(key: u64, fingerprint: u64, request: u64) -> Vec<Op> {
    let (key, fingerprint) = (ClaimKey(key.into()), fingerprint.into());
    let claim = Op::Claim { key, fingerprint, time_ms: 1000, ttl_ms: 50_000 };
    vec![claim, put(format!("message {request}"))]
}

fn raise(index: u64) -> Entry {
    normal(1, index, vec![Op::Level { level: Level::NEWEST }])
}

/// What a claim comes to now; nothing is remembered of it.
fn met(store: &Store, key: u64, fingerprint: u64) -> OpOutcome {
    let command = Command::new(vec![claimed(key, fingerprint, 1 << 40).swap_remove(0)]);
    let core = store.reader.core();
    let mut wanted = Wanted::default();
    command.ops.iter().for_each(|op| wanted.note(op));
    let known = core.look_for(&wanted, Wait::ForDisk).unwrap();
    let mut state = core.lock();
    state.kinds.claims.records_mut().begin_run(known.claims);
    state.kinds.apply(0, &command).unwrap().outcomes.swap_remove(0)
}

fn holds(store: &Store, keys: std::ops::Range<u64>) {
    let (first, end) = (keys.start, keys.end);
    for key in keys {
        assert_eq!(met(store, key, key), OpOutcome::Repeated, "key {key}");
        assert_eq!(met(store, key, key + 1), OpOutcome::KeyTaken, "key {key}");
    }
    assert_eq!(met(store, end, 1), OpOutcome::Claimed);
    assert_eq!(store.reader.stats().claims, end - first);
}

#[tokio::test]
async fn claims_lie_in_files_beside_a_checkpoint_that_does_not_grow_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![raise(0)]).await;
    store.apply(claims(1, 1, 0..1)).await;
    store.checkpoint().await;
    let checkpoint = || std::fs::metadata(dir.path().join("checkpoint")).unwrap().len();
    let before = checkpoint();
    for part in 1..11 {
        store.apply(claims(1, 100 * part, 1 + 60 * (part - 1)..1 + 60 * part)).await;
    }
    store.checkpoint().await;
    let files = files_in(&dir.path().join("claims")).len() as u64;
    assert!(files > 5, "{files}");
    let grown = checkpoint() - before;
    assert!(grown < 600 * 5, "{grown} bytes for 600 claims");
    holds(&store, 0..601);
    drop(store);
    holds(&open(small(dir.path())).unwrap(), 0..601);
    assert!(crate::verify(dir.path()).unwrap().rotten.is_empty());
}

#[tokio::test]
async fn a_crash_takes_the_claims_back_to_the_checkpoint_and_the_log_brings_them_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![raise(0)]).await;
    store.apply(claims(1, 1, 0..40)).await;
    store.checkpoint().await;
    store.apply(claims(1, 41, 40..100)).await;
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), crashed.path());
    let mut again = open(small(crashed.path())).unwrap();
    holds(&again, 0..40);
    again.apply(claims(1, 41, 40..100)).await;
    holds(&again, 0..100);
    assert_eq!(again.checkpoint().await.snapshot.header(), store.checkpoint().await.snapshot.header());
}

#[tokio::test]
async fn a_snapshot_carries_the_claims_and_they_go_on_where_it_is_installed() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = open(small(from.path())).unwrap();
    source.apply(vec![raise(0)]).await;
    source.apply(puts(1, 1..30)).await;
    source.apply(claims(1, 30, 0..50)).await;
    let snapshot = source.checkpoint().await;
    let (meta, expected) = (snapshot.meta.clone(), source.messages());
    // The source goes on meanwhile; the snapshot does not.
    source.apply(claims(1, 80, 50..60)).await;
    let bytes = bytes_of(snapshot.snapshot).await;
    for step in [7, usize::MAX] {
        let mut store = open(small(to.path())).unwrap();
        store.apply(vec![raise(0)]).await;
        store.apply(claims(1, 1, 500..520)).await;
        let data = receive(&store, &bytes, step).await.unwrap();
        assert_eq!(data.contents().unwrap().claims.len(), 50);
        store.state_machine.install_snapshot(&meta, data).await.unwrap();
        for is_started_anew in [false, true] {
            if is_started_anew {
                drop(store);
                store = open(small(to.path())).unwrap();
            }
            assert_eq!(store.messages(), expected);
            holds(&store, 0..50);
        }
        store.apply(claims(1, 80, 50..90)).await;
        store.checkpoint().await;
        drop(store);
        holds(&open(small(to.path())).unwrap(), 0..90);
        std::fs::remove_dir_all(to.path()).unwrap();
    }
    // As a file, and from a store of this machine.
    let file = from.path().join("x.snapshot");
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(inspect(&file).unwrap().header.kinds.claims.next, 50);
    for at in (bytes.len() - 50 * 64..bytes.len()).step_by(41) {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(receive(&source, &bad, 4096).await.is_err(), "byte {at}");
    }
    let mut store = open(small(to.path())).unwrap();
    let snapshot = source.checkpoint().await;
    store.state_machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    holds(&store, 0..60);
}

#[tokio::test]
async fn what_the_version_before_remembers_is_remembered_across_the_level() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(claims(1, 0, 0..50)).await;
    let snapshot = store.checkpoint().await.snapshot;
    assert_eq!(snapshot.header().encode().unwrap().0, 2, "such as the version before reads");
    assert!(files_in(&dir.path().join("claims")).is_empty());
    drop((store, snapshot));
    let mut store = open(small(dir.path())).unwrap();
    holds(&store, 0..50);
    store.apply(vec![raise(50)]).await;
    holds(&store, 0..50);
    store.apply(claims(1, 51, 50..60)).await;
    store.checkpoint().await;
    drop(store);
    holds(&open(small(dir.path())).unwrap(), 0..60);
}

#[tokio::test]
async fn files_of_claims_whose_time_is_over_go_with_the_next_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![raise(0)]).await;
    let mut index = 1;
    for part in 0..8 {
        let keys = part * 300..(part + 1) * 300;
        store.apply(claims(1, index, keys)).await;
        index += 300;
    }
    let before = store.checkpoint().await;
    let files = || files_in(&dir.path().join("claims")).len();
    let count = files();
    let late = Op::Claim { key: ClaimKey(1), fingerprint: 9, time_ms: 51_000, ttl_ms: 1 };
    store.apply(vec![normal(1, index, vec![late])]).await;
    assert_eq!(store.reader.stats().claims, 2_400 - 2_048);
    assert!(files() >= count, "a crash goes back to the checkpoint");
    store.checkpoint().await;
    assert!(files() < count / 2, "{} of {count}", files());
    bytes_of(before.snapshot).await;
}

#[tokio::test]
async fn a_bit_that_a_disk_has_lost_of_a_claim_is_found_by_a_running_store_and_by_verify() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![raise(0)]).await;
    store.apply(claims(1, 1, 0..20)).await;
    store.apply(claims(1, 21, 20..60)).await;
    store.apply(claims(1, 61, 60..70)).await;
    store.checkpoint().await;
    let all = || {
        let mut all = files_in(&dir.path().join("claims"));
        all.sort();
        all
    };
    let mut scrub = crate::Scrub::new(store.reader.clone());
    let mut round = || {
        let files = store.reader.stats().message_segments as usize + all().len();
        (0..=files).find_map(|_| scrub.step())
    };
    let rotten = || store.metrics.segments_rotten.load(std::sync::atomic::Ordering::Relaxed);
    assert!(round().is_none());
    assert!(round().is_none());
    let path = all().swap_remove(0);
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[200] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let found = (0..3).find_map(|_| round()).unwrap();
    assert!(found.to_string().contains(".clm"), "{found}");
    assert_eq!(rotten(), 1);
    assert!((0..3).all(|_| round().is_none()), "it is told once");
    assert_eq!(rotten(), 1);
    let verified = crate::verify(dir.path()).unwrap();
    assert_eq!((verified.claim_files, verified.rotten.len()), (all().len() as u64 - 1, 1));
    std::fs::remove_file(&path).unwrap();
    assert!((0..3).all(|_| round().is_none()));
    assert_eq!(rotten(), 1, "it is lost");
    std::fs::write(&path, &good).unwrap();
    assert!((0..3).all(|_| round().is_none()));
    assert_eq!(rotten(), 0);
}

#[tokio::test]
async fn a_bit_lost_of_a_claim_that_is_forgotten_harms_nobody() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // One file, of which a span is forgotten and some are not.
    let config = |dir: &Path| StoreConfig { claim_file_claims_max: 4096, ..small(dir) };
    let mut store = open(config(from.path())).unwrap();
    store.apply(vec![raise(0)]).await;
    store.apply(claims(1, 1, 0..1_024)).await;
    let late = |index, key: u64| {
        let claim = Op::Claim { key: ClaimKey(key.into()), fingerprint: 1, time_ms: 51_000, ttl_ms: 50_000 };
        normal(1, index, vec![claim, put(format!("later {key}"))])
    };
    store.apply((2_000..2_100).map(|key| late(key, key)).collect()).await;
    assert_eq!(store.reader.stats().claims, 100);
    store.checkpoint().await;
    let path = files_in(&from.path().join("claims")).swap_remove(0);
    let flip = |at: usize| {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    };
    let (forgotten, kept) = (64 + 64 * 7 + 30, 64 + 64 * 1_030 + 30);
    flip(forgotten);
    assert!(crate::verify(from.path()).unwrap().rotten.is_empty());
    let snapshot = store.checkpoint().await;
    let meta = snapshot.meta.clone();
    let bytes = bytes_of(snapshot.snapshot).await;
    let mut other = open(config(to.path())).unwrap();
    let data = receive(&other, &bytes, usize::MAX).await.unwrap();
    other.state_machine.install_snapshot(&meta, data).await.unwrap();
    assert_eq!(other.reader.stats().claims, 100);
    flip(kept);
    assert_eq!(crate::verify(from.path()).unwrap().rotten.len(), 1);
    let bytes = bytes_of(store.checkpoint().await.snapshot).await;
    assert!(receive(&other, &bytes, usize::MAX).await.is_err());
}

#[tokio::test]
async fn where_there_is_room_for_no_other_key_it_is_known_of_one_that_is_new_before_it_is_proposed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![raise(0)]).await;
    store.reader.core().lock().kinds.narrow(Limits { claims_max: 2_000, ..Limits::of(Level::NEWEST) });
    let left = |store: &Store, key, told| store.reader.no_room_for(ClaimKey(key), Stamp(told));
    let new = 1 << 100;
    store.apply(claims(1, 1, 0..1_999)).await;
    assert_eq!(left(&store, new, 1_000), None);
    store.apply(claims(1, 2_000, 1_999..2_000)).await;
    // All were remembered at one second, for fifty; they are young for fifteen minutes.
    assert_eq!(left(&store, new, 1_000), Some(Duration::from_millis(900_000)));
    assert_eq!(left(&store, new, 50_999), Some(Duration::from_millis(850_001)));
    assert_eq!(left(&store, new, 51_000), None, "they are forgotten by then");
    assert_eq!(left(&store, 7, 1_000), None, "it may be a repeat");
    assert_eq!(met(&store, 1 << 50, 1), OpOutcome::TooManyClaims);
    assert_eq!(met(&store, 7, 7), OpOutcome::Repeated);
}

#[tokio::test]
async fn while_a_snapshot_is_installed_no_two_indexes_of_claims_are_in_memory() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = open(small(from.path())).unwrap();
    let mut store = open(small(to.path())).unwrap();
    for store in [&mut source, &mut store] {
        store.apply(vec![raise(0)]).await;
        store.apply(claims(1, 1, 0..2_000)).await;
    }
    source.checkpoint().await;
    let header = source.reader.core().current().unwrap().header;
    let index_bytes = || store.reader.stats().claim_index_bytes;
    let before = index_bytes();
    assert!(before > 2_000 * 8, "{before}");
    // What is put there is gone when it is to be read: that ends a node, before it has another index.
    store.reader.core().install(&header, |_| Ok(())).unwrap_err();
    assert!(index_bytes() < before / 4, "{} of {before} bytes are still there", index_bytes());
}

/// The files of claims that this process has open.
fn open_in(dir: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    links
        .filter_map(|link| std::fs::read_link(link.path()).ok())
        .filter(|to| to.starts_with(dir.join("claims")))
        .count()
}

#[tokio::test]
async fn of_many_files_of_claims_as_many_are_held_open_as_there_are_descriptors_for() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config =
        |dir: &Path| StoreConfig { claim_file_claims_max: 256, claim_files_held_max: 3, ..small(dir) };
    let mut store = open(config(dir.path())).unwrap();
    store.apply(vec![raise(0)]).await;
    for part in 0..8 {
        store.apply(claims(1, 1 + 256 * part, 256 * part..256 * (part + 1))).await;
    }
    let snapshot = store.checkpoint().await;
    assert!(open_in(dir.path()) <= 3, "{}", open_in(dir.path()));
    holds(&store, 0..8 * 256);
    // A snapshot can be read also when its files are not there any more.
    let late = Op::Claim { key: ClaimKey(1), fingerprint: 9, time_ms: 51_000, ttl_ms: 1 };
    store.apply(vec![normal(1, 1 << 20, vec![late])]).await;
    store.checkpoint().await;
    assert!(files_in(&dir.path().join("claims")).len() < 3);
    let meta = snapshot.meta.clone();
    let bytes = bytes_of(snapshot.snapshot).await;
    let mut other = open(config(to.path())).unwrap();
    let data = receive(&other, &bytes, usize::MAX).await.unwrap();
    other.state_machine.install_snapshot(&meta, data).await.unwrap();
    assert!(open_in(to.path()) <= 3, "{}", open_in(to.path()));
    holds(&other, 0..8 * 256);
    drop(other);
    let other = open(config(to.path())).unwrap();
    assert!(open_in(to.path()) <= 3, "{}", open_in(to.path()));
    holds(&other, 0..8 * 256);
}
