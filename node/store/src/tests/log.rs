//! The Raft log across restarts and damage.

use std::fs;
use std::path::{Path, PathBuf};

use openraft::storage::{RaftLogReader, RaftLogStorage};

use super::*;
use skep_raft::types::Vote;

fn last_segment(dir: &Path) -> PathBuf {
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "wal");
    files_in(&dir.join("log")).into_iter().rfind(is_segment).unwrap()
}

/// Where the records of a segment end: what follows is zeros.
fn end_of_records(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1).next_multiple_of(8)
}

async fn indexes(store: &mut Store) -> Vec<u64> {
    store.entries().await.iter().map(|entry| entry.log_id.index).collect()
}

#[tokio::test]
async fn entries_vote_and_committed_index_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let entries = puts(1, 0..100);
    {
        let mut store = open(small(dir.path())).unwrap();
        store.log.save_vote(&Vote::new_committed(3, 7)).await.unwrap();
        store.log.save_committed(Some(log_id(1, 42))).await.unwrap();
        store.append(entries.clone()).await;
        store.log.save_vote(&Vote::new(4, 8)).await.unwrap();
    }
    let mut store = open(small(dir.path())).unwrap();
    assert_eq!(store.entries().await, entries);
    assert_eq!(store.log.get_log_reader().await.read_vote().await.unwrap(), Some(Vote::new(4, 8)));
    assert!(store.log.stats_handle().stats().segments > 2);
    assert_eq!(store.log.read_committed().await.unwrap(), Some(log_id(1, 42)));
}

#[tokio::test]
async fn the_committed_index_reaches_the_disk_without_a_further_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.append(puts(1, 0..3)).await;
    let batches = || store.metrics.log_batches.load(std::sync::atomic::Ordering::Relaxed);
    let before = batches();
    store.log.clone().save_committed(Some(log_id(1, 2))).await.unwrap();
    while batches() == before {
        tokio::task::yield_now().await;
    }
    drop(store);
    let mut store = open(small(dir.path())).unwrap();
    assert_eq!(store.log.read_committed().await.unwrap(), Some(log_id(1, 2)));
}

#[tokio::test]
async fn truncation_and_purge_survive_a_restart_and_so_does_the_vote() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut store = open(small(dir.path())).unwrap();
        store.log.save_vote(&Vote::new_committed(2, 9)).await.unwrap();
        store.append(puts(1, 0..200)).await;
        store.log.truncate_after(Some(log_id(1, 149))).await.unwrap();
        store.append(puts(2, 150..160)).await;
        store.log.purge(log_id(1, 120)).await.unwrap();
        store.append(puts(2, 160..161)).await;
    }
    let log = files_in(&dir.path().join("log"));
    assert!(!log.contains(&dir.path().join("log/0000000000000001.wal")), "{log:?}");
    for _ in 0..3 {
        let mut store = open(small(dir.path())).unwrap();
        assert_eq!(indexes(&mut store).await, (121..161).collect::<Vec<_>>());
        assert_eq!(store.entries().await[29..], puts(2, 150..161));
        let state = store.log.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(log_id(1, 120)));
        assert_eq!(state.last_log_id, Some(log_id(2, 160)));
        let vote = store.log.get_log_reader().await.read_vote().await.unwrap();
        assert_eq!(vote, Some(Vote::new_committed(2, 9)));
    }
}

#[tokio::test]
async fn a_log_purged_whole_keeps_vote_and_purged_id_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut store = open(small(dir.path())).unwrap();
        store.log.save_vote(&Vote::new(5, 1)).await.unwrap();
        store.append(puts(1, 0..100)).await;
        store.log.purge(log_id(4, 500)).await.unwrap();
        store.append(puts(5, 501..600)).await;
        store.log.purge(log_id(5, 599)).await.unwrap();
        store.log.save_vote(&Vote::new(6, 1)).await.unwrap();
    }
    let mut store = open(small(dir.path())).unwrap();
    let state = store.log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(log_id(5, 599)), Some(log_id(5, 599))));
    assert_eq!(store.log.get_log_reader().await.read_vote().await.unwrap(), Some(Vote::new(6, 1)));
    store.append(puts(6, 600..601)).await;
    assert_eq!(indexes(&mut store).await, [600]);
}

