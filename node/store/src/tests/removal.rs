//! Messages that are taken out, one by one or all up to one.

use openraft::storage::RaftStateMachine;

use super::*;
use crate::Lookup;

fn body(seq: u64) -> String {
    format!("the {seq:03}rd message, of about a hundred bytes with its record")
}

fn digest(seq: u64) -> Digest {
    Digest::of(body(seq).as_bytes())
}

fn drop_upto(index: u64, upto: u64) -> Entry {
    normal(1, index, vec![Op::DropMessages { upto }])
}

fn remove(index: u64, seq: u64) -> Entry {
    normal(1, index, vec![Op::RemoveMessage { digest: digest(seq) }])
}

/// Messages 1 to `count`, one an entry.
fn filling(count: u64) -> Vec<Entry> {
    (1..=count).map(|seq| normal(1, seq, vec![put(body(seq))])).collect()
}

/// Messages 1 to `count`, each applied by itself: a run of them would stay in one segment.
async fn fill(store: &mut Store, count: u64) {
    for entry in filling(count) {
        store.apply(vec![entry]).await;
    }
}

fn seqs(store: &Store) -> Vec<u64> {
    store.messages().iter().map(|message| message.seq).collect()
}

/// That exactly these of the first `count` are there, whichever way one looks.
#[track_caller]
fn holds(store: &Store, count: u64, there: impl Fn(u64) -> bool) {
    let expected: Vec<u64> = (1..=count).filter(|seq| there(*seq)).collect();
    assert_eq!(seqs(store), expected);
    assert_eq!(store.reader.stats().messages, expected.len() as u64);
    assert_eq!(store.reader.count(0, count), expected.len() as u64);
    for seq in 1..=count {
        match store.reader.look_up(&digest(seq)).unwrap() {
            Lookup::Here(message) => assert!(there(seq) && message.seq == seq, "{seq}"),
            Lookup::Gone => assert!(!there(seq), "{seq}"),
            Lookup::Unknown => panic!("{seq} is forgotten"),
        }
        let next = store.reader.page(seq - 1, 1, usize::MAX).unwrap();
        assert_eq!(next.first().map(|message| message.seq), expected.iter().copied().find(|s| *s >= seq));
    }
}

#[tokio::test]
async fn what_is_taken_out_is_gone_for_every_reader_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    fill(&mut store, 100).await;
    assert!(store.reader.stats().message_segments > 4);
    store.apply(vec![drop_upto(101, 33), remove(102, 50), remove(103, 99), remove(104, 20)]).await;
    let there = |seq| seq > 33 && seq != 50 && seq != 99;
    holds(&store, 100, there);
    store.checkpoint().await;
    holds(&store, 100, there);
    drop(store);
    let store = open(small(dir.path())).unwrap();
    holds(&store, 100, there);
    assert_eq!(store.reader.last_seq(), 100);
}

#[tokio::test]
async fn a_message_that_was_taken_out_may_come_again_as_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    fill(&mut store, 40).await;
    // One from a sealed segment, one from the one that grows; the latter twice.
    store.apply(vec![remove(41, 3), remove(42, 40)]).await;
    store.apply(vec![normal(1, 43, vec![put(body(3)), put(body(40)), put(body(3))])]).await;
    store.apply(vec![remove(44, 40), normal(1, 45, vec![put(body(40))])]).await;
    let expect = |store: &Store| {
        let seq = |text| match store.reader.look_up(&digest(text)).unwrap() {
            Lookup::Here(message) => message.seq,
            other => panic!("{other:?}"),
        };
        assert_eq!((seq(3), seq(40)), (41, 43));
        let expected: Vec<u64> = (1..=43).filter(|seq| ![3, 40, 42].contains(seq)).collect();
        assert_eq!(seqs(store), expected);
    };
    expect(&store);
    for i in 46..150 {
        store.apply(vec![normal(1, i, vec![put(body(i))])]).await;
    }
    store.checkpoint().await;
    drop(store);
    let mut store = open(small(dir.path())).unwrap();
    assert_eq!(store.messages()[..40].iter().map(|m| m.seq).max(), Some(43));
    store.apply(vec![normal(1, 150, vec![put(body(3)), put(body(40))])]).await;
    assert_eq!(store.reader.last_seq(), 43 + 104, "both are known in their sealed segments");
}

#[tokio::test]
async fn files_of_which_nothing_is_left_go_with_the_next_checkpoint_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    fill(&mut store, 100).await;
    store.checkpoint().await;
    let segments = || {
        let files = files_in(&dir.path().join("messages"));
        files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "seg")).count()
    };
    let before = segments();
    store.apply(vec![drop_upto(101, 90)]).await;
    let retired = store.reader.stats().retired_segments as usize;
    assert!(retired >= 4, "{retired}");
    assert_eq!(segments(), before);
    // A crash now goes back to the checkpoint, which lists them all.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let mut crashed = open(small(copy.path())).unwrap();
    holds(&crashed, 100, |_| true);
    crashed.apply(vec![drop_upto(101, 90)]).await;
    holds(&crashed, 100, |seq| seq > 90);
    store.checkpoint().await;
    assert_eq!((segments(), store.reader.stats().retired_segments), (before - retired, 0));
    holds(&store, 100, |seq| seq > 90);
}

