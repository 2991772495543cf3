//! How near a cluster is to the loss of its quorum. Pure.

use std::collections::BTreeSet;

use skep_base::id::RawNodeId;

/// How many voters more may be lost before there is no quorum; below 0 there is none. Of a joint
/// configuration the worse half counts. Nothing where there are no voters.
pub fn voters_to_spare(configs: &[BTreeSet<RawNodeId>], lives: impl Fn(RawNodeId) -> bool) -> Option<i64> {
    let spare = |voters: &BTreeSet<RawNodeId>| {
        let living = voters.iter().filter(|voter| lives(**voter)).count() as i64;
        let quorum = voters.len() as i64 / 2 + 1;
        living - quorum
    };
    configs.iter().filter(|voters| !voters.is_empty()).map(spare).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spare(configs: &[&[RawNodeId]], living: &[RawNodeId]) -> Option<i64> {
        let configs: Vec<BTreeSet<_>> = configs.iter().map(|set| set.iter().copied().collect()).collect();
        voters_to_spare(&configs, |voter| living.contains(&voter))
    }

    #[test]
    fn what_is_to_spare_is_what_lives_above_a_majority() {
        for (voters, living, expected) in [
            (&[1][..], &[1][..], 0),
            (&[1, 2], &[1, 2], 0),
            (&[1, 2, 3], &[1, 2, 3], 1),
            (&[1, 2, 3], &[1, 3], 0),
            (&[1, 2, 3], &[2], -1),
            (&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5], 2),
            (&[1, 2, 3, 4, 5], &[1, 2, 3, 9], 0),
        ] {
            assert_eq!(spare(&[voters], living), Some(expected), "{living:?} of {voters:?}");
        }
    }

    #[test]
    fn of_a_joint_configuration_the_worse_half_counts() {
        assert_eq!(spare(&[&[1, 2, 3], &[1, 2, 3, 4, 5]], &[1, 2, 3]), Some(0));
        assert_eq!(spare(&[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3]), Some(-1));
    }

    #[test]
    fn where_nobody_votes_yet_nothing_is_said() {
        assert_eq!(spare(&[], &[1]), None);
        assert_eq!(spare(&[&[]], &[1]), None);
    }
}
