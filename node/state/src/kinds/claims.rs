//! Which requests were made under which idempotency keys, and what they came to.
//!
//! Part of the replicated state: it changes by commands alone, whose times are in them, so every
//! node forgets the same key at the same command. From [`Level::CLAIM_RECORDS`] on claims are
//! [`records`], of which a checkpoint has the numbers alone; before it, they are `early`.
//!
//! A key is remembered for its time. Where there are as many as can be, the oldest go before
//! theirs, but none that is young: then there is no room for another. While the replicated clock stands
//! still, as after a clock that was ahead, nobody's age is known, and the oldest go.

mod early;
pub mod records;
pub mod remembered;

use std::ops::Range;

use serde::{Deserialize, Serialize};
use skep_base::codec::{self, CodecError};

use crate::clock::Stamp;
use crate::clock::mends::Mends;
use crate::command::{ClaimKey, Op as Proposed, OpOutcome};
use crate::kind::{At, Invalid, Kind, KindId, Record, Stopped};
use crate::level::{Level, Limits};
use crate::rolling::Effect;
pub use early::ClaimRecord;
use early::{Early, Met};
use records::{ClaimRecords, SPAN_CLAIMS};
use remembered::Remembered;

/// The claims in use. `C` has them, once the cluster has agreed to.
#[derive(Debug)]
pub struct Claims<C> {
    early: Early,
    records: C,
    /// Times that a claim was remembered, since the start.
    remembered: u64,
}

/// A claim as it was proposed.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    pub key: ClaimKey,
    pub fingerprint: u128,
    /// That of the operation that it guards.
    pub nonce: u64,
    pub time: Stamp,
    pub ttl_ms: u64,
}

/// The claims as a checkpoint and a snapshot carry them.
///
/// ```text
/// format 1   the early ones, in the codec's encoding
/// format 2   first:u64 next:u64, in the codec's encoding; the claims lie in files beside it
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsRecord {
    /// The oldest first.
    pub early: Vec<ClaimRecord>,
    /// The number of the first record that counts.
    pub first: u64,
    /// That of the next one.
    pub next: u64,
}

/// What a claim makes of the operation that follows it in the same command.
#[derive(Debug)]
pub enum Guard {
    /// It takes effect, and what it comes to is remembered; instead of a claim of the same key whose time
    /// is over.
    Remember { claim: Claim, instead_of: Option<u64> },
    /// It took effect before, for an earlier request.
    Repeat(OpOutcome),
    /// It took effect before, for this same request: a node carried it again.
    Again(OpOutcome),
    /// It has no effect: the key is another request's.
    Skip,
    /// It has no effect: there is no room for the key.
    Full,
}

impl Guard {
    /// What the claim itself comes to.
    pub fn outcome(&self) -> OpOutcome {
        match self {
            Guard::Remember { .. } | Guard::Again(_) => OpOutcome::Claimed,
            Guard::Repeat(_) => OpOutcome::Repeated,
            Guard::Skip => OpOutcome::KeyTaken,
            Guard::Full => OpOutcome::TooManyClaims,
        }
    }
}

impl<C: ClaimRecords> Kind for Claims<C> {
    type Op<'a> = Claim;
    type Outcome = Guard;
    type Record = ClaimsRecord;
    type Ground = C;

    fn apply(&mut self, claim: Claim, at: &mut At<'_>) -> Result<Guard, Stopped> {
        let Claim { key, fingerprint, nonce, time: told, .. } = claim;
        let now = at.clock.time(told);
        let claim = Claim { time: now, ..claim };
        if at.level < Level::CLAIM_RECORDS {
            return Ok(match self.early.meet(key, fingerprint, now.0) {
                Met::Nothing => Guard::Remember { claim, instead_of: None },
                Met::Same(outcome) => Guard::Repeat(outcome),
                Met::Other => Guard::Skip,
            });
        }
        self.forget_until(now);
        let known = self.records.find(key)?;
        if let Some((number, known)) = &known
            && known.expires_from(at.mends.claim_time(*number, known.time)) > now
        {
            let outcome = known.outcome.clone();
            return Ok(match known.fingerprint == fingerprint {
                true if nonce != 0 && known.nonce == nonce => Guard::Again(outcome),
                true => Guard::Repeat(outcome),
                false => Guard::Skip,
            });
        }
        if !self.make_room(told, now, at.limits) {
            return Ok(Guard::Full);
        }
        Ok(Guard::Remember { claim, instead_of: known.map(|(number, _)| number) })
    }

    /// None: a claim is of its time, and what it guarded is made anew by its own kind.
    fn again(&self, _mends: &Mends) -> impl Iterator<Item = Result<Proposed, Stopped>> {
        std::iter::empty()
    }

    fn revision(&self) -> u64 {
        self.remembered
    }

    fn record(&self) -> ClaimsRecord {
        let numbers = self.records.spans().numbers();
        ClaimsRecord { early: self.early.records(), first: numbers.start, next: numbers.end }
    }

    fn open(record: ClaimsRecord, records: C) -> Result<Self, Invalid> {
        let (told, there) = (record.first..record.next, records.spans().numbers());
        if told != there {
            return Err(Invalid(format!("claims {told:?}, but records {there:?}")));
        }
        Ok(Claims { early: Early::new(record.early), records, remembered: 0 })
    }
}

