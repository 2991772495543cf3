//! Files of which a disk has lost something, and what another store gives for it.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use skep_raft::wire::RecordName;
use skep_state::kinds::claims::remembered::CLAIM_BYTES;
use skep_state::level::Level;

use super::*;
use crate::segments::record;
use crate::{Mend, Rotten, Scrub};

const ENTRIES: u64 = 400;

/// Messages, every fourth of them under a claim.
fn entries() -> Vec<Entry> {
    let raise = normal(1, 0, vec![Op::Level { level: Level::NEWEST }]);
    let others = (1..=ENTRIES).map(|index| {
        let put = put(format!("message {index} {}", "x".repeat(index as usize % 90)));
        let key = ClaimKey(index.into());
        let claim = Op::Claim { key, fingerprint: 1, time_ms: 1000, ttl_ms: 60_000 };
        normal(1, index, if index % 4 == 0 { vec![claim, put] } else { vec![put] })
    });
    [raise].into_iter().chain(others).collect()
}

/// The same contents whatever the step, and segments that end elsewhere.
async fn filled(dir: &Path, step: usize) -> Store {
    let mut store = open(small(dir)).unwrap();
    for run in entries().chunks(step) {
        store.apply(run.to_vec()).await;
    }
    store.checkpoint().await;
    store
}

/// Looks at each file, and to the round's end.
fn round(store: &Store, scrub: &mut Scrub) {
    let files = store.reader.stats().message_segments + ENTRIES / 16;
    for _ in 0..=files {
        scrub.step();
    }
}

/// Files that do not grow: all of an ending but the last.
fn closed(dir: &Path, folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut files = files_in(&dir.join(folder));
    files.retain(|path| path.extension().is_some_and(|end| end == ending));
    files.pop();
    files
}

fn change(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// Mends a file with what others give; how many records that were, where it was mended.
fn mend(store: &Store, rotten: &Rotten, others: &[&Store]) -> Option<u64> {
    let Some(mut mend) = Mend::look(store.reader.clone(), rotten.clone()).unwrap() else { return Some(0) };
    let mut records = 0;
    while !mend.wanted().is_empty() {
        let given: Vec<_> = others.iter().map(|other| other.reader.records(&mend.wanted())).collect();
        match mend.take(&given).unwrap() {
            0 => return None,
            taken => records += taken,
        }
    }
    assert!(mend.finish().unwrap());
    Some(records)
}

fn rotten_segments(store: &Store) -> u64 {
    store.metrics.segments_rotten.load(Relaxed)
}

fn copies(dir: &Path) -> usize {
    let files = files_in(&dir.join("messages"));
    files.iter().filter(|path| path.extension().is_some_and(|end| end == "mended")).count()
}

#[tokio::test]
async fn whatever_a_disk_loses_of_a_file_that_does_not_grow_is_there_again_byte_for_byte() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let store = filled(dirs[0].path(), 10).await;
    let (one, other) = (filled(dirs[1].path(), 7).await, filled(dirs[2].path(), 13).await);
    let all = store.messages();
    assert_eq!(all, one.messages());
    let mut scrub = Scrub::new(store.reader.clone());
    let files = [closed(dirs[0].path(), "messages", "seg"), closed(dirs[0].path(), "claims", "clm")].concat();
    assert!(files.len() > 10);
    for (number, path) in files.iter().enumerate() {
        let good = std::fs::read(path).unwrap();
        let len = good.len() as u64;
        match number % 7 {
            0 => change(path, 3),
            // A message's length, or a claim's outcome.
            1 => change(path, if path.extension().is_some_and(|end| end == "seg") { 24 } else { 68 }),
            2 => change(path, len / 2),
            3 => change(path, len - 1),
            4 => OpenOptions::new().write(true).open(path).unwrap().set_len(len / 3).unwrap(),
            5 => std::fs::remove_file(path).unwrap(),
            _ => OpenOptions::new().write(true).open(path).unwrap().write_all_at(&[0; 700], 100).unwrap(),
        }
        round(&store, &mut scrub);
        assert_eq!(rotten_segments(&store), 1, "{}", path.display());
        let rotten = scrub.rotten().swap_remove(0);
        assert_eq!(rotten.path(), path);
        assert!(mend(&store, &rotten, &[&one, &other]).is_some(), "{}", path.display());
        scrub.forget(&rotten);
        assert_eq!(std::fs::read(path).unwrap().get(..good.len()), Some(&good[..]), "{}", path.display());
        assert_eq!(rotten_segments(&store), 0);
    }
    round(&store, &mut scrub);
    round(&store, &mut scrub);
    assert_eq!(rotten_segments(&store), 0);
    assert_eq!(store.metrics.segments_mended.load(Relaxed), files.len() as u64);
    assert_eq!(store.messages(), all);
    for message in &all {
        assert_eq!(store.reader.get(&message.digest).unwrap().as_ref(), Some(message));
    }
    drop(store);
    let store = open(small(dirs[0].path())).unwrap();
    assert_eq!(store.messages(), all);
    assert_eq!(copies(dirs[0].path()), 0);
}

