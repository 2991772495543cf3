//! The claims of the levels before [`Level::CLAIM_RECORDS`](crate::level::Level::CLAIM_RECORDS): few, in memory
//! and in each checkpoint. The oldest goes first, whatever its age. Nothing here may come to anything else:
//! programs of the version before do the same.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::command::{ClaimKey, OpOutcome};
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
pub(super) enum Met {
    Nothing,
    /// The same request, which came to this.
    Same(OpOutcome),
    Other,
}

/// The claims in use.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// The oldest first.
    order: VecDeque<ClaimKey>,
    by_key: HashMap<ClaimKey, ClaimRecord>,
}

impl Early {
    pub(super) fn new(records: Vec<ClaimRecord>) -> Self {
        let order = records.iter().map(|record| record.key).collect();
        let by_key = records.into_iter().map(|record| (record.key, record)).collect();
        Self { order, by_key }
    }

    /// All of them, the oldest first.
    pub(super) fn records(&self) -> Vec<ClaimRecord> {
        self.order.iter().filter_map(|key| self.by_key.get(key).cloned()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Looks a claim up, after forgetting what has expired by then.
    pub(super) fn meet(&mut self, key: ClaimKey, fingerprint: u128, now_ms: u64) -> Met {
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
    pub(super) fn remember(&mut self, record: ClaimRecord, limits: &Limits) {
        self.order.push_back(record.key);
        self.by_key.insert(record.key, record);
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
    use crate::level::Level;

    const LIMITS: &Limits = &Limits::of(Level::FIRST);

    fn record(key: u128, expires_ms: u64) -> ClaimRecord {
        let outcome = OpOutcome::Text { version: key as u64 };
        ClaimRecord { key: ClaimKey(key), fingerprint: key + 1, expires_ms, outcome }
    }

    #[test]
    fn a_claim_is_known_until_it_expires_also_after_a_checkpoint() {
        let mut claims = Early::default();
        assert_eq!(claims.meet(ClaimKey(1), 2, 0), Met::Nothing);
        claims.remember(record(1, 100), LIMITS);
        claims.remember(record(2, 200), LIMITS);
        let mut claims = Early::new(claims.records());
        assert_eq!(claims.meet(ClaimKey(1), 2, 99), Met::Same(OpOutcome::Text { version: 1 }));
        assert_eq!(claims.meet(ClaimKey(1), 3, 99), Met::Other);
        assert_eq!(claims.meet(ClaimKey(1), 2, 100), Met::Nothing);
        assert_eq!(claims.meet(ClaimKey(2), 3, 100), Met::Same(OpOutcome::Text { version: 2 }));
        assert_eq!(claims.records(), [record(2, 200)]);
    }

    #[test]
    fn the_memory_of_claims_is_bounded() {
        let mut claims = Early::default();
        (0..LIMITS.claims_max as u128 + 10).for_each(|key| claims.remember(record(key, 100), LIMITS));
        assert_eq!((claims.order.len(), claims.by_key.len()), (LIMITS.claims_max, LIMITS.claims_max));
        assert_eq!(claims.meet(ClaimKey(9), 10, 0), Met::Nothing);
        assert_eq!(claims.meet(ClaimKey(10), 11, 0), Met::Same(OpOutcome::Text { version: 10 }));
    }
}
