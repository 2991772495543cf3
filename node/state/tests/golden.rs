//! What commands come to at each level, pinned: two programs that read one level must apply it alike,
//! so a change here is a change of format and belongs to a new level.

use bytes::Bytes;
use skep_base::id::RequestId;
use skep_state::Kinds;
use skep_state::clock::{Clock, Stamp};
use skep_state::command::{ClaimKey, Command, CommandOutcome, Op, OpOutcome};
use skep_state::heap::Heap;
use skep_state::kind::{Record as _, Stopped};
use skep_state::kinds::claims::ClaimsRecord;
use skep_state::kinds::claims::records::{ClaimRecords, InMemory, Spans};
use skep_state::kinds::claims::remembered::Remembered;
use skep_state::kinds::{CommonRecord, KindsRecord};
use skep_state::level::{Level, Limits};
use skep_state::message::{Digest, StoredMessage};
use skep_state::records::{NewRecord, Records};
use skep_state::task::{
    End, Lease, NewTask, Policy, QueueSettings, TaskClaim, TaskId, TaskOp, TaskOutcome, When,
};

/// Digests alone.
#[derive(Debug, Default)]
struct Digests(Vec<Digest>);

impl Records for Digests {
    fn last_seq(&self) -> u64 {
        self.0.len() as u64
    }

    fn find(&self, digest: &Digest) -> Result<Option<u64>, Stopped> {
        Ok(self.0.iter().rposition(|known| known == digest).map(|at| at as u64 + 1))
    }

    fn digest_at(&self, seq: u64) -> Result<Digest, Stopped> {
        Ok(self.0[seq as usize - 1])
    }

    fn page(&self, _after: u64, _count_max: usize, _bytes_max: usize) -> Result<Vec<StoredMessage>, Stopped> {
        Ok(Vec::new())
    }

    fn push(&mut self, record: NewRecord<'_>) -> Result<(), Stopped> {
        self.0.push(*record.digest);
        Ok(())
    }

    fn let_go(&mut self, _floor: u64) {}
}

fn open() -> Kinds<Digests, InMemory> {
    Kinds::open(KindsRecord::default(), Digests::default(), InMemory::default(), Heap::default()).unwrap()
}

fn put(name: u64, time_ms: u64) -> Op {
    let body = Bytes::from(name.to_le_bytes().to_vec());
    Op::PutMessage { digest: Digest::of(&body), content_type: "a/b".into(), body, time_ms, nonce: name }
}

fn claim(key: u128, fingerprint: u128, time_ms: u64) -> Op {
    Op::Claim { key: ClaimKey(key), fingerprint, time_ms, ttl_ms: 1_000 }
}

fn write(request: u128, time_ms: u64) -> Op {
    Op::WriteText { request: RequestId(request), text: Bytes::from(request.to_string()), time_ms }
}

#[test]
fn the_bounds_of_each_level_are_those_that_it_began_with() {
    let first = Limits {
        claims_max: 65_536,
        claim_age_ms_min: 0,
        removed_singly_max: 16_384,
        remembered_max: 16_384,
        dropped_at_once_max: 16_384,
        text_requests_max: 4_096,
        task_bytes_max: 33_554_432,
        task_memory_max: 268_435_456,
        task_queues_max: 256,
        task_workers_max: 4_096,
        task_dead_max: 1_000,
        task_puts_max: 16_384,
        task_lanes_max: 16_384,
        task_batches_max: 4_096,
        gateway_document_bytes_max: 8_388_608,
        gateway_history_max: 32,
        gateway_history_bytes_max: 16_777_216,
        schedules_max: 1_024,
        schedule_bytes_max: 65_536,
        schedules_bytes_max: 8_388_608,
        shifts_max: 64,
    };
    (1..=3).for_each(|level| assert_eq!(Limits::of(Level(level)), first, "level {level}"));
    let fourth = Limits { claims_max: 10_485_760, claim_age_ms_min: 900_000, ..first };
    (4..=7).for_each(|level| assert_eq!(Limits::of(Level(level)), fourth, "level {level}"));
    let eighth = Limits { task_bytes_max: 4_294_967_296, task_memory_max: 201_326_592, ..fourth };
    (8..=10).for_each(|level| assert_eq!(Limits::of(Level(level)), eighth, "level {level}"));
    assert_eq!(Level::NEWEST, Level(10), "a new level's bounds are pinned here");
}

