use super::*;

/// A log index, and the hash that is told after it.
type Told = (u64, u128);

const MANY: &[u64] = &[1, 2, 3, 4, 5];

fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn judged_of(voters: &[u64], me: u64, said: &[(u64, &[Told])]) -> Option<(u64, Verdict)> {
    let said = said.iter().map(|(id, hashes)| (NodeId(*id), hashes.iter().copied().collect()));
    judge(NodeId(me), &ids(voters), &said.collect())
}

/// Of three voters, by what each said of each index.
fn judged(me: u64, said: &[(u64, &[Told])]) -> Option<(u64, Verdict)> {
    judged_of(&[1, 2, 3], me, said)
}

fn minority(index: u64, majority: &[u64]) -> Option<(u64, Verdict)> {
    Some((index, Verdict::Minority { majority: ids(majority) }))
}

fn most(index: u64, others: &[u64]) -> Option<(u64, Verdict)> {
    Some((index, Verdict::Most { others: ids(others) }))
}

#[test]
fn members_are_compared_at_the_newest_index_that_most_voters_told() {
    let (ahead, behind): (&[Told], &[Told]) = (&[(4096, 7), (5000, 8)], &[(4096, 7)]);
    assert_eq!(judged(1, &[(1, ahead), (2, ahead), (3, behind)]), Some((5000, Verdict::Same)));
    assert_eq!(judged(1, &[(1, ahead), (2, ahead)]), Some((5000, Verdict::Same)));
    assert_eq!(judged(3, &[(1, ahead), (2, ahead), (3, behind)]), Some((4096, Verdict::Same)));
    assert_eq!(judged(1, &[(1, behind), (2, &[(5000, 8)])]), None);
    assert_eq!(judged(1, &[(1, behind)]), None);
    assert_eq!(judged_of(MANY, 1, &[(1, ahead), (2, ahead)]), None, "two of five decide nothing");
    assert_eq!(judged_of(&[1], 1, &[(1, ahead), (2, ahead)]), Some((5000, Verdict::Same)), "and a learner");
}

#[test]
fn one_that_lags_hides_no_difference_that_came_since() {
    let (right, wrong, lags): (&[Told], &[Told], &[Told]) =
        (&[(8192, 1), (12_288, 2)], &[(8192, 1), (12_288, 9)], &[(8192, 1)]);
    let said = [(1, lags), (2, right), (3, right), (4, right), (5, wrong)];
    assert_eq!(judged_of(MANY, 5, &said), minority(12_288, &[2, 3, 4]));
    assert_eq!(judged_of(MANY, 2, &said), most(12_288, &[5]));
    // Of three, the one that lags decides. That all had the same before takes nothing back.
    let said = [(1, lags), (2, right), (3, wrong)];
    assert_eq!(judged(3, &said), Some((12_288, Verdict::Unsure)));
    assert_eq!(judged(1, &said), Some((8192, Verdict::Same)));
    let equal = Equal::default();
    assert!(equal.note(12_288, Verdict::Minority { majority: ids(&[1, 2]) }));
    assert!(!equal.note(8192, Verdict::Same) && !equal.note(8192, Verdict::Split));
    assert!(!equal.note(12_288, Verdict::Unsure));
    assert!(equal.lack().is_some_and(|lack| lack.contains("12288")));
}

#[test]
fn an_older_index_decides_where_the_newest_does_not() {
    let (right, wrong): (&[Told], &[Told]) = (&[(8, 1), (9, 2)], &[(8, 5), (9, 6)]);
    let said = [(1, right), (2, &[(8, 1)]), (3, wrong)];
    assert_eq!(judged(3, &said), minority(8, &[1, 2]));
    assert_eq!(judged(1, &said), most(8, &[3]));
    // One that is wrong, and that lags, is not left out.
    assert_eq!(judged(1, &[(1, right), (2, right), (3, &[(8, 5)])]), most(9, &[3]));
}