impl Record for ClaimsRecord {
    const ID: KindId = KindId(3);
    const NAME: &'static str = "claims";
    const FORMATS: (u16, u16) = (1, 2);

    fn check(&self) -> Result<(), Invalid> {
        let ClaimsRecord { early, first, next } = self;
        let (few, many) = (Limits::of(Level::FIRST).claims_max, Limits::WIDEST.claims_max as u64);
        if early.len() > few {
            return Err(Invalid(format!("{} remembered claims", early.len())));
        }
        match next.checked_sub(*first) {
            Some(count) if count <= many && first.is_multiple_of(SPAN_CLAIMS) => Ok(()),
            _ => Err(Invalid(format!("claims from {first} on, up to {next}"))),
        }
    }

    fn format(&self) -> u16 {
        if self.next == 0 { 1 } else { 2 }
    }

    fn encode_piece(&self, _format: u16, number: usize, bytes: &mut Vec<u8>) -> Result<bool, CodecError> {
        match self.next {
            _ if number > 0 => return Ok(false),
            0 => codec::encode_into(&self.early, bytes)?,
            _ => codec::encode_into(&(self.first, self.next), bytes)?,
        }
        Ok(true)
    }

    fn decode(format: u16, bytes: &[u8]) -> Result<Self, Invalid> {
        if format == 1 {
            return Ok(Self { early: codec::decode(bytes)?, ..Self::default() });
        }
        let (first, next) = codec::decode(bytes)?;
        Ok(Self { early: Vec::new(), first, next })
    }
}

impl<C: ClaimRecords> Claims<C> {
    /// How many are remembered.
    pub fn len(&self) -> u64 {
        self.early.len() as u64 + self.records.spans().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn records(&self) -> &C {
        &self.records
    }

    /// The numbers of those that are records.
    pub fn numbers(&self) -> Range<u64> {
        self.records.spans().numbers()
    }

    /// For what is no part of the state: room, files.
    pub fn records_mut(&mut self) -> &mut C {
        &mut self.records
    }

    /// Forgets those whose time is over: whole spans, the oldest first.
    pub fn forget_until(&mut self, now: Stamp) {
        while self.records.spans().oldest().is_some_and(|span| span.expires <= now) {
            self.records.forget_oldest();
        }
    }

    /// The clock was set back: the claims that there are are no later.
    pub fn mend_time(&mut self, ceiling: Stamp) {
        self.records.mend_time(ceiling);
    }

    /// Whether there is room for one more, once the oldest are forgotten that need not be kept. Where the time that
    /// was told is behind `now` by more than what is young, the clock was ahead once and stands still: no age is
    /// known, and nobody is kept out for as long as that takes to end.
    fn make_room(&mut self, told: Stamp, now: Stamp, limits: &Limits) -> bool {
        while self.records.spans().len() >= limits.claims_max as u64 {
            if self.records.spans().oldest().is_none() || self.full_for_ms(told, now, limits).is_some() {
                return false;
            }
            self.records.forget_oldest();
        }
        true
    }

    /// For how long there will be no room for one more key of a time that was `told` now, when the clock gives `now`:
    /// until the oldest are young no longer.
    pub fn full_for_ms(&self, told: Stamp, now: Stamp, limits: &Limits) -> Option<u64> {
        let spans = self.records.spans();
        let oldest = spans.oldest().filter(|_| spans.len() >= limits.claims_max as u64)?;
        let stands_still = told.0.saturating_add(limits.claim_age_ms_min) < now.0;
        let is_over = oldest.expires <= now;
        let young_for_ms = oldest
            .newest
            .0
            .saturating_add(limits.claim_age_ms_min)
            .checked_sub(now.0)
            .filter(|left| *left > 0);
        young_for_ms.filter(|_| !stands_still && !is_over)
    }

    /// Remembers what the operation came to whose claim met nothing.
    pub fn remember(
        &mut self,
        claim: Claim,
        instead_of: Option<u64>,
        outcome: OpOutcome,
        at: &mut At<'_>,
    ) -> Result<(), Stopped> {
        let Claim { key, fingerprint, nonce, time, ttl_ms } = claim;
        self.remembered += 1;
        if at.level < Level::CLAIM_RECORDS {
            let expires_ms = time.0.saturating_add(ttl_ms);
            self.early.remember(ClaimRecord { key, fingerprint, expires_ms, outcome }, at.limits);
            return Ok(());
        }
        if at.level >= Level::TIME_MENDS {
            // What it guarded may have been there already, and have told the clock nothing: so the time that a key
            // is remembered from is one that can be set back.
            at.clock.note(time);
        }
        let claim = Remembered::new(key, fingerprint, nonce, time, ttl_ms, outcome);
        if at.rolling.has_begun() {
            let number = self.numbers().end;
            at.rolling.note(Effect::Claim { number, bytes: &claim.to_bytes(number) });
        }
        self.records.push(&claim, instead_of)
    }

    /// Makes records of the early claims: the cluster has just agreed to them.
    pub fn become_records(&mut self, now: Stamp) -> Result<(), Stopped> {
        for claim in std::mem::take(&mut self.early).records() {
            let ClaimRecord { key, fingerprint, expires_ms, outcome } = claim;
            if let Some(ttl_ms) = expires_ms.checked_sub(now.0).filter(|left| *left > 0) {
                self.records.push(&Remembered::new(key, fingerprint, 0, now, ttl_ms, outcome), None)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
