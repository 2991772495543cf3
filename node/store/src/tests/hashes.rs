//! The rolling hash across runs, checkpoints, restarts and snapshots.

use skep_state::level::Level;

use super::snapshot::{bytes_of, receive};
use super::*;
use crate::Point;

/// Entries of messages, texts and claims, after one by which the cluster agrees to the newest level.
fn entries(count: u64) -> Vec<Entry> {
    let raise = normal(1, 0, vec![Op::Level { level: Level::NEWEST }]);
    let others = (1..=count).map(|index| {
        let ttl_ms = 60_000;
        let key = ClaimKey(index.into());
        let claim = Op::Claim { key, fingerprint: 1, time_ms: 1000 + index, ttl_ms };
        match index % 4 {
            0 => normal(1, index, vec![claim, put(format!("claimed {index}"))]),
            1 => normal(1, index, vec![text(index.into(), "a text"), put(format!("message {index}"))]),
            2 => blank(1, index),
            _ => {
                normal(1, index, vec![put(format!("message {index}")), Op::DropMessages { upto: index / 8 }])
            }
        }
    });
    [raise].into_iter().chain(others).collect()
}

fn last(store: &Store) -> Option<Point> {
    store.reader.points().last().copied()
}

#[tokio::test]
async fn the_hash_is_the_same_however_entries_are_batched_and_what_lies_between() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let all = entries(200);
    let mut at_once = open(small(dirs[0].path())).unwrap();
    at_once.apply(all.clone()).await;
    let expected = last(&at_once).expect("the level has a hash");
    assert_eq!(expected.index, 200);

    let mut one_by_one = open(small(dirs[1].path())).unwrap();
    for (number, entry) in all.iter().enumerate() {
        one_by_one.apply(vec![entry.clone()]).await;
        if number % 50 == 30 {
            // What came after the checkpoint is applied again.
            one_by_one.checkpoint().await;
            one_by_one.apply(all[number + 1..number + 10].to_vec()).await;
            drop(one_by_one);
            one_by_one = open(small(dirs[1].path())).unwrap();
        }
    }
    assert_eq!(last(&one_by_one), Some(expected));

    let mut source = open(small(dirs[0].path().join("source").as_path())).unwrap();
    source.apply(all[..120].to_vec()).await;
    let snapshot = source.checkpoint().await;
    let meta = snapshot.meta.clone();
    let mut installed = open(small(dirs[2].path())).unwrap();
    installed.apply(all[..7].to_vec()).await;
    let data = receive(&installed, &bytes_of(snapshot.snapshot).await, 10_000).await.unwrap();
    installed.state_machine.install_snapshot(&meta, data).await.unwrap();
    assert_eq!(last(&installed), last(&source));
    installed.apply(all[120..].to_vec()).await;
    assert_eq!(last(&installed), Some(expected));
}

fn indexes(store: &Store) -> Vec<u64> {
    store.reader.points().iter().map(|point| point.index).collect()
}

#[tokio::test]
async fn the_hash_is_remembered_at_the_last_indexes_and_at_those_that_are_the_same_for_all() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut all = entries(3);
    all.extend((4..9_000).map(|index| blank(1, index)));
    let mut store = open(small(dirs[0].path())).unwrap();
    store.apply(all.clone()).await;
    let expected: Vec<u64> = [0, 4096, 8192].into_iter().chain(9_000 - 256..9_000).collect();
    assert_eq!(indexes(&store), expected);
    // Before its level there is none.
    let mut store = open(small(dirs[1].path())).unwrap();
    store.apply(all[1..].to_vec()).await;
    assert_eq!(store.reader.points(), []);
}

#[tokio::test]
async fn one_that_begins_again_or_anew_has_the_hash_that_it_begins_with() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let all = entries(40);
    let mut store = open(small(dirs[0].path())).unwrap();
    store.apply(all[..=30].to_vec()).await;
    let then = last(&store).unwrap();
    let snapshot = store.checkpoint().await;
    let mut installed = open(small(dirs[1].path())).unwrap();
    installed.apply(all[..7].to_vec()).await;
    let data = receive(&installed, &bytes_of(snapshot.snapshot).await, 10_000).await.unwrap();
    installed.state_machine.install_snapshot(&snapshot.meta, data).await.unwrap();
    // What it had before is no part of what it has now.
    assert_eq!(installed.reader.points(), [then]);
    drop(store);
    let mut store = open(small(dirs[0].path())).unwrap();
    assert_eq!(store.reader.points(), [then]);
    store.apply(all[31..].to_vec()).await;
    assert_eq!(indexes(&store), (30..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_asks_for_hashes_does_not_wait_for_a_run_that_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(entries(3)).await;
    let (told, tells) = std::sync::mpsc::channel();
    let reader = store.reader.clone();
    let applies = store.reader.core().lock();
    let asks = std::thread::spawn(move || told.send(reader.points().len()));
    let answer = tells.recv_timeout(std::time::Duration::from_secs(30));
    drop(applies);
    asks.join().unwrap().unwrap();
    assert_eq!(answer, Ok(4));
}