/// A store of which the middle message of a segment is lost, its `seq`, and the segment.
async fn with_a_lost_message(dir: &Path) -> (Store, u64, PathBuf) {
    let store = filled(dir, 10).await;
    let path = closed(dir, "messages", "seg").swap_remove(1);
    change(&path, std::fs::metadata(&path).unwrap().len() / 2);
    let rotten = Rotten::find(&store.reader, &path).unwrap();
    let mend = Mend::look(store.reader.clone(), rotten).unwrap().unwrap();
    let [RecordName::Message { seq }] = mend.wanted()[..] else { panic!("{:?}", mend.wanted()) };
    (store, seq, path)
}

#[tokio::test]
async fn another_record_than_the_lost_one_is_refused_and_the_file_stays_as_it_is() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (store, seq, path) = with_a_lost_message(dirs[0].path()).await;
    let other = filled(dirs[1].path(), 7).await;
    let was = std::fs::read(&path).unwrap();
    let rotten = Rotten::find(&store.reader, &path).unwrap();
    let look = || Mend::look(store.reader.clone(), rotten.clone()).unwrap().unwrap();
    let record = |seq| other.reader.records(&[RecordName::Message { seq }]).swap_remove(0).unwrap();
    let good = record(seq);
    let message = other.messages().swap_remove(seq as usize - 1);
    let mut wrong = vec![record(seq + 1), good.slice(..good.len() - 1), Bytes::new()];
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        wrong.push(bad.into());
    }
    // Others that prove themselves: of another body, and of another length.
    let body = Bytes::from(vec![b'y'; message.body.len()]);
    wrong.push(record::of(&StoredMessage { body: body.clone(), ..message.clone() }));
    wrong.push(record::of(&StoredMessage { digest: Digest::of(&body), body, ..message.clone() }));
    let content_type = format!("{}x", message.content_type);
    wrong.push(record::of(&StoredMessage { content_type, ..message.clone() }));
    for bad in wrong {
        assert_eq!(look().take(&[vec![Some(bad)]]).unwrap(), 0);
    }
    // Two that do not give the same, of which one is right.
    let later = record::of(&StoredMessage { time_ms: message.time_ms + 1, ..message });
    assert_eq!(look().take(&[vec![Some(good.clone())], vec![Some(later)]]).unwrap(), 0);
    // One that did not come so far in its answer.
    assert_eq!(look().take(&[vec![Some(good.clone())], vec![]]).unwrap(), 0);
    // Nobody gives it.
    assert_eq!(look().take(&[]).unwrap(), 0);
    assert_eq!(look().take(&[vec![None]]).unwrap(), 0);
    assert_eq!((std::fs::read(&path).unwrap() == was, copies(dirs[0].path())), (true, 0));
    assert_eq!(store.metrics.records_mended.load(Relaxed), 0);
    // One that has it is enough, where the other has not.
    let mut mend = look();
    assert_eq!(mend.take(&[vec![None], vec![Some(good)]]).unwrap(), 1);
    assert_eq!(copies(dirs[0].path()), 1, "begun with the first");
    assert!(mend.finish().unwrap());
    assert_eq!(copies(dirs[0].path()), 0);
    assert_eq!(store.metrics.records_mended.load(Relaxed), 1);
}

#[tokio::test]
async fn what_was_taken_out_or_counts_as_of_another_time_is_given_as_it_is_on_the_disk_and_what_is_dropped_is_not()
 {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (mut store, seq, path) = with_a_lost_message(dirs[0].path()).await;
    let mut other = filled(dirs[1].path(), 7).await;
    let digest = other.messages()[seq as usize - 1].digest;
    let ops = || {
        let ahead = Op::WriteText { request: RequestId(1), text: "ahead".into(), time_ms: 90_000_000 };
        let mend = Op::MendTime { time_ms: 1, newest_ms: 0 };
        vec![ahead, mend, Op::RemoveMessage { digest }, Op::DropMessages { upto: 3 }]
    };
    // It is there for as long as it is taken out.
    let middle = std::fs::metadata(&path).unwrap().len() / 2;
    change(&path, middle);
    for store in [&mut store, &mut other] {
        store.apply(vec![normal(1, ENTRIES + 1, ops())]).await;
    }
    change(&path, middle);
    let rotten = Rotten::find(&store.reader, &path).unwrap();
    assert_eq!(mend(&store, &rotten, &[&other]), Some(1));
    let given = other.reader.records(&[3, 4].map(|seq| RecordName::Message { seq }));
    assert!(given[0].is_none() && given[1].is_some());
    // More than there is room for.
    let many: Vec<_> = (4..400).map(|seq| RecordName::Message { seq }).collect();
    assert_eq!(other.reader.records(&many).len(), skep_raft::wire::RECORDS_MAX);
    assert_eq!(
        other.reader.records(&[RecordName::Message { seq: u64::MAX }, RecordName::Claim { number: 9_999 }]),
        [None, None]
    );
}

