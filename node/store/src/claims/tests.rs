use std::time::Duration;

use skep_state::clock::Stamp;
use skep_state::command::OpOutcome;
use skep_state::kinds::claims::records::SPAN_CLAIMS;

use super::*;
use crate::health::{HealthSender, Writer};
use crate::segments::Writing;

const FILE_CLAIMS: u64 = 3_000;

fn claim(key: u64, time_ms: u64) -> Remembered {
    let outcome = OpOutcome::Text { version: key };
    Remembered::new(ClaimKey(key.into()), 7, key, Stamp(time_ms), 1_000, outcome)
}

/// What is found of a key.
fn look_up(claims: &ClaimFiles, key: ClaimKey) -> Option<(u64, Remembered)> {
    let places = claims.places(&Wanted { keys: vec![key] }).unwrap();
    places.read(Wait::ForDisk).unwrap().of(key).unwrap().cloned()
}

/// A run of claims, staged and published as a run of entries is.
fn run(claims: &mut ClaimFiles, keys: Range<u64>) {
    if let Some(next) = claims.next() {
        claims.write_behind.drain().unwrap();
        claims.go_on_in(next.make().unwrap());
    }
    let wanted = Wanted { keys: keys.clone().map(|key| ClaimKey(key.into())).collect() };
    let known = claims.places(&wanted).unwrap().read(Wait::ForDisk).unwrap();
    claims.begin_run(known);
    for key in keys {
        let key = claim(key, key);
        let before = claims.find(key.key).unwrap().map(|(number, _)| number);
        claims.push(&key, before).unwrap();
        assert_eq!(claims.find(key.key).unwrap().map(|(_, found)| found), Some(key), "while it is staged");
    }
    claims.publish();
}

/// Claims, and what writes them.
struct Opened {
    claims: ClaimFiles,
    _writing: Writing,
}

impl std::ops::Deref for Opened {
    type Target = ClaimFiles;

    fn deref(&self) -> &ClaimFiles {
        &self.claims
    }
}

impl std::ops::DerefMut for Opened {
    fn deref_mut(&mut self) -> &mut ClaimFiles {
        &mut self.claims
    }
}

fn open(dir: &std::path::Path, metas: &[SegmentMeta], numbers: Range<u64>) -> Opened {
    try_open(dir, metas, numbers).unwrap()
}

fn try_open(dir: &std::path::Path, metas: &[SegmentMeta], numbers: Range<u64>) -> Result<Opened, StoreError> {
    let health = Arc::new(HealthSender::new());
    let (behind, writing) = WriteBehind::start(Writer::Claims, health, Duration::from_millis(1)).unwrap();
    let limits = Limits { file_claims_max: FILE_CLAIMS, held_max: 2 };
    let claims = ClaimFiles::open(dir.to_path_buf(), 0, metas, numbers, limits, behind)?;
    Ok(Opened { claims, _writing: writing })
}

/// As a checkpoint lists them: all of it is in the files.
fn metas(claims: &ClaimFiles) -> Vec<SegmentMeta> {
    claims.write_behind.drain().unwrap();
    claims.metas().map(|(meta, _)| meta).collect()
}

fn version(claims: &ClaimFiles, key: u64) -> Option<u64> {
    match look_up(claims, ClaimKey(key.into()))?.1.outcome {
        OpOutcome::Text { version } => Some(version),
        _ => None,
    }
}

#[test]
fn claims_are_found_in_their_files_after_a_start_and_cut_back_to_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut claims = open(dir.path(), &[], 0..0);
    for begin in (0..10_000).step_by(700) {
        run(&mut claims, begin..begin + 700);
    }
    let (kept, numbers) = (metas(&claims), claims.spans().numbers());
    assert!(kept.len() > 2, "{kept:?}");
    // What comes behind the checkpoint is gone after a start.
    run(&mut claims, 20_000..20_100);
    drop(claims);
    let mut claims = open(dir.path(), &kept, numbers.clone());
    assert_eq!((metas(&claims), claims.spans().numbers()), (kept, numbers));
    for key in (0..numbers_end(&claims)).step_by(97) {
        assert_eq!(version(&claims, key), Some(key));
    }
    assert_eq!(version(&claims, 20_000), None);
    assert!((0..numbers_end(&claims)).all(|key| claims.may_have(ClaimKey(key.into()))));
    let strangers = (20_000..30_000).filter(|key| claims.may_have(ClaimKey(*key))).count();
    assert!(strangers < 10, "{strangers}");
    run(&mut claims, 20_000..20_100);
    assert_eq!(version(&claims, 20_099), Some(20_099));
}

fn numbers_end(claims: &ClaimFiles) -> u64 {
    claims.spans().numbers().end
}

#[test]
fn forgotten_claims_are_not_found_and_their_files_go_once_no_checkpoint_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut claims = open(dir.path(), &[], 0..0);
    (0..10).for_each(|part| run(&mut claims, part * FILE_CLAIMS..(part + 1) * FILE_CLAIMS));
    let before: HashSet<PathBuf> = claims.known_files();
    (0..5).for_each(|_| claims.forget_oldest());
    let first = 5 * SPAN_CLAIMS;
    assert_eq!((version(&claims, first - 1), version(&claims, first)), (None, Some(first)));
    assert_eq!(claims.take_retired(&before).len(), 0, "the last checkpoint has them");
    let left = claims.known_files();
    let gone = claims.take_retired(&left);
    assert_eq!(gone.len() as u64, first / FILE_CLAIMS);
    // The first file that is left begins before the first claim that counts.
    let (kept, numbers) = (metas(&claims), claims.spans().numbers());
    drop(claims);
    let claims = open(dir.path(), &kept, numbers);
    assert_eq!((version(&claims, first - 1), version(&claims, first)), (None, Some(first)));
    assert_eq!(claims.spans().oldest().unwrap().newest, Stamp(first + SPAN_CLAIMS - 1));
}