#[tokio::test]
async fn purged_segments_are_used_again_and_what_they_held_is_not_seen_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    for round in 0..30 {
        store.append(puts(1, round * 20..round * 20 + 20)).await;
        if round > 1 {
            store.log.purge(log_id(1, round * 20 - 20)).await.unwrap();
        }
        if round % 7 == 3 {
            let before = store.entries().await;
            drop(store);
            store = open(small(dir.path())).unwrap();
            assert_eq!(store.entries().await, before);
        }
    }
    assert!(files_in(&dir.path().join("log")).len() < 12);
}

#[tokio::test]
async fn a_log_cut_at_any_byte_of_its_last_record_keeps_all_before_it_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { log_segment_bytes_max: 1 << 16, ..small(dir.path()) };
    {
        let mut store = open(config.clone()).unwrap();
        store.append(puts(1, 0..5)).await;
    }
    let path = last_segment(dir.path());
    let before = end_of_records(&fs::read(&path).unwrap());
    {
        // Opening begins a new segment; the test wants both records in one.
        let whole = tempfile::tempdir().unwrap();
        let mut store = open(StoreConfig { dir: whole.path().into(), ..config.clone() }).unwrap();
        store.append(puts(1, 0..5)).await;
        store.append(puts(1, 5..6)).await;
        drop(store);
        fs::remove_dir_all(dir.path().join("log")).unwrap();
        copy_dir(&whole.path().join("log"), &dir.path().join("log"));
    }
    let good = fs::read(&path).unwrap();
    let end = end_of_records(&good);
    assert!(end > before + 40);
    for cut in before..end {
        for tail in ["nothing", "zeros", "garbage"] {
            if tail != "nothing" && cut % 5 != 0 && cut + 9 < end {
                continue;
            }
            let mut bytes = good[..cut].to_vec();
            match tail {
                "zeros" => bytes.resize(good.len(), 0),
                "garbage" => bytes.extend((0..500).map(|i| (i * 37 + cut) as u8)),
                _ => {}
            }
            let dir = tempfile::tempdir().unwrap();
            copy_dir(path.parent().unwrap(), &dir.path().join("log"));
            fs::write(dir.path().join("log").join(path.file_name().unwrap()), bytes).unwrap();
            let config = StoreConfig { dir: dir.path().into(), ..config.clone() };
            let mut store = open(config.clone()).unwrap();
            let kept = indexes(&mut store).await;
            assert!(kept == [0, 1, 2, 3, 4] || kept.len() == 6 && cut + 8 > end, "{cut} {tail} {kept:?}");
            let next = kept.len() as u64;
            store.append(puts(2, next..next + 3)).await;
            drop(store);
            let mut store = open(config).unwrap();
            assert_eq!(store.entries().await[next as usize..], puts(2, next..next + 3), "{cut} {tail}");
        }
    }
}

#[tokio::test]
async fn a_torn_batch_is_cut_off_even_where_later_parts_of_it_reached_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { log_segment_bytes_max: 1 << 16, ..small(dir.path()) };
    let mut store = open(config.clone()).unwrap();
    store.append(puts(1, 0..5)).await;
    let before = end_of_records(&fs::read(last_segment(dir.path())).unwrap());
    store.append(puts(1, 5..10)).await;
    drop(store);
    let path = last_segment(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[before + 20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut store = open(config.clone()).unwrap();
    assert_eq!(indexes(&mut store).await, [0, 1, 2, 3, 4]);
    // What is appended now must not run into what is left of the torn batch.
    store.append(puts(1, 5..6)).await;
    drop(store);
    assert_eq!(indexes(&mut open(config).unwrap()).await, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn damage_before_the_last_batch_is_corruption_that_names_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { log_segment_bytes_max: 2048, ..small(dir.path()) };
    let mut store = open(config.clone()).unwrap();
    for index in 0..60 {
        store.append(puts(1, index..index + 1)).await;
    }
    drop(store);
    let segments: Vec<_> =
        files_in(&dir.path().join("log")).into_iter().filter(|path| path.extension().is_some()).collect();
    assert!(segments.len() >= 3, "{segments:?}");
    for path in segments {
        let good = fs::read(&path).unwrap();
        let last = path == last_segment(dir.path());
        // In the last segment, the last two records are what a crash could have torn.
        let end = end_of_records(&good) - if last { 300 } else { 0 };
        for at in (0..end).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            match open(config.clone()) {
                Err(StoreError::Corrupt { path: named, offset, .. }) => {
                    assert_eq!(named, path);
                    assert!(offset as usize <= at && at < offset as usize + 200, "{offset} for {at}");
                }
                // Padding between records carries nothing.
                Ok(mut store) => {
                    assert_eq!(indexes(&mut store).await, (0..60).collect::<Vec<_>>(), "byte {at}");
                    assert_eq!(bad[at], 0x10, "byte {at} of {}", path.display());
                    drop(store);
                }
                Err(error) => panic!("byte {at}: {error}"),
            }
            fs::write(&path, &good).unwrap();
        }
        fs::write(&path, &good).unwrap();
    }
}

#[tokio::test]
async fn a_missing_segment_is_corruption() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.append(puts(1, 0..200)).await;
    drop(store);
    for number in [1, 2] {
        let path = dir.path().join(format!("log/{number:016}.wal"));
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let error = open(small(dir.path())).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        fs::write(&path, bytes).unwrap();
    }
    open(small(dir.path())).unwrap();
}

