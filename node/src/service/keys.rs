//! Writes under an idempotency key: guarded by a claim of it, and refused where there is no room for another.

use std::time::Duration;

use skep_state::clock::Stamp;
use skep_state::clock::mends::AHEAD_MS_MAX;
use skep_state::command::{ClaimKey, Op, OpOutcome};

use super::{Claim, Service, ServiceError, unexpected};

/// A client whose key was refused is told to come again no later than this: by then the oldest can be forgotten.
const KEYS_FULL_RETRY_S_MAX: u32 = 900;

impl Service {
    /// Proposes an operation, guarded where the client claims a key; answers whether its outcome is
    /// that of an earlier request.
    pub(super) async fn propose(
        &self,
        op: Op,
        claim: Option<Claim>,
    ) -> Result<(OpOutcome, bool), ServiceError> {
        let Some(Claim { key, fingerprint }) = claim else {
            return Ok((self.0.proposer.propose(op, self.deadline()).await?, false));
        };
        let ttl_ms = u64::try_from(self.0.idempotency_for.as_millis()).unwrap_or(u64::MAX);
        let guard = Op::Claim { key, fingerprint, time_ms: self.0.time.now_ms(), ttl_ms };
        self.0.status.require(self.0.reader.level(), guard.level(), "idempotency keys")?;
        let deadline = self.deadline();
        if self.surely_no_room_for(key).is_some() {
            // It may be a repeat of what has not come here yet, or there may be room by now.
            self.0.read_indexer.confirm(deadline).await?;
            if let Some(left) = self.surely_no_room_for(key) {
                return Err(keys_full(left));
            }
        }
        let outcomes = self.0.proposer.propose_all(vec![guard, op], deadline).await?;
        match <[OpOutcome; 2]>::try_from(outcomes) {
            Ok([OpOutcome::Claimed, outcome]) => Ok((outcome, false)),
            Ok([OpOutcome::Repeated, outcome]) => Ok((outcome, true)),
            Ok([OpOutcome::KeyTaken, _]) => Err(ServiceError::KeyTaken {
                detail: "this Idempotency-Key was given to another request before".into(),
            }),
            Ok([OpOutcome::TooManyClaims, _]) => {
                Err(keys_full(self.no_room_for(key).unwrap_or(Duration::ZERO)))
            }
            Ok([other, _]) => Err(unexpected(&other)),
            Err(_) => Err(ServiceError::Fatal { detail: "the store answered too few operations".into() }),
        }
    }

    /// The same as [`Self::no_room_for`], where the leader's clock, which decides, cannot say otherwise: a refused
    /// key moves no time on, so one that is refused here would be as long as this node's clock is behind.
    fn surely_no_room_for(&self, key: ClaimKey) -> Option<Duration> {
        let told = Stamp(self.0.time.trusted_ms()?);
        self.0.reader.no_room_for(key, told).filter(|left| *left > Duration::from_millis(AHEAD_MS_MAX))
    }

    /// For how long there is no room for a new idempotency key, as far as it shows here.
    fn no_room_for(&self, key: ClaimKey) -> Option<Duration> {
        self.0.reader.no_room_for(key, Stamp(self.0.time.now_ms()))
    }
}

/// There is no room for another key, for so long.
fn keys_full(left: Duration) -> ServiceError {
    let whole_s = left.as_millis().div_ceil(1000);
    ServiceError::KeysFull {
        detail: "as many Idempotency-Keys are remembered as can be, and all are too young to be forgotten; nothing \
                 was written"
            .into(),
        retry_after_s: u32::try_from(whole_s).unwrap_or(u32::MAX).clamp(1, KEYS_FULL_RETRY_S_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_room_for_a_key_is_told_when_there_is() {
        for (left_ms, seconds) in [(0, 1), (1, 1), (1_001, 2), (899_500, 900), (10_000_000, 900)] {
            let refused = keys_full(Duration::from_millis(left_ms));
            let ServiceError::KeysFull { retry_after_s, .. } = refused else { panic!("{refused:?}") };
            assert_eq!(retry_after_s, seconds, "{left_ms} ms");
        }
    }
}