#[tokio::test]
async fn all_messages_may_go_and_the_next_one_goes_on_counting() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    fill(&mut store, 40).await;
    store.apply(vec![drop_upto(41, u64::MAX)]).await;
    holds(&store, 40, |_| false);
    store.checkpoint().await;
    drop(store);
    let mut store = open(small(dir.path())).unwrap();
    holds(&store, 40, |_| false);
    store.apply(vec![normal(1, 42, vec![put("the next")])]).await;
    assert_eq!(seqs(&store), [41]);
}

#[tokio::test]
async fn runs_of_any_length_come_to_the_same() {
    let mut entries = filling(60);
    entries.extend([remove(61, 60), drop_upto(62, 25), remove(63, 30), drop_upto(64, 31), drop_upto(65, 10)]);
    entries.push(normal(1, 66, vec![put(body(60)), put(body(30)), put(body(1))]));
    let mut found = Vec::new();
    for step in [1, 7, 66] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(small(dir.path())).unwrap();
        for run in entries.chunks(step) {
            store.apply(run.to_vec()).await;
        }
        let header = store.checkpoint().await.snapshot.header().clone();
        let count = header.messages();
        found.push((store.messages(), header.kinds.messages, count));
    }
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
}

#[tokio::test]
async fn a_snapshot_carries_what_is_gone_and_what_was_claimed() {
    let from = tempfile::tempdir().unwrap();
    let mut source = open(small(from.path())).unwrap();
    fill(&mut source, 100).await;
    source.apply(vec![drop_upto(101, 33), remove(102, 50)]).await;
    source.apply(vec![normal(1, 103, claimed(7, 70, "a"))]).await;
    let snapshot = source.checkpoint().await;
    let (meta, there) = (snapshot.meta.clone(), |seq| seq > 33 && seq != 50);
    let bytes = snapshot::bytes_of(snapshot.snapshot).await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    fill(&mut store, 5).await;
    let removals = store.reader.applied().borrow().removals;
    let data = snapshot::receive(&store, &bytes, 1000).await.unwrap();
    let again = data.contents().unwrap().again().collect::<Result<Vec<Op>, _>>().unwrap();
    let digests: Vec<Digest> = source.messages().iter().map(|message| message.digest).collect();
    let put = |op: &Op| matches!(op, Op::PutMessage { .. });
    assert_eq!(again.iter().filter(|op| put(op)).count(), digests.len());
    assert!(
        again
            .iter()
            .filter(|op| put(op))
            .zip(&digests)
            .all(|(op, named)| matches!(op, Op::PutMessage { digest, .. } if digest == named))
    );
    store.state_machine.install_snapshot(&meta, data).await.unwrap();
    assert!(store.reader.applied().borrow().removals > removals, "followers of the log must look again");
    for reopened in [false, true] {
        if reopened {
            drop(store);
            store = open(small(dir.path())).unwrap();
        }
        holds(&store, 100, there);
    }
    store.apply(vec![normal(1, 104, claimed(7, 70, "b"))]).await;
    assert_eq!(store.reader.newest_text().unwrap().text, "a");
}

/// A text under a claim.
fn claimed(key: u128, fingerprint: u128, text: &'static str) -> Vec<Op> {
    let claim = Op::Claim { key: ClaimKey(key), fingerprint, time_ms: 1000, ttl_ms: 5000 };
    vec![claim, super::text(key + u128::from(text.as_bytes()[0]) * 1000, text)]
}

#[tokio::test]
async fn a_claimed_request_takes_effect_once_while_it_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![normal(1, 0, claimed(1, 10, "first"))]).await;
    // The same again; another under the same key; and one without a claim behind it.
    let mut ops = claimed(1, 10, "same again");
    ops.extend(claimed(1, 11, "another"));
    store.apply(vec![normal(1, 1, ops)]).await;
    let newest = store.reader.newest_text().unwrap();
    assert_eq!((newest.version, newest.text), (1, "first".into()));
    store.checkpoint().await;
    drop(store);
    let mut store = open(small(dir.path())).unwrap();
    store.apply(vec![normal(1, 2, claimed(1, 10, "after a restart"))]).await;
    assert_eq!(store.reader.newest_text().unwrap().version, 1);
    // By then the claim has expired.
    let later = Op::WriteText { request: RequestId(99), text: "later".into(), time_ms: 6000 };
    store.apply(vec![normal(1, 3, vec![later])]).await;
    store.apply(vec![normal(1, 4, claimed(1, 11, "zero"))]).await;
    let newest = store.reader.newest_text().unwrap();
    assert_eq!((newest.version, newest.text), (3, "zero".into()));
}

#[tokio::test]
async fn what_is_too_much_is_told_by_the_bytes_that_may_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(small(dir.path())).unwrap();
    assert_eq!(store.reader.excess(0).unwrap(), 0);
    fill(&mut store, 100).await;
    let all = store.reader.stats().message_bytes;
    assert_eq!(store.reader.excess(all).unwrap(), 0);
    let mut last = u64::MAX;
    for kept in (0..all).step_by(77) {
        let upto = store.reader.excess(kept).unwrap();
        assert!(upto <= last && upto <= 100, "{upto} after {last}");
        last = upto;
        // What stays has no more bytes, and would with one message more.
        let record = 58 + "text/plain".len() as u64 + body(1).len() as u64;
        let segments = 24 * (all / 2048 + 2);
        let stays = (100 - upto) * record;
        assert!(stays <= kept && stays + record + segments >= kept, "{kept}: {upto}");
    }
}
