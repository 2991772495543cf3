//! What the voters' clocks agree on. Pure.
//!
//! A clock is told by its base: what it shows, less what this machine's monotonic clock shows at the same
//! moment. Bases of good clocks are alike and stay so; a step of one changes its base, and no other.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::id::NodeId;

/// Clocks agree that are no farther apart.
pub const APART_MAX_MS: i64 = 5_000;

/// What the voters' clocks come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// There is no other voter to compare with.
    Alone,
    /// The clocks of a majority of the voters agree.
    Majority { base_ms: i64, with: BTreeSet<NodeId> },
    /// No majority agrees, as far as it is known.
    None,
}

/// Compares the clocks that are known. `own` may be none of the voters: a learner's clock counts nothing.
pub fn agree(own: NodeId, voters: &BTreeSet<NodeId>, bases: &BTreeMap<NodeId, i64>) -> Agreement {
    if voters.iter().all(|voter| *voter == own) {
        return Agreement::Alone;
    }
    let mut known: Vec<(i64, NodeId)> =
        bases.iter().filter(|(id, _)| voters.contains(id)).map(|(id, base)| (*base, *id)).collect();
    known.sort_unstable();
    let quorum = voters.len() / 2 + 1;
    // Two groups of a majority each would have a voter in common.
    let group = (0..known.len()).find_map(|first| {
        let group = known.get(first..first + quorum)?;
        let (low, high) = (group.first()?.0, group.last()?.0);
        (high.saturating_sub(low) <= APART_MAX_MS).then_some((low, high))
    });
    let Some((low, high)) = group else { return Agreement::None };
    let agrees =
        |base: &i64| base.saturating_sub(low) <= APART_MAX_MS && high.saturating_sub(*base) <= APART_MAX_MS;
    let group: Vec<_> = known.iter().filter(|(base, _)| agrees(base)).collect();
    match group.get(group.len() / 2) {
        Some((base, _)) => {
            Agreement::Majority { base_ms: *base, with: group.iter().map(|(_, id)| *id).collect() }
        }
        None => Agreement::None,
    }
}

/// The base that is gone by: the majority's, or what it was before there was none.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    pub base_ms: i64,
    /// Since when the clock of one that is alone has been off it, by the monotonic clock.
    off_since_ms: Option<i64>,
}

/// One that is alone follows a step of its clock after this long: by then somebody has set it right.
pub const ADOPT_AFTER_MS: i64 = 10 * 60 * 1000;

impl Anchor {
    pub fn at(base_ms: i64) -> Self {
        Self { base_ms, off_since_ms: None }
    }

    /// Follows what the clocks come to at `boot_ms` of the monotonic clock; whether it took a step for want
    /// of anybody to compare with.
    pub fn follow(&mut self, agreement: &Agreement, own_ms: i64, boot_ms: i64) -> bool {
        match agreement {
            Agreement::Majority { base_ms, .. } => *self = Self::at(*base_ms),
            // Which of them is right nobody can tell: time goes on as it did.
            Agreement::None => self.off_since_ms = None,
            Agreement::Alone if own_ms.abs_diff(self.base_ms) <= APART_MAX_MS.unsigned_abs() => {
                *self = Self::at(own_ms);
            }
            Agreement::Alone => {
                let since = *self.off_since_ms.get_or_insert(boot_ms);
                if boot_ms.saturating_sub(since) >= ADOPT_AFTER_MS {
                    *self = Self::at(own_ms);
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 24 * 3600 * 1000;

    fn of(clocks: &[(u64, i64)], voters: u64) -> Agreement {
        let voters = (1..=voters).map(NodeId).collect();
        agree(NodeId(1), &voters, &clocks.iter().map(|(id, base)| (NodeId(*id), *base)).collect())
    }

    fn base(agreement: &Agreement) -> Option<i64> {
        match agreement {
            Agreement::Majority { base_ms, .. } => Some(*base_ms),
            _ => None,
        }
    }

    #[test]
    fn one_wrong_clock_of_three_counts_for_nothing() {
        for wrong in [60 * DAY, -60 * DAY, 6_000, i64::MAX, i64::MIN] {
            for who in 1..=3 {
                let clocks: Vec<_> =
                    (1..=3).map(|id| (id, if id == who { wrong } else { id as i64 })).collect();
                let agreement = of(&clocks, 3);
                assert!((1..=3).contains(&base(&agreement).unwrap()), "{agreement:?}");
                let Agreement::Majority { with, .. } = agreement else { unreachable!() };
                assert!(!with.contains(&NodeId(who)) && with.len() == 2, "{with:?}");
            }
        }
    }

    #[test]
    fn without_a_majority_that_agrees_there_is_none() {
        assert_eq!(of(&[(1, 0)], 1), Agreement::Alone);
        assert_eq!(of(&[(1, 0)], 3), Agreement::None, "of the others nothing is known yet");
        assert_eq!(of(&[(1, 0), (2, DAY)], 2), Agreement::None);
        assert_eq!(of(&[(1, 0), (2, DAY), (3, -DAY)], 3), Agreement::None);
        assert_eq!(base(&of(&[(1, 0), (2, 9)], 2)), Some(9));
        assert_eq!(base(&of(&[(2, 7), (3, 9), (9, DAY)], 3)), Some(9), "one that is no voter counts nothing");
    }

    #[test]
    fn alone_a_jump_is_followed_once_it_lasts() {
        let mut anchor = Anchor::at(0);
        assert!(!anchor.follow(&Agreement::Alone, 4_000, 0));
        assert_eq!(anchor.base_ms, 4_000, "a small step is followed at once");
        assert!(!anchor.follow(&Agreement::Alone, 60 * DAY, 1_000));
        assert_eq!(anchor.base_ms, 4_000);
        assert!(!anchor.follow(&Agreement::Alone, 4_001, 2_000), "back again");
        assert!(!anchor.follow(&Agreement::Alone, DAY, 3_000));
        assert!(!anchor.follow(&Agreement::Alone, DAY, 3_000 + ADOPT_AFTER_MS - 1));
        assert!(anchor.follow(&Agreement::Alone, DAY, 3_000 + ADOPT_AFTER_MS));
        assert_eq!(anchor.base_ms, DAY);
    }

    #[test]
    fn while_none_agree_time_goes_on_as_it_did() {
        let mut anchor = Anchor::at(0);
        let majority = Agreement::Majority { base_ms: 50, with: BTreeSet::new() };
        anchor.follow(&majority, DAY, 0);
        anchor.follow(&Agreement::None, DAY, ADOPT_AFTER_MS * 9);
        assert_eq!(anchor.base_ms, 50);
    }

    proptest! {
        /// With a majority of good clocks the time is theirs, whatever the others show.
        #[test]
        fn a_majority_of_good_clocks_decides(
            good in proptest::collection::vec(-1_000i64..1_000, 2..6),
            bad in proptest::collection::vec(any::<i64>(), 0..5),
        ) {
            prop_assume!(bad.len() < good.len());
            let clocks: Vec<_> = (1..).zip(good.iter().chain(&bad).copied()).collect();
            let agreed = base(&of(&clocks, clocks.len() as u64)).unwrap();
            prop_assert!((-1_000 - APART_MAX_MS..1_000 + APART_MAX_MS).contains(&agreed), "{agreed}");
        }
    }
}