#[tokio::test]
async fn a_purged_segment_that_a_crash_brought_back_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { log_segment_bytes_max: 2048, ..small(dir.path()) };
    let mut store = open(config.clone()).unwrap();
    store.log.save_vote(&Vote::new(7, 7)).await.unwrap();
    store.append(puts(1, 0..150)).await;
    let early = dir.path().join("log/0000000000000002.wal");
    let bytes = fs::read(&early).unwrap();
    store.log.purge(log_id(1, 120)).await.unwrap();
    store.append(puts(1, 150..151)).await;
    drop(store);
    assert!(!early.exists());
    fs::write(&early, bytes).unwrap();
    let mut store = open(config).unwrap();
    assert_eq!(store.entries().await, puts(1, 121..151));
    assert_eq!(store.log.get_log_reader().await.read_vote().await.unwrap(), Some(Vote::new(7, 7)));
}

#[tokio::test]
async fn a_log_that_lost_its_last_entries_segment_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.append(puts(1, 0..10)).await;
    drop(store);
    // The vote alone goes into the next segment.
    let mut store = open(small(dir.path())).unwrap();
    store.log.save_vote(&Vote::new(7, 7)).await.unwrap();
    drop(store);
    fs::remove_file(dir.path().join("log/0000000000000001.wal")).unwrap();
    let error = open(small(dir.path())).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn reads_are_bounded_by_bytes_but_never_empty() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { log_read_bytes_max: 500, ..small(dir.path()) };
    let mut store = open(config).unwrap();
    store.append(puts(1, 0..50)).await;
    let mut reader = store.log.get_log_reader().await;
    let some = reader.limited_get_log_entries(10, 50).await.unwrap();
    assert!(!some.is_empty() && some.len() < 10, "{}", some.len());
    assert_eq!(some[0].log_id.index, 10);
    let all: Vec<_> = futures_util::StreamExt::collect(reader.entries_stream(5..).await).await;
    let all: Result<Vec<Entry>, _> = all.into_iter().collect();
    assert_eq!(all.unwrap(), puts(1, 5..50));
}

#[tokio::test]
async fn the_cache_is_bounded_and_what_it_lacks_is_read_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.append(puts(1, 0..300)).await;
    store.append(puts(1, 300..301)).await;
    let stats = store.log.stats_handle().stats();
    assert!(stats.cached_bytes <= 4096 && stats.cached_entries > 0, "{stats:?}");
    assert_eq!(stats.entries, 301);
    assert_eq!(store.entries().await, puts(1, 0..301));
}

#[tokio::test]
async fn the_sizes_that_compaction_needs_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.append(puts(1, 0..100)).await;
    store.log.truncate_after(Some(log_id(1, 89))).await.unwrap();
    store.append(puts(2, 90..100)).await;
    let sizes = store.log.stats_handle();
    let total = sizes.stats().entry_bytes;
    assert_eq!(sizes.bytes_after(None), total);
    assert_eq!(sizes.bytes_after(Some(99)), 0);
    for bytes in [1, 100, total / 2, total - 1] {
        let index = sizes.index_at_bytes_from_end(bytes);
        if let Some(index) = index {
            assert!(sizes.bytes_after(Some(index)) >= bytes);
            assert!(sizes.bytes_after(Some(index + 1)) < bytes);
        } else {
            assert!(sizes.bytes_after(Some(0)) < bytes);
        }
    }
    assert_eq!(sizes.index_at_bytes_from_end(total + 1), None);
}

#[tokio::test]
async fn an_entry_that_leaves_a_hole_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.append(puts(1, 0..3)).await;
    let callback = openraft::storage::IOFlushed::noop();
    assert!(store.log.append(vec![blank(1, 4)], callback).await.is_err());
}