#[test]
fn a_key_that_is_claimed_again_is_found_where_it_is_newest_also_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut claims = open(dir.path(), &[], 0..0);
    run(&mut claims, 0..5);
    run(&mut claims, 2..4);
    for is_started_anew in [false, true] {
        if is_started_anew {
            let (kept, numbers) = (metas(&claims), claims.spans().numbers());
            claims = open(dir.path(), &kept, numbers);
        }
        let found = |key: u128| look_up(&claims, ClaimKey(key)).map(|(number, _)| number);
        assert_eq!([found(1), found(2), found(3), found(4)], [Some(1), Some(5), Some(6), Some(4)]);
    }
}

#[test]
fn a_claim_is_found_on_its_way_to_the_file_as_well_as_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut claims = open(dir.path(), &[], 0..0);
    for begin in (0..20_000).step_by(50) {
        run(&mut claims, begin..begin + 50);
        for key in [begin, begin + 49, begin.saturating_sub(400), begin / 2] {
            assert_eq!(version(&claims, key), Some(key));
        }
    }
    assert_eq!(version(&claims, 20_000), None);
}

#[test]
fn what_a_run_finds_is_what_was_looked_for_and_what_it_made_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut claims = open(dir.path(), &[], 0..0);
    run(&mut claims, 0..2 * SPAN_CLAIMS);
    let (old, young) = (ClaimKey(5), ClaimKey(u128::from(SPAN_CLAIMS) + 5));
    let wanted = Wanted { keys: vec![old, young] };
    let known = claims.places(&wanted).unwrap().read(Wait::ForDisk).unwrap();
    claims.begin_run(known);
    // What was not looked for is not read in the middle of a run.
    assert!(matches!(claims.find(ClaimKey(6)), Err(Stopped::Records(_))));
    assert_eq!(claims.find(old).unwrap().unwrap().0, 5);
    claims.forget_oldest();
    assert_eq!(claims.find(old).unwrap(), None, "forgotten by the run itself");
    assert_eq!(claims.find(young).unwrap().unwrap().0, SPAN_CLAIMS + 5);
    claims.push(&claim(SPAN_CLAIMS + 5, 1), Some(SPAN_CLAIMS + 5)).unwrap();
    assert_eq!(claims.find(young).unwrap().unwrap().0, 2 * SPAN_CLAIMS);
    claims.publish();
    assert_eq!(look_up(&claims, young).unwrap().0, 2 * SPAN_CLAIMS);
}

#[test]
fn a_claim_that_only_has_the_same_fingerprint_is_another_keys() {
    let dir = tempfile::tempdir().unwrap();
    let mut claims = open(dir.path(), &[], 0..0);
    run(&mut claims, 0..10);
    let places_of = |key: u64| {
        let Places(mut places) = claims.places(&Wanted { keys: vec![ClaimKey(key.into())] }).unwrap();
        places.remove(0).1
    };
    // As the index has it where keys come to one fingerprint.
    let (other, own) = (ClaimKey(99), ClaimKey(4));
    let mixed =
        Places(vec![(other, places_of(5)), (own, places_of(5).into_iter().chain(places_of(4)).collect())]);
    let known = mixed.read(Wait::ForDisk).unwrap();
    assert_eq!(known.of(other), Some(None));
    assert_eq!(known.of(own).unwrap().map(|(_, claim)| claim.key), Some(own));
}

#[test]
fn a_file_in_which_any_byte_was_changed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut claims = open(dir.path(), &[], 0..0);
    run(&mut claims, 0..2);
    let (kept, numbers) = (metas(&claims), claims.spans().numbers());
    let path = file::path(dir.path(), 0, 0);
    let good = std::fs::read(&path).unwrap();
    file::check(&path, kept[0], 0).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(file::check(&path, kept[0], 0).is_err(), "byte {at}");
        assert!(try_open(dir.path(), &kept, numbers.clone()).is_err());
    }
}

#[test]
fn claims_that_are_about_to_be_replaced_take_next_to_no_memory_and_are_not_taken_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut claims = open(dir.path(), &[], 0..0);
    let empty = claims.index_bytes();
    (0..20).for_each(|part| run(&mut claims, part * 1_000..(part + 1) * 1_000));
    assert!(claims.index_bytes() > empty + 20_000 * 8);
    drop(claims.give_up_index());
    assert_eq!(claims.index_bytes(), empty);
    assert!(claims.may_have(ClaimKey(7)) && claims.may_have(ClaimKey(1 << 40)), "nobody knows");
    assert!(claims.places(&Wanted { keys: vec![ClaimKey(7)] }).is_err());
    assert_eq!(claims.spans().len(), 20_000, "a checkpoint of them can still be made");
}