#[test]
fn the_memory_of_each_kind_ends_where_it_did() {
    let mut kinds = open();
    let mut apply = |ops: Vec<Op>| kinds.apply(1, &Command::new(ops)).unwrap().outcomes;
    // Of 65,536 claims and one more the first is forgotten; of 4,096 text writes and one more, too.
    for at in 0..65_537 {
        apply(vec![claim(at, 1, 1), write(at, 1)]);
    }
    assert_eq!(apply(vec![claim(0, 1, 1), write(0, 1)])[0], OpOutcome::Claimed);
    assert_eq!(apply(vec![claim(65_536, 1, 1), write(7, 1)])[0], OpOutcome::Repeated);
    assert_eq!(apply(vec![write(65_536 - 4_094, 1)])[0], OpOutcome::Text { version: 65_536 - 4_094 + 1 });
    assert_eq!(apply(vec![write(65_536 - 4_096, 1)])[0], OpOutcome::Text { version: 65_539 });
    // One command drops 16,384 messages at most, and as many are removed one by one.
    apply((0..40_000).map(|name| put(name, 1)).collect());
    assert_eq!(apply(vec![Op::DropMessages { upto: 20_000 }])[0], OpOutcome::Dropped { upto: 16_384 });
    let remove = |name: u64| Op::RemoveMessage { digest: Digest::of(&name.to_le_bytes()) };
    let outcomes = apply((20_000..36_385).map(remove).collect());
    assert!(outcomes[..16_384].iter().all(|outcome| matches!(outcome, OpOutcome::Removed { seq: Some(_) })));
    assert_eq!(outcomes[16_384], OpOutcome::TooManyRemoved);
}

/// A mixed history: what it comes to, and the state that it leaves.
fn mixed(kinds: &mut Kinds<Digests, InMemory>) -> Vec<CommandOutcome> {
    let mut outcomes = Vec::new();
    for at in 0..400u64 {
        let name = at * 7 % 90;
        let time = 1_000 + at * 13 % 300;
        let ops = match at % 9 {
            0 => vec![claim(u128::from(name), u128::from(at % 3), time), put(name, time)],
            1 => vec![claim(u128::from(name), u128::from(at % 2), time), write(u128::from(at / 2), time)],
            2 => vec![Op::RemoveMessage { digest: Digest::of(&name.to_le_bytes()) }],
            3 if at % 5 == 0 => vec![Op::DropMessages { upto: at / 8 }],
            _ => vec![put(name, time), write(u128::from(at / 3), time)],
        };
        outcomes.push(kinds.apply(at, &Command::new(ops)).unwrap());
    }
    outcomes
}

fn digest(value: &impl serde::Serialize) -> String {
    Digest::of(&skep_base::codec::encode(value).unwrap()).to_string()
}

#[test]
fn a_mixed_history_comes_to_what_it_came_to_in_the_version_before() {
    let mut kinds = open();
    let outcomes = digest(&mixed(&mut kinds));
    let state = kinds.record();
    let state = digest(&(&state.messages, &state.text, &state.claims.early, &state.common.clock));
    assert_eq!((outcomes.as_str(), state.as_str()), (OUTCOMES, STATE));
}

const OUTCOMES: &str = "5f64cef76a743fde05a40009048eb307690792daccf362ac8356dfe1d95a0f95";
const STATE: &str = "e705666d098b1686900a41e7b1fb50a29a509a37aa5c2a316d6991652fb2ba1d";

