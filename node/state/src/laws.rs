//! What holds of every kind, whatever it is: the same operations come to the same state; a state is
//! its record, and its sections say the record; sections that were changed or cut are refused or say
//! a state, and nothing panics; the operations that make it anew do.

use skep_base::codec;

use crate::command::{Command, Op, OpOutcome};
use crate::heap::Heap;
use crate::kind::Stopped;
use crate::kinds::claims::records::InMemory;
use crate::kinds::{Kinds, KindsRecord};
use crate::level::Level;
use crate::message::{Digest, StoredMessage};
use crate::records::{NewRecord, Records};

/// Records in memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    all: Vec<StoredMessage>,
}

impl Records for Memory {
    fn last_seq(&self) -> u64 {
        self.all.len() as u64
    }

    fn find(&self, digest: &Digest) -> Result<Option<u64>, Stopped> {
        Ok(self.all.iter().rev().find(|message| message.digest == *digest).map(|message| message.seq))
    }

    fn digest_at(&self, seq: u64) -> Result<Digest, Stopped> {
        Ok(self.all[seq as usize - 1].digest)
    }

    fn page(&self, after: u64, count_max: usize, _bytes_max: usize) -> Result<Vec<StoredMessage>, Stopped> {
        Ok(self.all.iter().filter(|message| message.seq > after).take(count_max).cloned().collect())
    }

    fn push(&mut self, record: NewRecord<'_>) -> Result<(), Stopped> {
        self.all.push(StoredMessage {
            seq: record.seq,
            time_ms: record.time.0,
            digest: *record.digest,
            content_type: record.content_type.to_owned(),
            body: bytes::Bytes::copy_from_slice(record.body),
        });
        Ok(())
    }

    fn let_go(&mut self, _floor: u64) {}
}

/// A replicated state, and how far the log is.
#[derive(Debug)]
pub struct World {
    pub kinds: Kinds<Memory, InMemory>,
    index: u64,
}

impl Default for World {
    fn default() -> Self {
        let kinds =
            Kinds::open(KindsRecord::default(), Memory::default(), InMemory::default(), Heap::default());
        Self { kinds: kinds.unwrap(), index: 0 }
    }
}

impl World {
    /// One that a record says, without messages and claims.
    pub fn of(record: KindsRecord) -> World {
        World {
            kinds: Kinds::open(record, Memory::default(), InMemory::default(), Heap::default()).unwrap(),
            index: 1,
        }
    }

    /// Applies one command.
    pub fn apply(&mut self, ops: impl IntoIterator<Item = Op>) -> Vec<OpOutcome> {
        self.index += 1;
        self.kinds.apply(self.index, &Command::new(ops.into_iter().collect())).unwrap().outcomes
    }

    /// After a restart from a checkpoint.
    pub fn reopened(&self) -> World {
        let record = KindsRecord::decode(&self.kinds.record().encode().unwrap()).unwrap();
        assert_eq!(record, self.kinds.record());
        let records = self.kinds.messages.records().clone();
        let claims = self.kinds.claims.records().clone();
        let heap = self.kinds.tasks.heap().clone().recounted();
        World { kinds: Kinds::open(record, records, claims, heap).unwrap(), index: self.index }
    }
}

/// Chance that a seed repeats.
pub struct Draw(u64);

/// That of a seed.
pub fn draw(seed: u64) -> Draw {
    Draw(seed)
}

impl Draw {
    pub fn of(seed: u64) -> Self {
        Draw(seed)
    }

    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + (z ^ (z >> 31)) % (range.end - range.start)
    }

    /// A proposer's clock: it may go back, and be far ahead.
    pub fn time(&mut self) -> u64 {
        let ahead = if self.within(0..100) == 0 { 50_000 } else { 0 };
        ahead + self.within(1_000..1_200)
    }

    /// What sets the clock back.
    pub fn mend(&mut self) -> Op {
        Op::MendTime { time_ms: self.within(1_000..1_200), newest_ms: self.within(0..60_000) }
    }
}

const SEEDS: u64 = 40;
const OPS: u64 = 120;

/// Holds a kind to the laws, by operations that are drawn among those of all kinds.
pub fn hold(draw_op: impl Fn(&mut Draw) -> Op) {
    for seed in 0..SEEDS {
        let mut draw = Draw(seed);
        let (mut one, mut other) = (World::default(), World::default());
        // At the oldest level, at the newest, or from one to the other.
        let raised_at = draw.within(0..2 * OPS);
        for number in 0..OPS {
            let mut ops: Vec<Op> = (0..draw.within(1..4)).map(|_| draw_op(&mut draw)).collect();
            if number == raised_at || number == 0 && seed % 4 == 0 {
                ops.insert(0, Op::Level { level: Level::NEWEST });
            }
            let before = one.kinds.revisions();
            let outcomes = one.apply(ops.clone());
            assert_eq!(outcomes.len(), ops.len(), "one outcome an operation");
            assert_eq!(other.apply(ops), outcomes, "the same operations come to the same");
            assert_eq!(one.kinds.record(), other.kinds.record(), "seed {seed}");
            let after = one.kinds.revisions();
            assert!(after.messages >= before.messages && after.text >= before.text);
            assert!(after.tasks >= before.tasks && after.gateway >= before.gateway);
            assert!(after.schedules >= before.schedules && after.purges >= before.purges);
            assert!(after.shifts >= before.shifts);
            if draw.within(0..8) == 0 {
                other = other.reopened();
                // Whose request made a message is no part of the state.
                one = one.reopened();
            }
        }
        made_anew(&one);
        hostile(&mut draw, &one);
    }
}

fn made_anew(world: &World) {
    let again = |world: &World| world.kinds.again().collect::<Result<Vec<Op>, Stopped>>().unwrap();
    let mut anew = World::default();
    for op in again(world) {
        anew.apply([op]);
    }
    assert_eq!(again(&anew), again(world), "the operations that make it anew do");
}

fn hostile(draw: &mut Draw, world: &World) {
    let good = world.kinds.record().encode().unwrap();
    for _ in 0..50 {
        let mut bad = good.clone();
        match draw.within(0..2) {
            0 => bad.truncate(draw.within(0..good.len() as u64) as usize),
            _ => bad[draw.within(0..good.len() as u64) as usize] ^= 1 << draw.within(0..8),
        }
        if let Ok(record) = KindsRecord::decode(&bad) {
            record.check().unwrap();
        }
    }
    // A checksum keeps out accidents, not those who can write one: what they say is checked as well.
    let section = codec::encode(&world.kinds.record().messages).unwrap();
    for at in 0..section.len() {
        let mut bad = section.clone();
        bad[at] ^= 1 << draw.within(0..8);
        let _ = codec::decode::<crate::kinds::messages::removed::RemovedRecord>(&bad);
    }
}