#[tokio::test]
async fn what_nobody_needs_any_more_and_nobody_gives_leaves_a_file_that_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path(), 10).await;
    let path = closed(dir.path(), "messages", "seg").swap_remove(1);
    let first: u64 = path.file_stem().unwrap().to_str().unwrap()[9..].parse().unwrap();
    store.apply(vec![normal(1, ENTRIES + 1, vec![Op::DropMessages { upto: first + 1 }])]).await;
    let all = store.messages();
    // The first record of the segment, of which a part is left.
    change(&path, 70);
    let rotten = Rotten::find(&store.reader, &path).unwrap();
    assert_eq!(mend(&store, &rotten, &[]), None, "a crash goes back to where it is needed");
    store.checkpoint().await;
    assert_eq!(mend(&store, &rotten, &[]), Some(0));
    let mut scrub = Scrub::new(store.reader.clone());
    round(&store, &mut scrub);
    assert_eq!(rotten_segments(&store), 0);
    assert_eq!(store.messages(), all);
}

#[tokio::test]
async fn an_entry_that_needs_what_is_lost_waits_until_it_is_mended() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut store = filled(dirs[0].path(), 10).await;
    let other = filled(dirs[1].path(), 7).await;
    let all = store.messages();
    // The body of the first message: it is put once more.
    change(&closed(dirs[0].path(), "messages", "seg")[0], 24 + 58 + 12);
    let mut suspected = store.reader.take_suspected().expect("nobody has them");
    let reader = store.reader.clone();
    let mends = async {
        let suspect = suspected.applying.recv().await.expect("a read finds it");
        let rotten = Rotten::find(&reader, &suspect.path).expect("it is there");
        let mut mend = Mend::look(reader.clone(), rotten).unwrap().expect("something is lost");
        assert_eq!(mend.take(&[other.reader.records(&mend.wanted())]).unwrap(), 1);
        assert!(mend.finish().unwrap());
        suspect.answer(true);
    };
    let repeat = put(all[0].body.clone());
    tokio::join!(store.apply(vec![normal(1, ENTRIES + 1, vec![repeat])]), mends);
    assert_eq!(store.messages(), all, "it is no new one");
}

#[tokio::test]
async fn an_entry_that_needs_what_nobody_gives_fails_once_the_time_for_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path(), 10).await;
    let repeat = put(store.messages()[0].body.clone());
    change(&closed(dir.path(), "messages", "seg")[0], 24 + 58 + 12);
    let entries = || stream::iter([Ok((normal(1, ENTRIES + 1, vec![repeat.clone()]), None))]);
    // Where nobody mends, there is nothing to wait for.
    let failed = store.state_machine.apply(entries()).await.unwrap_err();
    assert!(failed.to_string().contains("checksum does not match"), "{failed}");
    let mut suspected = store.reader.take_suspected().expect("nobody has them");
    let mut tries = 0;
    let answers = async {
        while let Some(suspect) = suspected.applying.recv().await {
            tries += 1;
            suspect.answer(false);
        }
    };
    let began = Instant::now();
    tokio::select! {
        applied = store.state_machine.apply(entries()) => drop(applied.unwrap_err()),
        () = answers => panic!("the store is there"),
    }
    let waited = began.elapsed();
    assert!(tries > 1 && waited > Duration::from_secs(3), "{tries} tries in {waited:?}");
}

#[tokio::test]
async fn messages_go_also_where_nobody_gives_what_the_disk_has_lost_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path(), 10).await;
    let oldest = closed(dir.path(), "messages", "seg").remove(0);
    OpenOptions::new().write(true).open(oldest).unwrap().set_len(100).unwrap();
    let mut suspected = store.reader.take_suspected().expect("nobody has them");
    let answers = async {
        while let Some(suspect) = suspected.applying.recv().await {
            suspect.answer(false);
        }
    };
    tokio::select! {
        () = store.apply(vec![normal(1, ENTRIES + 1, vec![Op::DropMessages { upto: 60 }])]) => {}
        () = answers => panic!("the store is there"),
    }
    assert_eq!(store.messages().first().map(|it| it.seq), Some(61));
    store.checkpoint().await;
    drop(store);
    assert_eq!(open(small(dir.path())).unwrap().messages().first().map(|it| it.seq), Some(61));
}