#[test]
fn a_mixed_history_comes_to_what_it_came_to_at_the_fourth_level() {
    let mut kinds = open();
    kinds.apply(0, &Command::new(vec![claim(1, 1, 900), put(1, 900)])).unwrap();
    kinds.apply(0, &Command::new(vec![Op::Level { level: Level(4) }])).unwrap();
    let outcomes = digest(&mixed(&mut kinds));
    let records = kinds.claims.records();
    let mut claims = Vec::new();
    for key in 0..90 {
        if let Some((number, claim)) = records.find(ClaimKey(key)).unwrap() {
            claims.push((number, claim.to_bytes(number).to_vec()));
        }
    }
    let state = digest(&(&kinds.record().messages, records.spans().numbers(), claims));
    assert_eq!((outcomes.as_str(), state.as_str()), (OUTCOMES_4, STATE_4));
}

const OUTCOMES_4: &str = "72aad6ebd8b2f5f416e6731302a4858ac025cfb45fcad2244fe7fb1050cf13d9";
const STATE_4: &str = "6fbd0bfdfd8b8628351666a8d04d668ddae6f1b1b6f51af87c021cdedb447ce7";

/// What the rolling hash is of, and how.
#[test]
fn a_mixed_history_has_the_hash_that_it_had_at_the_fifth_level() {
    let mut kinds = open();
    kinds.apply(0, &Command::new(vec![claim(1, 1, 900), put(1, 900)])).unwrap();
    kinds.apply(0, &Command::new(vec![Op::Level { level: Level(5) }])).unwrap();
    let begun = kinds.rolling_hash().unwrap();
    mixed(&mut kinds);
    // Of so many claims the oldest end.
    for key in 1_000..2_100 {
        kinds.apply(400, &Command::new(vec![claim(key, 1, 1_300), write(key, 1_300)])).unwrap();
    }
    kinds.apply(401, &Command::new(vec![write(5_000, 9_000)])).unwrap();
    kinds.apply(402, &Command::new(vec![write(5_001, 9_000)])).unwrap();
    assert_ne!(kinds.claims.records().spans().numbers().start, 0, "some have ended");
    let hashes = [begun, kinds.rolling_hash().unwrap()].map(|hash| format!("{:032x}", hash.0));
    assert_eq!(hashes, HASHES_5);
}

const HASHES_5: [&str; 2] = ["239967f375a79c184e73790cfe6a2182", "b0cdf465e4dcc257e8c636fc53d83bbb"];

/// The history above puts nothing that it removes.
#[test]
fn a_removal_and_a_floor_have_the_hashes_that_they_had_at_the_fifth_level() {
    let mut kinds = open();
    kinds.apply(0, &Command::new(vec![Op::Level { level: Level(5) }])).unwrap();
    kinds.apply(1, &Command::new((1..=5).map(|name| put(name, 1_000)).collect())).unwrap();
    let removal = Op::RemoveMessage { digest: Digest::of(&2u64.to_le_bytes()) };
    let hashes = [removal, Op::DropMessages { upto: 1 }].map(|op| {
        kinds.apply(2, &Command::new(vec![op])).unwrap();
        format!("{:032x}", kinds.rolling_hash().unwrap().0)
    });
    assert_eq!(hashes, HASHES_REMOVED_5);
}

const HASHES_REMOVED_5: [&str; 2] = ["7ffb90b1ba5911bfa2999e1e8f8df3b2", "ce05c52dfe00adde08f5fbef6f1b562c"];

/// Where a key is forgotten before its time, and where it is not.
#[test]
fn the_oldest_claims_end_where_they_did_at_the_fourth_level() {
    let mut kinds = open();
    kinds.apply(0, &Command::new(vec![Op::Level { level: Level(4) }])).unwrap();
    let mut apply = |key, time_ms| {
        let claim = Op::Claim { key: ClaimKey(key), fingerprint: 1, time_ms, ttl_ms: 86_400_000 };
        kinds.apply(1, &Command::new(vec![claim, write(key, time_ms)])).unwrap().outcomes.swap_remove(0)
    };
    // Claims end in spans of 1,024, with the last of a span.
    for key in 0..1_025 {
        assert_eq!(apply(key, 1_000 + key as u64), OpOutcome::Claimed);
    }
    assert_eq!(apply(0, 86_401_000 - 1), OpOutcome::Repeated);
    assert_eq!(apply(0, 86_401_000), OpOutcome::Claimed, "its own time is over");
    assert_eq!(kinds.claims.records().spans().numbers(), 0..1_026);
    kinds.apply(1, &Command::new(vec![claim(5_000, 1, 86_401_000 + 1_023)])).unwrap();
    assert_eq!(kinds.claims.records().spans().numbers(), 1_024..1_026);
}