#[test]
fn a_node_is_wrong_where_most_voters_have_something_else() {
    let said: [(u64, &[Told]); 3] = [(1, &[(9, 7)]), (2, &[(9, 7)]), (3, &[(9, 5)])];
    assert_eq!(judged(3, &said), minority(9, &[1, 2]));
    assert_eq!(judged(1, &said), most(9, &[3]));
    // A learner counts for nobody, and may be wrong.
    let said: [(u64, &[Told]); 3] = [(1, &[(9, 7)]), (2, &[(9, 7)]), (4, &[(9, 5)])];
    assert_eq!(judged(4, &said), minority(9, &[1, 2]));
    let said: [(u64, &[Told]); 4] = [(1, &[(9, 7)]), (2, &[(9, 7)]), (3, &[(9, 5)]), (4, &[(9, 7)])];
    assert_eq!(judged(3, &said), minority(9, &[1, 2]), "a learner is no heir");
    let said: [(u64, &[Told]); 4] = [(1, &[(9, 7)]), (2, &[(9, 7)]), (4, &[(9, 5)]), (5, &[(9, 5)])];
    assert_eq!(judged(1, &said), most(9, &[4, 5]));
}

#[test]
fn voters_are_split_only_where_none_that_is_silent_could_make_a_majority_and_never_by_learners() {
    let (one, other): (&[Told], &[Told]) = (&[(9, 7)], &[(9, 5)]);
    assert_eq!(judged(1, &[(1, one), (2, other)]), Some((9, Verdict::Unsure)));
    assert_eq!(judged(1, &[(1, one), (2, other), (3, &[(9, 6)])]), Some((9, Verdict::Split)));
    assert_eq!(judged_of(&[1, 2], 1, &[(1, one), (2, other)]), Some((9, Verdict::Split)));
    assert_eq!(judged(1, &[(1, one), (4, other), (5, other)]), None);
    assert_eq!(judged(1, &[(1, one), (2, one), (4, other)]), most(9, &[4]));
    let four = [(1, one), (2, one), (3, other), (4, other)];
    assert_eq!(judged_of(&[1, 2, 3, 4], 1, &four), Some((9, Verdict::Split)));
    assert_eq!(judged_of(MANY, 1, &four), Some((9, Verdict::Unsure)));
    let equal = Equal::default();
    assert!(equal.note(9, Verdict::Unsure) && !equal.note(10, Verdict::Unsure), "it is told once");
    assert_eq!((equal.differs(), equal.lack(), equal.compared()), (None, None, None));
}

#[test]
fn without_a_majority_all_are_alarmed_and_stay_ready() {
    let equal = Equal::default();
    assert!(equal.note(9, Verdict::Split));
    assert!(equal.differs().is_some() && equal.lack().is_none());
}

#[test]
fn one_that_is_wrong_stays_so_until_it_is_seen_to_have_what_the_others_have() {
    let equal = Equal::default();
    assert!(equal.note(9, Verdict::Minority { majority: ids(&[1, 2]) }));
    assert!(!equal.note(11, Verdict::Split) && equal.lack().is_some(), "the two differ since");
    assert!(equal.note(12, Verdict::Same));
    assert_eq!((equal.differs(), equal.lack(), equal.compared()), (None, None, Some(12)));
}

#[test]
fn a_leader_that_is_wrong_hands_over_to_one_voter_of_the_majority_after_another() {
    let (majority, voters) = (ids(&[1, 2, 4, 5]), ids(&[2, 3, 4, 5]));
    let heir = |last: Option<u64>| heir(&majority, &voters, last.map(NodeId), |id| *id != NodeId(4));
    assert_eq!(heir(None), Some(NodeId(2)), "the first is a learner");
    assert_eq!(heir(Some(2)), Some(NodeId(5)), "the one between is not ready");
    assert_eq!(heir(Some(5)), Some(NodeId(2)));
}