#[tokio::test]
async fn what_is_committed_is_not_applied_again_before_others_can_be_asked_where_it_needs_what_is_lost() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let repeat = |store: &Store| put(store.messages()[0].body.clone());
    for (dir, is_lost) in [(dirs[0].path(), false), (dirs[1].path(), true)] {
        let mut store = filled(dir, 10).await;
        let behind = vec![normal(1, ENTRIES + 1, vec![repeat(&store)]), normal(1, ENTRIES + 2, vec![])];
        let purged = log_id(1, ENTRIES);
        store.log.purge(purged).await.unwrap();
        let committed = Some(log_id(1, ENTRIES + 1));
        for entry in behind {
            store.append(vec![entry]).await;
            // It is written with the batch that comes next.
            store.log.save_committed(committed).await.unwrap();
        }
        let first = closed(dir, "messages", "seg").remove(0);
        drop(store);
        if is_lost {
            change(&first, 24 + 58 + 12);
        }
        let mut store = open(small(dir)).unwrap();
        assert_eq!(store.log.read_committed().await.unwrap(), committed);
        store.look_before_replay().await.unwrap();
        assert_eq!(store.log.read_committed().await.unwrap(), committed.filter(|_| !is_lost));
    }
}

#[tokio::test]
async fn a_claim_that_is_forgotten_here_and_not_in_the_checkpoint_is_asked_for_too() {
    let dir = tempfile::tempdir().unwrap();
    // They are forgotten by the thousand: 1,024 of them, so one file has some of those and others.
    let mut store = open(StoreConfig { claim_file_claims_max: 100, ..small(dir.path()) }).unwrap();
    store.apply(vec![normal(1, 0, vec![Op::Level { level: Level::NEWEST }])]).await;
    let claim = |index: u64, time_ms| {
        let claim = Op::Claim { key: ClaimKey(index.into()), fingerprint: 1, time_ms, ttl_ms: 60_000 };
        normal(1, index, vec![claim, put("the same")])
    };
    for first in (1..=1300).step_by(10) {
        store.apply((first..first + 10).map(|index| claim(index, index * 100)).collect()).await;
    }
    store.checkpoint().await;
    store.apply(vec![claim(1301, 170_000)]).await;
    let live = store.reader.core().lock().kinds.claims.numbers();
    assert_eq!(live.start, 1024);
    let path = closed(dir.path(), "claims", "clm")
        .into_iter()
        .find(|path| Rotten::find(&store.reader, path).is_some_and(|file| file.meta.first_seq < live.start));
    let path = path.expect("one file has the last of the forgotten");
    let rotten = Rotten::find(&store.reader, &path).unwrap();
    let first = rotten.meta.first_seq;
    change(&path, crate::claims::file::header(first).len() as u64 + CLAIM_BYTES as u64 + 8);
    let mend = Mend::look(store.reader.clone(), rotten).unwrap().expect("something is lost");
    assert_eq!(mend.wanted(), [RecordName::Claim { number: first + 1 }]);
}

#[tokio::test]
async fn what_is_lost_of_what_later_entries_drop_is_seen_before_the_log_is_applied_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = filled(dir.path(), 10).await;
    let first = closed(dir.path(), "messages", "seg").remove(1);
    store.log.purge(log_id(1, ENTRIES)).await.unwrap();
    // Each is read by itself.
    let config = StoreConfig { log_read_bytes_max: 1, ..small(dir.path()) };
    let drops = [10, 20, 45].map(|upto| Op::DropMessages { upto });
    let committed = Some(log_id(1, ENTRIES + 3));
    for (at, op) in (1..).zip(drops) {
        store.append(vec![normal(1, ENTRIES + at, vec![op])]).await;
        store.log.save_committed(committed).await.unwrap();
    }
    store.append(vec![blank(1, ENTRIES + 4)]).await;
    drop(store);
    let mut store = open(config).unwrap();
    // A start looks at lengths alone, and before.
    OpenOptions::new().write(true).open(first).unwrap().set_len(30).unwrap();
    assert_eq!(store.log.read_committed().await.unwrap(), committed);
    store.look_before_replay().await.unwrap();
    assert_eq!(store.log.read_committed().await.unwrap(), None);
}