/// Claims of which the times alone are kept.
#[derive(Debug, Clone)]
struct Times(Spans);

impl ClaimRecords for Times {
    fn spans(&self) -> &Spans {
        &self.0
    }

    fn find(&self, _key: ClaimKey) -> Result<Option<(u64, Remembered)>, Stopped> {
        Ok(None)
    }

    fn push(&mut self, claim: &Remembered, _instead_of: Option<u64>) -> Result<(), Stopped> {
        self.0.push(claim);
        Ok(())
    }

    fn forget_oldest(&mut self) {
        self.0.forget_oldest();
    }

    fn mend_time(&mut self, ceiling: Stamp) {
        self.0.mend_time(ceiling);
    }
}

/// Where there is room for no more, and where the oldest go for one.
#[test]
fn at_the_bound_claims_are_young_until_they_were_at_the_fourth_level() {
    const MADE: u64 = 1_000_000_000;
    let count = Limits::of(Level(4)).claims_max as u64;
    let mut full = Times(Spans::default());
    let outcome = OpOutcome::Text { version: 1 };
    let claim = Remembered::new(ClaimKey(1), 1, 1, Stamp(MADE), 86_400_000, outcome);
    (0..count).for_each(|_| full.0.push(&claim));
    for (time_ms, outcome, first) in [
        (MADE + 899_999, OpOutcome::TooManyClaims, 0),
        (MADE + 900_000, OpOutcome::Claimed, 1_024),
        // The clock stands still.
        (MADE - 900_000, OpOutcome::TooManyClaims, 0),
        (MADE - 900_001, OpOutcome::Claimed, 1_024),
    ] {
        let record = KindsRecord {
            common: CommonRecord {
                level: Level(4),
                clock: Clock::at(Stamp(MADE)),
                ..CommonRecord::default()
            },
            claims: ClaimsRecord { early: Vec::new(), first: 0, next: count },
            ..KindsRecord::default()
        };
        let mut kinds = Kinds::open(record, Digests::default(), full.clone(), Heap::default()).unwrap();
        let claim = Op::Claim { key: ClaimKey(2), fingerprint: 1, time_ms, ttl_ms: 1_000 };
        let came_to = kinds.apply(1, &Command::new(vec![claim, put(7, time_ms)])).unwrap().outcomes;
        let guarded = match outcome {
            OpOutcome::TooManyClaims => OpOutcome::Skipped,
            _ => OpOutcome::Message { seq: 1, created: true },
        };
        assert_eq!(
            (came_to, kinds.claims.records().spans().numbers().start),
            (vec![outcome, guarded], first),
            "{time_ms}"
        );
    }
}

/// A mixed history of tasks.
#[test]
fn a_mixed_history_of_tasks_comes_to_what_it_came_to_at_the_sixth_level() {
    assert_eq!(mixed_tasks(&[(0, 6)]), [TASKS_OUTCOMES_6, TASKS_6, "1", TASKS_HASH_6]);
}

/// Where bytes are is no part of what is hashed; the section says it. The level may rise in the middle.
#[test]
fn a_mixed_history_of_tasks_comes_to_what_it_came_to_at_the_eighth_level() {
    assert_eq!(mixed_tasks(&[(0, 8)]), [TASKS_OUTCOMES_6, TASKS_8, "2", TASKS_HASH_8]);
    let risen = mixed_tasks(&[(0, 6), (300, 8)]);
    assert_eq!(risen, [TASKS_OUTCOMES_6, TASKS_6_TO_8, "2", TASKS_HASH_6_TO_8]);
}

