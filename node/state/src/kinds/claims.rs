//! Which requests were made under which idempotency keys, and what they came to.
//!
//! Part of the replicated state: it changes by commands alone, whose times are in them, so every
//! node forgets the same key at the same command.

pub mod records;
pub mod remembered;

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::clock::Stamp;
use crate::command::{ClaimKey, Op as Proposed, OpOutcome};
use crate::kind::{At, Invalid, Kind, KindId, Record, Stopped};
use crate::level::Limits;

/// A remembered key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    pub key: ClaimKey,
    pub fingerprint: u128,
    /// Forgotten by the first command whose time is not before this.
    pub expires_ms: u64,
    /// What the guarded operation came to.
    pub outcome: OpOutcome,
}

/// What a claim meets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Met {
    Nothing,
    /// The same request, which came to this.
    Same(OpOutcome),
    Other,
}

/// The claims in use.
#[derive(Debug, Default)]
pub struct Claims {
    /// The oldest first.
    order: VecDeque<ClaimKey>,
    by_key: HashMap<ClaimKey, ClaimRecord>,
    /// Times that a claim was remembered, since the start.
    remembered: u64,
}

/// A claim as it was proposed.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    pub key: ClaimKey,
    pub fingerprint: u128,
    pub time: Stamp,
    pub ttl_ms: u64,
}

/// The claims as a checkpoint and a snapshot carry them, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsRecord(pub Vec<ClaimRecord>);

/// What a claim makes of the operation that follows it in the same command.
#[derive(Debug)]
pub enum Guard {
    /// It takes effect, and what it comes to is remembered.
    Remember { key: ClaimKey, fingerprint: u128, expires_ms: u64 },
    /// It took effect before.
    Repeat(OpOutcome),
    /// It has no effect.
    Skip,
}

impl Guard {
    /// What the claim itself comes to.
    pub fn outcome(&self) -> OpOutcome {
        match self {
            Guard::Remember { .. } => OpOutcome::Claimed,
            Guard::Repeat(_) => OpOutcome::Repeated,
            Guard::Skip => OpOutcome::KeyTaken,
        }
    }
}

impl Kind for Claims {
    type Op<'a> = Claim;
    type Outcome = Guard;
    type Record = ClaimsRecord;
    type Ground = ();

    fn apply(&mut self, claim: Claim, at: &mut At<'_>) -> Result<Guard, Stopped> {
        let Claim { key, fingerprint, time, ttl_ms } = claim;
        let now_ms = at.clock.time(time).0;
        Ok(match self.meet(key, fingerprint, now_ms) {
            Met::Nothing => Guard::Remember { key, fingerprint, expires_ms: now_ms.saturating_add(ttl_ms) },
            Met::Same(outcome) => Guard::Repeat(outcome),
            Met::Other => Guard::Skip,
        })
    }

    /// None: a claim is of its time, and what it guarded is made anew by its own kind.
    fn again(&self) -> impl Iterator<Item = Result<Proposed, Stopped>> {
        std::iter::empty()
    }

    fn revision(&self) -> u64 {
        self.remembered
    }

    fn record(&self) -> ClaimsRecord {
        ClaimsRecord(self.order.iter().filter_map(|key| self.by_key.get(key).cloned()).collect())
    }

    fn open(record: ClaimsRecord, (): ()) -> Result<Self, Invalid> {
        let order = record.0.iter().map(|record| record.key).collect();
        let by_key = record.0.into_iter().map(|record| (record.key, record)).collect();
        Ok(Claims { order, by_key, remembered: 0 })
    }
}

impl Record for ClaimsRecord {
    const ID: KindId = KindId(3);
    const NAME: &'static str = "claims";
    const FORMATS: (u16, u16) = (1, 1);

    fn check(&self) -> Result<(), Invalid> {
        match self.0.len() {
            within if within <= Limits::WIDEST.claims_max => Ok(()),
            beyond => Err(Invalid(format!("{beyond} remembered claims"))),
        }
    }
}

impl Claims {
    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Looks a claim up, after forgetting what has expired by then.
    fn meet(&mut self, key: ClaimKey, fingerprint: u128, now_ms: u64) -> Met {
        while let Some(oldest) = self.order.front() {
            if self.by_key.get(oldest).is_some_and(|record| record.expires_ms > now_ms) {
                break;
            }
            self.forget_oldest();
        }
        match self.by_key.get(&key) {
            None => Met::Nothing,
            Some(record) if record.fingerprint == fingerprint => Met::Same(record.outcome.clone()),
            Some(_) => Met::Other,
        }
    }

    /// Remembers a claim that met nothing.
    pub fn remember(&mut self, record: ClaimRecord, limits: &Limits) {
        self.order.push_back(record.key);
        self.by_key.insert(record.key, record);
        self.remembered += 1;
        while self.order.len() > limits.claims_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front() {
            self.by_key.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{self, World};

    const LIMITS: &Limits = &Limits::WIDEST;

    fn record(key: u128, expires_ms: u64) -> ClaimRecord {
        let outcome = OpOutcome::Text { version: key as u64 };
        ClaimRecord { key: ClaimKey(key), fingerprint: key + 1, expires_ms, outcome }
    }

    #[test]
    fn a_claim_is_known_until_it_expires_also_after_a_checkpoint() {
        let mut claims = Claims::default();
        assert_eq!(claims.meet(ClaimKey(1), 2, 0), Met::Nothing);
        claims.remember(record(1, 100), LIMITS);
        claims.remember(record(2, 200), LIMITS);
        let mut claims = Claims::open(claims.record(), ()).unwrap();
        assert_eq!(claims.meet(ClaimKey(1), 2, 99), Met::Same(OpOutcome::Text { version: 1 }));
        assert_eq!(claims.meet(ClaimKey(1), 3, 99), Met::Other);
        assert_eq!(claims.meet(ClaimKey(1), 2, 100), Met::Nothing);
        assert_eq!(claims.meet(ClaimKey(2), 3, 100), Met::Same(OpOutcome::Text { version: 2 }));
        assert_eq!(claims.record().0, [record(2, 200)]);
    }

    #[test]
    fn the_memory_of_claims_is_bounded() {
        let mut claims = Claims::default();
        (0..LIMITS.claims_max as u128 + 10).for_each(|key| claims.remember(record(key, 100), LIMITS));
        assert_eq!((claims.order.len(), claims.by_key.len()), (LIMITS.claims_max, LIMITS.claims_max));
        assert_eq!(claims.meet(ClaimKey(9), 10, 0), Met::Nothing);
        assert_eq!(claims.meet(ClaimKey(10), 11, 0), Met::Same(OpOutcome::Text { version: 10 }));
    }

    fn claim(key: u64, fingerprint: u64, time_ms: u64) -> Proposed {
        let (key, fingerprint) = (ClaimKey(key.into()), fingerprint.into());
        Proposed::Claim { key, fingerprint, time_ms, ttl_ms: 50 }
    }

    #[test]
    fn a_claim_without_an_operation_behind_it_remembers_nothing() {
        let mut world = World::default();
        assert_eq!(world.apply([claim(1, 1, 1)]), [OpOutcome::Claimed]);
        assert!(world.kinds.claims.is_empty());
    }

    #[test]
    fn the_laws_hold_of_claims() {
        laws::hold(|draw| claim(draw.within(0..9), draw.within(0..3), draw.time()));
    }
}