/// What it comes to where these levels are agreed to on its way, the section that it leaves, and the hash of what it did.
fn mixed_tasks(levels: &[(u64, u16)]) -> [String; 4] {
    let mut kinds = open();
    let mut outcomes = Vec::new();
    let mut leases = Vec::new();
    for at in 0..600u64 {
        for (_, level) in levels.iter().filter(|(when, _)| *when == at) {
            kinds.apply(at, &Command::new(vec![Op::Level { level: Level(*level) }])).unwrap();
        }
        let op = match at % 11 {
            0..=3 => TaskOp::Put { nonce: at * 13 + 1, tasks: vec![new_task(at)] },
            4 | 5 => TaskOp::Claim(TaskClaim {
                queues: vec!["a".into(), "b".into()],
                worker: format!("w{}", at % 3),
                number: 1 + at / 9,
                max: 3,
                holds: leases.iter().rev().take(2).map(|lease: &Lease| lease.fence).collect(),
                closes: at.is_multiple_of(2),
            }),
            6 => TaskOp::Due { max: 4 },
            7 => TaskOp::Expire { leases: leases.iter().rev().skip(1).take(1).copied().collect() },
            8 if at.is_multiple_of(3) => TaskOp::Cancel { id: TaskId::nth(at / 4, at / 4 * 13 + 1, 0) },
            10 if at.is_multiple_of(2) => TaskOp::PutBatch {
                nonce: at * 13 + 3,
                keep_ms: 400,
                tasks: (at..at + 3).map(new_task).collect(),
            },
            9 if at.is_multiple_of(2) => TaskOp::QueueSet {
                queue: "b".into(),
                settings: QueueSettings {
                    active_max: 4,
                    per_key: 1 + (at % 4) as u32 / 2,
                    key_pause_ms: 40,
                    ..QueueSettings::default()
                },
            },
            _ => match leases.pop() {
                Some(Lease { id, fence }) if at.is_multiple_of(5) => TaskOp::EndWith {
                    id,
                    fence,
                    result: Bytes::from(at.to_string()),
                    nonce: at * 13 + 2,
                    follow: vec![new_task(at + 1)],
                },
                Some(Lease { id, fence }) => TaskOp::End { id, fence, end: end_of(at) },
                None => TaskOp::RaiseFence,
            },
        };
        let outcome =
            kinds.apply(at, &Command::new(vec![Op::Tasks { time_ms: 1_000 + at * 7, op }])).unwrap();
        if let [OpOutcome::Tasks(TaskOutcome::Claimed { leases: given })] = outcome.outcomes.as_slice() {
            leases.extend_from_slice(given);
        }
        outcomes.push(outcome);
    }
    let state = kinds.record().tasks.encode().unwrap();
    let hash = format!("{:032x}", kinds.rolling_hash().unwrap().0);
    [digest(&outcomes), digest(&state), state.0.to_string(), hash]
}

fn new_task(at: u64) -> NewTask {
    NewTask {
        queue: if at.is_multiple_of(3) { "a" } else { "b" }.into(),
        kind: "k".into(),
        payload: Bytes::from(at.to_string()),
        priority: (at % 10) as u8,
        when: When::After { delay_ms: at % 4 * 50 },
        policy: Policy { retries: 1, backoff_ms: 100, timeout_ms: at % 2 * 900, keep_ms: 700 },
        unique: at.is_multiple_of(5).then(|| (at % 7).to_string()),
        key: at.is_multiple_of(2).then(|| (at % 9).to_string()),
    }
}

fn end_of(at: u64) -> End {
    match at % 4 {
        0 => End::Done { result: Bytes::from(at.to_string()) },
        1 => End::Failed { error: at.to_string(), is_final: at % 8 == 1 },
        2 => End::Release,
        _ => End::Snooze { delay_ms: 60 },
    }
}

const TASKS_OUTCOMES_6: &str = "fe707e9eae01f590133ce9bda383863503c2fe4cd7f595333ffb254080be06f0";
const TASKS_6: &str = "d5958c0f361ce4afe848f9dc6988e029e6e4c2105c4fe427b1e2084f45c8a27d";
const TASKS_HASH_6: &str = "61ed75a75ebd355cf8b14ebe516e0521";
const TASKS_8: &str = "d0b11eda7426ec817c0d0386c45c28a65f5159c4bf577324bdaa656e261baaad";
const TASKS_6_TO_8: &str = "f2f1392428c09f9484a6e7478f3aaed7cb51d2b06d4facbef67c14db8a32ee2b";
const TASKS_HASH_6_TO_8: &str = "8ca4820932697a095af92ebbea2f9f44";
const TASKS_HASH_8: &str = "05f4502bcb1be54e85c02c49be5ba1d8";

/// What counts once the clock was set back, and how a section says so.
#[test]
fn the_clock_is_set_back_as_it_was_at_the_sixth_level() {
    let mut kinds = open();
    let mut apply = |ops: Vec<Op>| kinds.apply(1, &Command::new(ops)).unwrap().outcomes;
    apply(vec![Op::Level { level: Level(6) }]);
    apply(vec![put(1, 1_000), put(2, 900_000), claim(1, 1, 900_000), put(3, 900_000)]);
    let mended = OpOutcome::TimeMended { from_ms: 900_000, to_ms: 2_000 };
    assert_eq!(apply(vec![Op::MendTime { time_ms: 2_000, newest_ms: 900_000 }]), [mended]);
    assert_eq!(apply(vec![Op::MendTime { time_ms: 2_000, newest_ms: 900_000 }]), [OpOutcome::TimeKept]);
    assert_eq!(apply(vec![claim(1, 1, 2_999), put(4, 2_999)])[0], OpOutcome::Repeated);
    assert_eq!(apply(vec![claim(1, 1, 3_000), put(4, 3_000)])[0], OpOutcome::Claimed, "its time is over");
    let mut again = open();
    let mut apply = |ops: Vec<Op>| again.apply(1, &Command::new(ops)).unwrap().outcomes;
    apply(vec![Op::Level { level: Level(5) }, put(1, 900_000)]);
    assert_eq!(
        apply(vec![Op::MendTime { time_ms: 2_000, newest_ms: 900_000 }]),
        [OpOutcome::TimeKept],
        "at the level before"
    );
    let mends = kinds.mends();
    let times = [(2, 900_000), (3, 900), (4, 900_000)];
    assert_eq!(times.map(|(seq, time)| mends.message_time(seq, Stamp(time)).0), [2_000, 900, 900_000]);
    let hash = format!("{:032x}", kinds.rolling_hash().unwrap().0);
    let (format, section) = kinds.record().common.encode().unwrap();
    assert_eq!((format, Digest::of(&section).to_string().as_str(), hash.as_str()), (3, COMMON_6, HASH_6));
}

const COMMON_6: &str = "684bd7c59045a001b356d9dbf0c788cf8ae037127f71d52389ffd1d78207e079";
const HASH_6: &str = "fe49bba08930ea049161a4ec99041bf8";

/// A key moves the clock on, also where what it guards was there already.
#[test]
fn a_mixed_history_comes_to_what_it_came_to_at_the_sixth_level() {
    let mut kinds = open();
    kinds.apply(0, &Command::new(vec![Op::Level { level: Level(6) }])).unwrap();
    kinds.apply(0, &Command::new(vec![put(1, 900)])).unwrap();
    kinds.apply(0, &Command::new(vec![claim(1, 1, 1_900), put(1, 1_900)])).unwrap();
    assert_eq!(kinds.clock().latest(), Stamp(1_900));
    let outcomes = digest(&mixed(&mut kinds));
    let hash = format!("{:032x}", kinds.rolling_hash().unwrap().0);
    assert_eq!((outcomes.as_str(), hash.as_str()), (OUTCOMES_6, MIXED_6));
}

const OUTCOMES_6: &str = "72aad6ebd8b2f5f416e6731302a4858ac025cfb45fcad2244fe7fb1050cf13d9";
const MIXED_6: &str = "0cc93df4cd0c9f0dea5e15b834006a32";
